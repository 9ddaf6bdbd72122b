//! Verification of an OpenID token by the homeserver's response to `userinfo`
//! (`docs/protocol.md#verifying-an-openid-token`).
//!
//! The fake homeserver responds with subjects, statuses, sizes and encodings of all kinds; only a 200 with a subject of
//! its own domain may lead to a token.

use std::io::Write;

use black_box::{Endpoint, Homeserver, Reply, Service, TestSetup};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

#[tokio::test]
async fn a_homeserver_speaks_for_its_own_users_only() {
    let (_setup, home, service) = a_service().await;

    for subject in [
        "@alice:elsewhere.example",
        "@alice:example.org:8448",
        "@alice:Example.org",
        "@alice:example.org.",
        "@alice:elsewhere.example:example.org",
        "@example.org:elsewhere.example",
        "@alice:notexample.org",
        "@alice",
        "alice:example.org",
        "!alice:example.org",
        "",
        "@",
        ":example.org",
    ] {
        home.set_userinfo(Reply::json(200, &json!({ "sub": subject })));

        let answer = request_token(&home, &service).await;

        assert_eq!(answer.status, 401, "the subject is {subject:?}: {answer:?}");
        answer.assert_error(401, "M_UNAUTHORIZED");
    }
}

#[tokio::test]
async fn only_a_200_with_a_subject_verifies_a_token() {
    let (_setup, home, service) = a_service().await;
    let subject = json!({ "sub": "@alice:example.org" });

    for (what, reply) in [
        ("a 201", Reply::json(201, &subject)),
        ("a 401", Reply::json(401, &subject)),
        ("a 403", Reply::json(403, &subject)),
        ("a 404", Reply::json(404, &subject)),
        ("a 500", Reply::json(500, &subject)),
        ("HTML", Reply::html(200)),
        ("nothing", Reply::new(200, "application/json", "")),
        ("no object", Reply::json(200, &json!("@alice:example.org"))),
        ("an empty object", Reply::json(200, &json!({}))),
        ("a number", Reply::json(200, &json!({ "sub": 1 }))),
        ("null", Reply::json(200, &json!({ "sub": null }))),
        ("broken JSON", Reply::new(200, "application/json", r#"{"sub":"@alice:example.org""#)),
        ("text after JSON", Reply::new(200, "application/json", r#"{"sub":"@alice:example.org"}x"#)),
    ] {
        home.set_userinfo(reply);

        let answer = request_token(&home, &service).await;

        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        answer.assert_error(401, "M_UNAUTHORIZED");
    }
}

#[tokio::test]
async fn fields_beside_the_subject_do_not_matter() {
    let (_setup, home, service) = a_service().await;
    home.set_userinfo(Reply::json(200, &json!({ "sub": "@alice:example.org", "name": "Alice" })));

    assert_eq!(request_token(&home, &service).await.status, 200);
}

#[tokio::test]
async fn userinfo_is_not_redirected() {
    let (setup, home, service) = a_service().await;
    let subject = Reply::json(200, &json!({ "sub": "@alice:example.org" }));
    let elsewhere = setup.site("elsewhere.example", subject).await;

    for status in [301, 302, 303, 307, 308] {
        home.set_userinfo(Reply::redirect(status, "https://elsewhere.example/"));

        request_token(&home, &service).await.assert_error(401, "M_UNAUTHORIZED");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn an_answer_of_64_kib_is_read_and_a_larger_one_is_not() {
    let (_setup, home, service) = a_service().await;
    let subject = Reply::json(200, &json!({ "sub": "@alice:example.org" }));

    for (size, status) in [(64 * 1024, 200), (64 * 1024 + 1, 401), (10_000_000, 401)] {
        for reply in [subject.clone().padded_to(size), subject.clone().padded_to(size).in_chunks_of(10_000)] {
            home.set_userinfo(reply);

            let answer = request_token(&home, &service).await;

            assert_eq!(answer.status, status, "{size} bytes: {answer:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_is_measured_after_it_is_unpacked() {
    let (_setup, home, service) = a_service().await;

    for (size, status) in [(1_000, 200), (10_000_000, 401)] {
        let subject = String::from(r#"{"sub":"@alice:example.org"}"#) + &" ".repeat(size);
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(subject.as_bytes()).unwrap();
        let reply = Reply::new(200, "application/json", packed.finish().unwrap());
        home.set_userinfo(reply.header("content-encoding", "gzip"));

        let answer = request_token(&home, &service).await;

        assert_eq!(answer.status, status, "{size} bytes: {answer:?}");
    }
}

#[tokio::test]
async fn a_token_reaches_the_homeserver_as_it_is() {
    let (_setup, home, service) = a_service().await;

    for secret in ["a+b/c=", "a&access_token=b", "a b", "%41", "é€", "#fragment?", "\u{7f}\n"] {
        let token = home.openid_token_of("@alice:example.org", secret);

        let answer = service.request_token(Endpoint::SfuGet, &token).await;

        assert_eq!(answer.status, 200, "the token is {secret:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_homeserver_is_queried_about_every_token_every_time() {
    let (_setup, home, service) = a_service().await;
    let token = home.openid_token("@alice:example.org");
    assert_eq!(service.request_token(Endpoint::SfuGet, &token).await.status, 200);

    home.set_userinfo(Reply::json(401, &json!({ "errcode": "M_UNKNOWN_TOKEN" })));

    service.request_token(Endpoint::SfuGet, &token).await.assert_error(401, "M_UNAUTHORIZED");
}

#[tokio::test]
async fn every_401_of_a_homeserver_is_a_refusal_whatever_its_code() {
    let (_setup, home, service) = a_service().await;
    for (homeserver, body) in [
        ("Synapse", json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "Access Token unknown or expired" })),
        ("Synapse, without a token", json!({ "errcode": "M_MISSING_TOKEN", "error": "Access Token required" })),
        ("Dendrite", json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "Access Token unknown or expired" })),
        ("continuwuity", json!({ "errcode": "M_UNAUTHORIZED", "error": "OpenID token is unrecognised" })),
        ("tuwunel", json!({ "errcode": "M_UNAUTHORIZED", "error": "OpenID token is expired" })),
        ("a homeserver of the future", json!({ "errcode": "M_NOT_YET_KNOWN" })),
    ] {
        home.set_userinfo(Reply::json(401, &body));

        let answer = request_token(&home, &service).await;

        answer.assert_error(401, "M_UNAUTHORIZED");
        let cause = "the homeserver doesn't know the token (401)";
        let line = service.log().line_with(&["OpenID token verification failed"]).await;
        assert!(line.has(&[cause]), "{homeserver}: {line:?}");
        service.log().clear();
    }
}

#[tokio::test]
async fn a_homeserver_without_federation_is_named_as_that() {
    let (_setup, home, service) = a_service().await;
    let body = json!({ "errcode": "M_FORBIDDEN", "error": "Federation is disabled." });
    home.set_userinfo(Reply::json(403, &body));

    request_token(&home, &service).await.assert_error(401, "M_UNAUTHORIZED");
    service.log().line_with(&["OpenID token verification failed", "federation is disabled (403)"]).await;
}

async fn request_token(home: &Homeserver, service: &Service) -> black_box::Answer {
    service.request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.org")).await
}

async fn a_service() -> (TestSetup, Homeserver, Service) {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().start();
    (setup, home, service)
}
