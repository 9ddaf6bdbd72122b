//! Replacement: a new delegation takes the place of the member's old one
//! (`docs/protocol.md#the-life-of-a-delegated-leave`).
//!
//! A member delegates a second leave while the first is idle, being restarted or being sent. Late responses about the
//! old event must not affect the new one.

use black_box::{EntryPoint, Gate, Operation, Reply};
use serde_json::json;

use super::{LONG, SHORT, Stage, alice, bob};

#[tokio::test]
async fn nothing_happens_to_the_old_event_any_more() {
    let stage = Stage::new().await;
    let (old, participant) = stage.connected(&alice(), SHORT).await;

    let new = stage.delegate(EntryPoint::GetToken, &alice(), SHORT).await;
    let calls = (stage.events.restarts(&old), stage.events.sends(&old));

    stage.events.restarted(&new, 3).await;
    stage.leave(&participant).await;
    stage.events.sent(&new).await;
    assert_eq!((stage.events.restarts(&old), stage.events.sends(&old)), calls);
}

#[tokio::test]
async fn an_answer_about_the_old_event_says_nothing_of_the_new_one() {
    for late in [Reply::json(200, &json!({})), Reply::json(404, &json!({ "errcode": "M_NOT_FOUND" })), Reply::html(502)]
    {
        let stage = Stage::new().await;
        let gate = Gate::closed();
        let old = stage.delegate(EntryPoint::GetToken, &alice(), LONG).await;
        stage.events.answer_always(&old, Operation::Restart, late.behind(&gate));
        let participant = stage.join(EntryPoint::GetToken, &alice()).await;
        stage.events.restarted(&old, 1).await;

        let new = stage.delegate(EntryPoint::GetToken, &alice(), SHORT).await;
        gate.open();

        stage.events.restarted(&new, 3).await;
        stage.leave(&participant).await;
        stage.events.sent(&new).await;
        assert_eq!((stage.events.restarts(&old), stage.events.sends(&old)), (1, 0));
    }
}

#[tokio::test]
async fn an_old_event_that_is_being_sent_says_nothing_of_the_new_one() {
    let stage = Stage::new().await;
    let gate = Gate::closed();
    let (old, first) = stage.connected(&alice(), LONG).await;
    stage.events.answer_always(&old, Operation::Send, Reply::json(200, &json!({})).behind(&gate));
    stage.leave(&first).await;
    stage.events.until("send", || stage.events.sends(&old), |sends| *sends == 1).await;

    let new = stage.delegate(EntryPoint::GetToken, &alice(), SHORT).await;
    gate.open();
    let second = stage.join(EntryPoint::GetToken, &alice()).await;

    stage.events.restarted(&new, 3).await;
    assert_eq!(stage.events.sends(&new), 0);
    stage.leave(&second).await;
    stage.events.sent(&new).await;
    assert_eq!(stage.events.sends(&old), 1);
}

#[tokio::test]
async fn a_delegation_is_replaced_by_the_same_member_s_only() {
    let stage = Stage::new().await;
    let (alices, alice_there) = stage.connected(&alice(), SHORT).await;
    let (bobs, bob_there) = stage.connected(&bob(), SHORT).await;

    stage.restarted_again(&alices).await;
    stage.restarted_again(&bobs).await;
    stage.leave(&alice_there).await;
    stage.events.sent(&alices).await;

    assert_eq!(stage.events.sends(&bobs), 0);
    stage.leave(&bob_there).await;
    stage.events.sent(&bobs).await;
}

#[tokio::test]
async fn the_same_leave_may_be_handed_over_twice() {
    let stage = Stage::new().await;
    let (delay_id, participant) = stage.connected(&alice(), LONG).await;

    // As a client does that hasn't received the first response.
    assert_eq!(stage.hand_over(EntryPoint::GetToken, &alice(), &delay_id, LONG).await.status, 200);
    stage.leave(&participant).await;

    stage.events.sent(&delay_id).await;
    stage.forgotten(&alice(), "leave sent").await;
    assert_eq!(stage.events.sends(&delay_id), 1);
}
