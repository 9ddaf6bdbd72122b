"""Element Call in a real browser: the whole app, as the npm package `@element-hq/element-call-embedded` has it.

How it works:
- Each browser has a site of its own with the app, whose configuration names the homeserver of the user.
- The site puts `page/element_call.js` in front of the app's scripts, which does what a user would do.
- The user is a guest: the app registers an account of its own for the given name.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .browser import Browser, File
from .secrecy import secret
from .synapse import Synapse, User


class ElementCall(Browser):
    """A guest of `homeserver`, in a browser of its own. `mode` is one of `MODES`."""

    def __init__(self, name: str, homeserver: Synapse, mode: str, directory: Path) -> None:
        self._name = name
        self._homeserver = homeserver
        server = {"base_url": homeserver.url, "server_name": homeserver.name}
        configuration = {
            "default_server_config": {"m.homeserver": server},
            "matrix_rtc_mode": mode,
        }
        super().__init__(
            f"element-call-{name.lower()}",
            directory,
            partial(_file, configuration),
            "/",
            # The homeserver's certificate is from the authority of the tests.
            "--ignore-certificate-errors",
            "--window-size=1000,700",
        )

    def create_call(self) -> str:
        """Creates a room for a call, up to the lobby. Returns the path of the invitation."""
        self._do("fill", id="home_callName", value="Call")
        self._do("fill", id="home_displayName", value=self._name)
        self._do("click", id="home_go")
        link = self._do("link")
        assert isinstance(link, str)
        return link.removeprefix(self.origin)

    def follow(self, invitation: str) -> None:
        """Follows an invitation, up to the lobby."""
        self._do("go", url=self.origin + invitation)
        self._do("fill", id="joincall_displayName", value=self._name)
        self._do("click", id="joincall_joincall")

    def join(self) -> None:
        """Joins the call from the lobby."""
        self._do("click", id="lobby_joinCall")

    def wait_until_sees_and_hears(self, others: int = 1) -> None:
        """Waits until frames and sound of that many others are decoded."""
        self._do("perceive", others=others)

    def participants(self) -> int:
        """Number of participants in the call, as the page shows it."""
        count = self._do("participants")
        assert isinstance(count, int)
        return count

    def reload(self) -> None:
        """Loads the page again, which then shows the lobby."""
        self._do("reload")

    def leave(self) -> None:
        """Leaves the call by its button."""
        self._do("click", id="incall_leave")

    def user(self) -> User:
        """The guest's account."""
        account = self._do("account")
        token = secret(account["access_token"])
        return User(self._homeserver, account["user_id"], account["device_id"], token)


def _file(configuration: dict[str, Any], path: str) -> File | None:
    if path == "/element_call.js":
        return "text/javascript", SCRIPT.read_bytes()
    if path.endswith("/config.json"):
        return "application/json", json.dumps(configuration).encode()
    if "/assets/" in path:
        file = APP / "assets" / path.rpartition("/assets/")[2]
        content_type = CONTENT_TYPES.get(file.suffix, "application/octet-stream")
        return (content_type, file.read_bytes()) if file.is_file() else None
    # Every other path is one of the app's own.
    index = (APP / "index.html").read_text()
    script = '<head><script src="/element_call.js"></script>'
    return "text/html", index.replace("<head>", script, 1).encode()


OpenElementCall = Callable[..., ElementCall]
"""Function that opens Element Call in a new browser."""

MODES = ("compatibility", "matrix_2_0")
"""Modes of MatrixRTC: one SFU and memberships in the room's state, or an SFU of each and sticky events."""
_E2E = Path(__file__).parents[1]
SCRIPT = _E2E / "page/element_call.js"
APP = _E2E / "node_modules/@element-hq/element-call-embedded/dist"
CONTENT_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
