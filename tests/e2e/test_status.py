"""What goes on in the rooms, in a real browser, for the operator who has a signed link."""

import os
import subprocess
from urllib.parse import urlsplit

from conftest import ANNOUNCED_URL, Deployment
from parts.delayed_leave import DelayedLeave
from parts.member import Member
from parts.page import MARKUP, Page
from parts.participant import Join
from parts.secrecy import secret
from parts.synapse import User
from parts.tab import Tab, says


def test_the_operator_sees_rooms_and_users_only_on_request(
    deployment: Deployment, alice: User, join: Join, tab: Tab
) -> None:
    room_id = alice.create_room()
    member = Member(alice, room_id)
    leave = DelayedLeave(alice, room_id, 3_600_000)
    grant = deployment.worker.post(
        member.path, member.request(alice.openid_token()) | leave.delegation
    )
    assert grant.status_code == 200, grant.text
    join(grant.json()).wait_until_connected()
    leave.wait_until_restarted()
    tab.forget()
    page = Page(tab, link(deployment))

    room = room_item(page, member)
    assert "1 leave connected" in room and deployment.full_access.name in room, room
    assert "next due in 48 min" in room and "failures" not in room, room
    assert alice.id not in page.text()
    # The token is neither in the address bar nor in the URL of a request.
    assert tab.evaluate("location.href") == f"{ANNOUNCED_URL}/status"
    assert all("eyJ" not in urlsplit(url)._replace(fragment="").geturl() for url in tab.requested())
    page.assert_accessible()
    page.picture("status")

    tab.click("#status-users")
    tab.click("#status-form button")

    tab.wait_for(f"document.getElementById('status-rooms').innerText.includes('{alice.id}')")
    assert leave.delegation["delay_id"] not in page.text()
    assert tab.console == []


def test_a_link_out_of_date_and_none_at_all_say_how_to_get_one(
    deployment: Deployment, tab: Tab
) -> None:
    for token, expected in (("#an.old.token", "valid for ten minutes"), ("", "cargo xtask status")):
        tab.forget()
        page = Page(tab, f"{ANNOUNCED_URL}/status{token}")
        assert expected in summary(page, "problem")


def test_failures_are_shown_and_markup_is_text(deployment: Deployment, tab: Tab) -> None:
    tab.forget()
    counts = {"waiting": 0, "connected": 0, "suspected": 0, "leaving": 1}
    delegation = {"homeserver": MARKUP, "state": MARKUP, "due": 2_000, "failures": 7, "user": MARKUP}
    room = {
        "room": MARKUP,
        "on_sfu": False,
        "state": {"delegations": counts, "first_delegations": [delegation], "users": [MARKUP]},
        "latest_failure": {"what": "SFU query failed", "cause": MARKUP, "at": 0},
    }
    unreachable = {"room": "other", "on_sfu": True, "error": MARKUP}
    answer = {"at": 1_000, "rooms": [room, unreachable], "sfu_rooms": 0, "sfu_error": MARKUP}
    tab.alter("/status?", says(answer))
    page = Page(tab, link(deployment))

    assert "The SFU doesn’t list its rooms" in summary(page, "problem")
    text = page.tab.evaluate("document.getElementById('status-rooms').innerText")
    assert "7 failures running" in text and "1 s ago: SFU query failed" in text, text
    assert "which the SFU doesn’t have any more" in text and text.count(MARKUP) >= 5, text
    assert tab.evaluate(
        "[window.injected, document.querySelectorAll('main img, main script, main iframe').length]"
    ) == [None, 0]
    page.picture("status-failures")


def test_an_answer_of_another_form_is_named_in_words(deployment: Deployment, tab: Tab) -> None:
    for room in (None, {"room": "!a", "error": 5, "state": {"first_delegations": 5}}):
        tab.forget()
        tab.alter("/status?", says({"at": 1_000, "rooms": [room], "sfu_rooms": 0}))
        page = Page(tab, link(deployment))
        assert "The service’s answer can’t be read" in summary(page, "problem")
        assert tab.console == []


def link(deployment: Deployment) -> str:
    """Link to the state of the rooms, as an operator gets it."""
    printed = subprocess.run(
        [os.environ["E2E_XTASK"], "status", ANNOUNCED_URL],
        env=os.environ | deployment.variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout.strip()
    secret(urlsplit(printed).fragment)
    return printed


def room_item(page: Page, member: Member) -> str:
    """What the list has for the room of a call."""
    summary(page, "fine")
    texts = "[...document.querySelectorAll('#status-rooms li')].map(it => it.innerText)"
    return page.tab.wait_for(f"{texts}.find(it => it.includes('{member.livekit_room}'))")


def summary(page: Page, state: str) -> str:
    """The summary of all rooms, once it is there."""
    return page.tab.wait_for(
        f"(it => it.dataset.state === '{state}' && it.textContent)(document.getElementById('status-summary'))"
    )
