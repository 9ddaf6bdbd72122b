//! Polls of the SFU for participants that no webhook has announced.

use std::time::Duration;

use delegated_leaves::EngineConfig;
use delegated_leaves::RemovalAnswer::Done;

use crate::call::{Call, token};

/// Between the two polls it may come back: with a token that the SFU issued to a connection that was never reported.
#[test]
fn who_has_been_there_unheard_is_checked_after_the_first_look() {
    let mut call = Call::with_rare_checks();
    call.track_and_connect("bob", "PA_1", &["bob"]);
    call.left("bob", "PA_1");
    assert_eq!(call.wait_for_due(), 3900.0);
    assert_eq!(call.acts(), ["get bob"]);
    call.sfu(&[]);
    assert_eq!(call.due_in(), 900.0);
    call.wait(599.0);
    call.joined("bob", "PA_3");
    assert_eq!(call.acts(), ["members of !room"]);
    call.members(&[]);
    assert_eq!(call.acts(), ["remove bob"]);
    call.removal(Done);
    assert_eq!(call.due_in(), 900.0, "it may have yet another token");
    call.is_forgotten_after_two_looks("bob");
}

#[test]
fn the_second_look_finds_whom_no_webhook_has_announced() {
    let mut call = Call::with_membership();
    call.track("bob");
    assert_eq!(call.next_acts(), ["get bob"]);
    call.sfu(&[]);
    assert_eq!(call.next_acts(), ["get bob"]);
    call.sfu(&[("bob", "PA_1")]);
    assert_eq!(call.acts(), ["members of !room"]);
    call.members(&[]);
    assert_eq!(call.acts(), ["remove bob"]);
}

#[test]
fn a_look_that_fails_proves_nothing() {
    let mut call = Call::with_rare_checks();
    call.track("bob");
    assert_eq!(call.next_acts(), ["get bob"]);
    call.sfu(&[]);
    assert_eq!(call.wait_for_due(), 900.0);
    assert_eq!(call.acts(), ["get bob"]);
    call.sfu_fails();
    assert_eq!(call.wait_for_due(), 600.0);
    assert_eq!(call.acts(), ["get bob"]);
    call.sfu(&[]);
    call.acts();
    assert!(call.room.is_empty());
}

/// The polls aren't stored.
#[test]
fn where_the_object_is_loaded_for_each_look_there_are_three() {
    let mut call = Call::with_rare_checks();
    call.track_and_connect("alice", "PA_1", &["alice"]);
    call.left("alice", "PA_1");
    assert_eq!(call.wait_for_due(), 3900.0);
    for _ in 0..2 {
        call.crash();
        assert_eq!(call.acts(), ["get alice"]);
        call.sfu(&[]);
        assert_eq!(call.wait_for_due(), 900.0);
    }
    call.crash();
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[]);
    call.acts();
    assert!(call.room.is_empty());
    assert_eq!(call.rows_written, 4);
}

#[test]
fn an_outage_of_half_an_hour_does_not_pass_for_a_look() {
    let mut call = Call::with_membership();
    call.track("bob");
    call.wait(3900.0 + 1799.0);
    call.crash();
    assert_eq!(call.acts(), ["get bob"]);
    call.sfu(&[]);
    call.acts();
    call.wait(599.0);
    call.joined("bob", "PA_1");
    assert_eq!(call.acts(), ["members of !room"]);
}

#[test]
fn who_has_come_without_a_webhook_is_not_forgotten() {
    let mut call = Call::with_membership();
    call.track("alice");
    assert_eq!(call.next_acts(), ["get alice"]);
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.acts(), ["members of !room"]);
}

/// A connection that no webhook has announced may have a token of the SFU's own, and its user may leave the Matrix room.
#[test]
fn a_sfu_that_does_not_say_is_queried_at_the_interval_for_who_may_have_come_unnoticed() {
    let mut call = Call::with_membership();
    call.track_as(token("bob", "!room", call.now + Duration::from_secs(60)));
    call.wait(400.0);
    for _ in 0..20 {
        assert_eq!(call.acts(), ["get bob"]);
        call.sfu_fails();
        assert_eq!(call.wait_for_due(), 60.0);
    }
    assert_eq!(call.acts(), ["get bob"]);
    call.sfu(&[("bob", "PA_1")]);
    assert_eq!(call.acts(), ["members of !room"]);
}

#[test]
fn a_sfu_that_does_not_say_is_queried_every_ten_minutes_for_a_day() {
    let mut call = Call::with_rare_checks();
    call.track("alice");
    assert_eq!(call.wait_for_due(), 3900.0);
    for _ in 0..144 {
        assert_eq!(call.acts(), ["get alice"]);
        call.sfu_fails();
        assert_eq!(call.wait_for_due(), 600.0);
    }
    assert_eq!(call.acts(), [""; 0]);
    assert!(call.room.is_empty());
}

#[test]
fn a_lost_end_is_noticed_when_the_token_has_expired() {
    let mut call = Call::with_membership();
    call.track_and_connect("alice", "PA_1", &["alice"]);
    call.wait(3900.0);
    assert_eq!(call.acts(), ["get alice", "members of !room"]);
    call.members(&["alice"]);
    call.sfu_fails();
    for _ in 0..9 {
        assert_eq!(call.next_acts(), ["members of !room"]);
        call.members(&["alice"]);
    }
    assert_eq!(call.next_acts(), ["get alice", "members of !room"]);
    call.members(&["alice"]);
    call.sfu(&[]);
    assert_eq!(call.is_connected("alice"), Some(false));
}

#[test]
fn a_sanity_check_finds_whom_no_webhook_has_announced() {
    let config = EngineConfig {
        sanity_check_interval: Some(Duration::from_secs(30)),
        membership_check_interval: Some(Duration::from_secs(60)),
    };
    let mut call = Call::with_rules(config);
    call.track("alice");
    assert_eq!(call.wait_for_due(), 30.0);
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.acts(), ["members of !room"]);
    call.members(&[]);
    assert_eq!(call.acts(), ["remove alice"]);
    call.removal(Done);
    assert_eq!(call.next_acts(), ["get alice"]);
    call.sfu(&[]);
    for wait in [7200.0, 900.0] {
        call.wait(wait);
        assert_eq!(call.acts(), ["get alice"]);
        call.sfu(&[]);
    }
    call.acts();
    assert!(call.room.is_empty());
    assert_eq!(call.room.next_due(), None);
}

/// Whether others are connected or not, and with sanity checks off.
#[test]
fn who_holds_a_token_is_looked_for_until_it_admits_nobody_any_more() {
    let mut call = Call::with_membership();
    call.track("ghost");
    call.track("bob");
    for round in 0..65 {
        assert_eq!(call.wait_for_due(), 60.0, "{round}");
        assert_eq!(call.acts(), ["list participants"]);
        call.sfu(&[]);
    }
    assert_eq!(call.due_in(), 900.0, "the first of the polls that end the record was the last of these");

    let mut call = Call::with_membership();
    call.track("ghost");
    call.wait_for_due();
    assert_eq!(call.acts(), ["get ghost"]);
    call.sfu(&[("ghost", "PA_1")]);
    assert_eq!(call.acts(), ["members of !room"], "banned meanwhile");
    call.members(&[]);
    assert_eq!(call.acts(), ["remove ghost"]);
}

#[test]
fn a_load_does_not_put_off_the_search_for_those_that_are_not_connected() {
    let mut call = Call::with_membership();
    call.track("ghost");
    let alarm = call.room.next_due();
    call.wait(30.0);
    call.load(alarm);
    assert_eq!(call.due_in(), 30.0);
    call.wait(30.0);
    call.load(None);
    assert_eq!(call.acts(), ["get ghost"]);
}
