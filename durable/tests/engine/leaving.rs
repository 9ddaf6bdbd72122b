use std::time::Duration;

use delegated_leaves::{Ending, HomeserverAnswer, StateColumn};

use crate::call::{Call, DONE, FAILED, GONE};

#[test]
fn who_leaves_has_the_leave_sent_at_once() {
    let mut call = Call::with_alice(3600);
    call.wait(100.0);
    call.left("alice", "PA_1");
    assert_eq!(call.acts(), ["send alice"]);
    call.homeserver(DONE);
    assert_eq!(call.endings, [Ending::Sent]);
    assert!(call.rows.is_empty());
    assert_eq!(call.room.next_due(), None);
}

#[test]
fn an_aborted_connection_counts_as_left() {
    let mut call = Call::with_alice(3600);
    call.aborted("alice", "PA_1");
    assert_eq!(call.acts(), ["send alice"]);
}

#[test]
fn a_leave_that_was_sent_already_is_done() {
    let mut call = Call::with_alice(3600);
    call.left("alice", "PA_1");
    call.acts();
    call.homeserver(GONE);
    assert_eq!(call.endings, [Ending::Sent]);
}

#[test]
fn a_failed_send_is_retried_with_back_off_after_a_look_at_the_sfu() {
    let mut call = Call::with_alice(3600);
    call.left("alice", "PA_1");
    assert_eq!(call.acts(), ["send alice"]);
    call.homeserver(FAILED);
    assert_eq!(call.wait_for_due(), 1.0);
    assert_eq!(call.acts(), ["send alice"], "it was seen to be gone a second ago");
    call.homeserver(FAILED);
    call.wait(1.5);
    assert_eq!(call.acts(), ["send alice"]);
    call.homeserver(FAILED);
    assert_eq!(call.wait_for_due(), 2.25);
    assert_eq!(call.acts(), ["get alice"], "that was five seconds ago");
    call.sfu(&[]);
    assert_eq!(call.acts(), ["send alice"]);
}

#[test]
fn who_is_back_before_the_leave_was_sent_has_not_left() {
    let mut call = Call::with_alice(3600);
    call.left("alice", "PA_1");
    call.acts();
    call.homeserver(FAILED);
    call.wait(10.0);
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[("alice", "PA_2")]);
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
    assert_eq!(call.acts(), ["restart alice"]);
}

#[test]
fn a_webhook_that_it_is_back_stops_the_leave() {
    let mut call = Call::with_alice(3600);
    call.left("alice", "PA_1");
    call.acts();
    call.wait(1.0);
    call.joined("alice", "PA_2");
    assert_eq!(call.acts(), ["restart alice"]);
    call.homeserver(FAILED);
    assert_eq!(call.state("alice"), Some(StateColumn::Connected), "the send under way has failed");
}

#[test]
fn a_leave_that_was_sent_too_fast_for_who_is_back_is_over() {
    let mut call = Call::with_alice(3600);
    call.left("alice", "PA_1");
    call.acts();
    call.wait(1.0);
    call.joined("alice", "PA_2");
    call.homeserver(DONE);
    assert_eq!(call.endings, [Ending::Sent]);
}

#[test]
fn the_sfu_showing_the_connection_that_left_does_not_stop_the_leave() {
    let mut call = Call::with_alice(3600);
    call.left("alice", "PA_1");
    call.acts();
    call.homeserver(FAILED);
    call.wait(10.0);
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.acts(), ["send alice"]);
}

#[test]
fn a_leave_is_tried_until_the_delay_is_over() {
    let mut call = Call::with_alice(60);
    let armed = call.now;
    call.wait(10.0);
    call.left("alice", "PA_1");
    let last = fail_until_given_up(&mut call);
    assert_eq!(call.now, armed + Duration::from_secs(60));
    assert!(last > 5, "{last} attempts");
}

#[test]
fn a_leave_is_tried_for_an_hour_at_most() {
    let mut call = Call::with_alice(24 * 3600);
    call.left("alice", "PA_1");
    let left = call.now;
    fail_until_given_up(&mut call);
    assert_eq!(call.now, left + Duration::from_secs(3600));
}

#[test]
fn a_leave_after_the_delay_is_over_is_tried_for_a_second() {
    let mut call = Call::with_alice(8);
    call.next_acts();
    call.homeserver(FAILED);
    call.wait(20.0);
    call.left("alice", "PA_1");
    let left = call.now;
    assert_eq!(fail_until_given_up(&mut call), 1);
    assert_eq!(call.now, left + Duration::from_secs(1));
}

#[test]
fn there_is_always_one_attempt() {
    let mut call = Call::with_alice(8);
    call.left("alice", "PA_1");
    call.wait(3600.0);
    call.crash();
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu_fails();
    assert_eq!(call.acts(), ["send alice"]);
    call.homeserver(FAILED);
    assert_eq!(call.acts(), [""; 0]);
    assert_eq!(call.endings, [Ending::GaveUp]);
}

#[test]
fn a_time_named_beyond_the_window_ends_the_leave_with_it() {
    let mut call = Call::with_alice(60);
    call.left("alice", "PA_1");
    call.acts();
    call.homeserver(HomeserverAnswer::Limited(Some(Duration::from_secs(600))));
    assert_eq!(call.wait_for_due(), 60.0);
    assert_eq!(call.acts(), [""; 0]);
    assert_eq!(call.endings, [Ending::GaveUp]);
}

#[test]
fn a_restart_under_way_does_not_hold_up_the_leave() {
    let mut call = Call::with_alice(60);
    assert_eq!(call.next_acts(), ["restart alice"]);
    call.left("alice", "PA_1");
    assert_eq!(call.acts(), ["send alice"]);
    call.homeserver(DONE);
    assert_eq!(call.state("alice"), Some(StateColumn::Leaving), "the restart was first");
    call.homeserver(DONE);
    assert_eq!(call.endings, [Ending::Sent]);
}

/// Lets the homeserver fail after the participant has left. Returns the number of tries.
fn fail_until_given_up(call: &mut Call) -> usize {
    let mut attempts = 0;
    while call.endings.is_empty() {
        call.wait_for_due();
        for act in call.acts() {
            if act == "get alice" {
                call.sfu(&[]);
            } else {
                call.homeserver(FAILED);
                attempts += usize::from(act == "send alice");
            }
        }
    }
    assert_eq!(call.endings, [Ending::GaveUp]);
    attempts
}
