//! Life of a delegation, from `Waiting` through `Connected` to `Leaving` (`docs/protocol.md#states`,
//! `docs/protocol.md#restarts`).
//!
//! Members join, leave, or never come; webhooks arrive, are repeated, or are missing. The fake homeserver's record
//! shows when the leave was restarted and whether it was sent.

use black_box::{Departure, EntryPoint, Fate, Member, Query, Reply, Webhook};

use super::{LONG, SHORT, Stage, alice, bob};

#[tokio::test]
async fn who_is_connected_never_leaves_and_who_goes_does_so_at_once() {
    for entry_point in EntryPoint::ALL {
        let stage = Stage::new().await;
        let delay_id = stage.delegate(entry_point, &alice(), SHORT).await;
        let participant = stage.join(entry_point, &alice()).await;

        stage.events.restarted(&delay_id, 4).await;
        assert_eq!(stage.events.fate(&delay_id), Fate::Scheduled);
        assert_eq!(stage.events.sends(&delay_id), 0);
        stage.leave(&participant).await;

        stage.events.sent(&delay_id).await;
        stage.forgotten(&alice(), "leave sent").await;
        assert_eq!(stage.events.sends(&delay_id), 1);
    }
}

#[tokio::test]
async fn who_is_in_the_call_already_is_found_there() {
    let stage = Stage::new().await;
    stage.setup.sfu.join(&alice().room(), &alice().identity(EntryPoint::Delegate));

    let delay_id = stage.delegate(EntryPoint::Delegate, &alice(), LONG).await;

    stage.events.restarted(&delay_id, 1).await;
    assert_eq!(stage.events.sends(&delay_id), 0);
}

#[tokio::test]
async fn who_joins_later_is_found_without_a_webhook() {
    let stage = Stage::new().await;
    let delay_id = stage.delegate(EntryPoint::GetToken, &alice(), LONG).await;
    polled(&stage, 2).await;
    assert_eq!(stage.events.restarts(&delay_id), 0);

    stage.setup.sfu.join(&alice().room(), &alice().identity(EntryPoint::GetToken));

    stage.events.restarted(&delay_id, 1).await;
    let get = Query::Get { room: alice().room(), identity: alice().identity(EntryPoint::GetToken) };
    assert!(stage.setup.sfu.queries().iter().all(|query| *query == get), "{:?}", stage.setup.sfu.queries());
}

#[tokio::test]
async fn an_sfu_that_cannot_be_queried_is_queried_again() {
    let stage = Stage::new().await;
    let delay_id = stage.delegate(EntryPoint::GetToken, &alice(), LONG).await;
    stage.setup.sfu.fail(Reply::html(502));
    stage.setup.sfu.join(&alice().room(), &alice().identity(EntryPoint::GetToken));
    stage.service.log().line_with(&["SFU query failed"]).await;

    stage.setup.sfu.recover();

    stage.events.restarted(&delay_id, 1).await;
}

#[tokio::test]
async fn who_never_comes_leaves_when_the_delay_is_over() {
    let stage = Stage::new().await;
    // The client itself restarts the homeserver's timer until it is connected, so that one is longer.
    let delay_id = stage.events.schedule(LONG);

    let answer = stage.hand_over(EntryPoint::SfuGet, &alice(), &delay_id, SHORT).await;

    assert_eq!(answer.status, 200, "{answer:?}");
    stage.events.sent(&delay_id).await;
    assert_eq!(stage.events.restarts(&delay_id), 0);
}

#[tokio::test]
async fn who_comes_at_the_last_moment_does_not_leave() {
    let stage = Stage::new().await;
    let delay_id = stage.events.schedule(LONG);
    stage.setup.sfu.fail(Reply::html(502));
    assert_eq!(stage.hand_over(EntryPoint::Delegate, &alice(), &delay_id, SHORT).await.status, 200);
    stage.setup.sfu.join(&alice().room(), &alice().identity(EntryPoint::Delegate));
    stage.service.log().line_with(&["participant gone, sending its leave"]).await;

    stage.setup.sfu.recover();

    stage.events.restarted(&delay_id, 1).await;
    assert_eq!(stage.events.sends(&delay_id), 0);
}

#[tokio::test]
async fn an_attempt_to_connect_that_is_aborted_is_followed_by_another() {
    let stage = Stage::new().await;
    let delay_id = stage.delegate(EntryPoint::GetToken, &alice(), LONG).await;
    let failed = stage.setup.sfu.join(&alice().room(), &alice().identity(EntryPoint::GetToken));
    stage.setup.sfu.leave(&failed);

    stage.deliver(&failed.aborted()).await;
    stage.join(EntryPoint::GetToken, &alice()).await;

    stage.events.restarted(&delay_id, 1).await;
    assert_eq!(stage.events.sends(&delay_id), 0);
}

#[tokio::test]
async fn a_connection_that_is_aborted_after_all_is_over() {
    let stage = Stage::new().await;
    let (delay_id, participant) = stage.connected(&alice(), LONG).await;

    stage.setup.sfu.leave(&participant);
    stage.deliver(&participant.aborted()).await;

    stage.events.sent(&delay_id).await;
}

#[tokio::test]
async fn when_a_room_is_finished_everybody_in_it_has_left() {
    let stage = Stage::new().await;
    let carol = Member::of_room("!other:example.org", "@carol:example.org");
    let (alices, alice_there) = stage.connected(&alice(), LONG).await;
    let (bobs, bob_there) = stage.connected(&bob(), LONG).await;
    let (carols, _) = stage.connected(&carol, SHORT).await;

    stage.setup.sfu.leave(&alice_there);
    stage.setup.sfu.leave(&bob_there);
    stage.deliver(&stage.setup.sfu.room_finished(&alice().room())).await;

    stage.events.sent(&alices).await;
    stage.events.sent(&bobs).await;
    stage.restarted_again(&carols).await;
    assert_eq!(stage.events.sends(&carols), 0);
}

#[tokio::test]
async fn webhooks_that_come_twice_or_say_nothing_new_do_no_harm() {
    let stage = Stage::new().await;
    let (delay_id, participant) = stage.connected(&alice(), SHORT).await;
    let left = participant.left(Departure::ClientInitiated);

    stage.deliver(&participant.joined()).await;
    for event in ["track_published", "room_started", "participant_updated", "egress_ended"] {
        stage.deliver(&Webhook::new(&participant.event(event))).await;
    }
    stage.restarted_again(&delay_id).await;
    assert_eq!(stage.events.sends(&delay_id), 0);
    stage.setup.sfu.leave(&participant);
    stage.deliver(&left).await;
    stage.deliver(&left).await;
    stage.deliver(&participant.joined()).await;

    stage.events.sent(&delay_id).await;
    stage.forgotten(&alice(), "leave sent").await;
    assert_eq!(stage.events.sends(&delay_id), 1);
}

#[tokio::test]
async fn a_webhook_nobody_signed_moves_nobody() {
    let stage = Stage::new().await;
    let (delay_id, participant) = stage.connected(&alice(), SHORT).await;
    let left = participant.left(Departure::ClientInitiated);

    let answer = left.signed_with("devkey", "another-secret").send(&stage.service).await;

    assert_eq!(answer.status, 401, "{answer:?}");
    stage.restarted_again(&delay_id).await;
    assert_eq!(stage.events.sends(&delay_id), 0);
}

/// Waits until the SFU has been polled `times` times in all.
async fn polled(stage: &Stage, times: usize) {
    let queries = || stage.setup.sfu.queries().len();
    stage.events.until("polls of the SFU", queries, |queries| *queries >= times).await;
}
