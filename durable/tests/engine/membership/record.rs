//! The record of a participant, and its lifetime.

use std::time::Duration;

use delegated_leaves::RemovalAnswer::Done;
use delegated_leaves::{DisconnectReason, Occurrence, Timestamp};

use crate::call::{Call, participant, token};

/// The SFU refreshes the token of a connected participant, for ten minutes.
#[test]
fn who_is_removed_after_the_token_has_expired_is_not_forgotten_at_once() {
    let mut call = Call::with_rare_checks();
    call.track_and_connect("bob", "PA_1", &["bob"]);
    call.wait(24.0 * 3600.0);
    call.acts();
    call.sfu(&[("bob", "PA_1")]);
    call.members(&[]);
    assert_eq!(call.acts(), ["remove bob"]);
    call.removal(Done);
    call.wait(590.0);
    call.joined("bob", "PA_2");
    assert_eq!(call.acts(), ["members of !room"]);
    call.members(&[]);
    assert_eq!(call.acts(), ["remove bob"]);
    call.removal(Done);
    call.is_forgotten_after_two_looks("bob");
}

/// The SFU issues a token to each connecting participant, even if it never gets as far as media.
#[test]
fn who_only_tries_to_connect_is_remembered_for_longer() {
    let mut call = Call::with_rare_checks();
    call.track("bob");
    call.aborted("bob", "PA_1");
    assert_eq!((call.due_in(), call.rows_written), (3900.0, 1), "there is a token that is good for longer");
    call.wait(3600.0);
    call.aborted("bob", "PA_2");
    assert_eq!((call.due_in(), call.rows_written), (900.0, 2));
    assert_eq!(call.next_acts(), ["get bob"]);
    call.sfu(&[]);
    call.wait(599.0);
    call.aborted("bob", "PA_3");
    assert_eq!(call.due_in(), 900.0);
    call.is_forgotten_after_two_looks("bob");
}

/// A webhook from the future, by an SFU whose clock is wrong, doesn't keep a participant for ever.
#[test]
fn a_token_is_refreshed_by_the_time_of_its_webhook_at_the_latest() {
    let mut call = Call::with_rare_checks();
    call.track("bob");
    let participant = participant("bob", "PA_1");
    let last = Timestamp::from_millis(u64::MAX);
    call.webhook(last, Occurrence::ParticipantConnectionAborted(participant.clone(), DisconnectReason::Other));
    assert_eq!(call.due_in(), 3900.0, "as if it were of now");
    call.webhook(last, Occurrence::ParticipantLeft(participant, DisconnectReason::Migration));
    assert_eq!(call.due_in(), 3900.0);
    call.is_forgotten_after_two_looks("bob");
}

#[test]
fn a_life_writes_four_rows_and_a_round_none() {
    let mut call = Call::with_membership();
    call.track("alice");
    call.joined("alice", "PA_1");
    call.acts();
    call.members(&["alice"]);
    for _ in 0..50 {
        assert_eq!(call.next_acts(), ["members of !room"]);
        call.members(&["alice"]);
    }
    assert_eq!(call.rows_written, 2);
    call.left("alice", "PA_1");
    while !call.tracked.is_empty() {
        call.wait_for_due();
        if call.acts() == ["get alice"] {
            call.sfu(&[]);
        }
    }
    assert_eq!(call.rows_written, 4);
}

#[test]
fn a_life_that_ends_with_a_removal_writes_four_rows() {
    let mut call = Call::with_rare_checks();
    call.track_and_connect("bob", "PA_1", &[]);
    call.acts();
    call.removal(Done);
    call.left("bob", "PA_1");
    call.is_forgotten_after_two_looks("bob");
    assert!(call.tracked.is_empty());
    assert_eq!(call.rows_written, 4);
}

#[test]
fn a_renewal_writes_one_row_and_extends_the_expiry() {
    let mut call = Call::with_rare_checks();
    call.track("alice");
    call.wait(1800.0);
    call.track("alice");
    assert_eq!((call.tracked.len(), call.rows_written), (1, 2));
    assert_eq!(call.due_in(), 3900.0);
    call.track_as(token("alice", "!room", call.now));
    assert_eq!(call.rows_written, 2, "a shorter one changes nothing");
    assert_eq!(call.due_in(), 3900.0);
}

#[test]
fn webhooks_in_the_wrong_order_leave_nobody_connected() {
    let mut call = Call::with_membership();
    call.track("alice");
    call.wait(5.0);
    call.left("alice", "PA_1");
    call.crash();
    call.joined("alice", "PA_1");
    assert_eq!(call.is_connected("alice"), Some(false));
}

#[test]
fn who_is_displaced_or_migrates_is_as_good_as_there() {
    for reason in [DisconnectReason::DuplicateIdentity, DisconnectReason::Migration] {
        let mut call = Call::with_membership();
        call.track_and_connect("alice", "PA_1", &["alice"]);
        call.left_because("alice", "PA_1", reason);
        assert_eq!(call.is_connected("alice"), Some(true), "{reason:?}");
    }
}

#[test]
fn when_the_room_is_finished_nobody_is_connected() {
    let mut call = Call::with_membership();
    call.track_and_connect("alice", "PA_1", &["alice"]);
    call.wait(5.0);
    call.webhook(call.now - Duration::from_secs(60), Occurrence::RoomFinished);
    assert_eq!(call.is_connected("alice"), Some(true), "that was an earlier room of the name");
    call.room_finished();
    assert_eq!(call.is_connected("alice"), Some(false));
}

/// The SFU reports whole seconds: it may have been an earlier room of the name.
#[test]
fn a_room_that_has_finished_in_the_second_of_the_connection_ends_none() {
    let mut call = Call::with_membership();
    call.track_and_connect("alice", "PA_1", &["alice"]);
    call.room_finished();
    assert_eq!(call.is_connected("alice"), Some(true));
}

/// The SFU allows for clocks that differ, and webhooks take their time.
#[test]
fn an_expired_token_is_remembered_for_as_long_as_it_may_be_used() {
    let mut call = Call::with_membership();
    call.track_as(token("bob", "!room", call.now));
    call.wait(240.0);
    call.acts();
    call.webhook(call.now - Duration::from_secs(180), Occurrence::ParticipantJoined(participant("bob", "PA_1")));
    assert_eq!(call.acts(), ["members of !room"]);
}

/// The worker sends a command again when the answer was lost.
#[test]
fn the_same_token_again_changes_nothing() {
    let mut call = Call::with_membership();
    let command = token("alice", "!room", call.now + Duration::from_secs(3600));
    call.track_as(command.clone());
    let (rows, written, due) = (call.tracked.clone(), call.rows_written, call.room.next_due());

    call.track_as(command);

    assert_eq!((call.tracked, call.rows_written, call.room.next_due()), (rows, written, due));
}
