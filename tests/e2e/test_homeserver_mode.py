"""Homeserver mode (MSC4195), with two federating homeservers, each with a worker and an SFU of its own.

Clients request tokens from their own homeserver, which proxies the requests to its worker, or over federation to the
other one (`docs/protocol.md#homeserver-mode`). Bans in the Matrix room show the removal of participants.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from synapse.appservice import Scopes
from synapse.config.appservice import load_appservices

from parts import doctor
from parts.application_service import ApplicationService
from parts.authority import Authority
from parts.delayed_leave import DelayedLeave
from parts.livekit_server import LivekitServer
from parts.member import HomeserverMember
from parts.participant import Join, Participant
from parts.process import eventually
from parts.service import configuration, serve
from parts.synapse import Synapse, User


class Site:
    """A homeserver, the worker as its application service, and the SFU."""

    def __init__(
        self,
        host: str,
        first_port: int,
        authority: Authority,
        directory: Path,
        running: ExitStack,
    ) -> None:
        worker_port = first_port + 1
        worker_url = f"http://127.0.0.1:{worker_port}"
        registration = ApplicationService(f"{host}:{first_port}", worker_url)
        self.homeserver = Synapse(
            host, first_port, authority, directory, application_service=registration
        )
        running.enter_context(closing(self.homeserver))
        self.sfu = running.enter_context(
            closing(LivekitServer(first_port + 10, [f"{worker_url}/sfu_webhook"], directory))
        )
        self.variables = (
            configuration(self.sfu, self.homeserver)
            | registration.variables()
            | {"LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS": str(INTERVAL_SECONDS)}
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
    """Two sites with a user each, and Matrix rooms that both users are in."""

    def __init__(self, directory: Path, running: ExitStack) -> None:
        self.authority = Authority(directory)
        self.near, self.far = (
            Site(host, port, self.authority, directory, running)
            for host, port in (("localhost", 8500), (os.environ["E2E_ADDRESS"], 8600))
        )
        self.near.wait_until_ready()
        self.far.wait_until_ready()
        self.nora = self.near.homeserver.register("nora")
        self.fred = self.far.homeserver.register("fred")

    def shared_room(self) -> str:
        room_id = self.nora.create_room()
        self.nora.invite(room_id, self.fred)
        return room_id


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with ExitStack() as running:
        yield Federation(tmp_path_factory.mktemp("federation"), running)


def connect(join: Join, site: Site, member: HomeserverMember) -> Participant:
    participant = join(site.admit(member))
    participant.wait_until_connected()
    return participant


def test_members_of_two_homeservers_hear_each_other(federation: Federation, join: Join) -> None:
    near, far, room_id = federation.near, federation.far, federation.shared_room()
    nora, fred = HomeserverMember(federation.nora, room_id), HomeserverMember(federation.fred, room_id)
    nora_speaks, fred_speaks = connect(join, near, nora), connect(join, far, fred)
    nora_listens, fred_listens = connect(join, far, nora), connect(join, near, fred)

    nora_speaks.publish_audio()
    fred_speaks.publish_audio()

    assert fred_listens.hears() == nora.identity
    assert nora_listens.hears() == fred.identity


def test_the_doctor_finds_homeserver_and_service_wired(federation: Federation) -> None:
    near = federation.near

    def findings(**changes: str) -> dict[str, dict[str, str]]:
        variables = near.variables | changes
        url, authority = near.worker.url, federation.authority
        _, found = doctor.examine(url, near.homeserver, authority, variables)
        return {check: found[check] for check in doctor.HOMESERVER_MODE}

    found = findings()
    # These homeservers announce no transport, as the tests know the SFUs.
    expected = dict.fromkeys(doctor.HOMESERVER_MODE, "ok") | {"transports": "warning"}
    assert {check: finding["status"] for check, finding in found.items()} == expected, found

    assert "isn't the service's" in findings(LIVEKIT_HS_TOKEN="another")["ping"]["seen"]
    assert "hasn't read" in findings(LIVEKIT_AS_TOKEN="another")["as-token"]["seen"]


def test_nobody_publishes_on_the_sfu_of_another_homeserver(
    federation: Federation, join: Join
) -> None:
    near, room_id = federation.near, federation.shared_room()
    host = HomeserverMember(federation.nora, room_id)
    guest = HomeserverMember(federation.fred, room_id)
    connect(join, near, host)
    guest_listens = connect(join, near, guest)

    guest_listens.publish_audio()

    guest_listens.wait_until_silenced()
    assert near.sfu.may_publish(guest.livekit_room) == {host.identity}


def test_synapse_reads_the_registration_file_that_configure_writes(tmp_path: Path) -> None:
    command = [
        *(os.environ["E2E_XTASK"], "configure", "--route", "rtc.example.com/livekit/jwt"),
        *("--sfu-url", "wss://sfu.example.com", "--homeserver", "example.com"),
        *("--homeserver-mode", "example.com", "--write", str(tmp_path)),
    ]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True)

    [service] = load_appservices("example.com", [str(tmp_path / "matrixrtc-registration.yaml")])

    assert service.proxy_url == "https://rtc.example.com/livekit/jwt"
    assert service.proxy_prefix == "rtc/livekit"
    assert service.has_scope(Scopes.QUERY_ROOM_MEMBERSHIP)
    assert service.is_interested_in_user("@alice:example.com")
    assert not service.is_interested_in_user("@alice:exampleXcom")
    assert not service.is_exclusive_user("@alice:example.com")


def test_who_is_not_in_the_room_gets_no_token(federation: Federation) -> None:
    room_id = federation.shared_room()
    stranger = HomeserverMember(federation.near.homeserver.register("stranger"), room_id)

    assert federation.near.refusal(stranger) == (403, "M_FORBIDDEN")
    assert federation.far.refusal(stranger) == (403, "M_FORBIDDEN")


def test_the_leave_is_sent_when_the_client_leaves(federation: Federation, join: Join) -> None:
    near, room_id = federation.near, federation.shared_room()
    nora = HomeserverMember(federation.nora, room_id)
    leave = DelayedLeave(federation.nora, room_id, HOUR_MS)
    participant = connect(join, near, nora)
    response = nora.delegate(near.sfu.url, leave.delegation["delay_id"])
    assert response.status_code == 200, response.text
    leave.wait_until_restarted()

    participant.leave()

    eventually(leave.is_sent, "the leave is in the room's state", within=2)


def test_who_is_banned_is_removed_and_stays_out(federation: Federation, join: Join) -> None:
    near, room_id = federation.near, federation.shared_room()
    fred = HomeserverMember(federation.fred, room_id)
    bystander = HomeserverMember(federation.nora, room_id)
    connect(join, near, bystander)
    grant = near.admit(fred)
    guest = join(grant)
    guest.wait_until_connected()

    federation.nora.ban(room_id, federation.fred)

    eventually(lambda: not near.has(fred), "the banned user is removed", INTERVAL_SECONDS + SLACK_SECONDS)
    guest.wait_until_removed()
    again = join(grant)
    again.wait_until_connected()
    again.wait_until_removed()
    assert near.has(bystander)


def test_a_homeserver_that_is_down_ends_no_call(federation: Federation, join: Join) -> None:
    near, room_id = federation.near, federation.shared_room()
    nora, fred = HomeserverMember(federation.nora, room_id), HomeserverMember(federation.fred, room_id)
    connect(join, near, nora)
    guest = connect(join, near, fred)

    near.homeserver.stop()
    failures = near.worker.log_lines(CHECK_FAILED)
    eventually(lambda: near.worker.log_lines(CHECK_FAILED) >= failures + 2, "two checks have failed")
    assert near.has(nora) and near.has(fred)
    near.homeserver.start_again()

    federation.nora.ban(room_id, federation.fred)
    guest.wait_until_removed()
    assert near.has(nora)


HOUR_MS = 3_600_000
INTERVAL_SECONDS = 3
SLACK_SECONDS = 5
CHECK_FAILED = "membership unknown"
