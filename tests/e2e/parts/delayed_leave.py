"""Delayed leave (MSC4140): the homeserver sends it for a member unless it is restarted in time."""

from typing import Any
from urllib.parse import quote

from .process import eventually
from .secrecy import secret
from .synapse import User


class DelayedLeave:
    """Sends a user's call membership to a room, and schedules its removal."""

    def __init__(self, user: User, room_id: str, delay_ms: int) -> None:
        self._user = user
        self._state = (
            f"/_matrix/client/v3/rooms/{quote(room_id)}/state/{MEMBERSHIP_TYPE}/"
            f"{quote(f'_{user.id}_{user.device_id}_m.call')}"
        )
        user.request("PUT", self._state, json={"application": "m.call"})
        scheduled = user.request(
            "PUT", self._state, params={"org.matrix.msc4140.delay": delay_ms}, json=LEFT
        )
        self._delay_id = secret(scheduled["delay_id"])
        self.delegation = {"delay_id": self._delay_id, "delay_timeout": delay_ms}
        """Fields that delegate the leave."""
        self._delayed_since = self._pending()["delayed_since_ts"]

    def is_sent(self) -> bool:
        """Whether the leave is in the room's state."""
        return self._user.request("GET", self._state) == LEFT

    def wait_until_restarted(self, within: float = 30.0) -> None:
        """Waits until the homeserver has restarted the delay since the last call, or since the leave was scheduled."""
        eventually(self._is_restarted, "the delayed leave is restarted", within)

    def _is_restarted(self) -> bool:
        last, self._delayed_since = self._delayed_since, self._pending()["delayed_since_ts"]
        return self._delayed_since != last

    def _pending(self) -> dict[str, Any]:
        path = f"/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{quote(self._delay_id)}"
        return self._user.request("GET", path)


MEMBERSHIP_TYPE = "org.matrix.msc3401.call.member"
LEFT: dict[str, Any] = {}
