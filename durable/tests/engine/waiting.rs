use std::time::Duration;

use delegated_leaves::{Delegate, Occurrence, ParticipantState, StateColumn};

use crate::call::{Call, FAILED, participant, request};

#[test]
fn the_sfu_is_queried_at_once_and_then_less_and_less_often() {
    let mut call = Call::new();
    call.delegate("alice", 3600);
    let mut waits = Vec::new();
    for _ in 0..8 {
        waits.push(call.wait_for_due());
        assert_eq!(call.acts(), ["get alice"]);
        call.sfu(&[]);
    }
    assert_eq!(waits, [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 2849.0, 720.0]);
}

#[test]
fn a_late_participant_without_a_webhook_is_found_in_time_for_a_restart() {
    for (timeout_s, last_poll) in [(20, 15.0), (25, 20.0), (60, 48.0), (600, 480.0)] {
        let mut call = Call::new();
        call.delegate("alice", timeout_s);
        let mut elapsed = 0.0;
        while elapsed < last_poll {
            elapsed += call.wait_for_due();
            assert_eq!(call.acts(), ["get alice"], "after {elapsed} s of {timeout_s}");
            call.sfu(if elapsed < last_poll { &[] } else { &[("alice", "PA_1")] });
        }
        assert_eq!(elapsed, last_poll, "of {timeout_s} s");
        assert_eq!(call.acts(), ["restart alice"]);
    }
}

#[test]
fn a_participant_in_a_list_that_was_requested_for_others_is_queried() {
    let mut call = Call::new();
    call.delegate("alice", 3600);
    for _ in 0..6 {
        assert_eq!(call.next_acts(), ["get alice"]);
        call.sfu(&[]);
    }
    for who in ["bob", "carol"] {
        call.delegate(who, 3600);
    }
    assert_eq!(call.next_acts(), ["list participants"]);
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.state("alice"), Some(StateColumn::Waiting), "she may have left since");
    assert_eq!(call.next_acts(), ["list participants"]);
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.acts(), ["restart alice"]);
}

#[test]
fn a_failed_query_is_like_any_other() {
    let mut call = Call::new();
    call.delegate("alice", 3600);
    call.acts();
    call.sfu_fails();
    assert_eq!(call.state("alice"), Some(StateColumn::Waiting));
    assert_eq!(call.due_in(), 1.0);
}

#[test]
fn a_participant_that_joins_has_its_leave_restarted_at_once() {
    let mut call = Call::new();
    call.delegate("alice", 8);
    call.joined("alice", "PA_1");
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
    assert_eq!(call.acts(), ["restart alice"]);
}

#[test]
fn a_participant_that_is_found_has_its_leave_restarted_at_once() {
    let mut call = Call::new();
    call.delegate("alice", 8);
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.acts(), ["restart alice"]);
}

#[test]
fn a_participant_without_media_is_not_there_yet() {
    for state in [ParticipantState::Joining, ParticipantState::Joined, ParticipantState::Disconnected] {
        let mut call = Call::new();
        call.delegate("alice", 8);
        call.acts();
        call.sfu_shows(&[("alice", "PA_1", state)]);
        assert_eq!(call.state("alice"), Some(StateColumn::Waiting), "{state:?}");
    }
}

#[test]
fn an_answer_that_a_webhook_has_overtaken_is_ignored() {
    let mut call = Call::new();
    call.delegate("alice", 8);
    call.acts();
    call.joined("alice", "PA_1");
    call.sfu(&[]);
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
}

#[test]
fn who_does_not_come_within_the_delay_leaves() {
    let mut call = Call::new();
    call.delegate("alice", 30);
    let mut acts = Vec::new();
    while !acts.contains(&"send alice".to_owned()) {
        call.wait_for_due();
        acts = call.acts();
        if acts == ["get alice"] {
            call.sfu(&[]);
        }
    }
    assert_eq!(call.rows.values().next().unwrap().accepted_at + std::time::Duration::from_secs(30), call.now);
}

#[test]
fn nobody_is_waited_for_longer_than_an_hour() {
    let mut call = Call::new();
    call.delegate("alice", 7200);
    call.wait(3599.0);
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[]);
    call.wait(1.0);
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[]);
    assert_eq!(call.acts(), ["send alice"]);
}

#[test]
fn who_is_found_at_the_end_of_the_wait_has_not_left() {
    let mut call = Call::new();
    call.delegate("alice", 8);
    call.wait(8.0);
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.acts(), ["restart alice"]);
}

#[test]
fn at_the_end_of_the_wait_a_sfu_that_does_not_answer_is_given_the_shortest_window() {
    let mut call = Call::new();
    call.delegate("alice", 60);
    call.wait(60.0);
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu_fails();
    assert_eq!(call.wait_for_due(), 1.0);
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu_fails();
    assert_eq!(call.acts(), ["send alice"]);
}

#[test]
fn an_aborted_connection_does_not_end_the_wait() {
    let mut call = Call::new();
    call.delegate("alice", 3600);
    call.aborted("alice", "PA_1");
    assert_eq!(call.state("alice"), Some(StateColumn::Waiting));
    call.joined("alice", "PA_2");
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
}

#[test]
fn a_room_that_finishes_does_not_end_the_wait() {
    let mut call = Call::new();
    call.delegate("alice", 3600);
    call.aborted("alice", "PA_1");
    call.wait(20.0);
    call.room_finished();
    call.wait(20.0);
    call.acts();
    call.sfu(&[]);
    assert_eq!(call.state("alice"), Some(StateColumn::Waiting));
}

#[test]
fn a_connection_that_ended_before_it_was_seen_shortens_the_wait_to_fifteen_seconds() {
    let mut call = Call::new();
    call.delegate("alice", 3600);
    call.wait(5.0);
    call.left("alice", "PA_1");
    call.wait(14.9);
    call.acts();
    call.sfu(&[]);
    assert_eq!(call.state("alice"), Some(StateColumn::Waiting));
    call.wait(0.1);
    assert_eq!(call.next_acts(), ["get alice"]);
    call.sfu(&[]);
    assert_eq!(call.acts(), ["send alice"]);
}

#[test]
fn a_connection_that_ended_before_the_delegation_means_nothing() {
    let mut call = Call::new();
    let before = call.now;
    call.wait(10.0);
    call.delegate("alice", 3600);
    call.webhook(before, Occurrence::ParticipantLeft(participant("alice", "PA_1"), Default::default()));
    call.wait(20.0);
    call.acts();
    call.sfu(&[]);
    assert_eq!(call.state("alice"), Some(StateColumn::Waiting));
}

#[test]
fn a_join_older_than_the_delegation_is_looked_into() {
    let mut call = Call::new();
    let before = call.now;
    call.wait(10.0);
    call.delegate("alice", 3600);
    call.acts();
    call.sfu(&[]);
    call.webhook(before, Occurrence::ParticipantJoined(participant("alice", "PA_1")));
    assert_eq!(call.state("alice"), Some(StateColumn::Waiting));
    assert_eq!(call.next_acts(), ["get alice"]);
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
}

/// The worker restarts the event before it accepts the delegation.
#[test]
fn the_delay_counts_from_the_restart_before_the_acceptance() {
    let mut call = Call::new();
    let restarted_at = Some(call.now);
    call.wait(2.0);
    call.delegate_as(Delegate { restarted_at, ..request("alice", 60) });
    call.joined("alice", "PA_1");
    call.acts();
    call.homeserver(FAILED);
    let mut last = call.now;
    while call.endings.is_empty() {
        call.wait_for_due();
        last = call.now;
        if call.acts().contains(&"restart alice".to_owned()) {
            call.homeserver(FAILED);
        }
    }
    assert_eq!(restarted_at.map(|at| at + Duration::from_secs(60)), Some(last));
}

#[test]
fn the_restart_before_the_acceptance_does_not_stand_for_the_one_on_connecting() {
    for wait in [0.0, 0.9, 30.0] {
        let mut call = Call::new();
        let restarted_at = Some(call.now);
        call.delegate_as(Delegate { restarted_at, ..request("alice", 60) });
        assert_eq!(call.acts(), ["get alice"]);
        call.sfu(&[]);
        call.wait(wait);
        call.joined("alice", "PA_1");
        assert_eq!(call.acts(), ["restart alice"], "after {wait} s");
    }
}

#[test]
fn a_restart_in_the_future_counts_as_none() {
    let mut call = Call::new();
    let restarted_at = Some(call.now + Duration::from_secs(3600));
    call.delegate_as(Delegate { restarted_at, ..request("alice", 60) });
    assert_eq!(call.rows.values().next().map(|row| row.armed_at), Some(call.now));
}
