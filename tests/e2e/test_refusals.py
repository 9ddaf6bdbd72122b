"""Rejected OpenID tokens: forged, expired, and of another user or homeserver.

The real homeservers issue and verify the tokens. Every rejection is a 401 that a browser can read
(`docs/protocol.md#verifying-an-openid-token`).
"""

import secrets

import requests

from parts.member import Member, MemberType
from parts.secrecy import secret
from parts.service import Service
from parts.synapse import User


def test_a_forged_token_is_refused(member_type: MemberType, alice: User, worker: Service) -> None:
    forged = alice.openid_token() | {"access_token": secret(secrets.token_urlsafe())}

    response = worker.ask(member_type(alice, alice.create_room()), forged)

    assert_unauthorized(response)


def test_an_expired_token_is_refused(member_type: MemberType, alice: User, worker: Service) -> None:
    member = member_type(alice, alice.create_room())
    token = alice.openid_token()
    assert worker.ask(member, token).status_code == 200
    alice.homeserver.expire(token)

    response = worker.ask(member, token)

    assert_unauthorized(response)


def test_a_token_replayed_for_another_user_is_refused(
    alice: User, carol: User, worker: Service
) -> None:
    room_id = alice.create_room()
    token = carol.openid_token()
    assert worker.ask(Member(carol, room_id), token).status_code == 200

    response = worker.ask(Member(alice, room_id), token)

    assert_unauthorized(response)


def test_a_token_presented_as_another_homeservers_is_refused(
    member_type: MemberType, alice: User, bob: User, worker: Service
) -> None:
    token = bob.openid_token() | {"matrix_server_name": alice.homeserver.name}

    response = worker.ask(member_type(bob, bob.create_room()), token)

    assert_unauthorized(response)


def assert_unauthorized(response: requests.Response) -> None:
    assert response.status_code == 401
    assert response.json()["errcode"] == "M_UNAUTHORIZED"
    assert response.headers["Content-Type"] == "application/json"
    for name, value in CORS.items():
        assert response.headers[name] == value


CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": (
        "Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization"
    ),
}
