//! Timers: none outlives what it bounds (`docs/operations.md#costs`). One that is pending keeps an object in memory, and
//! that is billed.
//!
//! [`TimerSpy`] counts them whenever no request and no alarm is under way.

use black_box::{Endpoint, EntryPoint, Gate, LogLine, Operation, Reply, Service, TimerSpy, Timers};
use serde_json::json;

use super::{SHORT, Stage, alice, bob};

#[tokio::test]
async fn after_an_alarm_nothing_is_pending() {
    let stage = spied_on().await;
    let (delay_id, participant) = stage.connected(&alice(), SHORT).await;
    stage.restarted_again(&delay_id).await;
    stage.leave(&participant).await;
    stage.events.sent(&delay_id).await;
    stage.forgotten(&alice(), "leave sent").await;

    let last = nothing_was_pending(&stage.service, 2).await;
    assert!(last.started >= 6, "{last:?}");
}

#[tokio::test]
async fn after_an_upstream_that_fails_nothing_is_pending() {
    let stage = spied_on().await;
    let never = Gate::closed();
    let (delay_id, participant) = stage.connected(&alice(), SHORT).await;
    let ok = || Reply::json(200, &json!({}));
    // A page, a body that breaks off, and a body and a response that are waited for in vain, for five seconds each.
    let replies = [Reply::html(502), ok().that_never_ends(), ok().behind(&never)];
    stage.events.answer_next(&delay_id, Operation::Restart, replies);
    stage.restarted_again(&delay_id).await;
    stage.setup.sfu.fail(Reply::html(502));
    stage.delegate(EntryPoint::Delegate, &bob(), SHORT).await;
    stage.service.log().line_with(&["SFU query failed"]).await;
    stage.setup.sfu.recover();
    stage.leave(&participant).await;
    stage.events.sent(&delay_id).await;

    let last = nothing_was_pending(&stage.service, 3).await;
    assert!(last.started >= 10, "{last:?}");
}

#[tokio::test]
async fn after_a_request_whose_homeserver_is_silent_nothing_is_pending() {
    let stage = spied_on().await;
    let never = Gate::closed();
    let subject = Reply::json(200, &json!({ "sub": "@alice:silent.example" })).behind(&never);
    let silent = stage.setup.homeserver("silent.example").userinfo(subject).start().await;

    let answer = stage.service.request_token(Endpoint::GetToken, &silent.openid_token("@alice:silent.example")).await;

    answer.assert_error(401, "M_UNAUTHORIZED");
    let last = nothing_was_pending(&stage.service, 0).await;
    assert!(last.started >= 2, "{last:?}");
}

async fn spied_on() -> Stage {
    Stage::deployed(|deployment| deployment.behind(TimerSpy)).await
}

/// Waits for the count after so many alarms, checks all counts so far, and returns the last.
async fn nothing_was_pending(service: &Service, alarms: u64) -> Timers {
    let is_counted = |line: &LogLine| {
        let timers = &line.0["timers"];
        timers["started"].as_u64() > Some(0) && timers["alarms"].as_u64() >= Some(alarms)
    };
    service.log().line("a count of timers", is_counted).await;
    let counts = TimerSpy::counts(service);
    assert!(counts.iter().all(|timers| timers.pending == 0), "{counts:?}");
    *counts.last().unwrap()
}
