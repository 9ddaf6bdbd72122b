//! Participants that reconnect: a webhook about an older connection, or with a reason after which clients come back,
//! is no departure (`docs/protocol.md#disconnect-reasons`, `docs/protocol.md#states`).
//!
//! The tests deliver `participant_left` webhooks with all reasons, for current and for replaced connections. The worker
//! then polls the fake SFU, and sends the leave only if the participant isn't there.

use black_box::{Departure, EntryPoint, Member};

use super::{LONG, SHORT, Stage, alice};

#[tokio::test]
async fn the_end_of_an_older_connection_is_not_the_end() {
    let stage = Stage::new().await;
    let (delay_id, first) = stage.connected(&alice(), SHORT).await;
    let second = stage.join(EntryPoint::GetToken, &alice()).await;

    stage.deliver(&first.left(Departure::ClientInitiated)).await;

    stage.restarted_again(&delay_id).await;
    assert_eq!(stage.events.sends(&delay_id), 0);
    stage.leave(&second).await;
    stage.events.sent(&delay_id).await;
}

#[tokio::test]
async fn a_connection_that_has_been_replaced_is_not_the_end() {
    let stage = Stage::new().await;
    let (delay_id, first) = stage.connected(&alice(), SHORT).await;
    // The second connection, without a webhook.
    let second = stage.setup.sfu.join(&alice().room(), &alice().identity(EntryPoint::GetToken));
    let queried = stage.setup.sfu.queries().len();

    stage.deliver(&first.left(Departure::DuplicateIdentity)).await;

    let queries = || stage.setup.sfu.queries().len();
    stage.events.until("question to the SFU", queries, |queries| *queries > queried).await;
    stage.restarted_again(&delay_id).await;
    assert_eq!(stage.events.sends(&delay_id), 0);
    stage.leave(&second).await;
    stage.events.sent(&delay_id).await;
}

#[tokio::test]
async fn a_participant_that_migrates_keeps_its_connection() {
    let stage = Stage::new().await;
    let (delay_id, participant) = stage.connected(&alice(), SHORT).await;
    let queried = stage.setup.sfu.queries().len();

    stage.deliver(&participant.left(Departure::Migration)).await;

    let queries = || stage.setup.sfu.queries().len();
    stage.events.until("question to the SFU", queries, |queries| *queries > queried).await;
    stage.restarted_again(&delay_id).await;
    assert_eq!(stage.events.sends(&delay_id), 0);
    stage.leave(&participant).await;
    stage.events.sent(&delay_id).await;
}

#[tokio::test]
async fn who_was_to_come_back_and_does_not_leaves() {
    for why in [Departure::DuplicateIdentity, Departure::Migration, Departure::StateMismatch, Departure::ServerShutdown]
    {
        let stage = Stage::new().await;
        let (delay_id, participant) = stage.connected(&alice(), LONG).await;

        stage.setup.sfu.leave(&participant);
        stage.deliver(&participant.left(why)).await;

        stage.events.sent(&delay_id).await;
        // The worker has polled more than once.
        assert!(stage.setup.sfu.queries().len() > 2, "{why:?}: {:?}", stage.setup.sfu.queries());
    }
}

#[tokio::test]
async fn a_client_that_the_sfu_sends_round_comes_back_without_having_left() {
    for why in [Departure::StateMismatch, Departure::ServerShutdown] {
        let stage = Stage::new().await;
        let (delay_id, first) = stage.connected(&alice(), SHORT).await;

        stage.setup.sfu.leave(&first);
        stage.deliver(&first.left(why)).await;
        stage.restarted_again(&delay_id).await;
        let second = stage.join(EntryPoint::GetToken, &alice()).await;

        stage.restarted_again(&delay_id).await;
        assert_eq!(stage.events.sends(&delay_id), 0, "{why:?}");
        stage.leave(&second).await;
        stage.events.sent(&delay_id).await;
    }
}

/// Element Call does that while it joins.
#[tokio::test]
async fn a_client_that_changes_its_connection_while_it_joins_has_not_left() {
    let stage = Stage::new().await;
    let (delay_id, first) = stage.connected(&alice(), SHORT).await;

    stage.setup.sfu.leave(&first);
    // The second connection, without a webhook.
    let second = stage.setup.sfu.join(&alice().room(), &alice().identity(EntryPoint::GetToken));
    stage.deliver(&first.left(Departure::ClientInitiated)).await;

    stage.restarted_again(&delay_id).await;
    stage.restarted_again(&delay_id).await;
    assert_eq!(stage.events.sends(&delay_id), 0);
    stage.setup.sfu.leave(&second);
    stage.deliver(&second.left(Departure::ClientInitiated)).await;
    stage.events.sent(&delay_id).await;
}

#[tokio::test]
async fn every_other_reason_is_a_departure() {
    let stage = Stage::new().await;
    for (number, why) in [
        Departure::UnknownReason,
        Departure::ParticipantRemoved,
        Departure::RoomDeleted,
        Departure::JoinFailure,
        Departure::SignalClose,
        Departure::RoomClosed,
        Departure::ConnectionTimeout,
        Departure::MediaFailure,
    ]
    .into_iter()
    .enumerate()
    {
        let member = Member::of_room(&format!("!room{number}:example.org"), "@alice:example.org");
        let (delay_id, participant) = stage.connected(&member, LONG).await;

        stage.setup.sfu.leave(&participant);
        stage.deliver(&participant.left(why)).await;

        stage.events.sent(&delay_id).await;
    }
}

#[tokio::test]
async fn an_end_that_is_reported_before_its_beginning_stays_the_end() {
    let stage = Stage::new().await;
    let (delay_id, participant) = stage.connected(&alice(), LONG).await;
    let joined = participant.joined();

    stage.leave(&participant).await;
    stage.deliver(&joined).await;

    stage.events.sent(&delay_id).await;
    assert_eq!(stage.events.restarts(&delay_id), 1);
}
