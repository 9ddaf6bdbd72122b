use std::time::Duration;

use delegated_leaves::{
    Identity, LogEventKind, Outcome, Participant, ParticipantSid, ParticipantState, Request, SfuAnswer, StateColumn,
    Timestamp,
};

use crate::call::{Call, DONE, request};

fn sanity_checked(members: &[&str]) -> Call {
    let mut call = Call::with_sanity_check(60);
    for (n, who) in members.iter().enumerate() {
        call.delegate(who, 3600);
        call.connect(who, &format!("PA_{n}"));
    }
    call
}

#[test]
fn one_participant_is_queried_for_alone() {
    let mut call = sanity_checked(&["alice"]);
    for _ in 0..3 {
        assert_eq!(call.wait_for_due(), 60.0);
        assert_eq!(call.acts(), ["get alice"]);
        call.sfu(&[("alice", "PA_0")]);
    }
}

#[test]
fn several_are_queried_for_at_once() {
    let mut call = sanity_checked(&["alice", "bob", "carol"]);
    assert_eq!(call.wait_for_due(), 60.0);
    assert_eq!(call.acts(), ["list participants"]);
    call.sfu(&[("alice", "PA_0"), ("carol", "PA_2")]);
    assert_eq!(call.acts(), ["send bob"]);
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
}

#[test]
fn who_is_not_there_leaves() {
    let mut call = sanity_checked(&["alice"]);
    call.next_acts();
    call.sfu(&[]);
    assert_eq!(call.acts(), ["send alice"]);
}

#[test]
fn a_failure_to_query_changes_nothing() {
    let mut call = sanity_checked(&["alice"]);
    call.next_acts();
    let rows = call.rows.clone();
    call.sfu_fails();
    assert_eq!(call.rows, rows);
    assert_eq!(call.due_in(), 60.0);
}

#[test]
fn without_sanity_checks_a_participant_is_queried_for_once_an_hour() {
    for timeout_s in [60, 3600, 24 * 3600] {
        let mut call = Call::with_alice(timeout_s);
        let (mut queries, end) = (0, call.now + std::time::Duration::from_secs(24 * 3600));
        while call.now < end {
            call.next_acts();
            if call.awaits_homeserver() {
                call.homeserver(DONE);
            }
            if call.awaits_sfu() {
                call.sfu(&[("alice", "PA_1")]);
                queries += 1;
            }
        }
        assert!((23..=31).contains(&queries), "{queries} with {timeout_s} s");
        while !call.awaits_sfu() {
            call.next_acts();
            if call.awaits_homeserver() {
                call.homeserver(DONE);
            }
        }
        call.sfu(&[]);
        assert_eq!(call.acts(), ["send alice"]);
    }
}

#[test]
fn who_has_two_identities_is_gone_when_neither_is_there() {
    let mut call = Call::with_sanity_check(60);
    call.delegate_as(with_legacy());
    call.connect("@alice:example.com:D", "PA_1");
    assert_eq!(call.next_acts(), ["get @alice:example.com:D"]);
    call.sfu(&[]);
    assert_eq!(call.next_acts(), ["list participants"]);
    call.sfu(&[("alice", "PA_2")]);
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
    assert_eq!(call.next_acts(), ["get alice"]);
    call.sfu(&[]);
    assert_eq!(call.next_acts(), ["list participants"]);
    call.sfu(&[]);
    assert_eq!(call.acts(), ["send alice"]);
}

#[test]
fn sanity_checks_go_on_after_a_restart_of_everything() {
    let mut call = sanity_checked(&["alice"]);
    call.wait(50.0);
    call.crash();
    assert_eq!(call.acts(), ["restart alice"], "whether it was restarted in time isn't known");
    call.homeserver(DONE);
    assert_eq!(call.due_in(), 10.0);
}

#[test]
fn an_empty_room_is_not_checked() {
    let mut call = sanity_checked(&["alice"]);
    call.left("alice", "PA_0");
    call.acts();
    call.homeserver(DONE);
    assert_eq!(call.room.next_due(), None);
}

fn with_legacy() -> delegated_leaves::Delegate {
    let legacy_identity = Some(delegated_leaves::Identity::of_device("@alice:example.com", "D"));
    delegated_leaves::Delegate { legacy_identity, ..request("alice", 3600) }
}

/// Webhooks that don't arrive are a mistake of the operator's, which goes unnoticed otherwise: polls make up for them.
#[test]
fn a_participant_that_no_webhook_reports_is_logged_once() {
    let mut call = Call::with_sanity_check(60);
    call.delegate("alice", 3600);
    let joined_at = call.now + Duration::from_millis(500);
    call.wait(1.0);
    assert_eq!(unreported_in(&mut call, joined_at, false), [0, 1, 1]);
}

#[test]
fn a_participant_whose_webhook_comes_late_is_not_logged() {
    let mut call = Call::with_sanity_check(60);
    call.delegate("alice", 3600);
    let joined_at = call.now + Duration::from_millis(500);
    call.wait(1.0);
    assert_eq!(unreported_in(&mut call, joined_at, true), [0, 0, 0]);
}

/// Its webhook came before there was anything to look after.
#[test]
fn a_participant_that_had_joined_before_its_delegation_is_not_logged() {
    let mut call = Call::with_sanity_check(60);
    let joined_at = call.now;
    call.wait(5.0);
    call.delegate("alice", 3600);
    assert_eq!(unreported_in(&mut call, joined_at, false), [0, 0, 0]);
}

/// Lets polls find Alice, then two sanity checks, with a webhook before them or not. Returns how often she was logged
/// after each.
fn unreported_in(call: &mut Call, joined_at: Timestamp, reported: bool) -> [usize; 3] {
    let mut logged = [0; 3];
    for (poll, logged) in logged.iter_mut().enumerate() {
        while !call.awaits_sfu() {
            call.next_acts();
            if call.awaits_homeserver() {
                call.homeserver(DONE);
            }
        }
        let alice = Participant {
            identity: Identity::new("alice"),
            sid: ParticipantSid::new("PA_1"),
            state: ParticipantState::Active,
            joined_at: Some(joined_at),
        };
        let found = Outcome::Sfu(SfuAnswer::Participants(vec![alice]));
        call.outcome(|request| matches!(request, Request::GetParticipant { .. }), found);
        if poll == 0 && reported {
            call.joined("alice", "PA_1");
        }
        *logged = call.logged.iter().filter(|event| **event == LogEventKind::Unreported).count();
    }
    logged
}
