//! Responses to `restart` and `send`: every row of the table in `docs/protocol.md#restart-and-send`, and
//! `docs/protocol.md#back-off`.
//!
//! The fake homeserver is given the next responses for an event, or one for all requests. The tests compare the number
//! of requests and the time between them with the table.

use std::time::{Duration, SystemTime};

use black_box::{DelayedEventCall, EntryPoint, Fate, Gate, Member, Operation, Reply};
use serde_json::json;

use super::{LONG, SHORT, Stage};

#[tokio::test]
async fn a_restart_that_fails_is_tried_again() {
    assert_restarted_again(failures()).await;
}

/// Each at a homeserver of its own, as a limit holds for all rooms.
#[tokio::test]
async fn a_restart_waits_as_long_as_the_homeserver_says() {
    for limit in limits() {
        assert_restarted_again(vec![limit]).await;
    }
}

async fn assert_restarted_again(failures: Vec<Failure>) {
    let stage = Stage::new().await;
    let mut delegations = Vec::new();
    for (row, answer) in failures.into_iter().enumerate() {
        let member = in_room(row);
        let delay_id = stage.delegate(EntryPoint::GetToken, &member, LONG).await;
        stage.events.answer_next(&delay_id, Operation::Restart, [answer.reply()]);
        let participant = stage.join(EntryPoint::GetToken, &member).await;
        delegations.push((answer, delay_id, participant));
    }
    for (answer, delay_id, participant) in delegations {
        stage.events.restarted(&delay_id, 2).await;

        let restarts = stage.events.calls_of(&delay_id, Operation::Restart);
        answer.assert_waited(&restarts);
        assert_eq!(restarts[1].status, 200, "{restarts:?}");
        assert_eq!(stage.events.sends(&delay_id), 0, "{}", answer.what);
        stage.leave(&participant).await;
        stage.events.sent(&delay_id).await;
    }
}

#[tokio::test]
async fn a_send_that_fails_is_tried_again_and_one_that_waits_as_long_as_it_is_given() {
    let stage = Stage::new().await;
    let mut delegations = Vec::new();
    for (row, answer) in limits().into_iter().chain(failures()).enumerate() {
        let (delay_id, participant) = stage.connected(&in_room(row), LONG).await;
        stage.events.answer_next(&delay_id, Operation::Send, [answer.reply()]);
        stage.leave(&participant).await;
        delegations.push((answer, delay_id));
    }
    for (answer, delay_id) in delegations {
        stage.events.sent(&delay_id).await;

        let sends = stage.events.calls_of(&delay_id, Operation::Send);
        assert_eq!(sends.len(), 2, "{}: {sends:?}", answer.what);
        answer.assert_waited(&sends);
    }
}

#[tokio::test]
async fn any_2xx_with_a_json_object_is_done() {
    let stage = Stage::new().await;
    for (row, status) in [200, 201, 202].into_iter().enumerate() {
        let member = in_room(row);
        let delay_id = stage.delegate(EntryPoint::GetToken, &member, LONG).await;
        for operation in [Operation::Restart, Operation::Send] {
            stage.events.answer_always(&delay_id, operation, Reply::json(status, &json!({})));
        }
        let participant = stage.join(EntryPoint::GetToken, &member).await;
        stage.events.restarted(&delay_id, 1).await;

        stage.leave(&participant).await;

        stage.forgotten(&member, "leave sent").await;
        assert_eq!((stage.events.restarts(&delay_id), stage.events.sends(&delay_id)), (1, 1), "{status}");
    }
}

#[tokio::test]
async fn a_restart_that_finds_no_event_ends_the_job() {
    let stage = Stage::new().await;
    for (row, status) in [404, 409].into_iter().enumerate() {
        let member = in_room(row);
        let delay_id = stage.delegate(EntryPoint::GetToken, &member, LONG).await;
        stage.events.answer_always(&delay_id, Operation::Restart, Reply::json(status, &json!({ "errcode": "M_X" })));

        let participant = stage.join(EntryPoint::GetToken, &member).await;

        stage.forgotten(&member, "not found at the homeserver").await;
        stage.leave(&participant).await;
        assert_eq!((stage.events.restarts(&delay_id), stage.events.sends(&delay_id)), (1, 0), "{status}");
    }
}

#[tokio::test]
async fn a_send_that_finds_no_event_has_nothing_left_to_do() {
    let stage = Stage::new().await;
    for (row, status) in [404, 409].into_iter().enumerate() {
        let member = in_room(row);
        let (delay_id, participant) = stage.connected(&member, LONG).await;
        stage.events.answer_always(&delay_id, Operation::Send, Reply::json(status, &json!({ "errcode": "M_X" })));

        stage.leave(&participant).await;

        stage.forgotten(&member, "leave sent").await;
        assert_eq!(stage.events.sends(&delay_id), 1, "{status}");
    }
}

#[tokio::test]
async fn a_homeserver_that_is_away_is_tried_until_it_is_back() {
    let mut stage = Stage::new().await;
    let restarted = stage.delegate(EntryPoint::GetToken, &in_room(0), LONG).await;
    let (sent, participant) = stage.connected(&in_room(1), LONG).await;

    stage.events.go_away();
    stage.join(EntryPoint::GetToken, &in_room(0)).await;
    stage.leave(&participant).await;
    for room in [0, 1] {
        stage.service.log().line_with(&["retrying", &in_room(room).room()]).await;
    }
    stage.events.come_back().await;

    stage.events.restarted(&restarted, 1).await;
    stage.events.sent(&sent).await;
    assert_eq!(stage.events.sends(&restarted), 0);
}

#[tokio::test]
async fn restarts_that_keep_failing_end_with_the_delay() {
    let stage = Stage::new().await;
    let member = in_room(0);
    let (delay_id, participant) = stage.connected(&member, SHORT).await;

    stage.events.answer_always(&delay_id, Operation::Restart, Reply::html(502));

    stage.forgotten(&member, "expired at the homeserver").await;
    let calls = stage.events.calls().len();
    assert!(stage.events.restarts(&delay_id) > 1);
    stage.leave(&participant).await;
    let fate = || stage.events.fate(&delay_id);
    stage.events.until("end of the delay", fate, |fate| matches!(fate, Fate::TimedOut(_))).await;
    assert_eq!(stage.events.calls().len(), calls);
}

#[tokio::test]
async fn sends_that_keep_failing_end_with_the_delay() {
    let stage = Stage::new().await;
    let member = in_room(0);
    let (delay_id, participant) = stage.connected(&member, SHORT).await;
    stage.events.answer_always(&delay_id, Operation::Send, Reply::html(502));

    stage.leave(&participant).await;

    stage.forgotten(&member, "expired at the homeserver").await;
    let sends = stage.events.sends(&delay_id);
    assert!(sends >= 1);
    // The homeserver's delay started a little later than the worker's, and ends later.
    let fate = || stage.events.fate(&delay_id);
    stage.events.until("end of the delay", fate, |fate| matches!(fate, Fate::TimedOut(_))).await;
    assert_eq!(stage.events.sends(&delay_id), sends);
}

/// One process has the objects of both rooms.
#[tokio::test]
async fn a_limit_holds_for_the_homeserver_s_other_rooms() {
    let stage = Stage::new().await;
    let [refused, other] = [in_room(1), in_room(2)];
    let refused_id = stage.delegate(EntryPoint::GetToken, &refused, LONG).await;
    let limit = Reply::json(429, &json!({ "errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 4000 }));
    stage.events.answer_next(&refused_id, Operation::Restart, [limit]);
    stage.join(EntryPoint::GetToken, &refused).await;
    stage.events.restarted(&refused_id, 1).await;

    let other_id = stage.delegate(EntryPoint::GetToken, &other, 2 * LONG).await;
    stage.join(EntryPoint::GetToken, &other).await;
    stage.events.restarted(&other_id, 1).await;

    let calls = stage.events.calls_of(&refused_id, Operation::Restart);
    assert!(calls.iter().any(|call| call.status == 200), "its deadline is the earlier one: {calls:?}");
}

/// A response, or the lack of one, after which the request is repeated.
struct Failure {
    what: &'static str,
    reply: Box<dyn Fn() -> Reply>,
    /// Shortest time until the next attempt.
    wait: Duration,
}

impl Failure {
    fn new(what: &'static str, wait: Duration, reply: impl Fn() -> Reply + 'static) -> Self {
        Self { what, reply: Box::new(reply), wait }
    }

    fn reply(&self) -> Reply {
        (self.reply)()
    }

    #[track_caller]
    fn assert_waited(&self, calls: &[DelayedEventCall]) {
        let waited = calls[1].at - calls[0].at;
        assert!(waited >= self.wait, "{}: repeated after {waited:?} instead of {:?}", self.what, self.wait);
    }
}

fn limits() -> Vec<Failure> {
    let limited = |body| Reply::json(429, &body);
    vec![
        Failure::new("429 with seconds", Duration::from_secs(3), move || {
            limited(json!({ "errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 1 })).header("retry-after", "3")
        }),
        Failure::new("429 with a date", Duration::from_secs(2), move || {
            // A date has no fractions of a second.
            let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(4));
            limited(json!({ "errcode": "M_LIMIT_EXCEEDED" })).header("retry-after", &date)
        }),
        Failure::new("429 with milliseconds", Duration::from_secs(2), move || {
            limited(json!({ "errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 1001 }))
        }),
        Failure::new("429 with nothing", BACK_OFF, || Reply::html(429)),
        Failure::new("429 with nonsense", BACK_OFF, move || {
            limited(json!({ "retry_after_ms": "soon" })).header("retry-after", "soon")
        }),
    ]
}

fn failures() -> Vec<Failure> {
    vec![
        Failure::new("500", BACK_OFF, || Reply::html(500)),
        Failure::new("502", BACK_OFF, || Reply::html(502)),
        Failure::new("503", BACK_OFF, || Reply::html(503)),
        Failure::new("400", BACK_OFF, || Reply::json(400, &json!({ "errcode": "M_INVALID_PARAM" }))),
        Failure::new("401", BACK_OFF, || Reply::json(401, &json!({ "errcode": "M_MISSING_TOKEN" }))),
        Failure::new("403", BACK_OFF, || Reply::json(403, &json!({ "errcode": "M_FORBIDDEN" }))),
        Failure::new("410", BACK_OFF, || Reply::html(410)),
        Failure::new("a proxy's 404 in HTML", BACK_OFF, || Reply::html(404)),
        Failure::new("a proxy's 404 in plain text", BACK_OFF, || Reply::new(404, "text/plain", "404 page not found")),
        Failure::new("404 without a code", BACK_OFF, || Reply::json(404, &json!({ "error": "no" }))),
        Failure::new("404 for the path", BACK_OFF, || Reply::json(404, &json!({ "errcode": "M_UNRECOGNIZED" }))),
        Failure::new("a proxy's 409", BACK_OFF, || Reply::html(409)),
        Failure::new("a proxy's 200", BACK_OFF, || Reply::html(200)),
        Failure::new("204", BACK_OFF, || Reply::new(204, "text/plain", "")),
        Failure::new("200 with an array", BACK_OFF, || Reply::json(200, &json!([]))),
        Failure::new("404 that is too long", BACK_OFF, || {
            Reply::json(404, &json!({ "errcode": "M_NOT_FOUND" })).padded_to(64 * 1024 + 1)
        }),
        Failure::new("a redirect", BACK_OFF, || Reply::redirect(302, "https://cs.example.org/login")),
        Failure::new("no answer", Duration::from_secs(5), || Reply::html(200).behind(&Gate::closed())),
    ]
}

/// A member of a room of its own, as rooms don't affect each other.
fn in_room(number: usize) -> Member {
    Member::of_room(&format!("!room{number}:example.org"), "@alice:example.org")
}

/// Shortest wait after a failure.
const BACK_OFF: Duration = Duration::from_millis(500);
