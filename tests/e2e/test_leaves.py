"""Delegated leaves: sent to the Matrix room once the participant has left, and not before.

Real clients join a call and leave it, are killed, or reconnect, while the worker and the webhooks work or fail. The
leave is read from the room's state at the real homeserver (`docs/protocol.md#the-life-of-a-delegated-leave`).
"""

from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic


from conftest import WORKER_PORT, Deployment
from parts.delayed_leave import DelayedLeave
from parts.livekit_server import LivekitServer
from parts.member import LegacyMember, Member
from parts.participant import Join, Participant
from parts.process import eventually
from parts.service import Service, configuration, serve
from parts.synapse import User


@dataclass
class Caller:
    """A connected member of a call whose leave is delegated, and has been restarted once."""

    member: Member
    leave: DelayedLeave
    grant: dict[str, str]
    participant: Participant


def call(user: User, service: Service, join: Join, delay_ms: int) -> Caller:
    room_id = user.create_room()
    member = Member(user, room_id)
    leave = DelayedLeave(user, room_id, delay_ms)
    response = service.post(member.path, member.request(user.openid_token()) | leave.delegation)
    assert response.status_code == 200, response.text
    grant = response.json()
    participant = join(grant)
    participant.wait_until_connected()
    leave.wait_until_restarted()
    return Caller(member, leave, grant, participant)


def test_the_leave_is_sent_when_the_client_leaves(alice: User, worker: Service, join: Join) -> None:
    caller = call(alice, worker, join, HOUR_MS)

    caller.participant.leave()

    eventually(caller.leave.is_sent, "the leave is in the room's state", within=LEAVES_EARLY)


def test_the_leave_is_sent_when_the_client_is_killed(
    alice: User, worker: Service, sfu: LivekitServer, join: Join
) -> None:
    caller = call(alice, worker, join, HOUR_MS)

    caller.participant.kill()

    eventually(lambda: not sfu.joined(caller.member.livekit_room), "the SFU has removed the participant", within=60)
    eventually(caller.leave.is_sent, "the leave is in the room's state", within=2)


def test_a_leave_delegated_during_the_call_is_sent_for_a_legacy_member(
    alice: User, worker: Service, join: Join
) -> None:
    room_id = alice.create_room()
    participant = join(worker.admit(LegacyMember(alice, room_id)))
    participant.wait_until_connected()
    leave = DelayedLeave(alice, room_id, HOUR_MS)
    response = worker.post(
        "/delegate_delayed_leave",
        Member(alice, room_id).request(alice.openid_token()) | leave.delegation,
    )
    assert response.status_code == 200, response.text
    leave.wait_until_restarted()

    participant.leave()

    eventually(leave.is_sent, "the leave is in the room's state", within=2)


def test_the_leave_is_sent_without_webhooks(
    alice: User, deployment: Deployment, tmp_path: Path, join: Join
) -> None:
    with ExitStack() as running:
        sfu = running.enter_context(closing(LivekitServer(SILENT_SFU_PORT, [], tmp_path)))
        variables = configuration(sfu, deployment.full_access) | {
            "LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS": str(SANITY_CHECK_SECONDS)
        }
        worker = running.enter_context(
            closing(serve(SILENT_WORKER_PORT, variables, deployment.authority, tmp_path))
        )
        sfu.wait_until_ready()
        worker.wait_until_ready()
        caller = call(alice, worker, join, HOUR_MS)
        # The restart before the acceptance says nothing about the participant, which is found by a poll.
        eventually(lambda: worker.log_lines("participant connected"), "the participant is found")

        caller.participant.leave()

        eventually(
            caller.leave.is_sent, "the leave is in the room's state", SANITY_CHECK_SECONDS + 5
        )


def test_a_crash_of_the_worker_loses_nothing(
    alice: User, deployment: Deployment, directory: Path, running: ExitStack, join: Join
) -> None:
    caller = call(alice, deployment.worker, join, 20_000)

    deployment.worker.kill()
    deployment.worker = running.enter_context(
        closing(serve(WORKER_PORT, deployment.variables, deployment.authority, directory))
    )
    deployment.worker.wait_until_ready()

    caller.leave.wait_until_restarted()
    assert deployment.sfu.joined(caller.member.livekit_room) == {caller.member.identity}
    caller.participant.leave()
    eventually(caller.leave.is_sent, "the leave is in the room's state", within=LEAVES_EARLY)


def test_no_leave_is_sent_when_the_same_identity_reconnects(
    alice: User, worker: Service, join: Join
) -> None:
    caller = call(alice, worker, join, 8_000)

    successor = join(caller.grant)
    successor.wait_until_connected()

    # Restarts come every 4 s. After 15 s at the latest, a participant that had been replaced would count as gone.
    for _ in range(5):
        caller.leave.wait_until_restarted()
    successor.leave()
    eventually(caller.leave.is_sent, "the leave is in the room's state", within=2)


def test_a_short_delay_never_expires_during_a_call(
    alice: User, worker: Service, join: Join
) -> None:
    caller = call(alice, worker, join, 8_000)

    joined = monotonic()
    while monotonic() < joined + 60:
        caller.leave.wait_until_restarted()

    assert not caller.leave.is_sent()


HOUR_MS = 3_600_000
# Within 5 s of its beginning, the end of a connection is believed after a poll of the SFU, a second later.
LEAVES_EARLY = 5
SILENT_SFU_PORT = 7890
SILENT_WORKER_PORT = 8790
SANITY_CHECK_SECONDS = 5
