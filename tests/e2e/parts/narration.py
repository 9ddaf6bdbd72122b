"""Tells on a terminal what happens between the parts, when, and with what on the wire."""

import json
import re
import textwrap
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from livekit import api
from yarl import URL

from .process import eventually
from .wire import Exchange


Told = Callable[[Exchange], bool]
"""Whether an exchange, with its answer, is the one that is meant."""


class Narration:
    """Prints steps, and the exchanges between the parts as they happen. Secrets are cut to their beginnings."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._steps = 0
        self._answered: list[Exchange] = []
        self._printing = threading.Lock()

    def step(self, title: str) -> None:
        self._steps += 1
        self.say(f"\n{self._steps}. {title}\n")

    def say(self, text: str) -> None:
        with self._printing:
            print(text, flush=True)

    def show(self, value: Any) -> None:
        """Print something in JSON, in full but for its secrets."""
        text = json.dumps(without_secrets(value), indent=2, ensure_ascii=False)
        self.say(INDENT + text.replace("\n", f"\n{INDENT}"))

    def observe(self, exchange: Exchange) -> None:
        """Print a request, or its answer if it has one. For `Wire`."""
        self._print(exchange)
        if exchange.status is not None:
            self._answered.append(exchange)

    def wait_for(self, what: str, told: Told, within: float = 30.0) -> float:
        """Wait until an exchange took place, now or earlier, and return the seconds since the beginning."""
        shown = time.monotonic()

        def took_place() -> bool:
            nonlocal shown
            if time.monotonic() > shown + NEWS_SECONDS:
                shown = time.monotonic()
                self.say(f"{self._time()} … waiting: {what}")
            return any(told(exchange) for exchange in self._answered)

        eventually(took_place, what, within)
        return self.elapsed()

    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def _print(self, exchange: Exchange) -> None:
        caller = _caller(exchange)
        if exchange.status is None:
            line = f"{caller} → {exchange.part}  {exchange.method} {_shortened_url(exchange.url)}"
            details = _details(exchange, exchange.headers, exchange.body, of_answer=False)
        else:
            line = f"{caller} ← {exchange.part}  {exchange.status}"
            details = _details(exchange, exchange.answer_headers, exchange.answer, of_answer=True)
        self.say("\n".join([f"{self._time()} {line}", *(INDENT + detail for detail in details)]))

    def _time(self) -> str:
        return f"{self.elapsed():8.2f} s"


def without_secrets(value: Any) -> Any:
    """JSON with its secrets cut to their beginnings."""
    if isinstance(value, dict):
        return {
            name: _shortened(part)
            if name in SECRET_FIELDS and isinstance(part, str)
            else without_secrets(part)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(part) for part in value]
    return value


def _caller(exchange: Exchange) -> str:
    """Who asks, which the path tells."""
    if exchange.url.path.endswith("/sfu_webhook"):
        return SFU
    return SERVICE if SERVICES_REQUEST.search(exchange.url.path) else CLIENT


def _details(
    exchange: Exchange, headers: Mapping[str, str], body: bytes, of_answer: bool
) -> list[str]:
    lines = []
    if authorization := headers.get("Authorization"):
        lines.append(f"Authorization: {_shortened_authorization(authorization)}")
    if body:
        content = without_secrets(_content(exchange, headers, body, of_answer))
        text = json.dumps(content, ensure_ascii=False)
        text = text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
        lines += textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return lines


def _content(exchange: Exchange, headers: Mapping[str, str], body: bytes, of_answer: bool) -> Any:
    """What a body says. The SFU says more than matters here."""
    try:
        if "protobuf" in headers.get("Content-Type", ""):
            message = MESSAGES[exchange.url.name][of_answer].FromString(body)
            return _gist(MessageToDict(message))
        content = json.loads(body)
    except (ValueError, DecodeError, KeyError):
        return f"{len(body)} bytes"
    return _gist(content) if exchange.url.path.endswith("/sfu_webhook") else content


def _gist(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _gist(part) for name, part in content.items() if name in SFU_FIELDS}
    if isinstance(content, list):
        return [_gist(part) for part in content]
    return content


def _shortened(secret: str) -> str:
    return f"{secret[:SECRET_BEGINNING]}…"


def _shortened_url(url: URL) -> str:
    return SECRET_IN_URL.sub(lambda found: found[1] + _shortened(found[2]), str(url))


def _shortened_authorization(value: str) -> str:
    scheme, space, secret = value.rpartition(" ")
    return scheme + space + _shortened(secret)


CLIENT, SERVICE, HOMESERVER, SFU = "client", "service", "homeserver", "SFU"
SERVICES_REQUEST = re.compile(
    r"/twirp/|/_matrix/federation/|/\.well-known/|/_matrix/client/versions|/delayed_events/[^/]+/\w+$"
)
SECRET_FIELDS = {"access_token", "delay_id", "jwt", "password"}
SECRET_IN_URL = re.compile(r"(access_token=|join_request=|delayed_events/)([^&/?]+)")
SECRET_BEGINNING = 6
MESSAGES = {
    "CreateRoom": (api.CreateRoomRequest, api.Room),
    "GetParticipant": (api.RoomParticipantIdentity, api.ParticipantInfo),
    "ListParticipants": (api.ListParticipantsRequest, api.ListParticipantsResponse),
}
SFU_FIELDS = {
    *("event", "room", "participant", "participants", "name", "sid", "identity"),
    *("state", "disconnectReason", "emptyTimeout", "departureTimeout"),
}
INDENT = " " * 13
WIDTH = 120
LONGEST = 480
NEWS_SECONDS = 5.0
