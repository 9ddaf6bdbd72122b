//! Crashes of the worker and failures of its storage (`docs/protocol.md#the-life-of-a-delegated-leave`).
//!
//! Tests kill workerd at a certain moment of a delegation's life, change something meanwhile, and start it again on the
//! same storage. Every acknowledged delegation and webhook must still count, and no leave may be sent too early.

use black_box::{Departure, EntryPoint, Fate, Gate, Operation, Reply};
use serde_json::json;

use super::{LONG, SHORT, Stage, alice};

#[tokio::test]
async fn a_delegation_that_was_acknowledged_is_on_disk() {
    for entry_point in EntryPoint::ALL {
        let stage = Stage::new().await;
        let delay_id = stage.delegate(entry_point, &alice(), LONG).await;

        stage.service.kill();
        stage.service.start_again();

        let participant = stage.join(entry_point, &alice()).await;
        stage.events.restarted(&delay_id, 1).await;
        stage.leave(&participant).await;
        stage.events.sent(&delay_id).await;
    }
}

#[tokio::test]
async fn who_joined_meanwhile_is_found() {
    let stage = Stage::new().await;
    let delay_id = stage.delegate(EntryPoint::GetToken, &alice(), LONG).await;

    stage.service.kill();
    stage.setup.sfu.join(&alice().room(), &alice().identity(EntryPoint::GetToken));
    stage.service.start_again();

    stage.events.restarted(&delay_id, 1).await;
}

#[tokio::test]
async fn a_join_that_was_acknowledged_is_not_forgotten() {
    let stage = Stage::new().await;
    let delay_id = stage.delegate(EntryPoint::GetToken, &alice(), LONG).await;
    stage.events.answer_always(&delay_id, Operation::Restart, Reply::html(503));
    stage.join(EntryPoint::GetToken, &alice()).await;

    stage.service.kill();
    // The SFU can't be polled: only the stored webhook can lead to a restart.
    stage.setup.sfu.fail(Reply::html(503));
    let before = stage.events.restarts(&delay_id);
    stage.service.start_again();

    stage.events.restarted(&delay_id, before + 1).await;
}

#[tokio::test]
async fn restarts_go_on() {
    let stage = Stage::new().await;
    let (delay_id, participant) = stage.connected(&alice(), SHORT).await;

    for _ in 0..3 {
        stage.service.kill();
        stage.service.start_again();
        stage.restarted_again(&delay_id).await;
    }

    assert_eq!(stage.events.fate(&delay_id), Fate::Scheduled);
    assert_eq!(stage.events.sends(&delay_id), 0);
    stage.leave(&participant).await;
    stage.events.sent(&delay_id).await;
}

#[tokio::test]
async fn a_restart_that_was_under_way_is_made_again() {
    let stage = Stage::new().await;
    let delay_id = stage.delegate(EntryPoint::GetToken, &alice(), LONG).await;
    stage.events.answer_next(&delay_id, Operation::Restart, [Reply::json(200, &json!({})).behind(&Gate::closed())]);
    stage.join(EntryPoint::GetToken, &alice()).await;
    stage.events.restarted(&delay_id, 1).await;

    stage.service.kill();
    stage.service.start_again();

    stage.events.restarted(&delay_id, 2).await;
}

#[tokio::test]
async fn a_departure_that_was_acknowledged_is_not_forgotten() {
    let stage = Stage::new().await;
    let (delay_id, participant) = stage.connected(&alice(), LONG).await;
    stage.events.answer_always(&delay_id, Operation::Send, Reply::json(200, &json!({})).behind(&Gate::closed()));
    stage.leave(&participant).await;

    for _ in 0..3 {
        let sends = stage.events.sends(&delay_id);
        stage.service.kill();
        stage.service.start_again();
        stage.events.until("send", || stage.events.sends(&delay_id), |now| *now > sends).await;
    }
    assert!(stage.events.restarts(&delay_id) == 1);
}

#[tokio::test]
async fn who_left_and_came_back_meanwhile_does_not_leave() {
    let stage = Stage::new().await;
    let (delay_id, participant) = stage.connected(&alice(), LONG).await;
    stage.events.answer_next(&delay_id, Operation::Send, [Reply::json(200, &json!({})).behind(&Gate::closed())]);
    stage.leave(&participant).await;
    stage.events.until("send", || stage.events.sends(&delay_id), |sends| *sends == 1).await;

    stage.service.kill();
    // There is no webhook about this connection.
    stage.setup.sfu.join(&alice().room(), &alice().identity(EntryPoint::GetToken));
    stage.service.start_again();

    stage.events.restarted(&delay_id, 2).await;
    assert_eq!(stage.events.sends(&delay_id), 1);
}

#[tokio::test]
async fn an_event_that_the_homeserver_sent_meanwhile_is_done_with() {
    let stage = Stage::new().await;
    let (delay_id, participant) = stage.connected(&alice(), SHORT).await;

    stage.service.kill();
    let fate = || stage.events.fate(&delay_id);
    stage.events.until("end of the delay", fate, |fate| matches!(fate, Fate::TimedOut(_))).await;
    stage.service.start_again();

    stage.forgotten(&alice(), "not found at the homeserver").await;
    stage.leave(&participant).await;
    assert_eq!(stage.events.sends(&delay_id), 0);
}

#[tokio::test]
async fn a_webhook_that_finds_nobody_is_sent_again() {
    let stage = Stage::new().await;
    let (delay_id, participant) = stage.connected(&alice(), LONG).await;
    let left = participant.left(Departure::ClientInitiated);

    stage.service.kill();
    stage.setup.sfu.leave(&participant);
    stage.service.start_again();
    stage.deliver(&left).await;

    stage.events.sent(&delay_id).await;
}

#[tokio::test]
async fn a_webhook_that_cannot_be_stored_is_wanted_again() {
    let stage = Stage::new().await;
    let (delay_id, participant) = stage.connected(&alice(), LONG).await;
    stage.setup.sfu.leave(&participant);
    let left = participant.left(Departure::ClientInitiated);

    let lock = stage.service.storage().lock();
    let answer = left.send(&stage.service).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    drop(lock);

    stage.deliver(&left).await;
    stage.events.sent(&delay_id).await;
}

#[tokio::test]
async fn restarts_go_on_when_there_is_room_on_the_disk_again() {
    let stage = Stage::new().await;
    let delay_id = stage.events.schedule(LONG);
    let answer = stage.hand_over(EntryPoint::GetToken, &alice(), &delay_id, SHORT).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let participant = stage.join(EntryPoint::GetToken, &alice()).await;
    stage.events.restarted(&delay_id, 1).await;

    // A restart that fails is written down, one that succeeds isn't.
    stage.events.answer_next(&delay_id, Operation::Restart, [Reply::html(502)]);
    let lock = stage.service.storage().lock();
    stage.service.log().line_with(&["room storage failed"]).await;
    drop(lock);

    stage.restarted_again(&delay_id).await;
    stage.restarted_again(&delay_id).await;
    stage.leave(&participant).await;
    stage.events.sent(&delay_id).await;
}
