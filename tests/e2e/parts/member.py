"""Members of a call, with what they ask the service for and the names that they get on the SFU."""

import uuid
from typing import Any

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


MemberType = type[Member] | type[LegacyMember]
SLOT = "m.call#ROOM"
