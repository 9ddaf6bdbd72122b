//! A hundred thousand hostile requests over all endpoints, homeserver mode included: each gets an answer of its kind, none is
//! a failure of the service, and workerd's memory stays flat (`SECURITY.md`).
//!
//! The callers name homeservers that lie about lengths, reset connections, answer in HTML, or don't exist; they send fields
//! that are too long, forged webhooks, wrong tokens and encoded paths. `random_bytes` is for what isn't a request at all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use black_box::{Endpoint, HomeserverPath, OpenIdToken, Service, Step, TestSetup, Webhook};
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::Full;
use hyper::Request;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

#[tokio::test]
async fn a_hundred_thousand_hostile_requests_cost_nothing_that_stays() {
    let setup = TestSetup::new().await;
    let own = setup.own_homeserver("example.com").await;
    let lies = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n";
    let page = "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
    let mut peers = Vec::new();
    for (host, script) in [
        ("lies.example", vec![Step::text(lies), Step::Repeat(chunk(), 64)]),
        ("resets.example", vec![Step::Reset]),
        ("pages.example", vec![Step::text(page)]),
    ] {
        peers.push(setup.hostile_peer(host, 8448, script).await);
    }
    let service = setup.deployment().full_access("*").homeserver_mode(&own).start();

    let mut statuses = BTreeMap::new();
    service
        .assert_no_leak(async |number| {
            for (status, times) in run(&service, 1_000 * number, REQUESTS / 5).await {
                *statuses.entry(status).or_default() += times;
            }
        })
        .await;

    println!("responses by status: {statuses:?}");
    assert_eq!(statuses.values().sum::<usize>(), REQUESTS);
    for status in [400, 401, 404] {
        assert!(statuses.get(&status).is_some_and(|times| *times > REQUESTS / 100), "{statuses:?}");
    }
    assert!(statuses.keys().all(|status| *status < 500), "{statuses:?}");
    let log = service.log().text();
    for sign in ["panicked", "RuntimeError", "unreachable", "ncaught", "hung"] {
        assert!(!log.contains(sign), "{sign} is in the log");
    }
    assert!(peers.iter().all(|peer| peer.connections() > 0), "each peer was reached");
}

async fn run(service: &Service, seed: u64, requests: usize) -> BTreeMap<u16, usize> {
    let sent = AtomicUsize::new(0);
    let clients = (0..CLIENTS).map(async |number| {
        let mut random = StdRng::seed_from_u64(seed + number);
        let mut statuses = Vec::new();
        while sent.fetch_add(1, Ordering::SeqCst) < requests {
            statuses.push(hostile_request(service, &mut random).await);
        }
        statuses
    });
    let mut counts = BTreeMap::new();
    for status in join_all(clients).await.into_iter().flatten() {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

async fn hostile_request(service: &Service, random: &mut StdRng) -> u16 {
    let server = match random.random_range(0..40) {
        0 => "lies.example:8448".to_owned(),
        1 => "resets.example:8448".to_owned(),
        2 => "pages.example:8448".to_owned(),
        3..10 => format!("h{}.example:{}", random.random::<u16>(), random.random_range(1..65535)),
        _ => "not a name".to_owned(),
    };
    let token = OpenIdToken {
        access_token: long(random, "token", 4096),
        user_id: format!("@mallory:{server}"),
        matrix_server_name: server,
    };
    let mut body = Endpoint::BOTH[random.random_range(0..2)].request(&token);
    for field in ["/room_id", "/room", "/slot_id", "/member/id", "/member/claimed_device_id", "/device_id"] {
        if random.random_ratio(1, 6)
            && let Some(value) = body.pointer_mut(field)
        {
            *value = json!(long(random, "8448:x", 255));
        }
    }
    if random.random_ratio(1, 4) {
        body["delay_id"] = json!(long(random, "syd", 255));
        body["delay_timeout"] = json!([1, 0, -1, i64::MAX, i64::MIN][random.random_range(0..5)]);
    }
    let paths = [
        "/get_token",
        "/sfu/get",
        "/delegate_delayed_leave",
        "/%67et_token",
        "/%5Fmatrix/sfu/get",
        "//livekit/jwt//sfu/get/",
        &HomeserverPath::ClientGetToken.path(),
        &HomeserverPath::FederationGetToken.path(),
        &HomeserverPath::Delegate.path(),
        "/_matrix/app/v1/ping",
        "/sfu_webhook",
    ];
    let path = paths[random.random_range(0..paths.len())];
    let mut request = Request::post(service.url(path));
    if path == "/sfu_webhook" {
        let forged = Webhook::new(&body).signed_with("devkey", "guess").claim("nbf", i64::MIN);
        request = request.header("authorization", forged.authorization());
    } else if path.starts_with("/_matrix") && random.random() {
        request = request.header("authorization", format!("Bearer {}", long(random, "guess", 64)));
    }
    let response = service.send(request.body(Full::new(Bytes::from(body.to_string()))).unwrap()).await;
    let error: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    assert!(error["errcode"].is_string() || response.status == 200, "{path}: {response:?}");
    response.status
}

/// Returns `start`, sometimes made longer than `longest` bytes.
fn long(random: &mut StdRng, start: &str, longest: usize) -> String {
    match random.random_range(0..6) {
        0 => format!("{start}{}", "x".repeat(longest * 2)),
        _ => format!("{start}{}", random.random::<u32>()),
    }
}

fn chunk() -> Bytes {
    Bytes::from([b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat())
}

const REQUESTS: usize = 100_000;
const CLIENTS: u64 = 32;
