//! Removals of participants, and of the whole room.

use delegated_leaves::RemovalAnswer::{self, Done, NotThere};
use delegated_leaves::{Delegate, DisconnectReason, Identity, LogEventKind, MembersAnswer, ServerAnswer, StateColumn};

use crate::call::{Call, DONE, request};

#[test]
fn who_is_not_in_the_matrix_room_is_removed() {
    let mut call = Call::with_membership();
    call.track_and_connect("alice", "PA_1", &["alice"]);
    call.track("bob");
    call.joined("bob", "PA_2");
    call.acts();
    call.members(&["alice", "bob"]);
    assert_eq!(call.next_acts(), ["members of !room"]);
    call.members(&["alice"]);
    assert_eq!(call.acts(), ["remove bob"]);
    call.removal(Done);
    assert_eq!(call.acts(), [""; 0]);
    assert_eq!((call.is_connected("alice"), call.is_connected("bob")), (Some(true), Some(false)));
    assert_eq!(call.logged, [LogEventKind::ParticipantRemoved]);
}

#[test]
fn a_kept_token_does_not_let_them_stay() {
    let mut call = Call::with_membership();
    call.track_and_connect("bob", "PA_1", &[]);
    assert_eq!(call.acts(), ["remove bob"]);
    call.removal(Done);
    call.left_because("bob", "PA_1", DisconnectReason::Other);
    for sid in ["PA_2", "PA_3"] {
        call.wait(30.0);
        call.joined("bob", sid);
        assert_eq!(call.acts(), ["members of !room"]);
        call.members(&[]);
        assert_eq!(call.acts(), ["remove bob"]);
        call.removal(Done);
    }
}

#[test]
fn a_removal_is_tried_until_the_sfu_has_done_it() {
    let mut call = Call::with_membership();
    call.track_and_connect("bob", "PA_1", &[]);
    assert_eq!(call.acts(), ["remove bob"]);
    for wait in [1.0, 1.5, 2.25] {
        call.removal(RemovalAnswer::Failed);
        assert_eq!(call.wait_for_due(), wait);
        assert_eq!(call.acts(), ["remove bob"]);
    }
    call.removal(NotThere);
    assert_eq!(call.is_connected("bob"), Some(false));
    assert_eq!(call.acts(), [""; 0]);
}

#[test]
fn a_removal_is_given_up_when_they_are_in_the_matrix_room_again() {
    let mut call = Call::with_membership();
    call.track_and_connect("bob", "PA_1", &[]);
    call.acts();
    call.removal(RemovalAnswer::Failed);
    call.track("bob");
    assert_eq!(call.next_acts(), ["members of !room"]);
    call.members(&["bob"]);
    assert_eq!(call.next_acts(), ["members of !room"]);
}

#[test]
fn the_removal_of_an_older_connection_says_nothing_about_the_new_one() {
    let mut call = Call::with_membership();
    call.track_and_connect("bob", "PA_1", &[]);
    assert_eq!(call.acts(), ["remove bob"]);
    call.wait(2.0);
    call.joined("bob", "PA_2");
    call.removal(NotThere);
    assert_eq!(call.is_connected("bob"), Some(true));
    assert_eq!(call.acts(), ["members of !room"]);
}

#[test]
fn a_room_without_our_homeserver_is_deleted() {
    let mut call = Call::with_membership();
    call.track_and_connect("alice", "PA_1", &["alice"]);
    call.next_acts();
    call.members_answer(MembersAnswer::Forbidden);
    assert_eq!(call.acts(), ["server in !room"]);
    call.server_answers(ServerAnswer::Joined(false));
    assert_eq!(call.acts(), ["delete room"]);
    call.removal(RemovalAnswer::Failed);
    assert_eq!(call.wait_for_due(), 1.0);
    assert_eq!(call.acts(), ["delete room"]);
    call.removal(Done);
    assert_eq!(call.is_connected("alice"), Some(false));
    assert_eq!(call.acts(), [""; 0]);
    assert_eq!(call.logged, [LogEventKind::DeletionFailed, LogEventKind::RoomDeleted]);
}

#[test]
fn a_room_is_not_deleted_when_a_token_was_minted_since_the_query() {
    let mut call = Call::with_membership();
    call.track_and_connect("alice", "PA_1", &["alice"]);
    call.next_acts();
    call.members_answer(MembersAnswer::Forbidden);
    assert_eq!(call.acts(), ["server in !room"]);
    call.track("bob");
    call.server_answers(ServerAnswer::Joined(false));
    assert_eq!(call.acts(), ["remove alice"], "alice has no newer token");
}

/// Five thousand identities that never connect, and 100 ms for each answer.
#[test]
fn a_user_that_fills_the_list_delays_no_removal() {
    let mut call = Call::with_membership();
    for n in 0..4_998 {
        call.track(&format!("hostile {n}"));
    }
    call.track("alice");
    call.track_and_connect("zoe", "PA_1", &["alice", "zoe"]);
    let mut sought = 0;
    for round in 0..3 {
        while !call.acts_up_to(6).contains(&"members of !room".to_owned()) {
            call.wait(0.1);
            if call.awaits("remove hostile") {
                call.removal(NotThere);
                sought += 1;
            } else if call.awaits_sfu() {
                call.sfu(&[("zoe", "PA_1")]);
            } else if call.due_in() > 0.0 {
                call.wait_for_due();
            }
        }
        call.members(if round == 2 { &["alice"] } else { &["alice", "zoe"] });
    }
    assert!(sought > 1_000, "{sought} were sought");
    assert!(call.acts_up_to(6).contains(&"remove zoe".to_owned()));
}

/// A lost webhook hides no participant: there is one poll in each round, whatever their number.
#[test]
fn a_participant_that_is_not_connected_is_sought_once() {
    let mut call = Call::with_membership();
    call.track("ghost");
    call.track_and_connect("alice", "PA_1", &["alice"]);
    assert_eq!(call.acts(), ["remove ghost"]);
    call.removal(NotThere);
    for _ in 0..3 {
        assert_eq!(call.next_acts(), ["get ghost", "members of !room"]);
        call.members(&["alice"]);
        call.sfu(&[]);
    }
    assert_eq!(call.next_acts(), ["get ghost", "members of !room"]);
    call.members(&["alice"]);
    call.sfu(&[("ghost", "PA_2")]);
    assert_eq!(call.acts(), ["members of !room"]);
    call.members(&["alice"]);
    assert_eq!(call.acts(), ["remove ghost"]);
    call.removal(Done);
    call.track("ghost");
    assert!(call.next_acts().contains(&"members of !room".to_owned()));
    call.members(&["alice"]);
    assert_eq!(call.acts(), ["remove ghost"], "a new token");
}

#[test]
fn others_are_none_of_its_business() {
    let mut call = Call::with_membership();
    call.track_and_connect("alice", "PA_1", &["alice"]);
    call.joined("mallory", "PA_2");
    assert_eq!(call.acts(), [""; 0]);
    assert_eq!(call.next_acts(), ["members of !room"]);
    call.members(&["alice"]);
    assert_eq!(call.acts(), [""; 0], "a participant without a token of ours isn't removed");
}

#[test]
fn who_is_removed_leaves_by_its_delegated_leave() {
    let mut call = Call::with_membership();
    call.delegate("alice", 3600);
    call.track("alice");
    call.connect_in_membership("alice", "PA_1");
    assert_eq!(call.next_acts(), ["members of !room"]);
    call.members(&[]);
    assert_eq!(call.acts(), ["remove alice"]);
    call.left("alice", "PA_1");
    assert_eq!(call.acts(), ["send alice"]);
    call.removal(Done);
    call.homeserver(DONE);
    assert_eq!(call.state("alice"), None);
}

/// It joined through `/sfu/get`, and has delegated its leave through `/delegate_delayed_leave`.
#[test]
fn who_is_removed_by_its_legacy_identity_leaves_likewise() {
    let mut call = Call::with_membership();
    let legacy_identity = Some(Identity::new("alice-legacy"));
    call.delegate_as(Delegate { legacy_identity, ..request("alice", 3600) });
    call.track("alice-legacy");
    call.connect_in_membership("alice-legacy", "PA_1");
    assert_eq!(call.next_acts(), ["members of !room"]);
    call.members(&[]);
    assert_eq!(call.acts(), ["remove alice-legacy"]);
    call.removal(Done);
    assert_eq!(call.state("alice"), Some(StateColumn::Suspected));
    assert_eq!(call.acts(), ["list participants"]);
    call.sfu(&[]);
    assert_eq!(call.acts(), ["send alice"]);
}

#[test]
fn who_is_removed_leaves_even_if_no_webhook_says_so() {
    let mut call = Call::with_membership();
    call.delegate("alice", 3600);
    call.track("alice");
    call.connect_in_membership("alice", "PA_1");
    assert_eq!(call.next_acts(), ["members of !room"]);
    call.members(&[]);
    assert_eq!(call.acts(), ["remove alice"]);
    call.removal(Done);
    assert_eq!(call.state("alice"), Some(StateColumn::Suspected));
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[]);
    assert_eq!(call.acts(), ["send alice"]);
}

#[test]
fn removals_leave_places_for_leaves() {
    let mut call = Call::with_membership();
    for n in 0..9 {
        call.track(&format!("m{n}"));
        call.joined(&format!("m{n}"), "PA_1");
    }
    call.delegate("alice", 3600);
    call.joined("alice", "PA_9");
    call.acts_up_to(6);
    call.members(&[]);
    assert_eq!(call.acts_up_to(5), ["remove m0", "remove m1"]);
    call.removal(Done);
    assert_eq!(call.acts_up_to(6), ["remove m2"]);
}
