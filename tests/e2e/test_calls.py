"""Calls: with a real homeserver's OpenID token, a real client joins the right call, as the right participant.

The SFU reports rooms and identities, which are compared with those computed in `parts/names.py`. Audio from one client
to another shows that members of both token endpoints meet in the same room.
"""

from parts.livekit_server import LivekitServer
from parts.member import LegacyMember, Member, MemberType
from parts.participant import Join
from parts.process import eventually
from parts.service import Service
from parts.synapse import User


def test_a_full_access_user_joins(
    member_type: MemberType,
    alice: User,
    service: Service,
    sfu: LivekitServer,
    join: Join,
) -> None:
    member = member_type(alice, alice.create_room())

    participant = join(service.admit(member))

    participant.wait_until_connected()
    assert sfu.joined(member.livekit_room) == {member.identity}


def test_a_restricted_user_joins_an_existing_call(
    member_type: MemberType,
    alice: User,
    bob: User,
    worker: Service,
    sfu: LivekitServer,
    join: Join,
) -> None:
    room_id = alice.create_room()
    host, guest = member_type(alice, room_id), member_type(bob, room_id)
    join(worker.admit(host)).wait_until_connected()

    participant = join(worker.admit(guest))

    participant.wait_until_connected()
    assert sfu.joined(guest.livekit_room) == {host.identity, guest.identity}


def test_a_restricted_user_starts_no_call(
    member_type: MemberType,
    bob: User,
    worker: Service,
    sfu: LivekitServer,
    join: Join,
) -> None:
    member = member_type(bob, bob.create_room())

    participant = join(worker.admit(member))

    assert "requested room does not exist" in participant.refusal()
    assert member.livekit_room not in sfu.rooms()


def test_members_of_both_endpoints_meet_and_hear_each_other(
    alice: User, carol: User, worker: Service, sfu: LivekitServer, join: Join
) -> None:
    room_id = alice.create_room()
    speaker, listener = Member(alice, room_id), LegacyMember(carol, room_id)
    speaking, listening = join(worker.admit(speaker)), join(worker.admit(listener))
    speaking.wait_until_connected()
    listening.wait_until_connected()

    speaking.publish_audio()

    assert listening.hears() == speaker.identity


def test_a_participant_who_leaves_is_gone_from_the_sfu(
    alice: User, worker: Service, sfu: LivekitServer, join: Join
) -> None:
    member = Member(alice, alice.create_room())
    participant = join(worker.admit(member))
    participant.wait_until_connected()

    participant.leave()

    eventually(lambda: not sfu.joined(member.livekit_room), "the participant is gone from the SFU")
