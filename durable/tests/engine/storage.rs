use delegated_leaves::{Delegate, DisconnectReason, StateColumn, UserId};

use crate::call::{Call, DONE, FAILED, request};

/// An alarm is a row. The object sets one for each command that something is due after, and at the end of each alarm,
/// unless an earlier one is set; it naps through the first polls. Making and dropping the tables is what the rest is for.
#[test]
fn a_whole_life_writes_eight_rows_at_most() {
    let mut call = Call::new();
    let mut alarms = 0;
    call.delegate("alice", 60);
    alarms += 1;
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[]);
    assert!(call.room.nap_until(call.now).is_some());
    call.joined("alice", "PA_1");
    alarms += 1;
    assert_eq!(call.acts(), ["restart alice"]);
    call.homeserver(DONE);
    alarms += 1;
    call.left("alice", "PA_1");
    alarms += 1;
    assert_eq!(call.acts(), ["send alice"]);
    call.homeserver(DONE);
    assert!(call.rows.is_empty());
    assert!(call.rows_written + alarms <= 8, "{} rows and {alarms} alarms", call.rows_written);
}

#[test]
fn an_hour_in_vain_writes_eight_rows_at_most() {
    let mut call = Call::new();
    call.delegate("alice", 3600);
    let (mut alarms, mut polls) = (1, 0);
    while !call.room.is_empty() {
        if call.awaits_sfu() {
            call.sfu(&[]);
            polls += 1;
        } else if call.awaits_homeserver() {
            call.homeserver(DONE);
        } else {
            alarms += usize::from(call.room.nap_until(call.now).is_none() && call.due_in() > 0.0);
            call.wait_for_due();
        }
        call.acts();
    }
    assert_eq!(polls, 8);
    // And one for the room's own.
    assert!(call.rows_written + alarms < 8, "{} rows and {alarms} alarms", call.rows_written);
}

#[test]
fn an_hour_of_restarts_writes_nothing_but_alarms() {
    let mut call = Call::with_alice(8);
    let (rows_written, end) = (call.rows_written, call.now + std::time::Duration::from_secs(3600));
    let mut restarts = 0;
    while call.now < end {
        call.next_acts();
        if call.awaits_homeserver() {
            call.homeserver(DONE);
            restarts += 1;
        }
        if call.awaits_sfu() {
            call.sfu(&[("alice", "PA_1")]);
        }
    }
    assert_eq!((restarts, call.rows_written), (900, rows_written));
}

/// The alarm's time says what was done before it.
#[test]
fn a_load_finds_its_place_among_the_restarts() {
    let mut call = Call::with_alice(3600);
    let start = call.now;
    let at = |seconds: u64| start + std::time::Duration::from_secs(seconds);
    call.wait(2880.0);
    call.acts();
    call.homeserver(DONE);
    call.sfu(&[("alice", "PA_1")]);
    call.wait(120.0);
    call.load(Some(at(5760)));
    assert_eq!(call.room.next_due(), Some(at(5760)), "it was restarted at 2880");
    call.load(Some(at(4300)));
    assert_eq!(call.room.next_due(), Some(at(5760)), "the alarm was for something else");
    call.now = at(3700);
    call.load(None);
    assert_eq!(call.acts(), ["get alice", "restart alice"], "it isn't known whether that was done");
}

/// An hour after a poll in between it was due a little later than its usual time.
#[test]
fn a_load_leaves_out_no_hourly_poll_that_the_alarm_is_for() {
    let mut call = Call::with_alice(24 * 3600);
    let start = call.now;
    call.wait(60.0);
    call.left_because("alice", "PA_1", DisconnectReason::DuplicateIdentity);
    assert_eq!(call.next_acts(), ["get alice"]);
    call.sfu(&[("alice", "PA_2")]);
    let alarm = call.room.next_due();
    assert_eq!(alarm, Some(start + std::time::Duration::from_secs(3662)));
    call.wait(120.0);
    call.load(alarm);
    assert_eq!(call.room.next_due(), alarm);
    call.wait_for_due();
    assert_eq!(call.acts(), ["get alice"]);
}

/// The room's row is as old as the last sanity check: it says nothing about a delegation that has connected since.
#[test]
fn an_old_note_of_what_was_done_counts_for_older_restarts_only() {
    let mut call = Call::with_sanity_check(3600);
    call.delegate("alice", 24 * 3600);
    call.connect("alice", "PA_1");
    call.delegate("bob", 60);
    call.connect("bob", "PA_2");
    call.wait(50.0);
    call.crash();
    assert!(call.acts().contains(&"restart bob".to_owned()));
}

#[test]
fn queries_and_their_answers_write_nothing_while_nobody_comes() {
    let mut call = Call::new();
    call.delegate("alice", 3600);
    for _ in 0..7 {
        call.next_acts();
        call.sfu(&[]);
    }
    assert_eq!(call.rows_written, 1);
}

#[test]
fn what_was_under_way_is_due_again_after_a_crash() {
    let mut call = Call::new();
    call.delegate("alice", 60);
    assert_eq!(call.acts(), ["get alice"]);
    call.crash();
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.acts(), ["restart alice"]);
    call.crash();
    assert_eq!(call.acts(), ["restart alice"]);
    call.homeserver(DONE);
    call.wait(5.0);
    call.left("alice", "PA_1");
    assert_eq!(call.acts(), ["send alice"]);
    call.crash();
    assert_eq!(call.acts(), ["get alice"], "it may be back by now");
    call.sfu(&[]);
    assert_eq!(call.acts(), ["send alice"]);
}

#[test]
fn what_was_due_while_nothing_ran_is_done_at_once() {
    let mut call = Call::with_alice(3600);
    call.wait(2900.0);
    call.crash();
    assert_eq!(call.acts(), ["get alice", "restart alice"]);
}

#[test]
fn the_homeserver_is_given_whose_event_it_is_after_a_crash_too() {
    let mut call = Call::new();
    call.delegate_as(Delegate { owner: Some(UserId::new("@alice:example.com")), ..request("alice", 60) });
    call.crash();
    call.joined("alice", "PA_1");
    assert_eq!(call.acts(), ["restart alice as @alice:example.com"]);
    call.homeserver(DONE);
    call.crash();
    call.left("alice", "PA_1");
    assert_eq!(call.acts(), ["send alice as @alice:example.com"]);
}

#[test]
fn a_back_off_survives_a_crash() {
    let mut call = Call::with_alice(600);
    call.next_acts();
    for _ in 0..5 {
        call.homeserver(FAILED);
        call.wait_for_due();
        call.acts();
    }
    call.homeserver(FAILED);
    let due = call.room.next_due();
    call.crash();
    assert_eq!(call.room.next_due(), due);
    call.wait_for_due();
    call.acts();
    call.homeserver(FAILED);
    assert!(call.due_in() > 10.0, "{}", call.due_in());
}

#[test]
fn queries_go_on_where_they_were_after_a_crash() {
    let mut call = Call::new();
    call.delegate("alice", 3600);
    call.wait(40.0);
    call.crash();
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[]);
    assert_eq!(call.due_in(), 2840.0);
}

#[test]
fn connections_that_are_over_stay_so_after_a_crash() {
    let mut call = Call::with_alice(3600);
    call.left_because("alice", "PA_1", DisconnectReason::DuplicateIdentity);
    call.crash();
    call.joined("alice", "PA_1");
    assert_eq!(call.state("alice"), Some(StateColumn::Suspected));
}

#[test]
fn a_row_does_not_show_its_secret() {
    let call = Call::with_alice(60);
    let row = call.rows.values().next().unwrap();
    assert!(!format!("{row:?}").contains("leave of"));
}
