"""Members of a call, with their requests to the service and their names on the SFU."""

import uuid
from typing import Any

import requests

from .names import digest
from .synapse import User


class Member:
    """A user's device that joins a slot of a Matrix room through `/get_token`."""

    path = "/get_token"

    def __init__(self, user: User, room_id: str) -> None:
        self.user = user
        self.livekit_room = digest(room_id, SLOT)
        self._room_id = room_id
        self._member_id = str(uuid.uuid4())
        self.identity = digest(user.id, user.device_id, self._member_id)

    def request(self, openid_token: dict[str, Any]) -> dict[str, Any]:
        return {
            "room_id": self._room_id,
            "slot_id": SLOT,
            "openid_token": openid_token,
            "member": {
                "id": self._member_id,
                "claimed_user_id": self.user.id,
                "claimed_device_id": self.user.device_id,
            },
        }


class LegacyMember:
    """A user's device that joins the call of a Matrix room through `/sfu/get`."""

    path = "/sfu/get"

    def __init__(self, user: User, room_id: str) -> None:
        self.user = user
        self.livekit_room = digest(room_id, SLOT)
        self._room_id = room_id
        self.identity = f"{user.id}:{user.device_id}"

    def request(self, openid_token: dict[str, Any]) -> dict[str, Any]:
        return {
            "room": self._room_id,
            "openid_token": openid_token,
            "device_id": self.user.device_id,
        }


class HomeserverMember:
    """A user's device that joins a slot of a Matrix room through its own homeserver (MSC4195)."""

    def __init__(self, user: User, room_id: str) -> None:
        self.user = user
        self.livekit_room = digest(room_id, SLOT)
        self._slot = {"room_id": room_id, "slot_id": SLOT, "member_id": str(uuid.uuid4())}
        self.identity = digest(user.id, self._slot["member_id"])

    def ask_for_token(self, url: str, server_name: str | None = None) -> requests.Response:
        """Requests a token for the SFU at `url`, which belongs to `server_name` or else to the own homeserver."""
        server = {"server_name": server_name} if server_name else {}
        return self._ask("get_token", {"url": url} | server)

    def delegate(self, url: str, delay_id: str) -> requests.Response:
        """Delegates the leave from the call on the SFU at `url`."""
        return self._ask("delegate_delayed_leave", {"url": url, "delay_id": delay_id})

    def _ask(self, endpoint: str, details: dict[str, str]) -> requests.Response:
        return self.user.ask("POST", f"{HOMESERVER_PATH}/{endpoint}", json=self._slot | details)


MemberType = type[Member] | type[LegacyMember]
HOMESERVER_PATH = "/_matrix/client/unstable/io.element.msc4195/rtc/livekit"
SLOT = "m.call#ROOM"
