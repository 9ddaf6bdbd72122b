//! The log: format, levels, contents, and the absence of secrets (`docs/operations.md#the-log`).
//!
//! Requests of all kinds make the worker write lines of every level; the tests parse the lines, and search the whole
//! output for every secret that the requests contained.

use black_box::{ConsoleSpy, Deployment, Endpoint, Homeserver, Log, LogLine, Reply, Service, Sfu, TestSetup, Webhook};
use serde_json::{Value, json};

#[tokio::test]
async fn every_line_of_the_worker_is_a_json_object_with_level_message_and_request() {
    let (setup, home, service) = a_service("debug").await;

    provoke_every_kind_of_line(&setup, &home, &service).await;

    let lines = service.log().lines();
    assert!(lines.len() >= 5, "{lines:?}");
    for line in &lines {
        assert!(["debug", "info", "warn", "error"].contains(&line.level()), "{line:?}");
        assert!(line.0["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{line:?}");
        assert!(line.0["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{line:?}");
    }
    for line in service.log().foreign_lines() {
        let is_workerds = ["workerd/", "kj/", "capnp/", "stack: "].iter().any(|start| line.starts_with(start));
        assert!(is_workerds, "the worker wrote a line that isn't JSON: {line}");
    }
}

#[tokio::test]
async fn the_edge_is_given_objects_whose_fields_it_can_index() {
    let (setup, home, service) =
        a_service_of("debug", |deployment| deployment.as_on_the_edge().behind(ConsoleSpy)).await;

    provoke_every_kind_of_line(&setup, &home, &service).await;

    let calls = ConsoleSpy::calls(&service);
    assert!(calls.len() >= 5, "{calls:?}");
    for call in &calls {
        assert!(call.given.is_object(), "{call:?}");
        let expected = if call.method == "log" { "info" } else { &call.method };
        assert_eq!(call.given["level"], expected, "{call:?}");
        assert!(call.given["msg"].is_string() && call.given["request_id"].is_string(), "{call:?}");
    }
    let issued = calls.iter().find(|call| call.given["msg"] == "token issued").expect("a token was issued");
    assert!(issued.given["openid_ms"].is_number() && issued.given["user"] == "@alice:example.org", "{issued:?}");
}

#[tokio::test]
async fn workerd_alone_is_given_lines() {
    let (setup, home, service) = a_service_of("debug", |deployment| deployment.behind(ConsoleSpy)).await;

    provoke_every_kind_of_line(&setup, &home, &service).await;

    let calls = ConsoleSpy::calls(&service);
    assert!(calls.len() >= 5, "{calls:?}");
    for call in &calls {
        let line = call.given.as_str().unwrap_or_else(|| panic!("not a text: {call:?}"));
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line["msg"].is_string()), "{call:?}");
    }
}

#[tokio::test]
async fn lines_of_one_request_have_its_id_and_no_other_s() {
    let (_setup, home, service) = a_service("info").await;

    for _ in 0..3 {
        service.request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.org")).await;
    }

    let mut ids: Vec<_> = issued(service.log()).iter().map(|line| line.0["request_id"].clone()).collect();
    ids.sort_by_key(ToString::to_string);
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
}

#[tokio::test]
async fn an_issued_token_is_one_line_with_who_what_where_and_how_long() {
    let setup = TestSetup::new().await;
    let full = setup.homeserver("full.example").start().await;
    let restricted = setup.homeserver("restricted.example").start().await;
    let service = setup.deployment().full_access("full.example").start();

    service.request_token(Endpoint::GetToken, &full.openid_token("@alice:full.example")).await;
    service.request_token(Endpoint::SfuGet, &restricted.openid_token("@bob:restricted.example")).await;

    let lines = issued(service.log());
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].has(&["@alice:full.example", "\"full\"", Endpoint::GetToken.room_alias()]), "{lines:?}");
    assert!(lines[1].has(&["@bob:restricted.example", "\"restricted\"", Endpoint::SfuGet.room_alias()]), "{lines:?}");
    assert!(lines[0].0["openid_ms"].is_number() && lines[0].0["create_room_ms"].is_number(), "{lines:?}");
    assert!(lines[1].0["openid_ms"].is_number() && !lines[1].0["create_room_ms"].is_number(), "{lines:?}");
}

#[tokio::test]
async fn lines_below_the_level_are_left_out() {
    for (level, allowed) in [
        ("debug", &["debug", "info", "warn", "error"][..]),
        ("info", &["info", "warn", "error"]),
        ("warn", &["warn", "error"]),
        ("warning", &["warn", "error"]),
        ("error", &["error"]),
    ] {
        let (setup, home, service) = a_service(level).await;

        provoke_every_kind_of_line(&setup, &home, &service).await;

        let mut levels: Vec<_> = service.log().lines().iter().map(|line| line.level().to_owned()).collect();
        levels.sort_unstable();
        levels.dedup();
        let mut expected: Vec<_> = allowed.iter().map(|level| (*level).to_owned()).collect();
        expected.sort_unstable();
        assert_eq!(levels, expected, "at level {level}");
    }
}

#[tokio::test]
async fn the_step_of_discovery_that_failed_is_in_the_log() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();
    let expired = setup.authority.expired_certificate("matrix.expired.example");
    let wrong = setup.authority.certificate("elsewhere.example");
    setup.network.address_of("down.example");
    let homes = [
        setup.homeserver("expired.example").certificate(expired).start().await,
        setup.homeserver("wrong.example").certificate(wrong).start().await,
        setup.homeserver("down.example").without_well_known().federation_at("other.example", 8448).start().await,
        setup.homeserver("private.example").delegates_to("10.1.2.3").start().await,
        setup.homeserver("broken.example").userinfo(Reply::html(502)).start().await,
    ];
    let names = ["expired.example", "wrong.example", "down.example", "private.example", "broken.example"];

    for (home, name) in homes.iter().zip(names) {
        let answer = service.request_token(Endpoint::SfuGet, &home.openid_token(&format!("@alice:{name}"))).await;
        answer.assert_error(401, "M_UNAUTHORIZED");
    }

    let log = service.log();
    log.line_with(&["matrix.expired.example", "443", "well-known"]).await;
    log.line_with(&["matrix.wrong.example", "443", "well-known"]).await;
    log.line_with(&["down.example", "8448"]).await;
    log.line_with(&["10.1.2.3", "LIVEKIT_ALLOW_PRIVATE_ADDRESSES"]).await;
    log.line_with(&["502"]).await;
}

#[tokio::test]
async fn no_token_secret_or_delay_id_is_ever_logged() {
    assert_no_secret_is_logged(|deployment| deployment).await;
}

#[tokio::test]
async fn no_token_secret_or_delay_id_is_ever_in_an_object_for_the_edge() {
    assert_no_secret_is_logged(|deployment| deployment.as_on_the_edge().behind(ConsoleSpy)).await;
}

async fn assert_no_secret_is_logged(configure: impl FnOnce(Deployment) -> Deployment) {
    let (setup, home, service) = a_service_of("debug", configure).await;
    let mut answers = provoke_every_kind_of_line(&setup, &home, &service).await;
    let token = home.openid_token("@alice:example.org");
    for endpoint in Endpoint::BOTH {
        let mut body = endpoint.request(&token);
        body["delay_id"] = json!("SECRET-delay-id");
        body["delay_timeout"] = json!(1000);
        service.post(endpoint.path(), &body).await;
        // Secrets in place of other values, where a parser's error text might quote them.
        body = endpoint.request(&token);
        body["openid_token"]["access_token"] = json!({ "nested": token.access_token });
        service.post(endpoint.path(), &body).await;
        body["openid_token"] = json!(token.access_token);
        service.post(endpoint.path(), &body).await;
        service.post_bytes(endpoint.path(), format!("{{\"openid_token\": {}", token.access_token)).await;
    }
    answers.push(Webhook::new(&json!({})).authorization());

    let log = service.log().text();
    for secret in ["openid-secret", "SECRET", Sfu::credentials().1] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    for answer in answers {
        // No part of a JWT may appear, least of all the signature.
        for part in answer.split('.').filter(|part| part.len() > 20) {
            assert!(!log.contains(part), "a part of a JWT is in the log:\n{log}");
        }
    }
}

/// Causes lines of every level: issued tokens, rejected requests, failures. Returns the secrets that must not appear
/// in the log.
async fn provoke_every_kind_of_line(setup: &TestSetup, home: &Homeserver, service: &Service) -> Vec<String> {
    let good = home.openid_token("@alice:example.org");
    let mut forged = good.clone();
    forged.access_token.push_str("-forged");
    let mut lost = good.clone();
    lost.matrix_server_name = String::from("lost.example");
    let mut secrets = Vec::new();

    for endpoint in Endpoint::BOTH {
        secrets.push(service.request_token(endpoint, &good).await.jwt());
        for (status, token) in [(401, &forged), (401, &lost)] {
            assert_eq!(service.request_token(endpoint, token).await.status, status);
        }
        assert_eq!(service.post_bytes(endpoint.path(), "no JSON").await.status, 400);
        assert_eq!(service.post(endpoint.path(), &json!({})).await.status, 400);
    }
    let webhook = Webhook::new(&json!({})).signed_with("unknown", "SECRET-of-nobody");
    secrets.push(webhook.authorization());
    assert_eq!(webhook.send(service).await.status, 401);
    assert_eq!(service.post("/nowhere", &json!({})).await.status, 404);

    setup.sfu.fail(Reply::html(502));
    assert_eq!(service.request_token(Endpoint::GetToken, &good).await.status, 500);
    service.log().line_with(&["502"]).await;
    secrets
}

fn issued(log: &Log) -> Vec<LogLine> {
    log.lines().into_iter().filter(|line| line.level() == "info" && line.has(&["token issued"])).collect()
}

async fn a_service(level: &str) -> (TestSetup, Homeserver, Service) {
    a_service_of(level, |deployment| deployment).await
}

async fn a_service_of(
    level: &str,
    configure: impl FnOnce(Deployment) -> Deployment,
) -> (TestSetup, Homeserver, Service) {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let deployment = setup.deployment().full_access("example.org").set("LIVEKIT_LOG_LEVEL", level);
    let service = configure(deployment).start();
    (setup, home, service)
}
