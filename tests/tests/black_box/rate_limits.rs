//! Rate limits by address and by user (`docs/protocol.md#rate-limits`).
//!
//! The limiters are fakes of the platform's binding in the same workerd: they allow a given number of requests, fail or
//! hang. A limited request must cause no further work, and must not count against another address or user.

use black_box::{
    Answer, Deployment, Endpoint, EntryPoint, Homeserver, Member, RateLimiter, Service, TestSetup, Webhook,
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::{Value, json};

const BY_ADDRESS: &str = "RATE_LIMIT_BY_ADDRESS";
const BY_USER: &str = "RATE_LIMIT_BY_USER";

#[tokio::test]
async fn an_address_over_its_limit_is_given_to_wait_and_nobody_is_queried_for_it() {
    for entry_point in EntryPoint::ALL {
        let (setup, home, service) = a_service(|it| it.bind(BY_ADDRESS, RateLimiter::Allowing(2))).await;
        let body = alice().delegation(entry_point, &home.openid_token("@alice:example.org"), "no-such-event", DELAY);
        for _ in 0..2 {
            let answer = post_from(&service, "93.184.216.1", entry_point.path(), &body).await;
            assert_eq!(answer.status, 400, "there is no client-server API here: {answer:?}");
        }
        let before = (home.connections(), home.userinfo_requests(), setup.sfu.requests());

        let answer = post_from(&service, "93.184.216.1", entry_point.path(), &body).await;

        assert_limited(&answer);
        assert_eq!((home.connections(), home.userinfo_requests(), setup.sfu.requests()), before);
        let other = post_from(&service, "93.184.216.2", entry_point.path(), &body).await;
        assert_eq!(other.status, 400, "another address has a limit of its own: {other:?}");
    }
}

#[tokio::test]
async fn an_ipv6_network_is_one_address() {
    let (_setup, home, service) = a_service(|it| it.bind(BY_ADDRESS, RateLimiter::Allowing(2))).await;
    let body = Endpoint::SfuGet.request(&home.openid_token("@alice:example.org"));

    for (client, status) in [
        ("2001:db8:0:1::1", 200),
        ("2001:db8:0:1:ffff::2", 200),
        ("2001:db8:0:1:1:2:3:4", 429),
        ("2001:db8:0:2::1", 200),
    ] {
        let answer = post_from(&service, client, "/sfu/get", &body).await;
        assert_eq!(answer.status, status, "{client}: {answer:?}");
    }
    service.log().line_with(&["rate limit reached"]).await;
    // The fake binding logs the keys that it counts.
    assert!(service.log().foreign_lines().contains(&String::from("counted 2001:db8:0:1::/64")));
}

#[tokio::test]
async fn who_comes_from_no_address_is_not_limited_by_it() {
    let (_setup, home, service) = a_service(|it| it.bind(BY_ADDRESS, RateLimiter::Allowing(0))).await;
    let body = Endpoint::SfuGet.request(&home.openid_token("@alice:example.org"));

    assert_eq!(service.post("/sfu/get", &body).await.status, 200);
    assert_eq!(post_from(&service, "unknown", "/sfu/get", &body).await.status, 200);
}

#[tokio::test]
async fn a_user_over_their_limit_is_given_to_wait_and_costs_the_sfu_nothing() {
    let (setup, home, service) = a_service(|it| it.bind(BY_USER, RateLimiter::Allowing(2))).await;
    let request_token =
        async |endpoint: Endpoint, user| service.request_token(endpoint, &home.openid_token(user)).await;

    // Both endpoints count against the same limit.
    assert_eq!(request_token(Endpoint::GetToken, "@alice:example.org").await.status, 200);
    assert_eq!(request_token(Endpoint::SfuGet, "@alice:example.org").await.status, 200);
    let rooms = setup.sfu.created().len();
    for endpoint in Endpoint::BOTH {
        assert_limited(&request_token(endpoint, "@alice:example.org").await);
    }
    let body = alice().delegation(EntryPoint::Delegate, &home.openid_token("@alice:example.org"), "event", DELAY);
    assert_limited(&service.post(EntryPoint::Delegate.path(), &body).await);

    assert_eq!(setup.sfu.created().len(), rooms);
    assert_eq!(request_token(Endpoint::GetToken, "@bob:example.org").await.status, 200);
}

#[tokio::test]
async fn only_whom_the_homeserver_vouches_for_counts_as_that_user() {
    let (_setup, home, service) = a_service(|it| it.bind(BY_USER, RateLimiter::Allowing(1))).await;
    let good = home.openid_token("@alice:example.org");
    let mut forged = good.clone();
    forged.access_token.push('x');
    let mut claiming = Endpoint::GetToken.request(&home.openid_token("@mallory:example.org"));
    claiming["member"]["claimed_user_id"] = json!("@alice:example.org");

    for _ in 0..3 {
        service.request_token(Endpoint::GetToken, &forged).await.assert_error(401, "M_UNAUTHORIZED");
        service.post("/get_token", &claiming).await.assert_error(401, "M_UNAUTHORIZED");
    }

    assert_eq!(service.request_token(Endpoint::GetToken, &good).await.status, 200);
}

#[tokio::test]
async fn a_request_that_is_malformed_is_refused_for_that_and_not_counted() {
    let (_setup, home, service) = a_service(|it| it.bind(BY_ADDRESS, RateLimiter::Allowing(1))).await;
    let body = Endpoint::SfuGet.request(&home.openid_token("@alice:example.org"));

    for _ in 0..3 {
        // Element Call's probe for the endpoint.
        let probe = post_from(&service, "93.184.216.1", "/delegate_delayed_leave", &json!({})).await;
        probe.assert_error(400, "M_BAD_JSON");
    }
    assert_eq!(post_from(&service, "93.184.216.1", "/sfu/get", &body).await.status, 200);
    assert_limited(&post_from(&service, "93.184.216.1", "/sfu/get", &body).await);
    let probe = post_from(&service, "93.184.216.1", "/sfu/get", &json!({})).await;
    probe.assert_error(400, "M_BAD_JSON");
}

#[tokio::test]
async fn webhooks_health_and_preflights_are_not_limited() {
    let none = RateLimiter::Allowing(0);
    let (_setup, _home, service) = a_service(|it| it.bind(BY_ADDRESS, &none).bind(BY_USER, &none)).await;

    let webhook = Webhook::new(&json!({ "event": "room_finished", "room": { "name": "room" } }));
    assert_eq!(webhook.send(&service).await.status, 200);
    for (method, path) in [(Method::GET, "/healthz"), (Method::OPTIONS, "/sfu/get")] {
        let request = Request::builder().method(method).uri(service.url(path)).header("cf-connecting-ip", "1.2.3.4");
        assert_eq!(service.send(request.body(Full::default()).unwrap()).await.status, 200);
    }
    assert!(!service.log().text().contains("counted"));
}

#[tokio::test]
async fn a_limit_that_fails_or_hangs_limits_nobody_and_is_reported_once() {
    for limiter in [RateLimiter::Failing, RateLimiter::Stalled] {
        let (_setup, home, service) = a_service(|it| it.bind(BY_ADDRESS, &limiter).bind(BY_USER, &limiter)).await;
        let body = Endpoint::SfuGet.request(&home.openid_token("@alice:example.org"));

        for _ in 0..3 {
            assert_eq!(post_from(&service, "93.184.216.1", "/sfu/get", &body).await.status, 200);
        }

        let line = service.log().line_with(&["rate limiter unavailable"]).await;
        assert_eq!(line.level(), "warn", "{line:?}");
        let lines = service.log().lines();
        assert_eq!(lines.iter().filter(|line| line.has(&["rate limiter unavailable"])).count(), 1, "{lines:?}");
    }
}

#[tokio::test]
async fn without_a_binding_nobody_is_limited() {
    let (_setup, home, service) = a_service(|deployment| deployment).await;
    let body = Endpoint::SfuGet.request(&home.openid_token("@alice:example.org"));

    // More than any limit in `wrangler.toml`.
    for _ in 0..310 {
        let answer = post_from(&service, "93.184.216.1", "/sfu/get", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn who_is_limited_is_logged_and_an_address_only_for_those_who_look_for_a_fault() {
    for (level, logs_address) in [("info", false), ("debug", true)] {
        let limiter = RateLimiter::Allowing(1);
        let (_setup, home, service) =
            a_service(|it| it.bind(BY_USER, &limiter).bind(BY_ADDRESS, &limiter).set("LIVEKIT_LOG_LEVEL", level)).await;
        let body = Endpoint::SfuGet.request(&home.openid_token("@alice:example.org"));
        for client in ["93.184.216.1", "93.184.216.1", "93.184.216.2"] {
            post_from(&service, client, "/sfu/get", &body).await;
        }

        let line = service.log().line_with(&["rate limit reached", "one address"]).await;
        assert_eq!(line.level(), "warn", "{line:?}");
        service.log().line_with(&["rate limit reached", "@alice:example.org"]).await;
        let is_logged = service.log().lines().iter().any(|line| line.has(&["93.184.216"]));
        assert_eq!(is_logged, logs_address, "at level {level}");
    }
}

/// Checks for a 429 as in `docs/protocol.md#errors` that a browser can read.
#[track_caller]
fn assert_limited(answer: &Answer) {
    answer.assert_error(429, "M_LIMIT_EXCEEDED");
    answer.assert_cors();
    let seconds: u64 = answer.header("retry-after").parse().expect("Retry-After in seconds");
    assert!((1..=60).contains(&seconds), "{answer:?}");
    assert_eq!(answer.json()["retry_after_ms"], Value::from(seconds * 1000));
}

/// Sends a request that, according to the edge's header, comes from the address `client`.
async fn post_from(service: &Service, client: &str, path: &str, body: &Value) -> Answer {
    let request = Request::post(service.url(path)).header("cf-connecting-ip", client);
    let body: Bytes = body.to_string().into();
    service.send(request.body(Full::new(body)).unwrap()).await
}

async fn a_service(configure: impl FnOnce(Deployment) -> Deployment) -> (TestSetup, Homeserver, Service) {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = configure(setup.deployment().full_access("example.org")).start();
    (setup, home, service)
}

fn alice() -> Member {
    Member::of_room("!room:example.org", "@alice:example.org")
}

const DELAY: std::time::Duration = std::time::Duration::from_secs(600);
