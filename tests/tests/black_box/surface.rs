//! The HTTP surface: paths, methods, CORS headers and size limits (`docs/protocol.md#http-surface`,
//! `docs/protocol.md#paths`, `docs/protocol.md#cors`).
//!
//! Requests of all methods go to known and unknown paths, behind prefixes and with repeated slashes. Requests that are
//! too large arrive in part on a bare connection: the error response must not wait for their end.

use black_box::{Answer, Endpoint, Service, TestSetup, Webhook};
use hyper::Method;
use serde_json::json;

const KNOWN_PATHS: [&str; 3] = ["/get_token", "/sfu/get", "/delegate_delayed_leave"];

#[tokio::test]
async fn an_endpoint_is_found_behind_any_prefix_double_slashes_and_a_trailing_slash() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();

    for path in [
        "/get_token",
        "//get_token",
        "/get_token/",
        "/livekit/jwt/get_token",
        "/livekit/jwt//get_token",
        "//livekit//jwt///get_token//",
        "/sfu/get/get_token",
        "/get_token?from=proxy",
        "/sfu/get",
        "//sfu/get",
        "/sfu//get",
        "/sfu/get/",
        "/a/b/c/d/sfu/get",
        "/get_token/sfu/get",
        "/sfu/sfu/get",
        "/delegate_delayed_leave",
        "/livekit/jwt//delegate_delayed_leave/",
    ] {
        let answer = service.post(path, &json!({})).await;

        assert_eq!(answer.status, 400, "{path} is answered with {answer:?}");
        answer.assert_error(400, "M_BAD_JSON");
    }
}

#[tokio::test]
async fn a_token_is_given_out_through_a_proxy_that_doubles_slashes() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().full_access("example.org").start();
    let token = home.openid_token("@alice:example.org");

    for endpoint in Endpoint::BOTH {
        let path = format!("/livekit/jwt/{}", endpoint.path());

        let answer = service.post(&path, &endpoint.request(&token)).await;

        answer.assert_cors();
        assert_eq!(answer.json()["url"], setup.sfu.url());
        assert!(!answer.jwt().is_empty());
        assert!(answer.header("content-type").starts_with("application/json"));
    }
}

#[tokio::test]
async fn an_unknown_path_is_a_404_that_a_browser_can_read() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();

    for path in [
        "/",
        "//",
        "/get_token/more",
        "/get_tokens",
        "/forget_token",
        "/GET_TOKEN",
        "/get",
        "/sfu",
        "/sfu/get/more",
        "/sfuget",
        "/sfu/webhook",
        "/healthz/more",
        "/.well-known/matrix/server",
    ] {
        for method in [Method::POST, Method::GET] {
            let answer = service.request(method.clone(), path).await;

            assert_eq!(answer.status, 404, "{method} {path} is answered with {answer:?}");
            answer.assert_error(404, "M_UNRECOGNIZED");
            answer.assert_cors();
        }
    }
}

#[tokio::test]
async fn another_method_on_a_known_path_is_a_405_that_names_the_right_ones() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();

    for path in KNOWN_PATHS {
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
            let answer = service.request(method, path).await;

            assert_allowed(&answer, &["OPTIONS", "POST"]);
            assert!(answer.json()["errcode"].is_string(), "{answer:?}");
            answer.assert_cors();
        }
        let head = service.request(Method::HEAD, path).await;
        assert_allowed(&head, &["OPTIONS", "POST"]);
        head.assert_cors();
    }
    for method in [Method::GET, Method::OPTIONS, Method::PUT] {
        let answer = service.request(method, "/sfu_webhook").await;
        assert_allowed(&answer, &["POST"]);
    }
    for method in [Method::POST, Method::OPTIONS, Method::DELETE] {
        let answer = service.request(method, "/prefix//healthz/").await;
        assert_allowed(&answer, &["GET", "HEAD"]);
    }
}

#[tokio::test]
async fn a_preflight_is_answered_with_all_that_a_browser_queries() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();

    for path in ["/get_token", "/sfu/get", "//livekit/sfu//get/", "/delegate_delayed_leave"] {
        let answer = service.request(Method::OPTIONS, path).await;

        assert_eq!(answer.status, 200, "{answer:?}");
        answer.assert_cors();
        assert_eq!(answer.header("access-control-max-age"), "86400");
    }
}

#[tokio::test]
async fn every_error_of_a_client_endpoint_can_be_read_by_a_browser() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().full_access("example.org").start();
    setup.sfu.fail(black_box::Reply::html(502));
    let good = home.openid_token("@alice:example.org");
    let mut forged = good.clone();
    forged.access_token.push('x');

    for endpoint in Endpoint::BOTH {
        let path = endpoint.path();
        for (status, answer) in [
            (400, service.post_bytes(path, "no JSON").await),
            (400, service.post(path, &json!({})).await),
            (401, service.request_token(endpoint, &forged).await),
            (413, service.post_bytes(path, " ".repeat(MAX_BODY + 1)).await),
            (500, service.request_token(endpoint, &good).await),
        ] {
            assert_eq!(answer.status, status, "{answer:?}");
            answer.assert_cors();
        }
    }
}

#[tokio::test]
async fn healthz_answers_get_and_head_anywhere() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();

    for path in ["/healthz", "/livekit/jwt//healthz", "/healthz/"] {
        for method in [Method::GET, Method::HEAD] {
            let answer = service.request(method, path).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
        }
    }
    assert!(service.request(Method::HEAD, "/healthz").await.body.is_empty());
}

#[tokio::test]
async fn a_body_of_64_kib_is_read_and_one_byte_more_is_too_large() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();

    for path in KNOWN_PATHS {
        let padded = |size: usize| format!("{{{}}}", " ".repeat(size - 2));

        service.post_bytes(path, padded(MAX_BODY)).await.assert_error(400, "M_BAD_JSON");
        service.post_bytes(path, padded(MAX_BODY + 1)).await.assert_error(413, "M_TOO_LARGE");
    }
}

#[tokio::test]
async fn a_body_announced_too_large_is_refused_before_it_is_sent() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();

    // A webhook's token is checked before its body.
    let authorization = Webhook::new(&json!({})).authorization();
    for path in ["/get_token", "/sfu/get", "/sfu_webhook"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: edge\r\nAuthorization: {authorization}\r\nContent-Length: 1000000000\r\n\r\n{{"
        );
        let answer = answer_to_unfinished(&service, &head).await;

        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("M_TOO_LARGE"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_turns_out_too_large_is_refused_before_its_end() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();

    let chunk = format!("8000\r\n{}\r\n", " ".repeat(0x8000));
    // The second one also declares a length, which doesn't hold for it.
    for declared in ["", "Content-Length: 10\r\n"] {
        let head = format!("POST /sfu/get HTTP/1.1\r\nHost: edge\r\n{declared}Transfer-Encoding: chunked\r\n\r\n");
        let answer = answer_to_unfinished(&service, &(head + &chunk.repeat(3))).await;

        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("M_TOO_LARGE"), "{answer}");
    }
}

/// Sends the beginning of a request, never the rest, and returns the error response.
async fn answer_to_unfinished(service: &Service, request: &str) -> String {
    let mut connection = service.connect().await;
    connection.send(request.as_bytes()).await;
    connection.receive(|received| received.ends_with(b"}")).await
}

#[track_caller]
fn assert_allowed(answer: &Answer, methods: &[&str]) {
    assert_eq!(answer.status, 405, "{answer:?}");
    let mut allowed: Vec<_> = answer.header("allow").split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, methods, "{answer:?}");
}

const MAX_BODY: usize = 64 * 1024;
