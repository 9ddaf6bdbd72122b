//! Robustness: random and mutated requests crash nothing, leak nothing, and are never answered with 5xx
//! (`docs/protocol.md#errors`).
//!
//! How it works:
//! - Concurrent clients, each with a seed of its own, send random bytes, mutated requests, and well-formed HTTP with
//!   random methods, paths, headers and bodies.
//! - Every response must have a status below 500, and every expected status must occur often enough to show that the
//!   requests get beyond the first check.
//! - Memory is compared after each fifth of the requests.
//! - The log must contain no trace of a panic, and afterwards a valid request must still be answered with a token.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use black_box::{Endpoint, Homeserver, OpenIdToken, Service, TestSetup};
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::Full;
use hyper::{Method, Request};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

#[tokio::test]
async fn fifty_thousand_random_requests_crash_nothing_and_leave_nothing_behind() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    // Leaves are accepted, although there is no homeserver behind this URL to restart or send them.
    home.has_client_api("https://cs.example.org");
    let service = setup.deployment().full_access("example.org").start();

    let mut statuses = BTreeMap::new();
    service
        .assert_no_leak(async |number| {
            for (status, times) in run(&service, &home, 1_000 * number, REQUESTS / 5).await {
                *statuses.entry(status).or_default() += times;
            }
        })
        .await;

    println!("responses by status: {statuses:?}");
    // Every kind of response has occurred often. Byte strings that aren't requests have none.
    for status in [200, 400, 401, 404, 405, 413] {
        assert!(statuses.get(&status).is_some_and(|times| *times > REQUESTS / 250), "{statuses:?}");
    }
    assert!(statuses.values().sum::<usize>() > REQUESTS * 9 / 10, "{statuses:?}");
    let log = service.log().text();
    let delegated = log.matches("delayed leave delegated").count();
    assert!(delegated > REQUESTS / 500, "only {delegated} leaves were delegated");
    for sign in ["panicked", "RuntimeError", "unreachable", "ncaught", "hung"] {
        assert!(!log.contains(sign), "{sign} is in the log");
    }
    let token = home.openid_token("@alice:example.org");
    assert!(!service.request_token(Endpoint::GetToken, &token).await.jwt().is_empty());
}

/// Sends `requests` requests from several concurrent clients, each with a seed of its own. Returns the number of
/// responses by status.
async fn run(service: &Service, home: &Homeserver, seed: u64, requests: usize) -> BTreeMap<u16, usize> {
    let token = home.openid_token("@alice:example.org");
    let sent = AtomicUsize::new(0);
    let clients = (0..CLIENTS).map(async |number| {
        let mut random = StdRng::seed_from_u64(seed + number);
        let mut statuses = Vec::new();
        while sent.fetch_add(1, Ordering::SeqCst) < requests {
            match random.random_range(0..10) {
                0 => statuses.extend(raw(service, &random_bytes(&mut random, 600)).await),
                1 | 2 => statuses.extend(raw(service, &mutated_request(&mut random, &token)).await),
                _ => statuses.push(structured(service, &mut random, &token).await),
            }
        }
        statuses
    });
    let mut counts = BTreeMap::new();
    for status in join_all(clients).await.into_iter().flatten() {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

/// Sends a well-formed HTTP request in which everything else is random. Returns the status.
async fn structured(service: &Service, random: &mut StdRng, token: &OpenIdToken) -> u16 {
    let methods = [Method::GET, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS, Method::HEAD];
    let method = match random.random_range(0..8) {
        0 => methods[random.random_range(0..methods.len())].clone(),
        _ => Method::POST,
    };
    let path = random_path(random);
    let body = match random.random_range(0..40) {
        0 => vec![b' '; 100_000],
        1..6 => random_bytes(random, 2_000),
        6..12 => random_json(random, 0).to_string().into_bytes(),
        12..20 => {
            let request = random_request(random, token).to_string();
            mutated(random, request.into_bytes())
        }
        _ => random_request(random, token).to_string().into_bytes(),
    };
    let mut request = Request::builder().method(method).uri(service.url(&path));
    for name in ["authorization", "content-type", "origin", "accept-encoding", "cf-ray", "x-any"] {
        if random.random_ratio(1, 4) {
            let value: Vec<u8> = (0..random.random_range(0..80)).map(|_| random.random_range(32..127)).collect();
            request = request.header(name, value);
        }
    }
    let answer = service.send(request.body(Full::new(Bytes::from(body))).unwrap()).await;
    assert!(answer.status < 500, "{path}: {answer:?}");
    answer.status
}

/// Sends bytes on a connection of their own. Returns the statuses of the responses, if any.
async fn raw(service: &Service, bytes: &[u8]) -> Vec<u16> {
    let mut connection = service.connect().await;
    connection.send(bytes).await;
    connection.finish().await;
    let answer = connection.receive_to_end().await;
    let statuses: Vec<u16> = answer.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok()).collect();
    // workerd itself responds to unknown methods, before the worker sees the request.
    let is_workerds = answer.contains("ERROR: Unrecognized request method");
    assert!(is_workerds || statuses.iter().all(|status| *status < 500), "{answer}");
    statuses
}

fn mutated_request(random: &mut StdRng, token: &OpenIdToken) -> Vec<u8> {
    let body = random_request(random, token).to_string();
    let path = random_path(random);
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: edge\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    mutated(random, request.into_bytes())
}

/// Changes, adds, removes or repeats a few bytes.
fn mutated(random: &mut StdRng, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..5) {
            0 if at < bytes.len() => bytes[at] = random.random(),
            1 => bytes.insert(at, random.random()),
            2 => bytes.truncate(at.max(1)),
            3 => drop(bytes.drain(at..(at + random.random_range(0..20)).min(bytes.len()))),
            _ => {
                let end = (at + random.random_range(0..40)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// A request for a token in which any field may have a random value.
fn random_request(random: &mut StdRng, token: &OpenIdToken) -> Value {
    let mut body = Endpoint::BOTH[random.random_range(0..2)].request(token);
    if random.random_ratio(1, 25) {
        body["delay_id"] = json!(format!("syd_{}", random.random::<u8>()));
        body["delay_timeout"] = json!(random.random_range(1..3_000));
    }
    for pointer in [
        "/room_id",
        "/slot_id",
        "/room",
        "/device_id",
        "/openid_token/matrix_server_name",
        "/openid_token/access_token",
        "/openid_token/expires_in",
        "/member/id",
        "/delay_id",
        "/delay_timeout",
        "/member/claimed_user_id",
        "/member",
        "/openid_token",
    ] {
        if random.random_ratio(1, 20)
            && let Some(value) = body.pointer_mut(pointer)
        {
            *value = match pointer {
                "/openid_token/matrix_server_name" => json!(random_server_name(random)),
                _ => random_json(random, 0),
            };
        }
    }
    body
}

/// A server name that leads nowhere: in this setup only `example.org` exists.
fn random_server_name(random: &mut StdRng) -> String {
    match random.random_range(0..4) {
        0 => format!("h{}.example:8448", random.random::<u32>()),
        1 => format!("h{}.example", random.random::<u32>()),
        2 => Ipv4Addr::from(random.random::<u32>()).to_string(),
        _ => random_text(random),
    }
}

fn random_path(random: &mut StdRng) -> String {
    const ENDS: [&str; 7] = ["get_token", "sfu/get", "sfu_webhook", "healthz", "delegate_delayed_leave", "", "%2e%2e"];
    match random.random_range(0..4) {
        0 | 1 => ["/get_token", "/sfu/get"][random.random_range(0..2)].to_owned(),
        2 => {
            let prefix: String = (0..random.random_range(0..30))
                .map(|_| char::from(b"/ab-._~%41:@!$&'()*+,;="[random.random_range(0..23)]))
                .collect();
            format!("/{prefix}/{}", ENDS[random.random_range(0..ENDS.len())])
        }
        _ => format!("/{}?{}", ENDS[random.random_range(0..ENDS.len())], random.random::<u64>()),
    }
}

fn random_json(random: &mut StdRng, depth: u32) -> Value {
    match random.random_range(0..if depth < 4 { 8 } else { 6 }) {
        0 => Value::Null,
        1 => json!(random.random::<bool>()),
        2 => json!(random.random::<i64>()),
        3 => json!(random.random::<f64>()),
        4 | 5 => json!(random_text(random)),
        6 => (0..random.random_range(0..5)).map(|_| random_json(random, depth + 1)).collect(),
        _ => (0..random.random_range(0..5)).map(|_| (random_text(random), random_json(random, depth + 1))).collect(),
    }
}

fn random_text(random: &mut StdRng) -> String {
    (0..random.random_range(0..40)).map(|_| random.random::<char>()).collect()
}

fn random_bytes(random: &mut StdRng, most: usize) -> Vec<u8> {
    (0..random.random_range(0..most)).map(|_| random.random()).collect()
}

const REQUESTS: usize = 50_000;
const CLIENTS: u64 = 16;
