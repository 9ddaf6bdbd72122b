//! Outcomes that don't fit their actions.

use delegated_leaves::{HomeserverAnswer, MembersAnswer, Outcome, RemovalAnswer, ServerAnswer, SfuAnswer, StateColumn};

use crate::call::{Call, DONE};

/// The best [`Outcome`] of each kind.
fn successes() -> [Outcome; 5] {
    [
        Outcome::Homeserver(HomeserverAnswer::Done),
        Outcome::Sfu(SfuAnswer::Participants(Vec::new())),
        Outcome::Members(MembersAnswer::Joined([].into())),
        Outcome::Server(ServerAnswer::Joined(false)),
        Outcome::Removal(RemovalAnswer::Done),
    ]
}

#[test]
fn an_outcome_of_the_wrong_kind_counts_as_a_failed_restart() {
    for outcome in successes().into_iter().filter(|outcome| !matches!(outcome, Outcome::Homeserver(_))) {
        let mut call = Call::with_alice(600);
        assert_eq!(call.next_acts(), ["restart alice"]);
        call.outcome(|_| true, outcome);
        assert_eq!(call.wait_for_due(), 1.0);
        assert_eq!(call.acts(), ["restart alice"]);
        call.homeserver(DONE);
    }
}

#[test]
fn an_outcome_of_the_wrong_kind_is_not_taken_for_an_absence() {
    for outcome in successes().into_iter().filter(|outcome| !matches!(outcome, Outcome::Sfu(_))) {
        let mut call = Call::with_sanity_check(60);
        call.delegate("alice", 3600);
        call.connect("alice", "PA_1");
        assert_eq!(call.next_acts(), ["get alice"]);
        call.outcome(|_| true, outcome);
        assert_eq!(call.state("alice"), Some(StateColumn::Connected));
        assert_eq!(call.acts(), [""; 0]);
    }
}

#[test]
fn an_outcome_of_the_wrong_kind_removes_nobody() {
    for outcome in successes().into_iter().filter(|outcome| !matches!(outcome, Outcome::Members(_))) {
        let mut call = Call::with_membership();
        call.track_and_connect("alice", "PA_1", &["alice"]);
        assert_eq!(call.next_acts(), ["members of !room"]);
        call.outcome(|_| true, outcome);
        assert_eq!(call.acts(), [""; 0]);
        assert_eq!(call.is_connected("alice"), Some(true));
    }
    for outcome in successes().into_iter().filter(|outcome| !matches!(outcome, Outcome::Server(_))) {
        let mut call = Call::with_membership();
        call.track_and_connect("alice", "PA_1", &["alice"]);
        call.next_acts();
        call.members_answer(MembersAnswer::Forbidden);
        assert_eq!(call.acts(), ["server in !room"]);
        call.outcome(|_| true, outcome);
        assert_eq!(call.acts(), [""; 0]);
    }
}

#[test]
fn an_outcome_of_the_wrong_kind_counts_as_a_failed_removal() {
    for outcome in successes().into_iter().filter(|outcome| !matches!(outcome, Outcome::Removal(_))) {
        let mut call = Call::with_membership();
        call.track_and_connect("bob", "PA_1", &[]);
        assert_eq!(call.acts(), ["remove bob"]);
        call.outcome(|_| true, outcome);
        assert_eq!(call.is_connected("bob"), Some(true));
        assert_eq!(call.next_acts(), ["remove bob"]);
    }
}
