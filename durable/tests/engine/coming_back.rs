use delegated_leaves::DisconnectReason::{DuplicateIdentity, Migration};
use delegated_leaves::{Occurrence, StateColumn};

use crate::call::{Call, DONE, participant};

#[test]
fn who_is_coming_back_is_looked_for_after_two_seconds_and_gone_after_fifteen() {
    for reason in [DuplicateIdentity, Migration] {
        let mut call = Call::with_alice(3600);
        call.left_because("alice", "PA_1", reason);
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
    let mut call = Call::with_alice(3600);
    call.left_because("alice", "PA_1", DuplicateIdentity);
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
    let mut call = Call::with_alice(3600);
    call.wait(10.0);
    call.left_because("alice", "PA_1", DuplicateIdentity);
    call.joined("alice", "PA_2");
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
}

#[test]
fn the_displaced_connection_shown_once_more_is_not_its_return() {
    let mut call = Call::with_alice(3600);
    call.left_because("alice", "PA_1", DuplicateIdentity);
    call.next_acts();
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.state("alice"), Some(StateColumn::Suspected));
}

#[test]
fn a_migrated_connection_keeps_its_sid() {
    let mut call = Call::with_alice(3600);
    call.left_because("alice", "PA_1", Migration);
    call.next_acts();
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
    call.left("alice", "PA_1");
    assert_eq!(call.acts(), ["send alice"]);
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
fn a_sfu_that_does_not_answer_is_asked_for_an_hour() {
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
fn who_left_after_a_restart_of_everything_is_asked_for_at_once() {
    let mut call = Call::with_alice(3600);
    call.left_because("alice", "PA_1", DuplicateIdentity);
    call.wait(60.0);
    call.crash();
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[]);
    assert_eq!(call.acts(), ["send alice"]);
}
