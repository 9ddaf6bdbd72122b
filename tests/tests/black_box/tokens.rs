//! The LiveKit token: names on the SFU, claims and keys (`docs/protocol.md#names-on-the-sfu`,
//! `docs/protocol.md#the-livekit-token`).
//!
//! LiveKit's own code verifies the tokens and reads the claims. Names are compared with the protocol's test vectors,
//! and with hashes that are computed here.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use black_box::{Endpoint, Homeserver, Service, Sfu, TestSetup};
use livekit_token::{Claims, TokenVerifier};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

#[tokio::test]
async fn room_and_identity_are_those_of_the_vectors() {
    let (_setup, home, service) = a_service("example.com").await;
    let token = home.openid_token("@alice:example.com");

    let claims = claims(&service.request_token(Endpoint::GetToken, &token).await.jwt());
    assert_eq!(claims.video.room, "O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc");
    assert_eq!(claims.sub, "vYVt8NUMTb0rAawkFqilcAtxKgY26U3Ab7R9INviNnU");

    let claims = self::claims(&service.request_token(Endpoint::SfuGet, &token).await.jwt());
    assert_eq!(claims.video.room, "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs");
    assert_eq!(claims.sub, "@alice:example.com:DEVICE");
}

#[tokio::test]
async fn a_legacy_slot_leads_to_the_same_room_through_either_endpoint() {
    let (_setup, home, service) = a_service("example.com").await;
    let token = home.openid_token("@alice:example.com");
    let mut body = Endpoint::GetToken.request(&token);
    body["room_id"] = json!("!room:example.com");
    body["slot_id"] = json!("m.call#ROOM");

    let claims = claims(&service.post("/get_token", &body).await.jwt());

    assert_eq!(claims.video.room, Endpoint::SfuGet.room_alias());
}

#[tokio::test]
async fn names_are_hashed_as_canonical_json() {
    let (_setup, home, service) = a_service("example.com").await;
    let token = home.openid_token("@alice:example.com");

    for text in ["\"quoted\\\"", "a\u{1}b\n\t\u{7f}", "größer 🎥 \u{2028}", "a/b<c>&'", "[\"a\",\"b\"]", "\u{feff}"]
    {
        let mut body = Endpoint::GetToken.request(&token);
        body["room_id"] = json!(text);
        body["slot_id"] = json!(text);
        body["member"]["id"] = json!(text);
        body["member"]["claimed_device_id"] = json!(text);

        let claims = claims(&service.post("/get_token", &body).await.jwt());

        assert_eq!(claims.video.room, hash(&[text, text]), "{text:?}");
        assert_eq!(claims.sub, hash(&["@alice:example.com", text, text]), "{text:?}");
    }
}

#[tokio::test]
async fn a_full_access_user_s_claims_are_livekit_s() {
    let (_setup, home, service) = a_service("example.com").await;
    let before = seconds_since_1970();

    for endpoint in Endpoint::BOTH {
        let jwt = service.request_token(endpoint, &home.openid_token("@alice:example.com")).await.jwt();

        let claims = claims(&jwt);
        let after = seconds_since_1970();
        assert!((before - 1..=after + 1).contains(&claims.nbf), "{} isn't now", claims.nbf);
        assert_eq!(claims.exp, claims.nbf + 3600);
        assert_eq!(claims.iss, Sfu::credentials().0);
        assert!(claims.video.room_join);
        assert!(!claims.video.room_create && !claims.video.room_admin && !claims.video.room_list);
        assert_eq!(claims.video.can_publish, Some(true));
        assert_eq!(claims.video.can_subscribe, Some(true));
        assert_eq!(claims.video.can_update_own_metadata, Some(false));

        let payload = payload(&jwt);
        let video = json!({
            "room": endpoint.room_alias(),
            "roomJoin": true,
            "roomCreate": false,
            "canPublish": true,
            "canSubscribe": true,
            "canUpdateOwnMetadata": false,
        });
        assert_eq!(payload["video"], video);
        let mut names: Vec<_> = payload.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["exp", "iss", "jti", "nbf", "sub", "video"]);
    }
}

#[tokio::test]
async fn no_two_tokens_have_the_same_id() {
    let (_setup, home, service) = a_service("example.com").await;
    let token = home.openid_token("@alice:example.com");

    let mut ids = Vec::new();
    for _ in 0..10 {
        let payload = payload(&service.request_token(Endpoint::SfuGet, &token).await.jwt());
        ids.push(payload["jti"].as_str().expect("jti is text").to_owned());
    }

    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 10);
    assert!(ids.iter().all(|id| id.len() >= 16), "{ids:?}");
}

#[tokio::test]
async fn the_payload_is_ascii_whatever_the_identity() {
    let (_setup, home, service) = a_service("example.com").await;
    let token = home.openid_token("@alice:example.com");

    for device in ["größer", "電話", "🎥📡", "\u{2028}\u{feff}\u{7f}", "\"\\\n\0"] {
        let mut body = Endpoint::SfuGet.request(&token);
        body["device_id"] = json!(device);

        let jwt = service.post("/sfu/get", &body).await.jwt();

        let payload = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap();
        assert!(payload.is_ascii(), "{device:?}: {}", String::from_utf8_lossy(&payload));
        assert_eq!(claims(&jwt).sub, format!("@alice:example.com:{device}"));
    }
}

#[tokio::test]
async fn a_restricted_user_may_publish_unless_it_is_configured_otherwise() {
    for (value, can_publish) in [(None, true), (Some("true"), true), (Some("false"), false)] {
        let setup = TestSetup::new().await;
        let full = setup.homeserver("full.example").start().await;
        let restricted = setup.homeserver("restricted.example").start().await;
        let mut deployment = setup.deployment().full_access("full.example");
        if let Some(value) = value {
            deployment = deployment.set("LIVEKIT_RESTRICTED_CAN_PUBLISH", value);
        }
        let service = deployment.start();

        for endpoint in Endpoint::BOTH {
            let token = restricted.openid_token("@bob:restricted.example");
            let video = claims(&service.request_token(endpoint, &token).await.jwt()).video;
            assert_eq!(video.can_publish, Some(can_publish));
            assert!(video.room_join && !video.room_create);
            assert_eq!(video.can_subscribe, Some(true));

            let token = full.openid_token("@alice:full.example");
            let video = claims(&service.request_token(endpoint, &token).await.jwt()).video;
            assert_eq!(video.can_publish, Some(true));
        }
    }
}

#[tokio::test]
async fn everybody_may_update_their_own_metadata_if_it_is_configured() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.com").start().await;
    let service = setup.deployment().set("LIVEKIT_CAN_UPDATE_OWN_METADATA", "true").start();

    for endpoint in Endpoint::BOTH {
        let token = home.openid_token("@alice:example.com");
        let video = claims(&service.request_token(endpoint, &token).await.jwt()).video;

        assert_eq!(video.can_update_own_metadata, Some(true));
    }
}

#[tokio::test]
async fn white_space_around_key_and_secret_does_not_count() {
    let (key, secret) = Sfu::credentials();
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.com").start().await;
    let service = setup
        .deployment()
        .full_access("example.com")
        .set("LIVEKIT_KEY", &format!(" {key}\n"))
        .set("LIVEKIT_SECRET", &format!("\t{secret} \r\n"))
        .start();

    let answer = service.request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.com")).await;

    assert_eq!(claims(&answer.jwt()).iss, key);
    assert_eq!(setup.sfu.created().len(), 1);
}

#[tokio::test]
async fn the_first_of_several_keys_signs() {
    let setup = TestSetup::new().await;
    setup.sfu.set_keys(&[("newkey", "secret: with a colon")]);
    let home = setup.homeserver("example.com").start().await;
    let service = setup
        .deployment()
        .full_access("example.com")
        .unset("LIVEKIT_KEY")
        .unset("LIVEKIT_SECRET")
        .set("LIVEKIT_KEYS", "\n  newkey: secret: with a colon  \r\noldkey: another secret\n\n")
        .start();

    let jwt = service.request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.com")).await.jwt();

    let verifier = TokenVerifier::with_api_key("newkey", "secret: with a colon");
    assert_eq!(verifier.verify(&jwt).unwrap().iss, "newkey");
    assert_eq!(setup.sfu.created().len(), 1);
}

/// Claims of a token, verified and read by LiveKit's own code.
fn claims(jwt: &str) -> Claims {
    let (key, secret) = Sfu::credentials();
    TokenVerifier::with_api_key(key, secret).verify(jwt).expect("a token that LiveKit accepts")
}

/// Payload of a token, decoded without verification, as clients do.
fn payload(jwt: &str) -> Value {
    let payload = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

fn hash(texts: &[&str]) -> String {
    STANDARD_NO_PAD.encode(Sha256::digest(serde_json::to_string(texts).unwrap()))
}

fn seconds_since_1970() -> usize {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

async fn a_service(full_access: &str) -> (TestSetup, Homeserver, Service) {
    let setup = TestSetup::new().await;
    let home = setup.homeserver(full_access).start().await;
    let service = setup.deployment().full_access(full_access).start();
    (setup, home, service)
}
