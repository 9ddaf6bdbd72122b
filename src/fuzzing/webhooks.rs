//! Webhooks: the `Authorization` header, and the body.

use base64ct::{Base64UrlUnpadded, Encoding};
use delegated_leaves::{Occurrence, RoomCommand};
use jwt_compact::alg::Hs256;
use jwt_compact::{Algorithm, AlgorithmSignature};
use serde_json::Value;

use super::{assert_crosses_to_the_object, first_line};
use crate::livekit::keys::ApiKeys;
use crate::livekit::webhook::event::{Webhook, parse};
use crate::livekit::webhook::signature::verify;

/// Reads the first line as the header of a webhook, and the rest as its body.
pub fn webhook_header(data: &[u8]) {
    let (Some((header, body)), Some(keys)) = (first_line(data), keys()) else { return };
    if let Ok(digest) = verify(Some(header), &keys, NOW_S * 1000) {
        let _ = digest.verify(body);
    }
}

/// Reads the first line as the header of a JWT, and the rest as its claims, and signs both with a known key, as the SFU
/// does. So the checks behind the signature's are reached.
pub fn webhook_signed(data: &[u8]) {
    let (Some((header, claims)), Some(keys)) = (first_line(data), keys()) else { return };
    let signed = [header.as_bytes(), claims].map(Base64UrlUnpadded::encode_string).join(".");
    let signature = Hs256.sign(&keys.signing().secret, signed.as_bytes());
    let token = format!("{signed}.{}", Base64UrlUnpadded::encode_string(&signature.as_bytes()));
    let Ok(digest) = verify(Some(&token), &keys, NOW_S * 1000) else { return };

    let claims: Value = serde_json::from_slice(claims).unwrap_or_default();
    let time = |name: &str| claims[name].as_f64();
    assert_eq!(claims["iss"], "devkey");
    assert!(time("exp").is_some_and(|exp| exp + LEEWAY_S >= NOW_S as f64), "an expired token is accepted");
    assert!(time("nbf").is_none_or(|nbf| nbf - LEEWAY_S <= NOW_S as f64 + 1.0), "a token is accepted early");
    // The fuzzer doesn't find the body to a digest.
    let is_that_of_nothing = claims["sha256"] == "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    assert_eq!(digest.verify(b"").is_ok(), is_that_of_nothing);
}

/// Reads the input as the body of a webhook.
pub fn webhook_event(data: &[u8]) {
    let Ok(Webhook::Relevant { room, event }) = parse(data) else { return };
    assert!(!room.as_str().is_empty());
    match &event.occurrence {
        Occurrence::ParticipantJoined(participant)
        | Occurrence::ParticipantLeft(participant, _)
        | Occurrence::ParticipantConnectionAborted(participant, _) => {
            assert!(!participant.identity.as_str().is_empty());
        }
        Occurrence::RoomFinished => {}
    }
    assert_crosses_to_the_object(&RoomCommand::Webhook(event));
}

fn keys() -> Option<ApiKeys> {
    ApiKeys::from_lines("devkey: first\noldkey: second")
}

/// The time of all targets' webhooks, in seconds since the epoch.
const NOW_S: u64 = 1_700_000_000;
const LEEWAY_S: f64 = 60.0;
