//! Timeouts in homeserver mode (`docs/protocol.md#calls-to-the-homeserver`).
//!
//! The fakes accept requests and never finish a response. The tests measure the time until the worker gives up.

use std::time::{Duration, Instant};

use black_box::{Gate, HomeserverPath, HomeserverQuery, Reply};
use futures_util::future::join_all;
use serde_json::json;

use super::Stage;

#[tokio::test]
async fn a_homeserver_that_does_not_answer_is_given_up() {
    let stage = Stage::with_members().await;
    let joined = Reply::json(200, &json!({ "joined": true }));
    stage.own.answer_always(HomeserverQuery::IsUserJoined, joined.clone().behind(&Gate::closed()));
    stage.own.answer_always(HomeserverQuery::IsServerJoined, joined.that_never_ends());
    stage.own.events.answer_look_ups(Reply::html(200).behind(&Gate::closed()));
    let started = Instant::now();

    let statuses = join_all(HomeserverPath::ALL.map(async |path| {
        let answer = stage.forward(path, &stage.request(path)).await;
        assert_eq!(answer.json()["errcode"], "M_UNKNOWN", "{answer:?}");
        answer.status
    }))
    .await;

    assert_eq!(statuses, [502, 502, 503]);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(stage.setup.sfu.requests(), 0);
}

#[tokio::test]
async fn another_homeserver_that_does_not_answer_is_given_up() {
    let stage = Stage::with_members().await;
    let token = Reply::json(200, &json!({ "status": 200, "content": { "jwt": "a.b.c" } }));
    stage.own.answer_always(HomeserverQuery::FedProxy, token.behind(&Gate::closed()));
    let mut body = stage.request(HomeserverPath::ClientGetToken);
    body["server_name"] = "remote.example".into();
    let started = Instant::now();

    stage.forward(HomeserverPath::ClientGetToken, &body).await.assert_error(502, "M_UNKNOWN");

    // The other side's worker may need up to 10 s each for its homeserver and its SFU.
    let elapsed = started.elapsed();
    assert!(Duration::from_secs(15) < elapsed && elapsed < Duration::from_secs(35), "{elapsed:?}");
}
