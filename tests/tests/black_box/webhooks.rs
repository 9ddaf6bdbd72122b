//! Authentication of the SFU's webhooks (`docs/protocol.md#webhooks`, `docs/protocol.md#webhook-signature`,
//! `docs/protocol.md#webhook-body`).
//!
//! The fake signs webhooks as LiveKit does, and one test has LiveKit's own code sign them. Each case changes one thing:
//! key, algorithm, times, digest or body.

use black_box::{Algorithm, Service, Sfu, TestSetup, Webhook};
use livekit_token::AccessToken;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

#[tokio::test]
async fn a_webhook_of_the_sfu_is_accepted() {
    let (_setup, service) = a_service().await;

    for event in [
        joined(),
        json!({ "event": "room_started", "room": { "name": "x" } }),
        json!({ "event": "room_finished", "id": "EV_1", "createdAt": 1_700_000_000 }),
        json!({ "event": "an_event_of_next_year", "surprise": { "a": [1, 2] } }),
        json!({}),
    ] {
        assert_eq!(Webhook::new(&event).send(&service).await.status, 200, "{event}");
        assert_eq!(Webhook::new(&event).with_bearer().send(&service).await.status, 200, "{event}");
    }
}

#[tokio::test]
async fn events_that_nobody_needs_are_pointed_out_once() {
    let (_setup, service) = a_service().await;
    let needed = ["participant_joined", "participant_left", "participant_connection_aborted", "room_finished"];
    for event in needed.into_iter().chain(["room_started"]) {
        let webhook = json!({ "event": event, "room": { "name": "x" }, "participant": { "identity": "i" } });
        assert_eq!(Webhook::new(&webhook).send(&service).await.status, 200);
    }
    assert!(!service.log().text().contains(WITHOUT_EFFECT));

    for event in ["track_published", "track_unpublished", "egress_started", "track_published"] {
        let webhook = json!({ "event": event, "room": { "name": "x" }, "participant": { "identity": "i" } });
        assert_eq!(Webhook::new(&webhook).send(&service).await.status, 200);
    }

    let line = service.log().line_with(&[WITHOUT_EFFECT, "webhook.filter_params.include_events"]).await;
    assert_eq!((line.level(), &line.0["needed"]), ("info", &json!(needed)), "{line:?}");
    let lines = service.log().lines();
    assert_eq!(lines.iter().filter(|line| line.0["msg"] == WITHOUT_EFFECT).count(), 1, "{lines:?}");
}

#[tokio::test]
async fn a_webhook_signed_by_livekit_s_own_code_is_accepted() {
    use base64::Engine;
    let (_setup, service) = a_service().await;
    let (key, secret) = Sfu::credentials();
    let event = joined();
    let digest = Sha256::digest(event.to_string());
    let jwt = AccessToken::with_api_key(key, secret)
        .with_sha256(&base64::engine::general_purpose::STANDARD.encode(digest))
        .to_jwt()
        .unwrap();

    let answer = Webhook::new(&event).send_authorized(&service, Some(&jwt)).await;

    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_webhook_under_any_of_several_keys_is_accepted() {
    let setup = TestSetup::new().await;
    let service = setup
        .deployment()
        .unset("LIVEKIT_KEY")
        .unset("LIVEKIT_SECRET")
        .set("LIVEKIT_KEYS", "newkey: new-secret\noldkey: old-secret")
        .start();

    for (key, secret, status) in [
        ("newkey", "new-secret", 200),
        ("oldkey", "old-secret", 200),
        ("oldkey", "new-secret", 401),
        ("newkey", "old-secret", 401),
        ("thirdkey", "new-secret", 401),
    ] {
        let answer = Webhook::new(&joined()).signed_with(key, secret).send(&service).await;

        assert_eq!(answer.status, status, "{key}, {secret}: {answer:?}");
    }
}

#[tokio::test]
async fn a_wrong_key_or_secret_is_refused() {
    let (key, secret) = Sfu::credentials();
    assert_refused(Webhook::new(&joined()).signed_with("unknown", secret)).await;
    assert_refused(Webhook::new(&joined()).signed_with("", secret)).await;
    assert_refused(Webhook::new(&joined()).signed_with(key, "wrong-secret")).await;
    assert_refused(Webhook::new(&joined()).signed_with(key, "")).await;
}

#[tokio::test]
async fn another_algorithm_than_hs256_is_refused() {
    assert_refused(Webhook::new(&joined()).algorithm(Algorithm::None)).await;
    assert_refused(Webhook::new(&joined()).algorithm(Algorithm::Hs256CalledNone)).await;
    assert_refused(Webhook::new(&joined()).algorithm(Algorithm::Hs512)).await;
}

#[tokio::test]
async fn a_body_that_was_changed_by_one_byte_is_refused() {
    let mut body = joined().to_string().into_bytes();
    *body.last_mut().unwrap() = b' ';
    assert_refused(Webhook::new(&joined()).replace_body(body)).await;
    assert_refused(Webhook::new(&joined()).replace_body(format!("{} ", joined()))).await;
    assert_refused(Webhook::new(&joined()).replace_body("")).await;
}

#[tokio::test]
async fn a_token_that_vouches_for_no_body_is_refused() {
    assert_refused(Webhook::new(&joined()).without_claim("sha256")).await;
    assert_refused(Webhook::new(&joined()).claim("sha256", "")).await;
    assert_refused(Webhook::new(&joined()).claim("sha256", Value::Null)).await;
    assert_refused(Webhook::new(&joined()).claim("sha256", 5)).await;
}

#[tokio::test]
async fn a_token_outside_its_time_is_refused() {
    assert_refused(Webhook::new(&joined()).claim_from_now("exp", -75)).await;
    assert_refused(Webhook::new(&joined()).claim_from_now("nbf", 75)).await;
    assert_refused(Webhook::new(&joined()).claim("exp", 0)).await;
    assert_refused(Webhook::new(&joined()).claim("exp", "soon")).await;
    assert_refused(Webhook::new(&joined()).without_claim("exp")).await;
}

#[tokio::test]
async fn clocks_may_differ_by_most_of_a_minute() {
    let (_setup, service) = a_service().await;

    for webhook in [
        Webhook::new(&joined()).claim_from_now("exp", -30),
        Webhook::new(&joined()).claim_from_now("nbf", 45),
        Webhook::new(&joined()).without_claim("nbf"),
    ] {
        assert_eq!(webhook.send(&service).await.status, 200);
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let (_setup, service) = a_service().await;
    let webhook = Webhook::new(&joined());
    let good = webhook.authorization();
    let (head, signature) = good.rsplit_once('.').unwrap();

    for authorization in [
        None,
        Some(""),
        Some("Bearer"),
        Some("Bearer "),
        Some("Basic dXNlcjpwYXNz"),
        Some("x.y.z"),
        Some(".."),
        Some(head),
        Some(&format!("{head}.")),
        Some(&format!("{good}x")),
        Some(&format!("{good}.{signature}")),
        Some(&format!("Bearer Bearer {good}")),
    ] {
        let answer = webhook.send_authorized(&service, authorization).await;

        assert_eq!(answer.status, 401, "{authorization:?}: {answer:?}");
    }
    assert_eq!(webhook.send(&service).await.status, 200, "the same webhook, correctly authorized");
}

#[tokio::test]
async fn a_megabyte_is_read_and_one_byte_more_is_too_large() {
    let (_setup, service) = a_service().await;
    let event = |size: usize| joined().to_string() + &" ".repeat(size - joined().to_string().len());

    let answer = Webhook::of_bytes(event(1024 * 1024)).send(&service).await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let answer = Webhook::of_bytes(event(1024 * 1024 + 1)).send(&service).await;
    assert_eq!(answer.status, 413, "{answer:?}");
}

#[tokio::test]
async fn a_signed_body_that_is_no_event_is_no_failure_of_ours() {
    let (_setup, service) = a_service().await;

    for body in [&b""[..], b"no JSON", b"[]", b"\xff\xfe", b"{\"event\": 5}"] {
        let answer = Webhook::of_bytes(body).send(&service).await;

        assert!([200, 400].contains(&answer.status), "{:?}: {answer:?}", String::from_utf8_lossy(body));
    }
}

/// Checks that the webhook is rejected, and that the log has a line about it.
async fn assert_refused(webhook: Webhook) {
    let (_setup, service) = a_service().await;

    let answer = webhook.send(&service).await;

    assert_eq!(answer.status, 401, "{answer:?}");
    let line = service.log().line_with(&["webhook"]).await;
    assert_eq!(line.level(), "warn", "{line:?}");
    assert!(!service.log().text().contains(Sfu::credentials().1));
}

fn joined() -> Value {
    json!({
        "event": "participant_joined",
        "id": "EV_abc",
        "createdAt": "1700000000",
        "room": { "name": "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs", "sid": "RM_1" },
        "participant": { "identity": "@alice:example.com:DEVICE", "sid": "PA_1", "state": "ACTIVE" },
    })
}

async fn a_service() -> (TestSetup, Service) {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();
    (setup, service)
}

const WITHOUT_EFFECT: &str = "webhooks without an effect arrive";
