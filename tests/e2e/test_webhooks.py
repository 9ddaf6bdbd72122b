"""Webhooks: a real SFU, configured as `configure` writes it, posts the four events that the service needs, and no other.

Each webhook is a request to pay for on Cloudflare (`docs/operations.md#costs`).
"""

import json
from collections import Counter

import requests

from conftest import ANNOUNCED_URL, Deployment
from parts.delayed_leave import DelayedLeave
from parts.livekit_server import LivekitServer
from parts.member import Member
from parts.participant import Join
from parts.process import eventually
from parts.service import Service
from parts.synapse import User


def test_a_participation_with_two_tracks_is_five_requests(
    deployment: Deployment, alice: User, worker: Service, sfu: LivekitServer, join: Join
) -> None:
    room_id = alice.create_room()
    member, leave = Member(alice, room_id), DelayedLeave(alice, room_id, HOUR_MS)
    service = worker.behind(ANNOUNCED_URL)
    deployment.observed.clear()

    preflight = {"Origin": "https://call.example.com", "Access-Control-Request-Method": "POST"}
    assert requests.options(f"{ANNOUNCED_URL}/get_token", headers=preflight, timeout=30).ok
    participant = join(service.admit(member))
    participant.wait_until_connected()
    delegation = member.request(alice.openid_token()) | leave.delegation
    assert service.post("/delegate_delayed_leave", delegation).ok
    for published in (1, 2):
        participant.publish_audio()
        eventually(lambda: sfu.tracks(member.livekit_room) == published, f"{published} tracks are published")
    participant.leave()
    eventually(leave.is_sent, "the leave is in the room's state")

    # The room's end is reported last, and isn't the participation's.
    eventually(lambda: "room_finished" in events(deployment, member), "the room is closed", within=60)
    assert events(deployment, member) == ["participant_joined", "participant_left", "room_finished"]
    paths = Counter(
        (exchange.method, exchange.url.path)
        for exchange in deployment.observed
        if exchange.status is not None and exchange.url.path != "/sfu_webhook"
    )
    # The SFU may still be reporting the end of another test's room.
    paths["POST", "/sfu_webhook"] = len(events(deployment, member))
    room_finished = 1
    assert paths == {
        ("OPTIONS", "/get_token"): 1,
        ("POST", "/get_token"): 1,
        ("POST", "/delegate_delayed_leave"): 1,
        ("POST", "/sfu_webhook"): 2 + room_finished,
    }
    assert sum(paths.values()) - room_finished == 5


def events(deployment: Deployment, member: Member) -> list[str]:
    """Webhooks about the member's room, in the order in which the service has answered them."""
    bodies = [
        json.loads(exchange.body)
        for exchange in deployment.observed
        if exchange.url.path == "/sfu_webhook" and exchange.status is not None
    ]
    return [body["event"] for body in bodies if body.get("room", {}).get("name") == member.livekit_room]


HOUR_MS = 3_600_000
