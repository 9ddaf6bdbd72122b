use delegated_leaves::{Delegate, DisconnectReason, StateColumn, UserId};

use crate::call::{Call, DONE, FAILED, request};

/// An alarm is a row: the object sets one for each input and each time it has acted.
#[test]
fn a_whole_life_writes_twelve_rows_at_most() {
    let mut call = Call::new();
    let mut alarms = 0;
    call.delegate("alice", 60);
    alarms += 1;
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[]);
    alarms += 1;
    call.joined("alice", "PA_1");
    alarms += 1;
    assert_eq!(call.acts(), ["restart alice"]);
    call.homeserver(DONE);
    alarms += 1;
    assert_eq!(call.next_acts(), ["restart alice"]);
    call.homeserver(DONE);
    alarms += 1;
    call.left("alice", "PA_1");
    alarms += 1;
    assert_eq!(call.acts(), ["send alice"]);
    call.homeserver(DONE);
    assert!(call.rows.is_empty());
    assert!(call.rows_written + alarms <= 12, "{} rows and {alarms} alarms", call.rows_written);
}

#[test]
fn questions_and_their_answers_write_nothing_while_nobody_comes() {
    let mut call = Call::new();
    call.delegate("alice", 3600);
    for _ in 0..20 {
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
    call.wait(3000.0);
    call.crash();
    assert_eq!(call.acts(), ["restart alice"]);
}

#[test]
fn the_homeserver_is_told_whose_event_it_is_after_a_crash_too() {
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
fn questions_go_on_where_they_were_after_a_crash() {
    let mut call = Call::new();
    call.delegate("alice", 3600);
    call.wait(40.0);
    call.crash();
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[]);
    assert_eq!(call.due_in(), 32.0);
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
