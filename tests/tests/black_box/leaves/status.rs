//! State of the rooms, for the operator (`docs/protocol.md#the-status`).

use black_box::{Answer, EntryPoint, Member, Operation, Reply, Service, Webhook};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use serde_json::{Value, json};

use super::{LONG, Stage, alice, bob};

#[tokio::test]
async fn the_operator_sees_rooms_with_their_leaves() {
    let stage = Stage::new().await;
    let (delay_id, _) = stage.connected(&alice(), LONG).await;
    stage.delegate(EntryPoint::GetToken, &bob(), LONG).await;

    let (status, text) = status_of(&stage, "").await;

    let room = &status["rooms"][0];
    assert_eq!((&room["room"], &room["on_sfu"]), (&json!(alice().room()), &json!(true)), "{status}");
    assert_eq!(room["state"]["delegations"], json!({"waiting": 1, "connected": 1, "suspected": 0, "leaving": 0}));
    assert_eq!(room["state"]["first_delegations"][0]["homeserver"], "example.org");
    assert_eq!((&status["next"], &status["sfu_error"]), (&Value::Null, &Value::Null));
    for secret in [&delay_id, "@alice", "@bob"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn users_are_named_only_on_request() {
    let stage = Stage::new().await;
    let delay_id = stage.delegate(EntryPoint::GetToken, &alice(), LONG).await;

    let (_, text) = status_of(&stage, "?users=true").await;

    assert!(text.contains("@alice:example.org") && !text.contains(&delay_id), "{text}");
}

#[tokio::test]
async fn a_leave_that_waits_for_its_homeserver_is_seen_without_the_sfu() {
    let stage = Stage::new().await;
    let (delay_id, participant) = stage.connected(&alice(), LONG).await;
    stage.events.answer_always(&delay_id, Operation::Send, Reply::html(503));
    stage.leave(&participant).await;
    stage.service.log().line_with(&["delayed event request failed"]).await;
    stage.setup.sfu.fail(Reply::html(503));

    let (status, _) = status_of(&stage, "").await;

    assert!(status["sfu_error"].as_str().is_some_and(|error| error.contains("503")), "{status}");
    let room = &status["rooms"][0];
    assert_eq!((&room["on_sfu"], &room["state"]["delegations"]["leaving"]), (&json!(false), &json!(1)), "{status}");
    assert_eq!(room["latest_failure"]["what"], "delayed event request failed");
    assert!(room["state"]["first_delegations"][0]["failures"].as_u64() >= Some(1), "{status}");
}

#[tokio::test]
async fn many_rooms_come_in_pages() {
    let stage = Stage::new().await;
    for number in 0..45 {
        let member = Member::of_room(&format!("!{number}:example.org"), "@alice:example.org");
        let token = stage.home.openid_token(&member.user_id);
        let request = member.request(EntryPoint::GetToken, &token);
        assert_eq!(stage.service.post("/get_token", &request).await.status, 200);
    }

    let (first, _) = status_of(&stage, "").await;
    let next = first["next"].as_str().expect("there is another page");
    let (second, _) = status_of(&stage, &format!("?after={next}")).await;

    let rooms = |page: &Value| page["rooms"].as_array().map_or(0, Vec::len);
    assert_eq!((rooms(&first), rooms(&second), &second["next"]), (40, 5, &Value::Null));
}

#[tokio::test]
async fn nobody_else_sees_anything() {
    let stage = Stage::new().await;
    stage.delegate(EntryPoint::GetToken, &alice(), LONG).await;

    let strangers =
        Webhook::of_bytes(PURPOSE).signed_with("devkey", "another secret, of the same length").authorization();
    let of_webhook = Webhook::of_bytes("{}").authorization();
    let expired = Webhook::of_bytes(PURPOSE).claim_from_now("exp", -120).authorization();
    for authorization in ["", "Bearer x.y.z", &strangers, &of_webhook, &expired] {
        get(&stage.service, "/status", authorization).await.assert_error(401, "M_UNAUTHORIZED");
    }
    Webhook::of_bytes(PURPOSE).send(&stage.service).await.assert_error(400, "M_NOT_JSON");
}

/// Returns the state of the rooms, parsed and as it came.
async fn status_of(stage: &Stage, query: &str) -> (Value, String) {
    let answer = get(&stage.service, &format!("/status{query}"), &Webhook::of_bytes(PURPOSE).authorization()).await;
    assert_eq!((answer.status, answer.header("Cache-Control")), (200, "no-store"), "{answer:?}");
    (answer.json(), String::from_utf8_lossy(&answer.body).into_owned())
}

async fn get(service: &Service, path: &str, authorization: &str) -> Answer {
    let request = Request::get(service.url(path)).header("Authorization", authorization);
    service.send(request.body(Full::new(Bytes::new())).unwrap()).await
}

/// Signed where a webhook has its body.
const PURPOSE: &str = "matrixrtc-edge status";
