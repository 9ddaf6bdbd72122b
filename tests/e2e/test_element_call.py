"""Element Call, as it is released, in calls that it makes through the service.

How it works:
- Alice creates a call and others follow her invitation, each a guest of the app in a browser of their own. The tests of
  a mode share one call, in the order of this file; each of them runs alone, too.
- The room's state and its sticky events show the members of the call, as other clients read them.
- A proxy before the service observes the app's requests and the SFU's webhooks, with their times.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, quote

import pytest

from conftest import Deployment
from parts.element_call import MODES, ElementCall
from parts.federation import Federation
from parts.process import eventually
from parts.secrecy import secret
from parts.synapse import Synapse
from parts.wire import Exchange


class Call:
    """A call that Alice, a user of `homeserver`, has created and joined."""

    def __init__(
        self, mode: str, homeserver: Synapse, directory: Path, running: ExitStack
    ) -> None:
        self.mode = mode
        self._homeserver = homeserver
        self._directory = directory
        self._running = running
        self.alice = self._open("Alice", homeserver)
        invitation = self.alice.create_call()
        self.room_id = parse_qs(invitation.partition("?")[2])["roomId"][0]
        self._invitation = f"{invitation}&viaServers={quote(homeserver.name)}"
        self.alice.join()
        self._reader = self.alice.user()

    @cached_property
    def bob(self) -> ElementCall:
        """Another user of the same homeserver, who joins the call at the first use."""
        return self.enter("Bob", self._homeserver)

    def enter(self, name: str, homeserver: Synapse) -> ElementCall:
        """Makes another user join the call."""
        element_call = self._open(name, homeserver)
        element_call.follow(self._invitation)
        element_call.join()
        return element_call

    def wait_for_members(self, *members: ElementCall) -> None:
        """Waits until these are the members of the call for the Matrix room."""
        expected = {member.user().id for member in members}
        eventually(lambda: self._members() == expected, f"{len(expected)} are in the call", within=60)

    def wait_until_shown(self, members: int) -> None:
        """Waits until Alice's page shows that many members."""
        eventually(lambda: self.alice.participants() == members, f"Alice's page shows {members} members")

    def left_at(self, user_id: str) -> float:
        """Time of the user's last leave, by its event, in seconds since 1970."""
        return max(
            event["origin_server_ts"] / 1000
            for event in self._memberships()
            if event["sender"] == user_id and "application" not in event["content"]
        )

    def _open(self, name: str, homeserver: Synapse) -> ElementCall:
        element_call = ElementCall(name, homeserver, self.mode, self._directory)
        return self._running.enter_context(closing(element_call))

    def _members(self) -> set[str]:
        memberships = self._memberships()
        return {event["sender"] for event in memberships if "application" in event["content"]}

    def _memberships(self) -> list[dict]:
        """Memberships in the room's state, and the latest sticky event of each member."""
        room = f"/_matrix/client/v3/rooms/{quote(self.room_id)}"
        state = list(self._reader.request("GET", f"{room}/state"))
        memberships = [event for event in state if event["type"].endswith("call.member")]
        newest_first = {"dir": "b", "limit": 100}
        sticky: dict[str, dict] = {}
        for event in self._reader.request("GET", f"{room}/messages", params=newest_first)["chunk"]:
            if event["type"].endswith("rtc.member"):
                sticky.setdefault(event["content"]["msc4354_sticky_key"], event)
        return [*memberships, *sticky.values()]


class Observed:
    """What the proxy before the service has observed, in the order in which the requests arrived."""

    def __init__(self, exchanges: list[Exchange]) -> None:
        self._exchanges = exchanges

    def requests(self, element_call: ElementCall) -> list[Exchange]:
        """Requests of a page, with their responses. Browsers name a page's origin in each of them."""
        return [it for it in self._completed() if it.headers.get("Origin") == element_call.origin]

    def delegations(self, element_call: ElementCall) -> list[Exchange]:
        """Requests with which a page has delegated its leave, in success."""
        found = [it for it in self.requests(element_call) if "delay_id" in fields(it)]
        return [it for it in found if it.status == HTTPStatus.OK]

    def given_up_at(self, identity: str) -> float:
        """Time of the last webhook that reports that a participant has left, in seconds since 1970."""
        return max(
            it.arrived_at
            for it in self._completed()
            if it.url.path == "/sfu_webhook"
            and json.loads(it.body).get("event") == "participant_left"
            and json.loads(it.body)["participant"]["identity"] == identity
        )

    def _completed(self) -> list[Exchange]:
        completed = [exchange for exchange in self._exchanges if exchange.status is not None]
        return sorted(completed, key=lambda exchange: exchange.arrived_at)


@pytest.fixture(scope="module", params=MODES)
def call(
    request: pytest.FixtureRequest,
    deployment: Deployment,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Call]:
    with ExitStack() as running:
        directory = tmp_path_factory.mktemp(request.param)
        yield Call(request.param, deployment.full_access, directory, running)


@pytest.fixture
def observed(deployment: Deployment) -> Observed:
    return Observed(deployment.observed)


def test_what_it_requests_of_the_service(call: Call, observed: Observed) -> None:
    eventually(lambda: observed.delegations(call.alice), "Alice's leave is delegated")

    requests = observed.requests(call.alice)
    token, delegation = REQUESTS[call.mode]
    posts = [it for it in requests if it.method == "POST"]
    assert list(dict.fromkeys((it.url.path, fields(it)) for it in posts)) == [
        token,
        PROBE,
        delegation,
    ]
    assert len(observed.delegations(call.alice)) == 1

    for request in requests:
        assert request.response_headers["Access-Control-Allow-Origin"] == "*"
        if (request.url.path, fields(request)) == PROBE and request.method == "POST":
            # Only 404 would mean that leaves can't be delegated.
            assert request.status == HTTPStatus.BAD_REQUEST
            assert "Content-Type" not in request.headers
            assert "errcode" in json.loads(request.response)
        else:
            assert request.method in ("OPTIONS", "POST")
            assert request.status == HTTPStatus.OK
    # The probe is a request without a preflight.
    preflights = {it.url.path for it in requests if it.method == "OPTIONS"}
    assert preflights == {token[0]}


def test_two_users_see_and_hear_each_other(call: Call) -> None:
    call.bob.wait_until_sees_and_hears()
    call.alice.wait_until_sees_and_hears()

    call.wait_for_members(call.alice, call.bob)
    call.wait_until_shown(2)


def test_a_user_is_back_after_a_reload(call: Call, observed: Observed) -> None:
    eventually(lambda: observed.delegations(call.bob), "Bob's leave is delegated")
    before = len(observed.delegations(call.bob))

    call.bob.reload()
    call.bob.join()

    call.bob.wait_until_sees_and_hears()
    eventually(lambda: len(observed.delegations(call.bob)) > before, "Bob's leave is delegated again")
    call.wait_for_members(call.alice, call.bob)
    call.wait_until_shown(2)


def test_killed_browsers_have_left_as_soon_as_the_sfu_gives_them_up(
    call: Call, deployment: Deployment, observed: Observed
) -> None:
    # Rita is a restricted user, of another homeserver.
    bob, rita = call.bob, call.enter("Rita", deployment.restricted)
    bob.wait_until_sees_and_hears(others=2)
    call.wait_for_members(call.alice, bob, rita)
    killed = {}
    for browser in (bob, rita):
        delegation = eventually(lambda: observed.delegations(browser), "the leave is delegated")[-1]
        killed[browser.user().id] = identity(delegation)

    bob.kill()
    rita.kill()

    # Alice's page doesn't count: in compatibility mode, this version misses one of two leaves at once.
    call.wait_for_members(call.alice)
    for user_id, participant in killed.items():
        given_up_at, left_at = observed.given_up_at(participant), call.left_at(user_id)
        # A leave from before would be the client's own, and not be due to the service.
        assert 0 <= left_at - given_up_at < LEAVE_WITHIN_SECONDS


def test_the_button_leaves_the_call(call: Call) -> None:
    call.alice.leave()

    call.wait_for_members()


def test_users_of_two_homeservers_in_homeserver_mode(
    federation: Federation, tmp_path: Path
) -> None:
    near, far = federation.near, federation.far
    with ExitStack() as running:
        # The other mode needs sticky events from before Fred's joining, which Synapse doesn't pass on.
        call = Call("compatibility", near.homeserver, tmp_path, running)
        fred = call.enter("Fred", far.homeserver)

        # Each of them publishes on the SFU of the own homeserver.
        fred.wait_until_sees_and_hears()
        call.alice.wait_until_sees_and_hears()
        call.wait_for_members(call.alice, fred)
        for site in (near, far):
            eventually(lambda: site.worker.log_lines("delayed leave delegated"), "a leave is delegated")

        fred.kill()
        call.wait_for_members(call.alice)
        call.wait_until_shown(1)
        call.alice.leave()
        call.wait_for_members()


def fields(request: Exchange) -> tuple[str, ...]:
    """Names in a request's body, in their order. None for a request without a body."""
    return tuple(json.loads(request.body)) if request.body else ()


def identity(token: Exchange) -> str:
    """Participant that a token is for, which a response contains."""
    payload = secret(json.loads(token.response)["jwt"]).split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=="))["sub"]


PROBE = ("/delegate_delayed_leave", ())
LEAVE = ("delay_id", "delay_timeout", "delay_cs_api_url")
TOKEN_REQUESTS = {
    "compatibility": ("/sfu/get", ("room", "openid_token", "device_id")),
    "matrix_2_0": ("/get_token", ("room_id", "slot_id", "openid_token", "member")),
}
REQUESTS = {
    mode: ((path, names), (path, names + LEAVE)) for mode, (path, names) in TOKEN_REQUESTS.items()
}
"""First request for a token, and the one that delegates the leave, with the fields of their bodies."""
LEAVE_WITHIN_SECONDS = 1
