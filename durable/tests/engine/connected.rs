use std::time::Duration;

use delegated_leaves::{Ending, HomeserverAnswer, StateColumn};

use crate::call::{Call, DONE, FAILED, GONE};

#[test]
fn restarts_come_before_every_expiry() {
    for (timeout_s, wait) in [(8, 4.0), (20, 15.0), (60, 48.0), (600, 480.0)] {
        let mut call = Call::with_alice(timeout_s);
        for _ in 0..3 {
            assert_eq!(call.wait_for_due(), wait);
            assert_eq!(call.acts(), ["restart alice"]);
            call.homeserver(DONE);
        }
    }
}

#[test]
fn the_next_restart_is_counted_from_the_sending_of_the_last() {
    let mut call = Call::with_alice(60);
    call.next_acts();
    call.wait(3.0);
    call.homeserver(DONE);
    assert_eq!(call.due_in(), 45.0);
}

#[test]
fn an_idle_connection_wakes_nobody_more_than_twice_an_hour() {
    let mut call = Call::with_alice(3600);
    let mut wakes = 0;
    let end = call.now + Duration::from_secs(24 * 3600);
    while call.room.next_due().unwrap() <= end {
        call.wait_for_due();
        assert!(call.acts().contains(&"restart alice".to_owned()));
        call.homeserver(DONE);
        if call.awaits_sfu() {
            call.sfu(&[("alice", "PA_1")]);
        }
        wakes += 1;
    }
    assert!(wakes <= 48, "{wakes}");
}

#[test]
fn a_failed_restart_is_retried_with_back_off() {
    let mut call = Call::with_alice(600);
    call.next_acts();
    for wait in [1.0, 1.5, 2.25, 3.375] {
        call.homeserver(FAILED);
        assert_eq!(call.wait_for_due(), wait);
        assert_eq!(call.acts(), ["restart alice"]);
    }
    call.homeserver(DONE);
    assert_eq!(call.due_in(), 480.0);
}

#[test]
fn restarts_are_given_up_when_the_delay_is_over() {
    let mut call = Call::with_alice(30);
    let armed = call.now;
    while call.endings.is_empty() {
        call.wait_for_due();
        if !call.acts().is_empty() {
            call.homeserver(FAILED);
        }
    }
    assert_eq!(call.endings, [Ending::GaveUp]);
    assert_eq!(call.now, armed + Duration::from_secs(30));
}

#[test]
fn a_restart_under_way_when_the_delay_is_over_still_counts() {
    let mut call = Call::with_alice(8);
    call.next_acts();
    call.homeserver(FAILED);
    call.wait(3.9);
    assert_eq!(call.acts(), ["restart alice"]);
    call.wait(3.0);
    assert_eq!(call.acts(), [""; 0]);
    call.homeserver(DONE);
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
}

#[test]
fn a_tiny_delay_is_restarted_once_a_second_and_given_up_after_ten() {
    let mut call = Call::new();
    let delay_timeout = delegated_leaves::DelayTimeout::from_millis(1).unwrap();
    call.delegate_as(delegated_leaves::Delegate { delay_timeout, ..crate::call::request("alice", 60) });
    call.connect("alice", "PA_1");
    for _ in 0..3 {
        assert_eq!(call.wait_for_due(), 1.0);
        assert_eq!(call.acts(), ["restart alice"]);
        call.homeserver(DONE);
    }
    let armed = call.now;
    while call.endings.is_empty() {
        call.wait_for_due();
        if !call.acts().is_empty() {
            call.homeserver(FAILED);
        }
    }
    assert_eq!(call.now, armed + Duration::from_secs(10));
}

#[test]
fn a_retry_after_of_zero_is_no_shorter_than_the_back_off() {
    let mut call = Call::with_alice(3600);
    call.next_acts();
    for wait in [1.0, 1.5, 2.25, 3.375] {
        call.homeserver(HomeserverAnswer::Limited(Some(Duration::ZERO)));
        assert_eq!(call.wait_for_due(), wait);
        assert_eq!(call.acts(), ["restart alice"]);
    }
}

#[test]
fn an_event_that_is_gone_is_forgotten() {
    let mut call = Call::with_alice(8);
    call.next_acts();
    call.homeserver(GONE);
    assert_eq!(call.endings, [Ending::EventGone]);
    assert!(call.room.is_empty());
    assert_eq!(call.room.next_due(), None);
}

#[test]
fn a_homeserver_that_names_a_time_is_left_alone_until_then() {
    let mut call = Call::with_alice(600);
    call.next_acts();
    call.homeserver(HomeserverAnswer::Limited(Some(Duration::from_secs(40))));
    assert_eq!(call.wait_for_due(), 40.0);
    assert_eq!(call.acts(), ["restart alice"]);
    call.homeserver(HomeserverAnswer::Limited(None));
    assert_eq!(call.due_in(), 1.5);
}

#[test]
fn a_time_named_beyond_the_delay_ends_the_delegation_with_it() {
    let mut call = Call::with_alice(60);
    call.next_acts();
    call.homeserver(HomeserverAnswer::Limited(Some(Duration::from_secs(3600))));
    assert_eq!(call.wait_for_due(), 12.0);
    assert_eq!(call.acts(), [""; 0]);
    assert_eq!(call.endings, [Ending::GaveUp]);
}

#[test]
fn what_expired_while_nothing_ran_gets_one_restart() {
    let mut call = Call::with_alice(60);
    call.wait(1800.0);
    call.crash();
    assert_eq!(call.next_acts(), ["restart alice"]);
    call.homeserver(FAILED);
    assert_eq!(call.endings, [], "whether it has expired, the homeserver knows");
    assert_eq!(call.next_acts(), ["restart alice"]);
    call.homeserver(GONE);
    assert_eq!(call.endings, [Ending::EventGone]);
}
