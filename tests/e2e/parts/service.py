"""The service under test: the worker, in workerd alone or under `wrangler dev`."""

import json
import os
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests

from .authority import Authority
from .livekit_server import LivekitServer
from .member import LegacyMember, Member
from .process import Process
from .synapse import Synapse


class Service:
    """The service at a URL, as its clients use it, and the process in which it runs."""

    def __init__(self, url: str, process: Process) -> None:
        self.url = url
        self._process = process

    def behind(self, url: str) -> "Service":
        """Returns the same service under another URL."""
        return Service(url, self._process)

    def post(self, path: str, body: dict[str, Any]) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=REQUEST_TIMEOUT_SECONDS)

    def ask(self, member: Member | LegacyMember, openid_token: dict[str, Any]) -> requests.Response:
        """Response to a member's request with an OpenID token, their own or another user's."""
        return self.post(member.path, member.request(openid_token))

    def admit(self, member: Member | LegacyMember) -> dict[str, str]:
        """URL and token returned for a member's own, fresh OpenID token."""
        response = self.ask(member, member.user.openid_token())
        assert response.status_code == 200, response.text
        return response.json()

    def wait_until_ready(self, health: int = HTTPStatus.OK) -> None:
        """Waits until the health check returns the status `health`."""
        self._process.wait_until(lambda: self._health() == health, f"its health check returns {health}")

    def log_lines(self, text: str) -> int:
        """Number of lines in its log that contain `text`."""
        return sum(text in line for line in self._process.log.read_text().splitlines())

    def kill(self) -> None:
        """Ends the service as a crash would."""
        self._process.kill()

    def close(self) -> None:
        self._process.close()

    def _health(self) -> int | None:
        try:
            return requests.get(f"{self.url}/healthz", timeout=REQUEST_TIMEOUT_SECONDS).status_code
        except requests.ConnectionError:
            return None


def configuration(sfu: LivekitServer, full_access: Synapse) -> dict[str, str]:
    """Variables of a deployment with `sfu`, in which the users of one homeserver have full access."""
    return {
        "LIVEKIT_URL": sfu.url,
        "LIVEKIT_KEY": sfu.key,
        "LIVEKIT_SECRET": sfu.secret,
        "LIVEKIT_FULL_ACCESS_HOMESERVERS": full_access.name,
        "LIVEKIT_ALLOW_PRIVATE_ADDRESSES": "true",
        "LIVEKIT_LOG_LEVEL": "debug",
    }


def serve(
    port: int, variables: Mapping[str, str], authority: Authority, directory: Path
) -> Service:
    """Starts the production build in workerd alone. Its storage stays in `directory`, for the next start."""
    command = [
        *("sh", "-c", ENDING_TOGETHER, "sh"),
        *(os.environ["E2E_XTASK"], "serve"),
        *("--addr", f"127.0.0.1:{port}"),
        *("--state", str(directory / f"worker-{port}")),
        *("--trust-ca", str(authority.pem)),
    ]
    process = Process(f"worker-{port}", command, directory, variables, last_signal="TERM")
    return Service(f"http://127.0.0.1:{port}", process)


def wrangler_dev(
    port: int, variables: Mapping[str, str], authority: Authority, directory: Path
) -> Service:
    """Starts the worker of this clone under `wrangler dev`."""
    env_file = directory / "wrangler.env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    command = [
        *(*json.loads(os.environ["E2E_WRANGLER"]), "dev"),
        *("--cwd", str(Path(__file__).parents[3])),
        *("--ip", "127.0.0.1", "--port", str(port), "--inspector-port", "0"),
        *("--env-file", str(env_file)),
        *("--persist-to", str(directory / f"wrangler-{port}")),
    ]
    environment = {"NODE_EXTRA_CA_CERTS": str(authority.pem)}
    return Service(
        f"http://127.0.0.1:{port}", Process(f"wrangler-{port}", command, directory, environment)
    )


REQUEST_TIMEOUT_SECONDS = 30
# The signal for a parent's death comes once for each of its threads, and at the second `xtask serve` abandons workerd.
ENDING_TOGETHER = 'trap "kill -KILL 0" TERM; "$@" & wait "$!"'
