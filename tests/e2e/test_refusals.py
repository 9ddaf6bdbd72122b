"""Only the owner of a valid OpenID token gets in, and a browser can read the refusal of everybody else."""

import secrets
from typing import Any

import pytest
import requests
from parts.member import LegacyMember, Member
from parts.secrecy import secret
from parts.service import Service
from parts.synapse import User

both_endpoints = pytest.mark.parametrize("member_type", [Member, LegacyMember])


@both_endpoints
def test_a_forged_token_is_refused(
    member_type: type[Member | LegacyMember], alice: User, worker: Service
):
    forged = alice.openid_token() | {"access_token": secret(secrets.token_urlsafe())}

    response = worker.ask(member_type(alice, alice.create_room()), forged)

    assert_unauthorized(response)


@both_endpoints
def test_an_expired_token_is_refused(
    member_type: type[Member | LegacyMember], alice: User, worker: Service
):
    token = alice.openid_token()
    alice.homeserver.expire(token)

    response = worker.ask(member_type(alice, alice.create_room()), token)

    assert_unauthorized(response)


def test_a_token_replayed_for_another_user_is_refused(alice: User, carol: User, worker: Service):
    member = Member(alice, alice.create_room())

    response = worker.ask(member, carol.openid_token())

    assert_unauthorized(response)


@both_endpoints
def test_a_token_presented_as_another_homeservers_is_refused(
    member_type: type[Member | LegacyMember], alice: User, bob: User, worker: Service
):
    token = bob.openid_token() | {"matrix_server_name": alice.homeserver.name}

    response = worker.ask(member_type(bob, bob.create_room()), token)

    assert_unauthorized(response)


def assert_unauthorized(response: requests.Response) -> None:
    assert response.status_code == 401
    assert response.json()["errcode"] == "M_UNAUTHORIZED"
    assert response.headers["Content-Type"] == "application/json"
    assert CORS.items() <= dict(response.headers).items()


CORS: dict[str, Any] = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": (
        "Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization"
    ),
}
