//! Regular checks of who is in the Matrix room.

use std::time::Duration;

use delegated_leaves::RemovalAnswer::Done;
use delegated_leaves::{EngineConfig, LogEventKind, MembersAnswer, ServerAnswer};

use crate::call::{Call, token};

#[test]
fn who_joins_is_checked_and_then_everybody_in_every_round() {
    let mut call = Call::with_membership();
    call.track("alice");
    call.track("bob");
    call.joined("alice", "PA_1");
    call.joined("bob", "PA_2");
    assert_eq!(call.acts(), ["members of !room"]);
    call.members(&["alice", "bob"]);
    for _ in 0..3 {
        assert_eq!(call.wait_for_due(), 60.0);
        assert_eq!(call.acts(), ["members of !room"], "one question, whatever the number of participants");
        call.members(&["alice", "bob"]);
    }
}

#[test]
fn an_answer_does_not_count_against_who_was_given_a_token_since_the_query() {
    let mut call = Call::with_membership();
    call.track_and_connect("bob", "PA_1", &["bob"]);
    assert_eq!(call.next_acts(), ["members of !room"]);
    call.track("bob");
    call.members(&[]);
    assert_eq!(call.next_acts(), ["members of !room"]);
    call.members(&["bob"]);
    assert_eq!(call.is_connected("bob"), Some(true));
}

#[test]
fn who_connects_while_the_homeserver_is_queried_is_queried_for_again() {
    let mut call = Call::with_membership();
    call.track_and_connect("alice", "PA_1", &["alice"]);
    call.track("bob");
    assert_eq!(call.next_acts(), ["get bob", "members of !room"]);
    call.joined("bob", "PA_2");
    call.members(&["alice", "bob"]);
    assert_eq!(call.acts(), ["members of !room"]);
}

#[test]
fn a_homeserver_that_fails_removes_nobody_and_is_queried_again_next_round() {
    let mut call = Call::with_membership();
    call.track_and_connect("alice", "PA_1", &["alice"]);
    for _ in 0..3 {
        assert_eq!(call.next_acts(), ["members of !room"]);
        call.members_answer(MembersAnswer::Failed);
        assert_eq!(call.acts(), [""; 0]);
        assert_eq!(call.due_in(), 60.0);
    }
    assert_eq!(call.next_acts(), ["members of !room"]);
    assert_eq!(call.wait_for_due(), 30.0, "nor does one that never answers");
    assert_eq!(call.acts(), [""; 0]);
    assert_eq!(call.is_connected("alice"), Some(true));
    assert_eq!(call.logged, [LogEventKind::MembershipUnknown; 4]);
}

#[test]
fn a_namespace_that_hides_the_members_removes_nobody_and_is_reported_once() {
    let mut call = Call::with_membership();
    call.track_and_connect("alice", "PA_1", &["alice"]);
    for _ in 0..3 {
        assert_eq!(call.next_acts(), ["members of !room"]);
        call.members_answer(MembersAnswer::Forbidden);
        assert_eq!(call.acts(), ["server in !room"]);
        call.server_answers(ServerAnswer::Joined(true));
        assert_eq!(call.acts(), [""; 0]);
    }
    assert_eq!(call.logged, [LogEventKind::NamespaceMisconfigured]);
}

#[test]
fn whether_our_homeserver_is_joined_may_stay_unknown() {
    let mut call = Call::with_membership();
    call.track_and_connect("alice", "PA_1", &["alice"]);
    call.next_acts();
    call.members_answer(MembersAnswer::Forbidden);
    call.acts();
    call.server_answers(ServerAnswer::Failed);
    assert_eq!(call.next_acts(), ["members of !room"]);
    assert_eq!(call.is_connected("alice"), Some(true));
}

/// Two Matrix rooms can't share a LiveKit room, but if they did: members of the one aren't removed for not being in
/// the other.
#[test]
fn matrix_rooms_are_not_confused() {
    let mut call = Call::with_membership();
    let expires_at = call.now + Duration::from_secs(3600);
    for (who, room) in [("alice", "!one"), ("bob", "!two")] {
        call.track_as(token(who, room, expires_at));
        call.joined(who, who);
    }
    assert_eq!(call.acts(), ["members of !one", "members of !two"]);
    call.members(&["alice"]);
    call.members(&["bob"]);
    assert_eq!(call.next_acts(), ["members of !one", "members of !two"]);
    call.members_answer(MembersAnswer::Forbidden);
    call.members(&["bob"]);
    assert_eq!(call.acts(), ["server in !one"]);
    call.server_answers(ServerAnswer::Joined(false));
    assert_eq!(call.acts(), ["remove alice"], "the room isn't deleted under bob");
}

#[test]
fn a_token_for_another_matrix_room_takes_the_place_of_the_one_before() {
    let mut call = Call::with_membership();
    call.track_and_connect("alice", "PA_1", &["alice"]);
    call.track_as(token("alice", "!other", call.now));
    assert_eq!(call.tracked.len(), 1);
    assert_eq!(call.acts(), ["members of !other"]);
}

#[test]
fn nothing_is_queried_while_nobody_is_connected() {
    let mut call = Call::with_rare_checks();
    call.track("alice");
    assert_eq!(call.acts(), [""; 0]);
    assert_eq!(call.due_in(), 3900.0, "only its expiry is awaited");
    call.joined("alice", "PA_1");
    call.acts();
    call.members(&["alice"]);
    call.left("alice", "PA_1");
    assert_eq!(call.acts(), [""; 0]);
    assert_eq!(call.due_in(), 3900.0);
    call.is_forgotten_after_two_looks("alice");
    assert_eq!(call.room.next_due(), None);
}

#[test]
fn without_an_interval_there_are_no_checks_at_all() {
    let mut call = Call::with_rules(EngineConfig::default());
    call.track("alice");
    call.joined("alice", "PA_1");
    assert_eq!(call.acts(), [""; 0]);
    call.crash();
    assert_eq!(call.acts(), [""; 0]);
    assert_eq!(call.due_in(), 3900.0, "only its expiry is awaited");
}

#[test]
fn who_is_connected_is_checked_after_a_restart_of_everything() {
    let mut call = Call::with_membership();
    call.track_and_connect("bob", "PA_1", &[]);
    assert_eq!(call.acts(), ["remove bob"]);
    call.crash();
    assert_eq!(call.acts(), ["members of !room"]);
    call.members(&[]);
    assert_eq!(call.acts(), ["remove bob"]);
}

#[test]
fn members_that_cannot_be_read_are_checked_one_by_one() {
    let mut call = Call::with_membership();
    for who in ["alice", "bob", "carol"] {
        call.track(who);
        call.joined(who, who);
    }
    assert_eq!(call.acts(), ["members of !room"]);
    call.members_answer(MembersAnswer::Unreadable);
    assert_eq!(call.acts(), ["@alice:example.com in !room", "@bob:example.com in !room"], "two at a time");
    call.user_answers(ServerAnswer::Joined(true));
    call.user_answers(ServerAnswer::Joined(false));
    assert_eq!(call.acts(), ["remove bob", "@carol:example.com in !room"]);
    call.user_answers(ServerAnswer::Failed);
    call.removal(Done);
    assert_eq!(call.acts(), [""; 0], "a failure removes nobody");
    assert_eq!(call.is_connected("carol"), Some(true));
    assert_eq!(call.logged, [LogEventKind::MembershipUnknown, LogEventKind::ParticipantRemoved]);
}

#[test]
fn the_longest_unchecked_user_comes_first() {
    let mut call = Call::with_membership();
    for n in 0..8 {
        call.track(&format!("m{n}"));
        call.joined(&format!("m{n}"), "PA_1");
    }
    let mut checked = Vec::new();
    for _ in 0..4 {
        assert_eq!(call.acts_up_to(1), ["members of !room"]);
        call.members_answer(MembersAnswer::Unreadable);
        checked.extend(call.acts());
        call.user_answers(ServerAnswer::Joined(true));
        call.user_answers(ServerAnswer::Joined(true));
        // The next request for the members comes before the end of the round.
        call.joined("m0", "PA_1");
    }
    checked.sort();
    checked.dedup();
    assert_eq!(checked.len(), 8);
}

#[test]
fn a_user_is_checked_once_whatever_the_number_of_identities() {
    let mut call = Call::with_membership();
    for n in 0..5 {
        let expires_at = call.now + Duration::from_secs(3600);
        let user_id = crate::call::user("alice");
        call.track_as(delegated_leaves::Track { user_id, ..token(&format!("a{n}"), "!room", expires_at) });
        call.joined(&format!("a{n}"), "PA_1");
    }
    call.acts();
    call.members_answer(MembersAnswer::Unreadable);
    assert_eq!(call.acts(), ["@alice:example.com in !room"]);
    call.user_answers(ServerAnswer::Joined(false));
    assert_eq!(call.acts(), ["remove a0", "remove a1"]);
}
