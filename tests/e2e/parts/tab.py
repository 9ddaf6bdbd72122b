"""A tab of a real browser that a test looks at and operates as a user does, by Chromium's DevTools protocol.

How it works:
- The browser listens on a port of its own choice, and writes the address to its log.
- All orders go through one WebSocket, which a thread of its own keeps open.
- Clicks and keys are the browser's own events, so that a page can't tell them from a user's.
"""

import asyncio
import base64
import itertools
import json
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from .browser import FLAGS
from .process import Process, eventually


@dataclass(frozen=True)
class Response:
    """A response to the page."""

    status: int
    headers: Mapping[str, str]
    body: str


Alter = Callable[[Response], Response]
"""Function that returns the response that the page is to receive."""


def says(answer: Any, status: int = 200, cors: bool = True) -> Alter:
    """Replaces every response by this JSON, for pages of any origin or of none."""
    allowed = {"Access-Control-Allow-Origin": "*"} if cors else {}
    headers = allowed | {"Content-Type": "application/json"}
    return lambda response: Response(status, headers, json.dumps(answer))


class Tab:
    """The one tab of a headless Chromium of its own, which trusts every certificate."""

    def __init__(self, directory: Path, *flags: str) -> None:
        name = f"tab-{next(NUMBERS)}"
        self._process = Process(
            name,
            [
                os.environ["E2E_CHROMIUM"],
                *(flag for flag in FLAGS if not flag.startswith("--use-fake")),
                # Played to nowhere, by the clock: the machine may have no sound.
                "--disable-audio-output",
                *flags,
                # The homeserver's certificate is from the authority of the tests.
                "--ignore-certificate-errors",
                "--remote-debugging-port=0",
                f"--user-data-dir={directory / name}",
                "about:blank",
            ],
            directory,
        )
        self._process.wait_until(lambda: self._address() is not None, "it listens")
        self._answers: dict[int, Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop
        self._open: Future[aiohttp.ClientWebSocketResponse] = Future()
        self.console: list[str] = []
        """Errors and warnings that the browser has reported of the page, violations of its policy among them."""
        self._requests: list[str] = []
        self._alterations: list[tuple[str, Alter]] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._receive()), daemon=True)
        self._thread.start()
        self._session: str | None = None
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")

    def close(self) -> None:
        # With the browser ends its WebSocket, and so the thread.
        self._process.close()
        self._thread.join(PATIENCE_SECONDS)

    def forget(self) -> None:
        """Forgets what a page has left behind, and all alterations."""
        self._alterations.clear()
        self._ask("Fetch.disable")
        self._ask("Page.navigate", url="about:blank")
        self.console.clear()
        self._requests.clear()

    def open(self, url: str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Opens a page, in a window of that size."""
        self.resize(width, height, dark)
        self._ask("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])

    def alter(self, part_of_url: str, alter: "Alter") -> None:
        """Replaces the responses to requests whose URL has that part, before the browser judges them."""
        if not self._alterations:
            self._ask("Fetch.enable", patterns=[{"requestStage": "Response"}])
        self._alterations.insert(0, (part_of_url, alter))

    def evaluate(self, expression: str) -> Any:
        """Value of an expression, once it is there."""
        outcome = self._ask(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            # As if the user had clicked.
            userGesture=True,
            # The page's policy doesn't hold for tests.
            allowUnsafeEvalBlockedByCSP=True,
        )
        assert "exceptionDetails" not in outcome, outcome["exceptionDetails"]
        return outcome["result"].get("value")

    def wait_for(self, expression: str, within: float = 30.0) -> Any:
        """Waits until the value of an expression is truthy, and returns that."""
        return eventually(lambda: self.evaluate(expression), expression, within)

    def fill(self, element_id: str, text: str) -> None:
        """Replaces the text of a field."""
        self.evaluate(
            f"(it => {{ it.focus(); it.select() }})(document.getElementById('{element_id}'))"
        )
        self._ask("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Clicks into the middle of an element."""
        place = self.evaluate(
            f"""(it => {{
                it.scrollIntoView({{ block: "center" }});
                const {{ x, y, width, height }} = it.getBoundingClientRect();
                return [x + width / 2, y + height / 2];
            }})(document.querySelector({json.dumps(selector)}))"""
        )
        for event in ("mousePressed", "mouseReleased"):
            x, y = place
            button = {"button": "left", "clickCount": 1}
            self._ask("Input.dispatchMouseEvent", type=event, x=x, y=y, **button)

    def press(self, key: str) -> None:
        """Presses a key of the keyboard."""
        code = {"Tab": 9, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for event in ("keyDown", "keyUp"):
            self._ask(
                "Input.dispatchKeyEvent", type=event, key=key, windowsVirtualKeyCode=code, **text
            )

    def screenshot(self, path: Path) -> None:
        """Takes a picture of the whole page."""
        height = self.evaluate("document.documentElement.scrollHeight")
        width = self.evaluate("document.documentElement.clientWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        picture = self._ask("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def requested(self) -> Sequence[str]:
        """URLs that the page has requested so far."""
        return tuple(self._requests)

    def _address(self) -> str | None:
        found = re.search(r"DevTools listening on (ws://\S+)", self._process.log.read_text())
        return found and found[1]

    async def _receive(self) -> None:
        address = self._address()
        assert address is not None
        self._loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(address, max_msg_size=0) as socket:
                self._open.set_result(socket)
                async for message in socket:
                    self._take(message.json())

    def _take(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case None:
                self._answers.pop(message["id"]).set_result(message)
            case "Log.entryAdded":
                entry = parameters["entry"]
                # Statuses are the page's to judge.
                if entry["level"] in ("warning", "error") and entry["source"] != "network":
                    self.console.append(entry["text"])
            case "Runtime.exceptionThrown":
                self.console.append(json.dumps(parameters["exceptionDetails"]))
            case "Fetch.requestPaused":
                self._loop.create_task(self._resume(parameters))
            case "Network.requestWillBeSent":
                self._requests.append(parameters["request"]["url"])
            case "Network.webSocketCreated":
                self._requests.append(parameters["url"])

    async def _resume(self, paused: dict[str, Any]) -> None:
        url, request = paused["request"]["url"], paused["requestId"]
        alter = next((alter for part, alter in self._alterations if part in url), None)
        if alter is None or paused["request"]["method"] == "OPTIONS":
            self._send("Fetch.continueRequest", requestId=request)
            return
        got = await asyncio.wrap_future(self._send("Fetch.getResponseBody", requestId=request))
        body = got.get("result", {"body": "", "base64Encoded": False})
        text = base64.b64decode(body["body"]).decode() if body["base64Encoded"] else body["body"]
        headers = {it["name"]: it["value"] for it in paused.get("responseHeaders", [])}
        answer = alter(Response(paused.get("responseStatusCode", 0), headers, text))
        self._send(
            "Fetch.fulfillRequest",
            requestId=request,
            responseCode=answer.status,
            responseHeaders=[{"name": name, "value": it} for name, it in answer.headers.items()],
            body=base64.b64encode(answer.body.encode()).decode(),
        )

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        message = self._send(method, **parameters).result(PATIENCE_SECONDS)
        assert "error" not in message, f"{method}: {message['error']}"
        return message["result"]

    def _send(self, method: str, **parameters: Any) -> Future[dict[str, Any]]:
        socket = self._open.result(PATIENCE_SECONDS)
        number = next(self._numbers)
        answer: Future[dict[str, Any]] = Future()
        self._answers[number] = answer
        order = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            order["sessionId"] = self._session
        asyncio.run_coroutine_threadsafe(socket.send_json(order), self._loop)
        return answer


NUMBERS = itertools.count(1)
PATIENCE_SECONDS = 60
