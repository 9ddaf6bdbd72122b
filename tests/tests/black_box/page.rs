//! The page for people: who gets it, and with which headers (`docs/protocol.md#the-page`).
//!
//! Browsers ask for HTML at paths without an endpoint. Every other client must get what it would get without a page.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use black_box::{Answer, Package, Service, TestSetup, Wrangler};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::Value;
use sha2::{Digest, Sha256};

#[tokio::test]
async fn a_browser_gets_the_page_below_any_prefix() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();

    for path in ["/", "//", "/livekit/jwt", "/livekit/jwt/", "/?code=1"] {
        assert_page(&browse(&service, Method::GET, path).await);
        let head = browse(&service, Method::HEAD, path).await;
        assert_eq!(head.status, 200, "{path}: {head:?}");
        assert!(head.body.is_empty());
    }
}

#[tokio::test]
async fn every_other_client_is_answered_as_without_a_page() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();

    for accept in ["*/*", "application/json", "application/json, text/html;q=0.5", "text/html;q=0"] {
        let answer = request(&service, Method::GET, "/", accept).await;
        answer.assert_error(404, "M_UNRECOGNIZED");
        answer.assert_cors();
    }
    service.request(Method::GET, "/").await.assert_error(404, "M_UNRECOGNIZED");
    for path in ["/_matrix", "/_matrix/client/v1/x", "/%5Fmatrix/x", "/.well-known/matrix/client"] {
        browse(&service, Method::GET, path).await.assert_error(404, "M_UNRECOGNIZED");
    }
    for method in [Method::POST, Method::PUT, Method::OPTIONS] {
        browse(&service, method.clone(), "/").await.assert_error(404, "M_UNRECOGNIZED");
        browse(&service, method, "/livekit-client.js").await.assert_error(404, "M_UNRECOGNIZED");
    }
    assert_eq!(browse(&service, Method::GET, "/sfu/get").await.status, 405);
    assert_eq!(browse(&service, Method::GET, "/healthz").await.json()["status"], "ok");
}

#[tokio::test]
async fn scripts_and_styles_are_allowed_by_their_hashes_only() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();

    let page = browse(&service, Method::GET, "/").await;
    let client = request(&service, Method::GET, "/livekit/jwt/livekit-client.js?v=1", "*/*").await;

    let html = String::from_utf8(page.body.to_vec()).expect("UTF-8");
    let client_text = String::from_utf8(client.body.to_vec()).expect("UTF-8");
    let scripts: Vec<_> = between(&html, "<script>", "</script>").chain([client_text.as_str()]).map(hash).collect();
    let styles: Vec<_> = between(&html, "<style>", "</style>").map(hash).collect();
    assert_eq!((scripts.len(), styles.len()), (2, 1));
    assert_eq!(directive(&page, "script-src"), scripts.join(" "));
    assert_eq!(directive(&page, "style-src"), styles.join(" "));
    for name in ["default-src", "base-uri", "form-action", "frame-ancestors"] {
        assert_eq!(directive(&page, name), "'none'", "{name}");
    }
    assert!(client.header("content-type").starts_with("text/javascript"), "{:?}", client.headers);
    assert!(client_text.starts_with("/*!") && client_text.contains("Apache License"), "it lacks its licence");
}

#[tokio::test]
async fn only_a_page_on_loopback_may_connect_without_tls() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();

    for (host, sources) in [
        ("127.0.0.1:8080", "'self' https: wss: http: ws:"),
        ("localhost", "'self' https: wss: http: ws:"),
        ("rtc.example.com", "'self' https: wss:"),
        ("localhost.example.com", "'self' https: wss:"),
    ] {
        let request = Request::get(service.url("/")).header("Accept", BROWSER).header("Host", host);
        let page = service.send(request.body(Full::default()).expect("a request")).await;
        assert_eq!(directive(&page, "connect-src"), sources, "{host}");
    }
}

#[tokio::test]
async fn the_page_knows_what_its_clients_learn_and_no_secret() {
    let setup = TestSetup::new().await;
    let own = setup.own_homeserver("example.org").await;
    let plain = setup.deployment().start();
    let homeserver_mode = setup.deployment().homeserver_mode(&own).start();

    let described = deployment(&browse(&plain, Method::GET, "/").await);
    assert_eq!(described["sfu"], setup.sfu.url());
    assert_eq!((&described["homeserver"], &described["membership"]), (&Value::Null, &Value::Bool(false)));

    let page = browse(&homeserver_mode, Method::GET, "/").await;
    let described = deployment(&page);
    assert_eq!(described["homeserver"], own.server_name());
    assert_eq!(described["membership"], true);
    let html = String::from_utf8_lossy(&page.body).into_owned();
    for secret in [own.as_token(), own.hs_token(), black_box::Sfu::credentials().1] {
        assert!(!html.contains(secret));
    }
}

#[tokio::test]
async fn text_of_the_configuration_cannot_end_its_element() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().set("LIVEKIT_URL", "wss://sfu.example.com/</script><script>x").start();

    let page = browse(&service, Method::GET, "/").await;

    assert_eq!(deployment(&page)["sfu"], "wss://sfu.example.com/</script><script>x");
    assert_eq!(between(&String::from_utf8_lossy(&page.body), "<script>", "</script>").count(), 1);
}

#[tokio::test]
async fn a_misconfigured_deployment_has_its_page_which_knows_no_more_than_healthz() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().set("LIVEKIT_TOKEN_TTL_SECONDS", "long").start();

    assert_eq!(service.request(Method::GET, "/healthz").await.status, 503);
    let page = browse(&service, Method::GET, "/").await;

    assert_page(&page);
    assert!(deployment(&page).get("sfu").is_none());
}

#[tokio::test]
async fn the_page_can_be_turned_off() {
    let setup = TestSetup::new().await;
    let off = setup.deployment().set("LIVEKIT_PAGE", "false").start();
    browse(&off, Method::GET, "/").await.assert_error(404, "M_UNRECOGNIZED");
    browse(&off, Method::GET, "/livekit-client.js").await.assert_error(404, "M_UNRECOGNIZED");

    let misconfigured = setup.deployment().set("LIVEKIT_PAGE", "false").unset("LIVEKIT_SECRET").start();
    let answer = browse(&misconfigured, Method::GET, "/").await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("content-type").starts_with("application/json"), "{answer:?}");
}

#[tokio::test]
async fn under_wrangler_dev_it_is_the_same() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start_under(Wrangler::default());

    for path in ["/", "/livekit/jwt"] {
        assert_page(&browse(&service, Method::GET, path).await);
    }
    assert_eq!(request(&service, Method::GET, "/a/livekit-client.js", "*/*").await.status, 200);
    // Requests reach the worker before the assets.
    service.request(Method::GET, "/").await.assert_error(404, "M_UNRECOGNIZED");
    service.request(Method::GET, "/index.html").await.assert_error(404, "M_UNRECOGNIZED");
}

#[tokio::test]
async fn the_executable_has_it_too() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start_package(&Package::made());

    assert_page(&browse(&service, Method::GET, "/").await);
    assert_eq!(request(&service, Method::GET, "/livekit-client.js", "*/*").await.status, 200);
}

async fn browse(service: &Service, method: Method, path: &str) -> Answer {
    request(service, method, path, BROWSER).await
}

async fn request(service: &Service, method: Method, path: &str, accept: &str) -> Answer {
    let request = Request::builder().method(method).uri(service.url(path)).header("Accept", accept);
    service.send(request.body(Full::<Bytes>::default()).expect("a request")).await
}

#[track_caller]
fn assert_page(answer: &Answer) {
    assert_eq!(answer.status, 200, "{answer:?}");
    for (header, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("vary", "Accept"),
        ("access-control-allow-origin", ""),
    ] {
        assert_eq!(answer.header(header), value, "{header}");
    }
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(answer.body.starts_with(b"<!doctype html>"), "{answer:?}");
}

/// Returns the sources of a directive of the Content-Security-Policy.
fn directive<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let policy = answer.header("content-security-policy");
    let found = policy.split("; ").find_map(|directive| directive.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {name} in {policy}"))
}

fn deployment(page: &Answer) -> Value {
    let html = String::from_utf8_lossy(&page.body).into_owned();
    let described = between(&html, r#"<script id="deployment" type="application/json">"#, "</script>").next();
    serde_json::from_str(described.expect("a description")).expect("JSON")
}

fn between<'a>(text: &'a str, start: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).filter_map(move |rest| rest.split(end).next())
}

fn hash(content: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(content)))
}

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
