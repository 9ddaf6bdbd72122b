"""Homeserver mode (MSC4195), with two federating homeservers, each with a worker and an SFU of its own.

Clients request tokens from their own homeserver, which proxies the requests to its worker, or over federation to the
other one (`docs/protocol.md#homeserver-mode`). Bans in the Matrix room show the removal of participants.
"""

import os
import subprocess
import uuid
from pathlib import Path

from synapse.appservice import Scopes
from synapse.config.appservice import load_appservices

from parts import doctor
from parts.delayed_leave import DelayedLeave
from parts.federation import INTERVAL_SECONDS, Federation, Site
from parts.member import HomeserverMember, LegacyMember, MemberType
from parts.participant import Join, Participant
from parts.process import eventually


def connect(join: Join, site: Site, member: HomeserverMember) -> Participant:
    participant = join(site.admit(member))
    participant.wait_until_connected()
    return participant


def test_members_of_two_homeservers_hear_each_other(federation: Federation, join: Join) -> None:
    near, far, room_id = federation.near, federation.far, federation.shared_room()
    nora, fred = HomeserverMember(federation.nora, room_id), HomeserverMember(federation.fred, room_id)
    nora_speaks, fred_speaks = connect(join, near, nora), connect(join, far, fred)
    nora_listens, fred_listens = connect(join, far, nora), connect(join, near, fred)

    nora_speaks.publish_audio()
    fred_speaks.publish_audio()

    assert fred_listens.hears() == nora.identity
    assert nora_listens.hears() == fred.identity


def test_the_doctor_finds_homeserver_and_service_wired(federation: Federation) -> None:
    near = federation.near

    def findings(**changes: str) -> dict[str, dict[str, str]]:
        variables = near.variables | changes
        url, authority = near.worker.url, federation.authority
        _, found = doctor.examine(url, near.homeserver, authority, variables)
        return {check: found[check] for check in doctor.HOMESERVER_MODE}

    found = findings()
    expected = dict.fromkeys(doctor.HOMESERVER_MODE, "ok")
    assert {check: finding["status"] for check, finding in found.items()} == expected, found

    assert "isn't the service's" in findings(LIVEKIT_HS_TOKEN="another")["ping"]["seen"]
    assert "hasn't read" in findings(LIVEKIT_AS_TOKEN="another")["as-token"]["seen"]


def test_a_user_without_an_sfu_at_home_publishes_on_that_of_another_homeserver(
    federation: Federation, join: Join
) -> None:
    near, room_id = federation.near, federation.shared_room()
    host = HomeserverMember(federation.nora, room_id)
    guest = HomeserverMember(federation.fred, room_id)
    host_listens, guest_speaks = connect(join, near, host), connect(join, near, guest)

    guest_speaks.publish_audio()

    assert host_listens.hears() == guest.identity


def test_no_remote_user_publishes_where_only_others_may(
    federation: Federation, join: Join
) -> None:
    far, room_id = federation.far, federation.shared_room()
    host = HomeserverMember(federation.fred, room_id)
    guest = HomeserverMember(federation.nora, room_id)
    connect(join, far, host)
    guest_listens = connect(join, far, guest)

    guest_listens.publish_audio()

    guest_listens.wait_until_silenced()
    assert far.sfu.may_publish(guest.livekit_room) == {host.identity}


def test_synapse_reads_the_registration_file_that_configure_writes(tmp_path: Path) -> None:
    command = [
        *(os.environ["E2E_XTASK"], "configure", "--route", "rtc.example.com/livekit/jwt"),
        *("--zone", "example.com", "--sfu-url", "wss://sfu.example.com", "--homeserver", "example.com"),
        *("--homeserver-mode", "example.com", "--write", str(tmp_path)),
    ]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True)

    [service] = load_appservices("example.com", [str(tmp_path / "matrixrtc-registration.yaml")])

    assert service.proxy_url == "https://rtc.example.com/livekit/jwt"
    assert service.proxy_prefix == "rtc/livekit"
    assert service.has_scope(Scopes.QUERY_ROOM_MEMBERSHIP)
    assert service.is_interested_in_user("@alice:example.com")
    assert not service.is_interested_in_user("@alice:exampleXcom")
    assert not service.is_exclusive_user("@alice:example.com")


def test_who_is_not_in_the_room_gets_no_token(federation: Federation) -> None:
    room_id = federation.shared_room()
    stranger = HomeserverMember(federation.near.homeserver.register("stranger"), room_id)

    assert federation.near.refusal(stranger) == (403, "M_FORBIDDEN")
    assert federation.far.refusal(stranger) == (403, "M_FORBIDDEN")


def test_openid_clients_have_to_be_in_the_room_too(
    member_type: MemberType, federation: Federation
) -> None:
    near, room_id = federation.near, federation.shared_room()
    stranger = member_type(federation.far.homeserver.register(f"stranger-{uuid.uuid4()}"), room_id)
    member = member_type(federation.nora, room_id)

    refusal = near.worker.ask(stranger, stranger.user.openid_token())

    assert (refusal.status_code, refusal.json()["errcode"]) == (403, "M_FORBIDDEN")
    near.worker.admit(member)


def test_a_leave_of_an_openid_client_is_managed_as_its_owner(
    federation: Federation, join: Join
) -> None:
    near, room_id = federation.near, federation.shared_room()
    member = LegacyMember(federation.nora, room_id)
    leave = DelayedLeave(federation.nora, room_id, HOUR_MS)
    request = member.request(federation.nora.openid_token()) | leave.delegation
    response = near.worker.post(member.path, request)
    assert response.status_code == 200, response.text
    participant = join(response.json())
    participant.wait_until_connected()

    participant.leave()

    # The homeserver refuses management without a login.
    eventually(leave.is_sent, "the leave is in the room's state", within=2)


def test_the_leave_is_sent_when_the_client_leaves(federation: Federation, join: Join) -> None:
    near, room_id = federation.near, federation.shared_room()
    nora = HomeserverMember(federation.nora, room_id)
    leave = DelayedLeave(federation.nora, room_id, HOUR_MS)
    participant = connect(join, near, nora)
    response = nora.delegate(near.sfu.url, leave.delegation["delay_id"])
    assert response.status_code == 200, response.text
    leave.wait_until_restarted()

    participant.leave()

    eventually(leave.is_sent, "the leave is in the room's state", within=2)


def test_who_is_banned_is_removed_and_stays_out(federation: Federation, join: Join) -> None:
    near, room_id = federation.near, federation.shared_room()
    fred = HomeserverMember(federation.fred, room_id)
    bystander = HomeserverMember(federation.nora, room_id)
    connect(join, near, bystander)
    grant = near.admit(fred)
    guest = join(grant)
    guest.wait_until_connected()

    federation.nora.ban(room_id, federation.fred)

    eventually(lambda: not near.has(fred), "the banned user is removed", INTERVAL_SECONDS + SLACK_SECONDS)
    guest.wait_until_removed()
    again = join(grant)
    again.wait_until_connected()
    again.wait_until_removed()
    assert near.has(bystander)


def test_a_homeserver_that_is_down_ends_no_call(federation: Federation, join: Join) -> None:
    near, room_id = federation.near, federation.shared_room()
    nora, fred = HomeserverMember(federation.nora, room_id), HomeserverMember(federation.fred, room_id)
    connect(join, near, nora)
    guest = connect(join, near, fred)

    near.homeserver.stop()
    failures = near.worker.log_lines(CHECK_FAILED)
    eventually(lambda: near.worker.log_lines(CHECK_FAILED) >= failures + 2, "two checks have failed")
    assert near.has(nora) and near.has(fred)
    near.homeserver.start_again()

    federation.nora.ban(room_id, federation.fred)
    guest.wait_until_removed()
    assert near.has(nora)


HOUR_MS = 3_600_000
SLACK_SECONDS = 5
CHECK_FAILED = "membership unknown"
