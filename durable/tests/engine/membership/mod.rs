//! A participant whose user isn't in the Matrix room is removed from the LiveKit room, and no other.

use std::time::Duration;

use delegated_leaves::RemovalAnswer::{self, Done, NotThere};
use delegated_leaves::{
    DisconnectReason, EngineConfig, LogEventKind, MembersAnswer, Occurrence, ServerAnswer, StateColumn, Timestamp,
};

use crate::call::{Call, DONE, participant, token};

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

/// The SFU refreshes the token of a connected participant, for ten minutes.
#[test]
fn who_is_removed_after_the_token_has_expired_is_not_forgotten_at_once() {
    let mut call = Call::with_rare_checks();
    call.track_and_connect("bob", "PA_1", &["bob"]);
    call.wait(24.0 * 3600.0);
    call.acts();
    call.sfu(&[("bob", "PA_1")]);
    call.members(&[]);
    assert_eq!(call.acts(), ["remove bob"]);
    call.removal(Done);
    call.wait(590.0);
    call.joined("bob", "PA_2");
    assert_eq!(call.acts(), ["members of !room"]);
    call.members(&[]);
    assert_eq!(call.acts(), ["remove bob"]);
    call.removal(Done);
    call.is_forgotten_after_two_looks("bob");
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
fn an_answer_does_not_count_against_who_was_given_a_token_since_the_question() {
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
fn who_connects_while_the_homeserver_is_asked_is_asked_for_again() {
    let mut call = Call::with_membership();
    call.track_and_connect("alice", "PA_1", &["alice"]);
    call.track("bob");
    assert_eq!(call.next_acts(), ["get bob", "members of !room"]);
    call.joined("bob", "PA_2");
    call.members(&["alice", "bob"]);
    assert_eq!(call.acts(), ["members of !room"]);
}

#[test]
fn a_homeserver_that_fails_removes_nobody_and_is_asked_again_next_round() {
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
fn a_room_is_not_deleted_when_a_token_was_minted_since_the_question() {
    let mut call = Call::with_membership();
    call.track_and_connect("alice", "PA_1", &["alice"]);
    call.next_acts();
    call.members_answer(MembersAnswer::Forbidden);
    assert_eq!(call.acts(), ["server in !room"]);
    call.track("bob");
    call.server_answers(ServerAnswer::Joined(false));
    assert_eq!(call.acts(), ["remove alice"], "alice has no newer token");
}

#[test]
fn a_namespace_that_hides_the_members_removes_nobody_and_is_told_once() {
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
fn nothing_is_asked_while_nobody_is_connected() {
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

/// The SFU issues a token to each connecting participant, even if it never gets as far as media.
#[test]
fn who_only_tries_to_connect_is_remembered_for_longer() {
    let mut call = Call::with_rare_checks();
    call.track("bob");
    call.aborted("bob", "PA_1");
    assert_eq!((call.due_in(), call.rows_written), (3900.0, 1), "there is a token that is good for longer");
    call.wait(3600.0);
    call.aborted("bob", "PA_2");
    assert_eq!((call.due_in(), call.rows_written), (900.0, 2));
    assert_eq!(call.next_acts(), ["get bob"]);
    call.sfu(&[]);
    call.wait(599.0);
    call.aborted("bob", "PA_3");
    assert_eq!(call.due_in(), 900.0);
    call.is_forgotten_after_two_looks("bob");
}

/// A webhook from the future, by an SFU whose clock is wrong, doesn't keep a participant for ever.
#[test]
fn a_token_is_refreshed_by_the_time_of_its_webhook_at_the_latest() {
    let mut call = Call::with_rare_checks();
    call.track("bob");
    let participant = participant("bob", "PA_1");
    let last = Timestamp::from_millis(u64::MAX);
    call.webhook(last, Occurrence::ParticipantConnectionAborted(participant.clone(), DisconnectReason::Other));
    assert_eq!(call.due_in(), 3900.0, "as if it were of now");
    call.webhook(last, Occurrence::ParticipantLeft(participant, DisconnectReason::Migration));
    assert_eq!(call.due_in(), 3900.0);
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
fn a_sfu_that_does_not_tell_is_asked_at_the_interval_for_who_may_have_come_unnoticed() {
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
fn a_sfu_that_does_not_tell_is_asked_every_ten_minutes_for_a_day() {
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
fn a_life_writes_four_rows_and_a_round_none() {
    let mut call = Call::with_membership();
    call.track("alice");
    call.joined("alice", "PA_1");
    call.acts();
    call.members(&["alice"]);
    for _ in 0..50 {
        assert_eq!(call.next_acts(), ["members of !room"]);
        call.members(&["alice"]);
    }
    assert_eq!(call.rows_written, 2);
    call.left("alice", "PA_1");
    while !call.tracked.is_empty() {
        call.wait_for_due();
        if call.acts() == ["get alice"] {
            call.sfu(&[]);
        }
    }
    assert_eq!(call.rows_written, 4);
}

#[test]
fn a_life_that_ends_with_a_removal_writes_four_rows() {
    let mut call = Call::with_rare_checks();
    call.track_and_connect("bob", "PA_1", &[]);
    call.acts();
    call.removal(Done);
    call.left("bob", "PA_1");
    call.is_forgotten_after_two_looks("bob");
    assert!(call.tracked.is_empty());
    assert_eq!(call.rows_written, 4);
}

#[test]
fn a_renewal_writes_one_row_and_extends_the_expiry() {
    let mut call = Call::with_rare_checks();
    call.track("alice");
    call.wait(1800.0);
    call.track("alice");
    assert_eq!((call.tracked.len(), call.rows_written), (1, 2));
    assert_eq!(call.due_in(), 3900.0);
    call.track_as(token("alice", "!room", call.now));
    assert_eq!(call.rows_written, 2, "a shorter one changes nothing");
    assert_eq!(call.due_in(), 3900.0);
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

#[test]
fn webhooks_in_the_wrong_order_leave_nobody_connected() {
    let mut call = Call::with_membership();
    call.track("alice");
    call.wait(5.0);
    call.left("alice", "PA_1");
    call.crash();
    call.joined("alice", "PA_1");
    assert_eq!(call.is_connected("alice"), Some(false));
}

#[test]
fn who_is_displaced_or_migrates_is_as_good_as_there() {
    for reason in [DisconnectReason::DuplicateIdentity, DisconnectReason::Migration] {
        let mut call = Call::with_membership();
        call.track_and_connect("alice", "PA_1", &["alice"]);
        call.left_because("alice", "PA_1", reason);
        assert_eq!(call.is_connected("alice"), Some(true), "{reason:?}");
    }
}

#[test]
fn when_the_room_is_finished_nobody_is_connected() {
    let mut call = Call::with_membership();
    call.track_and_connect("alice", "PA_1", &["alice"]);
    call.wait(5.0);
    call.webhook(call.now - Duration::from_secs(60), Occurrence::RoomFinished);
    assert_eq!(call.is_connected("alice"), Some(true), "that was an earlier room of the name");
    call.room_finished();
    assert_eq!(call.is_connected("alice"), Some(false));
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

/// The SFU allows for clocks that differ, and webhooks take their time.
#[test]
fn an_expired_token_is_remembered_for_as_long_as_it_may_be_used() {
    let mut call = Call::with_membership();
    call.track_as(token("bob", "!room", call.now));
    call.wait(240.0);
    call.acts();
    call.webhook(call.now - Duration::from_secs(180), Occurrence::ParticipantJoined(participant("bob", "PA_1")));
    assert_eq!(call.acts(), ["members of !room"]);
}

impl Call {
    /// Answers two polls without the participant, which end its record.
    fn is_forgotten_after_two_looks(&mut self, who: &str) {
        assert_eq!(self.next_acts(), [format!("get {who}")]);
        self.sfu(&[]);
        assert_eq!(self.acts(), [""; 0]);
        assert!(!self.room.is_empty(), "it may have a token that was never reported");
        assert_eq!(self.wait_for_due(), 900.0);
        assert_eq!(self.acts(), [format!("get {who}")]);
        self.sfu(&[]);
        assert_eq!(self.acts(), [""; 0]);
        assert!(self.room.is_empty());
    }
}
