"""Narration on a terminal: steps, and the requests between the parts, with times and contents."""

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


Condition = Callable[[Exchange], bool]
"""Predicate of an exchange with its response."""


class Narration:
    """Prints steps, and exchanges between the parts as they happen. Of secrets it prints only the beginning."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._steps = 0
        self._completed: list[Exchange] = []
        self._printing = threading.Lock()

    def step(self, title: str) -> None:
        self._steps += 1
        self.say(f"\n{self._steps}. {title}\n")

    def say(self, text: str) -> None:
        with self._printing:
            print(text, flush=True)

    def show(self, value: Any) -> None:
        """Prints a value as JSON, in full except for secrets."""
        text = json.dumps(without_secrets(value), indent=2, ensure_ascii=False)
        self.say(INDENT + text.replace("\n", f"\n{INDENT}"))

    def observe(self, exchange: Exchange) -> None:
        """Prints a request, or its response if it has one. A callback for `Wire`."""
        self._print(exchange)
        if exchange.status is not None:
            self._completed.append(exchange)

    def wait_for(self, what: str, condition: Condition, within: float = 30.0) -> float:
        """Waits for an exchange, which may have taken place already. Returns the seconds since the beginning."""
        shown = time.monotonic()

        def took_place() -> bool:
            nonlocal shown
            if time.monotonic() > shown + PROGRESS_SECONDS:
                shown = time.monotonic()
                self.say(f"{self._time()} … waiting until {what}")
            return any(condition(exchange) for exchange in self._completed)

        eventually(took_place, what, within)
        return self.elapsed()

    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def _print(self, exchange: Exchange) -> None:
        caller = _caller(exchange)
        if exchange.status is None:
            line = f"{caller} → {exchange.part}  {exchange.method} {_shortened_url(exchange.url)}"
            details = _details(exchange, exchange.headers, exchange.body, of_response=False)
        else:
            line = f"{caller} ← {exchange.part}  {exchange.status}"
            details = _details(exchange, exchange.response_headers, exchange.response, of_response=True)
        self.say("\n".join([f"{self._time()} {line}", *(INDENT + detail for detail in details)]))

    def _time(self) -> str:
        return f"{self.elapsed():8.2f} s"


def without_secrets(value: Any) -> Any:
    """Copies a JSON value, with only the beginnings of its secrets."""
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
    """Part that sent the request, recognised by the path."""
    if exchange.url.path.endswith("/sfu_webhook"):
        return SFU
    return SERVICE if SERVICES_REQUEST.search(exchange.url.path) else CLIENT


def _details(
    exchange: Exchange, headers: Mapping[str, str], body: bytes, of_response: bool
) -> list[str]:
    lines = []
    if authorization := headers.get("Authorization"):
        lines.append(f"Authorization: {_shortened_authorization(authorization)}")
    if body:
        content = without_secrets(_content(exchange, headers, body, of_response))
        text = json.dumps(content, ensure_ascii=False)
        text = text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
        lines += textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return lines


def _content(exchange: Exchange, headers: Mapping[str, str], body: bytes, of_response: bool) -> Any:
    """Decodes a body. Of the SFU's messages only the fields that matter here are kept."""
    try:
        if "protobuf" in headers.get("Content-Type", ""):
            message = MESSAGES[exchange.url.name][of_response].FromString(body)
            return _relevant(MessageToDict(message))
        content = json.loads(body)
    except (ValueError, DecodeError, KeyError):
        return f"{len(body)} bytes"
    return _relevant(content) if exchange.url.path.endswith("/sfu_webhook") else content


def _relevant(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _relevant(part) for name, part in content.items() if name in SFU_FIELDS}
    if isinstance(content, list):
        return [_relevant(part) for part in content]
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
PROGRESS_SECONDS = 5.0
