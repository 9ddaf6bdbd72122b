"""Web clients: they join calls and read the service's responses, across origins and by a browser's rules.

A page with LiveKit's JavaScript client runs in a real Chromium, on an origin of its own. The browser itself decides by
the CORS headers (`docs/protocol.md#cors`) which responses the page can read.
"""

import secrets
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http import HTTPStatus
from pathlib import Path

import pytest

from conftest import Deployment
from parts.browser import Browse, Page, PageError
from parts.livekit_server import LivekitServer
from parts.member import LegacyMember, Member, MemberType
from parts.secrecy import secret
from parts.service import Service, wrangler_dev
from parts.synapse import User


@pytest.fixture
def browse(tmp_path: Path) -> Iterator[Browse]:
    """Starts browsers that end with the test."""
    with ExitStack() as running:
        yield lambda: running.enter_context(closing(Page(tmp_path)))


def test_a_page_joins_a_call_and_hears_another(
    member_type: MemberType,
    alice: User,
    carol: User,
    service: Service,
    sfu: LivekitServer,
    browse: Browse,
) -> None:
    room_id = alice.create_room()
    speaker, listener = member_type(alice, room_id), member_type(carol, room_id)
    speaking, listening = browse(), browse()

    for page, member in ((speaking, speaker), (listening, listener)):
        answer = ask(page, service, member)
        assert answer["status"] == HTTPStatus.OK, answer
        grant = answer["body"]
        claims = page.claims(grant["jwt"])
        assert claims["sub"] == member.identity
        assert claims["video"]["room"] == member.livekit_room
        assert page.join(grant) == member.identity
    speaking.speak()

    assert listening.listen() == speaker.identity
    assert sfu.joined(speaker.livekit_room) == {speaker.identity, listener.identity}


def test_a_page_reads_that_its_token_is_refused(
    member_type: MemberType, alice: User, worker: Service, browse: Browse
) -> None:
    member = member_type(alice, alice.create_room())
    forged = alice.openid_token() | {"access_token": secret(secrets.token_urlsafe())}

    answer = browse().ask(worker.url + member.path, member.request(forged))

    assert answer["status"] == HTTPStatus.UNAUTHORIZED
    assert answer["body"]["errcode"] == "M_UNAUTHORIZED"


def test_a_page_reads_that_the_service_is_misconfigured(
    deployment: Deployment, alice: User, tmp_path: Path, browse: Browse
) -> None:
    variables = deployment.variables | {"LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS": "often"}
    service = wrangler_dev(OWN_WRANGLER_PORT, variables, deployment.authority, tmp_path)
    with closing(service):
        service.wait_until_ready(HTTPStatus.SERVICE_UNAVAILABLE)
        page, room_id = browse(), alice.create_room()
        for member in (Member(alice, room_id), LegacyMember(alice, room_id)):
            answer = ask(page, service, member)

            assert answer["status"] == HTTPStatus.SERVICE_UNAVAILABLE
            assert answer["body"]["errcode"] == "M_UNKNOWN"


def test_a_page_reads_that_it_asks_too_often(
    deployment: Deployment, alice: User, tmp_path: Path, browse: Browse
) -> None:
    limits = rate_limits()
    if not limits:
        pytest.skip("wrangler.toml binds no rate limits")
    # A service of its own, as its limits would affect other tests too.
    service = wrangler_dev(
        OWN_WRANGLER_PORT, deployment.variables, deployment.authority, tmp_path
    )
    with closing(service):
        service.wait_until_ready()
        page, room_id = browse(), alice.create_room()
        for member in (Member(alice, room_id), LegacyMember(alice, room_id)):
            body = member.request(alice.openid_token())

            # Twice the limit, because a period may end meanwhile.
            answer = page.insist(service.url + member.path, body, patience=2 * max(limits) + 1)

            assert answer["status"] == HTTPStatus.TOO_MANY_REQUESTS
            assert answer["body"]["errcode"] == "M_LIMIT_EXCEEDED"
            assert answer["body"]["retry_after_ms"] > 0


def test_the_browser_would_withhold_an_answer_without_permission(
    worker: Service, browse: Browse
) -> None:
    page = browse()

    with pytest.raises(PageError, match="Failed to fetch"):
        page.ask(f"{worker.url}/sfu_webhook", {})


def ask(page: Page, service: Service, member: Member | LegacyMember) -> dict:
    """Status and body that a page can read for a member's request with a fresh OpenID token."""
    return page.ask(service.url + member.path, member.request(member.user.openid_token()))


def rate_limits() -> list[int]:
    """Rate limits in this clone's `wrangler.toml`, in requests per period."""
    configuration = tomllib.loads((Path(__file__).parents[2] / "wrangler.toml").read_text())
    return [binding["simple"]["limit"] for binding in configuration.get("ratelimits", [])]


OWN_WRANGLER_PORT = 8789
