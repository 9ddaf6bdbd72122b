"""Homeserver mode (MSC4195): federating homeservers, each with a worker and an SFU of its own."""

import os
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

from .application_service import ApplicationService
from .authority import Authority
from .livekit_server import LivekitServer
from .member import HomeserverMember
from .service import configuration, serve
from .synapse import Synapse, transport
from .wire import Exchange, Wire


class Site:
    """A homeserver, the worker as its application service, and the SFU, both announced by the homeserver."""

    def __init__(
        self,
        host: str,
        first_port: int,
        authority: Authority,
        directory: Path,
        running: ExitStack,
        behind: int | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        worker_port = first_port + 1
        worker_url = f"http://127.0.0.1:{worker_port}"
        registration = ApplicationService(f"{host}:{first_port}", worker_url)
        self.sfu = running.enter_context(
            closing(LivekitServer(first_port + 10, [f"{worker_url}/sfu_webhook"], directory))
        )
        self.homeserver = running.enter_context(
            closing(
                Synapse(
                    host,
                    first_port,
                    authority,
                    directory,
                    transport(worker_url, self.sfu.url),
                    behind,
                    application_service=registration,
                )
            )
        )
        self.variables = (
            configuration(self.sfu, self.homeserver)
            | registration.variables()
            | {"LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS": str(INTERVAL_SECONDS)}
            | dict(variables or {})
        )
        self.worker = running.enter_context(
            closing(serve(worker_port, self.variables, authority, directory))
        )

    def wait_until_ready(self) -> None:
        for part in (self.homeserver, self.sfu, self.worker):
            part.wait_until_ready()

    def admit(self, member: HomeserverMember) -> dict[str, str]:
        """URL and token with which a member joins here. Members of the other site request them over federation."""
        is_home = member.user.homeserver is self.homeserver
        response = member.ask_for_token(self.sfu.url, None if is_home else self.homeserver.name)
        assert response.status_code == 200, response.text
        return {"url": self.sfu.url} | response.json()

    def refusal(self, member: HomeserverMember) -> tuple[int, str]:
        """Status and `errcode` for a member without the right to a token for the SFU here."""
        is_home = member.user.homeserver is self.homeserver
        response = member.ask_for_token(self.sfu.url, None if is_home else self.homeserver.name)
        return response.status_code, response.json()["errcode"]

    def has(self, member: HomeserverMember) -> bool:
        """Whether the member is connected to the SFU."""
        return member.identity in self.sfu.joined(member.livekit_room)


class Federation:
    """Two sites with a user each, and Matrix rooms that both users are in.

    - `near` lets every remote user publish, which is the default. Its homeserver manages delayed events for their owners
      only: it is behind a proxy that refuses the others, as later versions of Synapse are going to.
    - `far` lets no remote user publish.
    """

    def __init__(self, directory: Path, running: ExitStack) -> None:
        self.authority = Authority(directory)
        self.near = Site("localhost", 8500, self.authority, directory, running, behind=NEAR_SYNAPSE)
        wire = running.enter_context(closing(Wire(lambda exchange: None)))
        wire.tap(
            "homeserver",
            8500,
            f"https://localhost:{NEAR_SYNAPSE}",
            self.near.homeserver.certificate,
            self.authority.pem,
            refuse_strangers,
        )
        address = os.environ["E2E_ADDRESS"]
        nobody = {"LIVEKIT_REMOTE_CAN_PUBLISH_HOMESERVERS": f"{address}:8600"}
        self.far = Site(address, 8600, self.authority, directory, running, variables=nobody)
        self.near.wait_until_ready()
        self.far.wait_until_ready()
        self.nora = self.near.homeserver.register("nora")
        self.fred = self.far.homeserver.register("fred")

    def shared_room(self) -> str:
        room_id = self.nora.create_room()
        self.nora.invite(room_id, self.fred)
        return room_id


def refuse_strangers(exchange: Exchange) -> tuple[int, dict[str, str]] | None:
    """Refuses requests without a login that restart, send or cancel a delayed event."""
    manages = exchange.method == "POST" and "/delayed_events/" in exchange.url.path
    if not manages or "Authorization" in exchange.headers:
        return None
    return 401, {"errcode": "M_MISSING_TOKEN", "error": "Missing access token"}


NEAR_SYNAPSE = 8502
INTERVAL_SECONDS = 3
"""Interval at which the workers check the members."""
