//! The service behind real reverse proxies, nginx, Caddy and Traefik, configured as `docs/guides/own-machine.md` shows.
//!
//! The tests extract the configuration blocks from the guide, run the proxy with them in front of the packaged service,
//! and send requests to all endpoints through it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use black_box::{Answer, Client, Endpoint, Guide, Homeserver, Package, Proxy, Service, TestSetup, Webhook};
use hyper::Method;
use serde_json::json;

#[tokio::test]
async fn nginx_may_strip_the_prefix() {
    let stage = Stage::new().await;
    let block = Guide::read(GUIDE).block_with("nginx", "proxy_pass http://127.0.0.1:8080/;");

    let (_proxy, client) = Proxy::nginx(&stage.setup, NAME, &block).await;

    stage.assert_all_gets_through(&client).await;
}

#[tokio::test]
async fn nginx_may_keep_the_prefix() {
    let stage = Stage::new().await;
    let block = Guide::read(GUIDE).block_with("nginx", "proxy_pass http://127.0.0.1:8080;");

    let (_proxy, client) = Proxy::nginx(&stage.setup, NAME, &block).await;

    stage.assert_all_gets_through(&client).await;
}

/// The service receives `//get_token`.
#[tokio::test]
async fn nginx_may_double_the_slash() {
    let stage = Stage::new().await;
    let block = Guide::read(GUIDE).block_with("nginx", "proxy_pass http://127.0.0.1:8080/;");
    let without_slash = block.replace("location /livekit/jwt/ {", "location /livekit/jwt {");
    assert_ne!(without_slash, block);

    let (_proxy, client) = Proxy::nginx(&stage.setup, NAME, &without_slash).await;

    stage.assert_all_gets_through(&client).await;
}

#[tokio::test]
async fn caddy_may_strip_the_prefix() {
    let stage = Stage::new().await;
    let block = Guide::read(GUIDE).block_with("caddyfile", "handle_path /livekit/jwt/* {");

    let (_proxy, client) = Proxy::caddy(&stage.setup, NAME, &block).await;

    stage.assert_all_gets_through(&client).await;
}

#[tokio::test]
async fn caddy_may_keep_the_prefix() {
    let stage = Stage::new().await;
    let block = Guide::read(GUIDE).block_with("caddyfile", "handle /livekit/jwt/* {");

    let (_proxy, client) = Proxy::caddy(&stage.setup, NAME, &block).await;

    stage.assert_all_gets_through(&client).await;
}

#[tokio::test]
async fn traefik_may_strip_the_prefix() {
    let Some(traefik) = traefik() else { return };
    let stage = Stage::new().await;
    let block = Guide::read(GUIDE).block_with("yaml", "stripPrefix:");

    let (_proxy, client) = Proxy::traefik(&traefik, &stage.setup, NAME, &block).await;

    stage.assert_all_gets_through(&client).await;
}

#[tokio::test]
async fn traefik_may_keep_the_prefix() {
    let Some(traefik) = traefik() else { return };
    let stage = Stage::new().await;
    let block = Guide::read(GUIDE).block_with("yaml", "stripPrefix:");
    let keeping = block.replace("middlewares: [matrix-rtc]", "");
    assert_ne!(keeping, block);

    let (_proxy, client) = Proxy::traefik(&traefik, &stage.setup, NAME, &keeping).await;

    stage.assert_all_gets_through(&client).await;
}

#[tokio::test]
async fn either_announces_the_service() {
    let setup = TestSetup::new().await;
    let nginx = Guide::read(GUIDE).block_with("nginx", "location = /.well-known/matrix/client {");
    let caddy = Guide::read(GUIDE).block_with("caddyfile", "handle /.well-known/matrix/client {");
    let proxies = [Proxy::nginx(&setup, BARE_NAME, &nginx).await, {
        // Both proxies listen on the same port, so each needs an address of its own.
        setup.network.point(BARE_NAME, setup.network.unused_address());
        Proxy::caddy(&setup, BARE_NAME, &caddy).await
    }];

    for (_proxy, client) in &proxies {
        let answer = client.request(Method::GET, "/.well-known/matrix/client").await;

        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(values(&answer, "content-type"), ["application/json"], "{answer:?}");
        assert_eq!(values(&answer, "access-control-allow-origin"), ["*"], "{answer:?}");
        let announced = &answer.json()["org.matrix.msc4143.rtc_foci"];
        let service = format!("https://{NAME}{PREFIX}");
        assert_eq!(*announced, json!([{ "type": "livekit", "livekit_service_url": service }]));
    }
}

#[tokio::test]
async fn nginx_lists_the_transports_of_a_homeserver_that_cannot() {
    let setup = TestSetup::new().await;
    let block = Guide::read("docs/guides/announcing.md").block_with("nginx", &format!("location = {TRANSPORTS} {{"));
    let (_proxy, client) = Proxy::nginx(&setup, BARE_NAME, &block).await;

    for method in [Method::OPTIONS, Method::GET] {
        let answer = client.request(method, TRANSPORTS).await;

        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(values(&answer, "access-control-allow-origin"), ["*"], "{answer:?}");
        assert_eq!(values(&answer, "access-control-allow-headers"), ["Authorization, Content-Type"], "{answer:?}");
        let entry = json!({ "type": "livekit", "livekit_service_url": format!("https://{NAME}") });
        assert_eq!(answer.json()["rtc_transports"], json!([entry]));
    }
}

/// Returns a real Traefik, before the test has entered a network of its own; prints the reason where there is none.
fn traefik() -> Option<PathBuf> {
    xtask::traefik::set_up().inspect_err(|error| eprintln!("skipped, there is no Traefik: {error:#}")).ok()
}

/// The packaged service at the address that the guide's configurations assume.
struct Stage {
    _service: Service,
    home: Homeserver,
    setup: TestSetup,
}

impl Stage {
    async fn new() -> Self {
        let setup = TestSetup::new().await;
        let home = setup.homeserver("example.org").start().await;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        let service = setup.deployment().full_access("example.org").at(address).start_package(&Package::made());
        Self { _service: service, home, setup }
    }

    async fn assert_all_gets_through(&self, client: &Client) {
        let token = self.home.openid_token("@alice:example.org");
        let mut forged = token.clone();
        forged.access_token.push('x');
        for endpoint in Endpoint::BOTH {
            let path = format!("{PREFIX}{}", endpoint.path());

            let answer = client.post(&path, &endpoint.request(&token)).await;
            assert!(!answer.jwt().is_empty(), "{answer:?}");
            assert_cors_once(&answer);

            let answer = client.request(Method::OPTIONS, &path).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_cors_once(&answer);
            for (status, answer) in [
                (400, client.post(&path, &json!({})).await),
                (401, client.post(&path, &endpoint.request(&forged)).await),
                (405, client.request(Method::GET, &path).await),
            ] {
                assert_eq!(answer.status, status, "{answer:?}");
                assert_cors_once(&answer);
            }
        }
        let answer = client.request(Method::GET, &format!("{PREFIX}/healthz")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let webhook = Webhook::new(&json!({ "event": "room_started", "id": "EV_1" }));
        let path = format!("{PREFIX}/sfu_webhook");
        let answer = client.webhook(&path, &webhook).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = client.webhook(&path, &webhook.signed_with("devkey", "another-secret")).await;
        assert_eq!(answer.status, 401, "{answer:?}");
    }
}

/// Checks that each CORS header occurs once: a browser rejects a response in which the proxy has repeated it.
#[track_caller]
fn assert_cors_once(answer: &Answer) {
    answer.assert_cors();
    for header in ["access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers"] {
        assert_eq!(values(answer, header).len(), 1, "{header} in {answer:?}");
    }
}

fn values<'a>(answer: &'a Answer, header: &str) -> Vec<&'a str> {
    answer.headers.get_all(header).iter().map(|value| value.to_str().unwrap()).collect()
}

const TRANSPORTS: &str = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports";
const GUIDE: &str = "docs/guides/own-machine.md";
const NAME: &str = "matrix-rtc.example.com";
const BARE_NAME: &str = "example.com";
const PREFIX: &str = "/livekit/jwt";
