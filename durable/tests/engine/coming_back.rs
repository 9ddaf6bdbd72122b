use std::time::Duration;

use delegated_leaves::DisconnectReason::{
    self, ClientInitiated, DuplicateIdentity, Migration, ServerShutdown, StateMismatch,
};
use delegated_leaves::{Occurrence, ParticipantRef, ParticipantState, StateColumn};

use crate::call::{Call, DONE, participant};

#[test]
fn who_is_coming_back_is_looked_for_after_two_seconds_and_gone_after_fifteen() {
    for reason in [DuplicateIdentity, Migration, StateMismatch, ServerShutdown] {
        let mut call = ended_after(0.0, reason);
        let mut waits = Vec::new();
        while call.state("alice") == Some(StateColumn::Suspected) {
            waits.push(call.wait_for_due());
            assert_eq!(call.acts(), ["get alice"]);
            call.sfu(&[]);
        }
        assert_eq!(waits, [2.0, 2.0, 4.0, 7.0]);
        assert_eq!(call.acts(), ["send alice"]);
    }
}

#[test]
fn who_has_come_back_has_not_left() {
    let mut call = ended_after(0.0, DuplicateIdentity);
    call.next_acts();
    call.sfu(&[("alice", "PA_2")]);
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
    call.left("alice", "PA_1");
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
    call.left("alice", "PA_2");
    assert_eq!(call.acts(), ["send alice"]);
}

#[test]
fn the_webhook_of_the_next_connection_ends_the_doubt() {
    let mut call = ended_after(10.0, DuplicateIdentity);
    call.joined("alice", "PA_2");
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
}

#[test]
fn the_displaced_connection_shown_once_more_is_not_its_return() {
    let mut call = ended_after(0.0, DuplicateIdentity);
    call.next_acts();
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.state("alice"), Some(StateColumn::Suspected));
}

#[test]
fn a_migrated_connection_keeps_its_sid() {
    let mut call = ended_after(0.0, Migration);
    call.next_acts();
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
    call.left("alice", "PA_1");
    assert_eq!(call.acts(), ["send alice"]);
}

/// The webhook of its beginning is late, and so is that of the end of the one before.
#[test]
fn the_end_of_the_connection_before_the_one_that_migrates_is_not_its_end() {
    for seconds in [3.0, 60.0] {
        let mut call = Call::with_alice(3600);
        call.wait(seconds);
        let ended_at = call.now;
        call.wait(1.0);
        let migrating = ParticipantRef { joined_at: Some(call.now), ..participant("alice", "PA_2") };
        call.webhook(call.now, Occurrence::ParticipantLeft(migrating.clone(), Migration));
        call.webhook(ended_at, Occurrence::ParticipantLeft(participant("alice", "PA_1"), ClientInitiated));
        assert_eq!(call.state("alice"), Some(StateColumn::Suspected));
        assert_eq!(call.wait_for_due(), 2.0);
        assert_eq!(call.acts(), ["get alice"]);
        call.sfu(&[]);
        assert_eq!(call.acts(), [""; 0], "it has fifteen seconds");
        call.webhook(call.now, Occurrence::ParticipantJoined(migrating));
        assert_eq!(call.state("alice"), Some(StateColumn::Connected));
    }
}

#[test]
fn a_join_from_before_the_migration_is_not_the_return() {
    let mut call = Call::with_alice(3600);
    let joined = call.now;
    call.wait(30.0);
    call.left_because("alice", "PA_1", Migration);
    call.webhook(joined, Occurrence::ParticipantJoined(participant("alice", "PA_1")));
    assert_eq!(call.state("alice"), Some(StateColumn::Suspected));
}

#[test]
fn the_leave_goes_on_being_restarted_meanwhile() {
    let mut call = Call::with_alice(8);
    call.left_because("alice", "PA_1", DuplicateIdentity);
    call.wait(4.0);
    assert!(call.acts().contains(&"restart alice".to_owned()));
    call.homeserver(DONE);
    assert_eq!(call.state("alice"), Some(StateColumn::Suspected));
}

#[test]
fn a_sfu_that_does_not_answer_is_queried_for_an_hour() {
    let mut call = Call::with_alice(7200);
    let start = call.now;
    call.left_because("alice", "PA_1", DuplicateIdentity);
    while call.state("alice") == Some(StateColumn::Suspected) {
        call.wait_for_due();
        if call.acts() == ["get alice"] {
            call.sfu_fails();
        }
    }
    assert_eq!(call.now, start + std::time::Duration::from_secs(3600));
    assert_eq!(call.state("alice"), Some(StateColumn::Leaving));
}

#[test]
fn who_left_after_a_restart_of_everything_is_queried_for_at_once() {
    let mut call = ended_after(0.0, DuplicateIdentity);
    call.wait(60.0);
    call.crash();
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[]);
    assert_eq!(call.acts(), ["send alice"]);
}

#[test]
fn who_is_sent_round_by_the_sfu_has_not_left() {
    for reason in [StateMismatch, ServerShutdown] {
        let mut call = ended_after(60.0, reason);
        assert_eq!(call.acts(), [""; 0]);
        call.wait(1.0);
        call.joined("alice", "PA_2");
        assert_eq!(call.state("alice"), Some(StateColumn::Connected));
        assert_eq!(call.acts(), [""; 0], "nothing is sent");
        call.left("alice", "PA_1");
        assert_eq!(call.state("alice"), Some(StateColumn::Connected));
    }
}

/// A node that goes down reports the end of its participants, and then of its rooms.
#[test]
fn the_end_of_the_room_does_not_hasten_the_leave_of_those_that_are_coming_back() {
    let mut call = ended_after(60.0, ServerShutdown);
    call.room_finished();
    assert_eq!(call.state("alice"), Some(StateColumn::Suspected));
    call.wait(14.0);
    call.room_finished();
    assert_eq!(call.state("alice"), Some(StateColumn::Suspected));
    call.wait(2.0);
    call.room_finished();
    assert_eq!(call.state("alice"), Some(StateColumn::Leaving));
}

/// The room was empty before the client had its next connection, and the webhook of that comes after it.
#[test]
fn an_end_of_the_room_from_before_the_return_does_not_end_the_doubt() {
    let mut call = ended_after(3.0, ClientInitiated);
    let finished_at = call.now;
    call.wait(1.8);
    assert_eq!(call.acts(), ["get alice"]);
    call.webhook(finished_at, Occurrence::RoomFinished);
    assert_eq!(call.acts(), [""; 0]);
    call.sfu_shows(&[("alice", "PA_2", ParticipantState::Joining)]);
    assert_eq!(call.state("alice"), Some(StateColumn::Suspected));
    call.wait(1.2);
    call.webhook(call.now, Occurrence::RoomFinished);
    assert_eq!(call.state("alice"), Some(StateColumn::Leaving), "the room was empty after the second, too");
}

#[test]
fn a_connection_ended_soon_after_its_beginning_is_queried_about_first() {
    let mut call = ended_after(4.0, ClientInitiated);
    assert_eq!(call.acts(), [""; 0]);
    assert_eq!(call.wait_for_due(), 1.0);
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu_shows(&[("alice", "PA_2", ParticipantState::Joining)]);
    assert_eq!(call.state("alice"), Some(StateColumn::Suspected));
    call.joined("alice", "PA_2");
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
    call.wait(60.0);
    call.left_because("alice", "PA_2", ClientInitiated);
    assert_eq!(call.acts(), ["send alice"], "later it is believed");
}

#[test]
fn who_hangs_up_soon_after_joining_leaves_a_second_later() {
    let mut call = ended_after(3.0, ClientInitiated);
    assert_eq!(call.wait_for_due(), 1.0);
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[]);
    assert_eq!(call.acts(), ["send alice"]);
}

/// Polled before the second was over, and answered after it: that says nothing about the client's next connection.
#[test]
fn an_absence_counts_from_the_time_of_the_poll() {
    let mut call = ended_after(3.0, ClientInitiated);
    call.delegate("bob", 3600);
    assert_eq!(call.acts(), ["list participants"], "together with bob");
    call.wait(1.2);
    call.sfu(&[]);
    assert_eq!(call.state("alice"), Some(StateColumn::Suspected));
    assert!(call.next_acts().contains(&"list participants".to_owned()));
    call.sfu(&[]);
    assert_eq!(call.acts(), ["send alice"]);
}

/// The beginning is the webhook's own, or when the connection was first seen.
#[test]
fn a_connection_of_unknown_age_counts_as_young() {
    let mut call = Call::new();
    call.delegate("alice", 3600);
    let beginning = ParticipantRef { joined_at: None, ..participant("alice", "PA_1") };
    let joined = Occurrence::ParticipantJoined(beginning.clone());
    call.event(delegated_leaves::WebhookEvent { created_at: None, occurrence: joined });
    call.acts();
    let left = Occurrence::ParticipantLeft(beginning, ClientInitiated);
    call.event(delegated_leaves::WebhookEvent { created_at: None, occurrence: left.clone() });
    assert_eq!(call.state("alice"), Some(StateColumn::Suspected));
    assert_eq!(call.wait_for_due(), 1.0);
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[]);
    assert_eq!(call.acts(), ["send alice"]);

    let mut call = Call::with_alice(3600);
    call.wait(30.0);
    let young = ParticipantRef { joined_at: Some(call.now - Duration::from_secs(5)), ..participant("alice", "PA_1") };
    call.webhook(call.now, Occurrence::ParticipantLeft(young, ClientInitiated));
    assert_eq!(call.state("alice"), Some(StateColumn::Suspected));
}

/// A call in which Alice's connection has ended for that reason, so long after its beginning.
fn ended_after(seconds: f64, reason: DisconnectReason) -> Call {
    let mut call = Call::with_alice(3600);
    call.wait(seconds);
    call.left_because("alice", "PA_1", reason);
    call
}
