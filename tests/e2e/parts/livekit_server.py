"""A real LiveKit SFU."""

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import requests
import yaml
from livekit import api

from .process import Process
from .secrecy import secret

T = TypeVar("T")


class LivekitServer:
    """An SFU that doesn't create rooms automatically, and posts its webhooks to `webhook_urls`.

    `fragment` is a part of its configuration, with its pair of API key and secret, as `configure`
    writes it. It listens on `address` only, whatever other addresses the machine has. `tcp` offers
    media over TCP, and `turn` a TURN server.
    """

    def __init__(
        self,
        port: int,
        webhook_urls: Sequence[str],
        directory: Path,
        address: str | None = None,
        fragment: Mapping[str, Any] | None = None,
        tcp: bool = False,
        turn: Mapping[str, Any] | None = None,
    ) -> None:
        address = address or os.environ["E2E_ADDRESS"]
        self.url = f"ws://{address}:{port}"
        fragment = fragment or {
            "keys": {"e2e": secrets.token_urlsafe(32)},
            "room": {"auto_create": False},
            "webhook": {"api_key": "e2e"},
        }
        [(self.key, self.secret)] = fragment["keys"].items()
        secret(self.secret)
        self._http_url = f"http://{address}:{port}"
        configuration = {
            "port": port,
            "bind_addresses": [address],
            "rtc": {
                "node_ip": address,
                "use_external_ip": False,
                "ips": {"includes": [f"{address}/32"]},
                "enable_loopback_candidate": ip_address(address).is_loopback,
                # Disabled unless a test needs it: media over TCP would be offered on every address.
                "tcp_port": port + 1 if tcp else 0,
                "udp_port": port + 2,
                # Nothing listens on this port. Without an entry, the SFU would send clients to public servers.
                "stun_servers": [f"{address}:9"],
            },
            **({"turn": _turn(address) | turn} if turn else {}),
            "logging": {"level": "info"},
            **fragment,
            "webhook": {**fragment["webhook"], "urls": list(webhook_urls)},
        }
        configuration_file = directory / f"livekit-{port}.yaml"
        configuration_file.write_text(yaml.safe_dump(configuration))
        self._process = Process(
            f"livekit-{port}",
            [os.environ["E2E_LIVEKIT_SERVER"], "--config", configuration_file],
            directory,
        )

    def wait_until_ready(self) -> None:
        self._process.wait_until(self._responds, "it responds")

    def close(self) -> None:
        self._process.close()

    def rooms(self) -> set[str]:
        """Names of the rooms that exist."""
        answer = self._ask(lambda service: service.list_rooms(api.ListRoomsRequest()))
        return {room.name for room in answer.rooms}

    def joined(self, room: str) -> set[str]:
        """Identities of the participants in a room."""
        return {participant.identity for participant in self._participants(room)}

    def may_publish(self, room: str) -> set[str]:
        """Identities of the participants in a room whose tokens allow them to publish."""
        participants = self._participants(room)
        return {found.identity for found in participants if found.permission.can_publish}

    def tracks(self, room: str) -> int:
        """Number of tracks that are published in a room."""
        return sum(len(participant.tracks) for participant in self._participants(room))

    def _participants(self, room: str) -> list[api.ParticipantInfo]:
        try:
            answer = self._ask(
                lambda service: service.list_participants(api.ListParticipantsRequest(room=room))
            )
        except api.TwirpError as error:
            if error.code == api.TwirpErrorCode.NOT_FOUND:
                return []
            raise
        return [participant for participant in answer.participants if participant.state in JOINED]

    def _ask(self, question: Callable[[api.room_service.RoomService], Awaitable[T]]) -> T:
        async def asked() -> T:
            async with api.LiveKitAPI(self._http_url, self.key, self.secret) as livekit:
                return await question(livekit.room)

        return asyncio.run(asked())

    def _responds(self) -> bool:
        try:
            return requests.get(self._http_url, timeout=5).ok
        except requests.ConnectionError:
            return False


def _turn(address: str) -> dict[str, Any]:
    """A TURN server that sends from ports which `firewall.closed` leaves open, to the SFU at its private address."""
    return {
        "enabled": True,
        "bind_addresses": [address],
        "relay_range_start": 30000,
        "relay_range_end": 30100,
        "allow_restricted_peer_cidrs": [f"{address}/32"],
    }


JOINED = (api.ParticipantInfo.JOINED, api.ParticipantInfo.ACTIVE)
