"""The page for people, in a real browser: the check and the test call, with real homeservers and SFUs.

A test operates the page as a user does, and reads what it says. Responses of the homeserver that a healthy one doesn't
give are altered on their way into the browser.
"""

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from conftest import ANNOUNCED_URL, Deployment
from parts.federation import Federation
from parts.firewall import closed
from parts.livekit_server import LivekitServer
from parts.page import MARKUP, Page
from parts.process import eventually
from parts.secrecy import secret
from parts.service import configuration, serve
from parts.synapse import User
from parts.tab import Response, Tab, says


@pytest.fixture
def page(deployment: Deployment, tab: Tab) -> Page:
    """The page at the announced URL, which knows no homeserver."""
    tab.forget()
    return Page(tab, f"{ANNOUNCED_URL}/")


def test_the_page_says_what_it_is_and_what_it_waits_for(page: Page, deployment: Deployment) -> None:
    assert page.health() == "Healthy"
    snippets = page.tab.evaluate(
        "['well-known', 'transports'].map(it => document.getElementById(it).textContent)"
    )
    entry = {"type": "livekit", "livekit_service_url": ANNOUNCED_URL}
    assert json.loads(snippets[0]) == {"org.matrix.msc4143.rtc_foci": [entry]}
    assert f"livekit_service_url: {ANNOUNCED_URL}" in snippets[1]
    requested = page.tab.requested()
    assert not any("livekit-client" in url for url in requested)
    assert {re.match(r"\w+:(//[^/]*)?", url)[0] for url in requested} <= {ANNOUNCED_URL, "data:"}  # type: ignore[index]
    assert page.tab.console == []
    page.picture("start")

    page.tab.open(f"{ANNOUNCED_URL}/livekit/jwt")
    assert page.health() == "Healthy"
    assert f'"{ANNOUNCED_URL}/livekit/jwt"' in page.tab.evaluate(
        "document.getElementById('well-known').textContent"
    )


def test_a_check_of_a_healthy_deployment_finds_no_problem(
    page: Page, deployment: Deployment
) -> None:
    found = page.check(deployment.full_access.name)

    assert found["problem"] == [] and found["warning"] == [], found
    assert any("All three endpoints" in text for text in found["fine"])
    assert any("answers as LiveKit does" in text for text in found["fine"])
    page.picture("check")


def test_a_test_call_is_heard_and_measured(page: Page, deployment: Deployment, alice: User) -> None:
    found = page.call(deployment.full_access.name, alice.access_token)

    assert found["problem"] == [] and found["warning"] == [], found
    shown = "\n".join(found["fine"])
    assert "The other side hears it." in shown
    for way in ("sending", "receiving"):
        [path] = [text for text in found["fine"] if f"Path of the media, {way}" in text]
        assert re.search(r"UDP, from .+ \(\w+\) to [\d.]+:7882 \(host\)", path), path
    assert re.search(r"\d+ ms between this browser and the SFU", shown)
    assert re.search(r"0\.0 % of \d{3} packets", shown), shown
    assert page.tab.console == []
    # Neither the service nor the SFU has been sent the access token.
    assert all(alice.access_token not in str(exchange) for exchange in deployment.observed)
    assert alice.access_token not in outcome(page)
    assert "eyJ" not in outcome(page)
    page.picture("call")


def test_a_password_is_enough_and_its_login_ends(page: Page, deployment: Deployment) -> None:
    user = deployment.full_access.register("paula", PASSWORD)
    before = devices(user)

    page.call_by_password(deployment.full_access.name, "paula", PASSWORD)
    found = page.stop()

    assert found["problem"] == [], found
    assert any("You have stopped it." in text for text in found["warning"]), found
    assert any("The page is logged out." in text for text in found["fine"])
    assert devices(user) == before
    assert PASSWORD not in outcome(page)


def test_in_homeserver_mode_tokens_come_both_ways_and_the_room_is_forgotten(
    federation: Federation, tabs: Any
) -> None:
    site, user = federation.near, federation.nora
    page = Page(tabs(), site.worker.url)
    assert page.health() == f"Healthy, in homeserver mode for {site.homeserver.name}"
    rooms = joined_rooms(user)
    checked = page.check(site.homeserver.name)
    assert checked["problem"] == [] and checked["warning"] == [], checked

    found = page.call(site.homeserver.name, user.access_token)

    shown = "\n".join(found["fine"])
    assert found["problem"] == [] and found["warning"] == [], found
    assert (
        "A LiveKit token through the homeserver" in shown
        and "A LiveKit token of the service" in shown
    )
    assert "The other side hears it." in shown
    assert "The room is left and forgotten." in shown
    assert joined_rooms(user) == rooms
    assert f"url: {site.sfu.url}" in page.text()
    page.picture("homeserver-mode")


def test_a_closed_tab_leaves_neither_session_nor_room(federation: Federation, tabs: Any) -> None:
    site = federation.near
    user = site.homeserver.register("paul", PASSWORD)
    before = devices(user), joined_rooms(user)
    page = Page(tabs(), site.worker.url)
    page.call_by_password(site.homeserver.name, "paul", PASSWORD)
    page.wait_until_measuring()
    assert len(devices(user) - before[0]) == len(joined_rooms(user) - before[1]) == 1

    page.tab.forget()

    eventually(
        lambda: (devices(user), joined_rooms(user)) == before, "session and room are gone", 10
    )


@pytest.fixture
def other_page(deployment: Deployment, tabs: Any, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Makes the page of a worker with an SFU of its own, whose ports a test can close."""
    with ExitStack() as running:

        def page(*flags: str, **options: Any) -> Page:
            sfu = running.enter_context(closing(LivekitServer(OTHER_SFU, [], tmp_path, **options)))
            variables = configuration(sfu, deployment.full_access)
            worker = running.enter_context(
                closing(serve(8791, variables, deployment.authority, tmp_path))
            )
            for part in (sfu, worker):
                part.wait_until_ready()
            return Page(tabs(*flags), worker.url)

        yield page


def path_of(found: dict[str, list[str]], verdict: str) -> str:
    [path] = [text for text in found[verdict] if "Path of the media, sending" in text]
    return path


def test_without_udp_the_call_falls_back_to_tcp_and_says_so(
    deployment: Deployment, alice: User, other_page: Callable[..., Page]
) -> None:
    page = other_page(tcp=True)

    with closed(udp=[OTHER_UDP]):
        found = page.call(deployment.full_access.name, alice.access_token)

    assert found["problem"] == [], found
    assert "TCP, from" in path_of(found, "warning")
    assert any("Open the SFU’s UDP ports" in text for text in found["warning"])
    page.picture("tcp")


def test_where_the_browser_uses_no_udp_it_is_told_likewise(
    deployment: Deployment, alice: User, other_page: Callable[..., Page]
) -> None:
    page = other_page(NO_UDP, tcp=True)

    found = page.call(deployment.full_access.name, alice.access_token)

    assert found["problem"] == [], found
    assert "TCP, from" in path_of(found, "warning")


def test_with_all_ports_for_media_closed_it_says_so_within_15_seconds(
    deployment: Deployment, alice: User, other_page: Callable[..., Page]
) -> None:
    page = other_page(tcp=True)

    with closed(udp=[OTHER_UDP], tcp=[OTHER_TCP]):
        found = page.call(deployment.full_access.name, alice.access_token, within=15)

    [problem] = found["problem"]
    assert "WebSocket is open, but no media has got through" in problem
    assert re.search(rf"UDP [\d.]+:{OTHER_UDP}", problem), problem
    assert re.search(rf"TCP [\d.]+:{OTHER_TCP}", problem) and "rtc.tcp_port" in problem, problem
    page.picture("no-media")


def test_media_that_needs_turn_is_shown_as_such(
    deployment: Deployment, alice: User, other_page: Callable[..., Page]
) -> None:
    page = other_page(turn={"udp_port": 7893})

    with closed(udp=[OTHER_UDP]):
        found = page.call(deployment.full_access.name, alice.access_token)

    assert found["problem"] == [], found
    assert "TURN over UDP, from" in path_of(found, "fine")
    page.picture("turn")


def test_media_that_needs_turn_over_tls_works_with_a_warning(
    deployment: Deployment, alice: User, other_page: Callable[..., Page]
) -> None:
    certificate, key = deployment.authority.issue(TURN_DOMAIN)
    turn = {
        "domain": TURN_DOMAIN,
        "tls_port": 443,
        "cert_file": str(certificate),
        "key_file": str(key),
    }
    resolved = f"--host-resolver-rules=MAP {TURN_DOMAIN} {os.environ['E2E_ADDRESS']}"
    page = other_page(resolved, turn=turn)

    with closed(udp=[OTHER_UDP]):
        found = page.call(deployment.full_access.name, alice.access_token)

    assert found["problem"] == [], found
    assert "TURN over TLS, from" in path_of(found, "warning")
    assert any("Neither UDP nor TCP leads to the SFU directly" in text for text in found["warning"])


def test_an_sfu_out_of_reach_is_named(page: Page, deployment: Deployment, alice: User) -> None:
    def elsewhere(response: Response) -> Response:
        grant = json.loads(response.body) | {"url": "ws://127.0.0.1:9"}
        return Response(response.status, response.headers, json.dumps(grant))

    page.tab.alter("/get_token", elsewhere)

    found = page.call(deployment.full_access.name, alice.access_token, within=15)

    [problem] = found["problem"]
    assert "ws://127.0.0.1:9 can’t be opened" in problem and "LIVEKIT_URL" in problem, problem
    page.picture("sfu-out-of-reach")


def test_a_restricted_user_learns_why_there_is_no_room(
    page: Page, deployment: Deployment, bob: User
) -> None:
    found = page.call(deployment.restricted.name, bob.access_token)

    [problem] = found["problem"]
    assert "The room doesn’t exist" in problem and "LIVEKIT_FULL_ACCESS_HOMESERVERS" in problem, (
        problem
    )


def test_an_expired_access_token_is_named(page: Page, deployment: Deployment) -> None:
    found = page.call(deployment.full_access.name, secret("syt_expired_token"))

    [problem] = found["problem"]
    assert "refuses the access token (M_UNKNOWN_TOKEN)" in problem
    page.picture("expired-token")


ANNOUNCEMENTS = {
    "nothing": ({}, "The well-known file has none"),
    "wss": (
        {
            "org.matrix.msc4143.rtc_foci": [
                {"type": "livekit", "livekit_service_url": "wss://sfu.example.com"}
            ]
        },
        "wss:// is for the SFU",
    ),
    "another type": (
        {"org.matrix.msc4143.rtc_foci": [{"type": "mesh"}]},
        "It has no entry of the type livekit",
    ),
    "url alone": (
        {"org.matrix.msc4143.rtc_foci": [{"type": "livekit", "url": "wss://sfu.example.com"}]},
        "Add livekit_service_url",
    ),
    "another service": (
        {
            "org.matrix.msc4143.rtc_foci": [
                {"type": "livekit", "livekit_service_url": f"{ANNOUNCED_URL}/other"}
            ]
        },
        "clients don’t use this one",
    ),
    "the merged type alone": (
        {
            "org.matrix.msc4143.rtc_foci": [
                {"type": "m.livekit", "livekit_service_url": ANNOUNCED_URL}
            ]
        },
        "by the type m.livekit only",
    ),
    "url in another entry": (
        {
            "org.matrix.msc4143.rtc_foci": [
                {"type": "livekit", "url": "wss://sfu.example.com"},
                {"type": "livekit", "livekit_service_url": ANNOUNCED_URL},
            ]
        },
        "Announce both keys in one entry",
    ),
}


@pytest.mark.parametrize("announcement", ANNOUNCEMENTS)
def test_a_wrong_announcement_comes_with_its_remedy(
    announcement: str, page: Page, deployment: Deployment
) -> None:
    content, expected = ANNOUNCEMENTS[announcement]
    base = {"m.homeserver": {"base_url": deployment.full_access.url}}
    page.tab.alter("/.well-known/matrix/client", says(base | content))

    found = page.check(deployment.full_access.name)

    assert expected in "\n".join(found["warning"] + found["problem"]), found
    page.picture(f"announcement-{announcement.replace(' ', '-')}")


def test_the_entry_of_clients_of_today_is_judged_wherever_it_stands(
    page: Page, deployment: Deployment
) -> None:
    foci = [
        {"type": "m.livekit", "livekit_service_url": f"{ANNOUNCED_URL}/other"},
        {"type": "livekit", "livekit_service_url": ANNOUNCED_URL},
    ]
    content = {
        "m.homeserver": {"base_url": deployment.full_access.url},
        "org.matrix.msc4143.rtc_foci": foci,
    }
    page.tab.alter("/.well-known/matrix/client", says(content))

    found = page.check(deployment.full_access.name)

    assert found["problem"] == [] and found["warning"] == [], found


def test_of_a_name_with_a_port_the_host_may_have_the_well_known_file(
    page: Page, deployment: Deployment
) -> None:
    entry = {"type": "livekit", "livekit_service_url": ANNOUNCED_URL}
    content = {
        "m.homeserver": {"base_url": deployment.full_access.url},
        "org.matrix.msc4143.rtc_foci": [entry],
    }
    page.tab.alter("https://localhost/.well-known/matrix/client", says(content))
    page.tab.alter("https://localhost:8450/.well-known/matrix/client", says({}, 404))

    found = page.check("localhost:8450")

    assert found["problem"] == [] and found["warning"] == [], found
    files = [url for url in page.tab.requested() if "/.well-known/" in url]
    assert files == [
        f"https://{authority}/.well-known/matrix/client"
        for authority in ("localhost:8450", "localhost")
    ]


def test_without_a_well_known_file_the_client_api_is_looked_for_at_the_host(page: Page) -> None:
    page.tab.alter("/.well-known/matrix/client", says({}, 404))

    found = page.check("localhost:8450")

    assert any("localhost:8450/.well-known" in text for text in found["warning"]), found
    assert any("https://localhost/_matrix" in text for text in found["problem"]), found


def test_no_announcement_at_all_is_a_problem(page: Page, deployment: Deployment) -> None:
    page.tab.alter("/.well-known/matrix/client", says({}, 404))
    page.tab.alter("/rtc/transports", says({"errcode": "M_UNRECOGNIZED"}, 404))

    found = page.check(deployment.full_access.name)

    assert any("MISSING_MATRIX_RTC_FOCUS" in text for text in found["problem"]), found
    page.picture("no-announcement")


def test_an_empty_list_is_worse_than_none(page: Page, deployment: Deployment) -> None:
    page.tab.alter("/rtc/transports", says({}))

    found = page.check(deployment.full_access.name)

    # Each form of the list is named once.
    assert len(found["problem"]) == 2, found
    assert all("That is worse than none" in text for text in found["problem"]), found
    page.picture("empty-list")


@pytest.mark.parametrize("part", ["/.well-known/matrix/client", "/_matrix/client/versions"])
def test_a_homeserver_without_cors_is_named(part: str, page: Page, deployment: Deployment) -> None:
    page.tab.alter(part, says({"versions": ["v1.1"]}, cors=False))

    found = page.check(deployment.full_access.name)

    assert any(
        "Access-Control-Allow-Origin" in text and "CORS" in text for text in found["problem"]
    ), found
    page.picture(f"without-cors-{part.rpartition('/')[2]}")


def test_under_https_an_sfu_without_tls_is_named(page: Page, deployment: Deployment) -> None:
    # A page of another host than loopback, at an address that has TLS.
    headers = {"Accept": "text/html", "Host": "rtc.example.com"}
    served = requests.get(deployment.worker.url, headers=headers, timeout=10)
    headers = {name: served.headers[name] for name in ("Content-Type", "Content-Security-Policy")}
    assert "http:" not in headers["Content-Security-Policy"]
    response = Response(200, headers, served.text)
    url = f"{deployment.full_access.url}/livekit/jwt"
    page.tab.alter(url, says({"errcode": "M_BAD_JSON"}, 400))
    page.tab.alter(f"{url}/?", lambda _: response)
    page.tab.alter(
        "/.well-known/matrix/client",
        says({"m.homeserver": {"base_url": deployment.full_access.url}}),
    )
    page.tab.open(f"{url}/?")

    found = page.check(deployment.full_access.name)

    [problem] = [text for text in found["problem"] if "The SFU" in text]
    assert "ws://" in problem and "without TLS" in problem and "LIVEKIT_URL" in problem, problem
    assert page.tab.console == []
    page.picture("sfu-without-tls")


@pytest.mark.parametrize("value", [5, None, {"toString": 1}, ["https://example.com"]], ids=repr)
def test_a_field_of_another_type_is_named_in_words(
    value: Any, page: Page, deployment: Deployment, alice: User
) -> None:
    server = deployment.full_access
    base = {"m.homeserver": {"base_url": server.url}}
    foci = "org.matrix.msc4143.rtc_foci"
    other = {"type": "livekit", "livekit_service_url": f"{ANNOUNCED_URL}/other"}
    for content, expected in (
        ({"m.homeserver": {"base_url": value}}, "Its m.homeserver.base_url is"),
        ({"m.homeserver": value}, "The announcement"),
        (base | {foci: value}, "no entry of the type livekit"),
        (base | {foci: [value]}, "no entry of the type livekit"),
        (base | {foci: [other | {"livekit_service_url": value}]}, "which is no https:// URL"),
        (base | {foci: [other | {"url": value}]}, "which is no wss:// URL"),
    ):
        page.tab.alter("/.well-known/matrix/client", says(content))
        found = page.check(server.name)
        assert expected in "\n".join(found["warning"] + found["problem"]), (content, found)
        assert not any("It has a fault" in text for text in found["problem"]), (content, found)

    page.tab.alter("/.well-known/matrix/client", says(base))
    page.tab.alter("/get_token", says({"errcode": value, "variables": [value]}, 503))
    assert "It is misconfigured" in "\n".join(page.check(server.name)["problem"])
    for answer in ({"jwt": value}, {"jwt": "e30.e30.e30", "url": value or 0}, value):
        page.tab.alter("/get_token", says(answer))
        assert "not an answer of this service" in "\n".join(
            page.call(server.name, alice.access_token)["problem"]
        )
    page.tab.alter("/account/whoami", says({"user_id": value}))
    assert "answers whoami with status" in "\n".join(page.call(server.name, "token")["problem"])
    assert page.tab.console == []


@pytest.mark.parametrize("name", ["256.256.256.256", "example.com:99999"])
def test_a_name_that_no_server_can_have_is_refused(name: str, page: Page) -> None:
    page.tab.fill("check-server", name)
    page.tab.click("#check button")

    assert page.findings("check", 5) == {"fine": [], "warning": [], "problem": []}
    assert page.tab.evaluate("document.getElementById('check-server').validationMessage")


def test_markup_from_outside_is_text(page: Page, deployment: Deployment) -> None:
    foci = [{"type": "livekit", "livekit_service_url": f"wss://x/{MARKUP}", "url": MARKUP}, MARKUP]
    well_known = {"m.homeserver": {"base_url": f"{deployment.full_access.url}/{MARKUP}"}}
    for content in (
        well_known | {"org.matrix.msc4143.rtc_foci": foci},
        well_known | {"org.matrix.msc4143.rtc_foci": MARKUP},
        {"m.homeserver": {"base_url": MARKUP}},
        MARKUP,
    ):
        page.tab.alter("/.well-known/matrix/client", says(content))
        for status in (200, 401, 500):
            page.tab.alter(
                "/_matrix/client/",
                says(HOSTILE | {"versions": [MARKUP], "rtc_transports": foci}, status),
            )
            page.check(deployment.full_access.name)
            page.call(deployment.full_access.name, MARKUP)
    for status in (200, 400, 503):
        page.tab.alter(
            "get_token",
            says(HOSTILE | {"variables": [MARKUP], "jwt": MARKUP, "url": MARKUP}, status),
        )
        page.check(deployment.full_access.name)
    page.tab.alter("/healthz", says({"variables": [MARKUP]}, 503))
    page.tab.open(f"{ANNOUNCED_URL}/?{MARKUP}#state={MARKUP}")
    assert MARKUP in page.health()

    assert_no_markup(page)


def test_markup_of_a_login_is_text(page: Page, deployment: Deployment) -> None:
    server = deployment.full_access.name
    for status in (200, 403):
        page.tab.alter("/v3/login", says(HOSTILE, status))
        page.call_by_password(server, MARKUP, "password")
        assert MARKUP in "\n".join(page.findings("call", 20)["problem"])
        assert_no_markup(page)

    page.tab.alter("/auth_metadata", says(dict.fromkeys(LOGIN_METADATA, MARKUP)))
    page.call_by_login_page(server)
    assert "no login by OAuth" in str(page.findings("call", 20)["problem"])
    endpoint = {"authorization_endpoint": f"{ANNOUNCED_URL}/authorize?{MARKUP}"}
    page.tab.alter("/auth_metadata", says(LOGIN_METADATA | endpoint))
    page.tab.alter("/register", says(HOSTILE, 400))
    page.call_by_login_page(server)
    assert MARKUP in "\n".join(page.findings("call", 20)["problem"])
    assert_no_markup(page)

    page.tab.alter("/register", says({"client_id": MARKUP}, 201))
    page.tab.alter("/token", says(HOSTILE, 400))
    for answer in ({"error": MARKUP}, {"code": MARKUP}):
        page.call_by_login_page(server)
        page.tab.wait_for("location.pathname === '/authorize'")
        state = page.tab.evaluate("new URLSearchParams(location.search).get('state')")
        page.tab.open(f"{ANNOUNCED_URL}/#{urlencode(answer | {'state': state})}")
        page.tab.click("#call-start")
        assert page.findings("call", 20)["problem"] != []
        assert_no_markup(page)


def test_markup_of_an_sfu_is_text(page: Page, deployment: Deployment, alice: User) -> None:
    def elsewhere(response: Response) -> Response:
        # The service has no WebSocket: LiveKit's client asks for the reason.
        url = f"{ANNOUNCED_URL.replace('http', 'ws')}/{MARKUP}"
        answer = json.loads(response.body) | {"url": url}
        return Response(response.status, response.headers, json.dumps(answer))

    page.tab.alter("/get_token", elsewhere)
    for status in (200, 401, 404, 500):
        page.tab.alter("/validate", says(MARKUP, status))
        assert page.check(deployment.full_access.name)["fine"] != []
        found = page.call(deployment.full_access.name, alice.access_token)
        assert "onerror" in str(found["problem"]), (status, found)
        assert_no_markup(page)


def test_a_login_page_brings_the_page_a_token_that_it_gives_back(
    page: Page, deployment: Deployment, alice: User
) -> None:
    page.tab.alter("/auth_metadata", says(LOGIN_METADATA))
    page.tab.alter("/register", says({"client_id": "page"}, 201))
    page.tab.alter("/token", says({"access_token": alice.access_token, "token_type": "Bearer"}))
    page.tab.alter("/revoke", says({}))
    page.call_by_login_page(deployment.full_access.name)
    # The service has this page at every path: it stands in for the login server's own one.
    page.tab.wait_for("location.pathname === '/authorize'")
    asked = page.tab.evaluate("Object.fromEntries(new URLSearchParams(location.search))")
    assert asked["redirect_uri"] == f"{ANNOUNCED_URL}/" and asked["response_mode"] == "fragment"
    assert asked["code_challenge_method"] == "S256" and "urn:matrix:client:api:*" in asked["scope"]

    page.tab.open(f"{ANNOUNCED_URL}/#code=the-code&state={asked['state']}")
    page.tab.click("#call-start")
    found = page.stop()

    assert found["problem"] == [], found
    assert any("The page is logged out." in text for text in found["fine"])
    assert any(url.endswith("/revoke") for url in page.tab.requested())
    assert page.tab.evaluate("location.hash + sessionStorage.length") == "0"
    assert "the-code" not in outcome(page)


REPETITIONS = {
    "across the cut": lambda value: "x" * 290 + value,
    "within JSON": lambda value: {"tried": [value]},
}


@pytest.mark.parametrize("repetition", REPETITIONS)
def test_no_part_of_a_secret_is_shown_that_an_answer_repeats(
    repetition: str, page: Page, deployment: Deployment
) -> None:
    password = secret(f'"{secrets.token_urlsafe()}\\{secrets.token_urlsafe()}"')
    # One secret is a part of the other.
    token = secret(f"{password}{secrets.token_urlsafe()}")
    repeat = REPETITIONS[repetition]
    page.tab.alter("/v3/login", says({"access_token": token, "user_id": "@paula:localhost"}))
    page.tab.alter("/account/whoami", says({"errcode": repeat(token)}, 401))
    page.call_by_password(deployment.full_access.name, "paula", password)
    found = page.findings("call", 20)
    assert any("refuses the access token" in text for text in found["problem"]), found
    shown = page.text() + outcome(page)

    page.tab.alter("/v3/login", says({"errcode": repeat(password)}, 403))
    page.call_by_password(deployment.full_access.name, "paula", password)
    found = page.findings("call", 20)
    assert any("The homeserver refuses" in text for text in found["problem"]), found
    shown += page.text() + outcome(page)

    assert "[secret]" in shown
    assert not any(token[at : at + 8] in shown for at in range(len(token) - 7))


def test_it_is_usable_by_keyboard_and_without_findings_of_axe(
    page: Page, deployment: Deployment
) -> None:
    page.tab.evaluate("document.getElementById('check-server').focus()")
    page.tab.fill("check-server", deployment.full_access.name)
    page.tab.press("Enter")
    assert page.findings("check", 40)["problem"] == []
    page.tab.press("Tab")
    assert page.tab.evaluate("document.activeElement.textContent") == "Check"
    page.call(deployment.full_access.name, secret("syt_expired_token"))

    page.assert_accessible()


def outcome(page: Page) -> str:
    """Text that the button for the outcome copies."""
    page.tab.evaluate(
        "window.copied = null; navigator.clipboard.writeText = async text => { window.copied = text }"
    )
    page.tab.click("#call-copy")
    text = page.tab.wait_for("window.copied")
    assert "matrixrtc-edge" in text
    return text


def assert_no_markup(page: Page) -> None:
    assert page.tab.evaluate(
        "[window.injected, document.querySelectorAll('main img, main script, main iframe').length]"
    ) == [None, 0]


def devices(user: User) -> set[str]:
    return {
        device["device_id"]
        for device in user.request("GET", "/_matrix/client/v3/devices")["devices"]
    }


def joined_rooms(user: User) -> set[str]:
    return set(user.request("GET", "/_matrix/client/v3/joined_rooms")["joined_rooms"])


PASSWORD = secret(secrets.token_urlsafe())
# The browser uses UDP through proxies only, of which there are none.
OTHER_SFU = 7890
OTHER_TCP, OTHER_UDP = OTHER_SFU + 1, OTHER_SFU + 2
TURN_DOMAIN = "turn.example.com"
NO_UDP = "--webrtc-ip-handling-policy=disable_non_proxied_udp"
LOGIN_SERVER = "https://localhost:8448/login-server"
LOGIN_METADATA = {
    "registration_endpoint": f"{LOGIN_SERVER}/register",
    "authorization_endpoint": f"{ANNOUNCED_URL}/authorize",
    "token_endpoint": f"{LOGIN_SERVER}/token",
    "revocation_endpoint": f"{LOGIN_SERVER}/revoke",
}
HOSTILE = {
    "errcode": MARKUP,
    "error": MARKUP,
    "user_id": f"@{MARKUP}:{MARKUP}",
    "device_id": MARKUP,
}
