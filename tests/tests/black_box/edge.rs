//! Features that only Cloudflare's edge has: rate limits (`docs/protocol.md#rate-limits`) and the Secrets Store
//! (`docs/protocol.md#configuration`). And one that it lacks: TLS to the targets of SRV records.
//!
//! `wrangler dev` simulates them, with the bindings of the repository's own `wrangler.toml`.

use black_box::{Answer, Endpoint, Service, Sfu, TestSetup, Wrangler};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use livekit_token::TokenVerifier;
use serde_json::{Value, json};

#[tokio::test]
async fn addresses_and_users_have_limits_of_their_own() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let limits = Wrangler::default().limit("RATE_LIMIT_BY_ADDRESS", 8).limit("RATE_LIMIT_BY_USER", 3);
    let service = setup.deployment().full_access("example.org").start_under(limits);
    let request = |user: &str| Endpoint::GetToken.request(&home.openid_token(user));

    // The platform resets its counters at the turn of a period, which may fall between two requests.
    let queried = until_limited(&service, "93.184.216.1", 3, || request("@alice:example.org")).await;
    assert!((3..=6).contains(&queried), "the user was limited after {queried} requests");
    assert_eq!(setup.sfu.created().len(), queried);

    let mut guests = (1..).map(|number| request(&format!("@guest{number}:example.org")));
    let queried = until_limited(&service, "2001:db8::1", 8, || guests.next().unwrap()).await;
    assert!((8..=16).contains(&queried), "the address was limited after {queried} requests");
    let before = home.userinfo_requests();
    for client in ["2001:db8::2", "2001:db8:0:0:ffff::1"] {
        assert_limited(&post_from(&service, client, &request("@family:example.org")).await);
    }
    assert_eq!(home.userinfo_requests(), before, "a request of a limited address reached the homeserver");

    let elsewhere = post_from(&service, "2001:db8:0:1::1", &request("@carol:example.org")).await;
    assert_eq!(elsewhere.status, 200, "{elsewhere:?}");
    assert_eq!(service.request(Method::GET, "/healthz").await.status, 200);
}

#[tokio::test]
async fn a_family_in_one_call_stays_below_the_limits_that_are_deployed() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().full_access("example.org").start_under(Wrangler::default());

    // Twelve devices of four people lose the SFU twice, and reconnect all at once, each through both endpoints.
    for _ in 0..2 {
        for device in 0..12 {
            let token = home.openid_token(&format!("@person{}:example.org", device % 4));
            for endpoint in Endpoint::BOTH {
                let answer = post_from_at(&service, "2001:db8::1", endpoint, &endpoint.request(&token)).await;
                assert_eq!(answer.status, 200, "{answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_secret_is_read_from_the_secrets_store() {
    let (key, secret) = Sfu::credentials();
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let stored = Wrangler::default().stored_secret("LIVEKIT_SECRET", secret);
    let service = setup.deployment().full_access("example.org").start_under(stored);

    let jwt = service.request_token(Endpoint::GetToken, &home.openid_token("@alice:example.org")).await.jwt();

    assert_eq!(TokenVerifier::with_api_key(key, secret).verify(&jwt).unwrap().iss, key);
    // An object, in the notation of wrangler.
    service.log().contains(&["msg: 'token issued'"]).await;
    let log = service.log().text();
    assert!(!log.contains(secret) && !log.contains(&jwt));
}

#[tokio::test]
async fn a_secret_that_the_secrets_store_does_not_have_is_named() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start_under(Wrangler::default().missing_secret("LIVEKIT_SECRET"));

    let health = service.request(Method::GET, "/healthz").await;

    health.assert_error(503, "M_UNKNOWN");
    assert_eq!(health.json()["variables"], json!(["LIVEKIT_SECRET"]));
}

#[tokio::test]
async fn a_homeserver_that_only_an_srv_record_names_is_refused_with_the_remedies() {
    let setup = TestSetup::new().await;
    setup.resolver.add_srv("_matrix-fed._tcp.example.org", 10, 5, 8449, "node1.example.com");
    let home = setup
        .homeserver("example.org")
        .without_well_known()
        .federation_behind_srv("example.org", "node1.example.com", 8449)
        .start()
        .await;
    let service = setup.deployment().full_access("example.org").start_under(Wrangler::default());

    let answer = service.request_token(Endpoint::GetToken, &home.openid_token("@alice:example.org")).await;

    answer.assert_error(401, "M_UNAUTHORIZED");
    let cause = ["node1.example.com:8449", "/.well-known/matrix/server", "LIVEKIT_FEDERATION_URL_OVERRIDES"];
    service.log().contains(&cause).await;
    assert_eq!(home.userinfo_requests(), 0);
}

/// Number of requests with status 200 before the first 429. That comes at the latest when the limit has been used up
/// twice.
async fn until_limited(service: &Service, client: &str, limit: usize, request: impl FnMut() -> Value) -> usize {
    let mut request = request;
    for answered in 0..=2 * limit {
        let answer = post_from(service, client, &request()).await;
        if answer.status == 429 {
            assert_limited(&answer);
            return answered;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    panic!("no limit after {} requests", 2 * limit + 1);
}

#[track_caller]
fn assert_limited(answer: &Answer) {
    answer.assert_error(429, "M_LIMIT_EXCEEDED");
    answer.assert_cors();
    assert_eq!((answer.header("retry-after"), &answer.json()["retry_after_ms"]), ("10", &Value::from(10_000)));
}

async fn post_from(service: &Service, client: &str, body: &Value) -> Answer {
    post_from_at(service, client, Endpoint::GetToken, body).await
}

async fn post_from_at(service: &Service, client: &str, endpoint: Endpoint, body: &Value) -> Answer {
    let request = Request::post(service.url(endpoint.path())).header("cf-connecting-ip", client);
    let body: Bytes = body.to_string().into();
    service.send(request.body(Full::new(body)).unwrap()).await
}
