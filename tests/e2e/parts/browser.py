"""Pages in a real browser, which carry out orders.

How it works:
- Each page is served from an origin of its own, through which it also receives orders and reports outcomes.
- `GET /order` waits for the next order, `POST /outcome` carries its result or error. The page's script does both.
- `Page` is a small web client of Matrix calls (`page/client.js`); for Element Call see `element_call.py`.
"""

import json
import os
import queue
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .process import Process
from .secrecy import secret

File = tuple[str, bytes]
"""Content type of a file, and its content."""


class Browser:
    """A headless Chromium with one page, whose microphone beeps and whose camera shows a test picture.

    `serve` returns the file at a path of the page's origin, if there is one. The page is at `start`.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        serve: Callable[[str], File | None],
        start: str,
        *flags: str,
    ) -> None:
        self._site = _Site(serve)
        self.origin = f"http://127.0.0.1:{self._site.server_port}"
        threading.Thread(target=self._site.serve_forever, daemon=True).start()
        name = f"{name}-{self._site.server_port}"
        self._process = Process(
            name,
            [
                os.environ["E2E_CHROMIUM"],
                *FLAGS,
                *flags,
                f"--user-data-dir={directory / name}",
                self.origin + start,
            ],
            directory,
        )

    def kill(self) -> None:
        """Ends the browser as a crash would."""
        self._process.kill()

    def close(self) -> None:
        self._process.close()
        self._site.shutdown()
        self._site.server_close()

    def _do(self, action: str, **details: Any) -> Any:
        """Gives the page an order, and returns the result."""
        self._site.orders.put({"action": action, "details": details})
        what = f"{action} {details.get('id', '')}"
        self._process.wait_until(lambda: not self._site.outcomes.empty(), what)
        outcome = self._site.outcomes.get_nowait()
        if "error" in outcome:
            raise PageError(outcome["error"])
        return outcome.get("result")


class Page(Browser):
    """A page with LiveKit's JavaScript client."""

    def __init__(self, directory: Path) -> None:
        super().__init__("page", directory, _file, "/index.html")

    def ask(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """Status and JSON of the response to a request with `body`, if the browser allows the page to read them."""
        return self._do("ask", url=url, body=body)

    def insist(self, url: str, body: dict[str, Any], patience: int) -> dict[str, Any]:
        """First response with status 429, or else the last of `patience` responses."""
        return self._do("insist", url=url, body=body, patience=patience)

    def claims(self, jwt: str) -> dict[str, Any]:
        """Claims of a token, decoded by the page."""
        return self._do("claims", jwt=secret(jwt))

    def join(self, grant: dict[str, str]) -> str:
        """Connects to the SFU with a token endpoint's response, and returns the page's identity there."""
        return self._do("join", **grant)["identity"]

    def speak(self) -> None:
        """Publishes the microphone."""
        self._do("speak")

    def listen(self) -> str:
        """Waits for audio from another participant, and returns that one's identity."""
        return self._do("listen")["sender"]

    def leave(self) -> None:
        """Leaves the call as a client does when its user hangs up."""
        self._do("leave")


class PageError(Exception):
    """Error in the page's script while it carried out an order."""


Browse = Callable[[], Page]
"""Function that opens a page in a new browser."""


def _file(path: str) -> File | None:
    if path not in FILES:
        return None
    file, content_type = FILES[path]
    return content_type, file.read_bytes()


class _Site(ThreadingHTTPServer):
    """The origin of one page."""

    daemon_threads = True

    def __init__(self, serve: Callable[[str], File | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.serve = serve
        self.orders: queue.Queue[dict[str, Any]] = queue.Queue()
        self.outcomes: queue.Queue[dict[str, Any]] = queue.Queue()


class _Handler(BaseHTTPRequestHandler):
    server: _Site

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/order":
            self._answer("application/json", json.dumps(self.server.orders.get()).encode())
        elif (file := self.server.serve(path)) is not None:
            self._answer(*file)
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.outcomes.put(json.loads(body))
        self._answer("application/json", b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: the outcomes suffice."""

    def _answer(self, content_type: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


_E2E = Path(__file__).parents[1]
_CLIENT = Path("node_modules/livekit-client/dist/livekit-client.umd.js")
FILES = {
    "/index.html": (_E2E / "page/index.html", "text/html"),
    "/client.js": (_E2E / "page/client.js", "text/javascript"),
    "/livekit-client.js": (_E2E / _CLIENT, "text/javascript"),
}
FLAGS = [
    "--headless",
    # Chromium refuses to run as root with its sandbox; all pages are the tests' own.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Few frames: they are encoded in software.
    "--use-fake-device-for-media-stream=fps=5",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]
