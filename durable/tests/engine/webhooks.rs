use delegated_leaves::{DisconnectReason, Occurrence, ParticipantRef, ParticipantState, StateColumn, WebhookEvent};

use crate::call::{Call, DONE, FAILED, participant};

#[test]
fn the_end_of_another_connection_means_nothing() {
    let mut call = Call::with_alice(3600);
    call.left("alice", "PA_0");
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
    assert_eq!(call.acts(), [""; 0]);
}

#[test]
fn another_participant_means_nothing() {
    let mut call = Call::with_alice(3600);
    let rows = call.rows_written;
    call.joined("bob", "PA_2");
    call.left("bob", "PA_1");
    assert_eq!(call.rows_written, rows);
}

#[test]
fn without_sids_and_times_webhooks_are_believed() {
    let mut call = Call::with_alice(3600);
    let occurrence = Occurrence::ParticipantLeft(participant("alice", ""), DisconnectReason::Other);
    call.event(WebhookEvent { created_at: None, occurrence });
    assert_eq!(call.acts(), ["send alice"]);
}

#[test]
fn a_repeated_webhook_changes_nothing() {
    let mut call = Call::with_alice(3600);
    call.joined("alice", "PA_2");
    call.left("alice", "PA_1");
    let rows = call.rows_written;
    call.joined("alice", "PA_2");
    call.left("alice", "PA_1");
    assert_eq!(call.rows_written, rows);
}

#[test]
fn a_join_overtaken_by_its_end_does_not_bring_anybody_back() {
    let mut call = Call::with_alice(3600);
    let joined = call.now;
    call.wait(5.0);
    call.left("alice", "PA_2");
    call.webhook(joined, Occurrence::ParticipantJoined(participant("alice", "PA_2")));
    call.left("alice", "PA_1");
    assert_eq!(call.acts(), ["send alice"]);
    call.homeserver(FAILED);
    call.webhook(joined, Occurrence::ParticipantJoined(participant("alice", "PA_1")));
    call.webhook(joined, Occurrence::ParticipantJoined(participant("alice", "PA_2")));
    assert_eq!(call.state("alice"), Some(StateColumn::Leaving));
}

#[test]
fn the_join_of_an_older_connection_does_not_displace_a_newer_one() {
    let mut call = Call::with_alice(3600);
    let earlier = ParticipantRef {
        joined_at: Some(call.now - std::time::Duration::from_secs(60)),
        ..participant("alice", "PA_0")
    };
    call.webhook(call.now, Occurrence::ParticipantJoined(earlier));
    call.left("alice", "PA_0");
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
    call.left("alice", "PA_1");
    assert_eq!(call.acts(), ["send alice"]);
}

#[test]
fn the_end_of_a_newer_connection_is_looked_into() {
    let mut call = Call::with_alice(3600);
    call.wait(60.0);
    let newer = ParticipantRef { joined_at: Some(call.now), ..participant("alice", "PA_2") };
    call.webhook(call.now, Occurrence::ParticipantLeft(newer, DisconnectReason::Other));
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[]);
    assert_eq!(call.acts(), ["send alice"]);
}

#[test]
fn an_end_that_was_long_under_way_is_looked_into() {
    let mut call = Call::with_alice(3600);
    let left = call.now;
    call.wait(5.0);
    call.webhook(left, Occurrence::ParticipantLeft(participant("alice", "PA_1"), DisconnectReason::Other));
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[("alice", "PA_2")]);
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
    assert_eq!(call.acts(), [""; 0]);
}

#[test]
fn who_is_gone_without_doubt_after_all_leaves() {
    let mut call = Call::with_alice(3600);
    let left = call.now;
    call.wait(5.0);
    call.webhook(left, Occurrence::ParticipantLeft(participant("alice", "PA_1"), DisconnectReason::Other));
    call.acts();
    call.sfu_fails();
    assert_eq!(call.acts(), [""; 0], "an old report and a failed poll prove nothing");
    assert_eq!(call.wait_for_due(), 1.0);
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.acts(), ["send alice"], "the connection that has left isn't a new one");
}

#[test]
fn when_the_room_is_finished_everybody_connected_leaves() {
    let mut call = Call::new();
    for who in ["alice", "bob", "carol"] {
        call.delegate(who, 3600);
    }
    call.joined("alice", "PA_1");
    call.joined("bob", "PA_2");
    call.wait(5.0);
    call.room_finished();
    let acts = call.acts();
    assert!(acts.contains(&"send alice".to_owned()) && acts.contains(&"send bob".to_owned()), "{acts:?}");
    assert_eq!(call.state("carol"), Some(StateColumn::Waiting));
}

#[test]
fn an_earlier_room_of_that_name_having_finished_means_nothing() {
    let mut call = Call::new();
    call.delegate("alice", 3600);
    let finished = call.now;
    call.wait(2.0);
    call.joined("alice", "PA_1");
    call.webhook(finished, Occurrence::RoomFinished);
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
}

/// The SFU reports whole seconds: the room may have finished just before, and have been made again.
#[test]
fn a_room_that_has_finished_in_the_second_of_the_connection_is_polled_for() {
    let mut call = Call::new();
    call.delegate("alice", 3600);
    call.wait(2.0);
    call.joined("alice", "PA_1");
    call.acts();
    call.room_finished();
    assert_eq!(call.state("alice"), Some(StateColumn::Suspected));
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu_shows(&[("alice", "PA_1", ParticipantState::Active)]);
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
}

/// Without a SID it may be the end of the connection before.
#[test]
fn an_end_of_any_connection_in_the_second_of_the_latest_is_polled_for() {
    for (wait, expected) in [(0.0, StateColumn::Suspected), (5.0, StateColumn::Leaving)] {
        let mut call = Call::new();
        call.delegate("alice", 3600);
        call.wait(2.0);
        call.joined("alice", "PA_1");
        call.wait(wait);
        call.left("alice", "");
        assert_eq!(call.state("alice"), Some(expected), "{wait} s later");
    }
}

#[test]
fn a_sanity_check_overtaken_by_a_join_means_nothing() {
    let mut call = Call::with_sanity_check(60);
    call.delegate("alice", 3600);
    call.connect("alice", "PA_1");
    call.next_acts();
    call.joined("alice", "PA_2");
    call.sfu(&[]);
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
}

#[test]
fn an_empty_room_writes_nothing() {
    let mut call = Call::new();
    call.joined("alice", "PA_1");
    call.left("alice", "PA_1");
    call.room_finished();
    assert_eq!(call.rows_written, 0);
    assert_eq!(call.room.next_due(), None);
}

#[test]
fn a_reconnection_goes_on_with_the_restarts() {
    let mut call = Call::with_alice(60);
    call.wait(10.0);
    call.joined("alice", "PA_2");
    assert_eq!(call.wait_for_due(), 38.0);
    assert_eq!(call.acts(), ["restart alice"]);
    call.homeserver(DONE);
}
