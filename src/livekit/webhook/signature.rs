//! Signatures of webhooks ([LiveKit, "Webhooks"](https://docs.livekit.io/home/server/webhooks/),
//! `docs/protocol.md#webhook-signature`).
//!
//! How it works:
//! - the `Authorization` header is a JWT, with or without `Bearer`, signed with HS256 by the API key that its `iss`
//!   names;
//! - every configured key may sign, so that keys can be rotated; an unknown one is an error of its own, the most
//!   common one;
//! - the token must be in its time, with a minute of leeway for different clocks;
//! - its `sha256` claim must be the digest of the body, compared in constant time.

use base64ct::{Base64, Encoding};
use chrono::{DateTime, Duration, Utc};
use jwt_compact::alg::Hs256;
use jwt_compact::{AlgorithmExt, Claims, Header, UntrustedToken};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::livekit::keys::{ApiKey, ApiKeys};
use crate::livekit::token::MintError;

/// The SHA-256 of a body that the holder of one of our API keys has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedDigest(String);

/// Checks the token of a webhook, which needs no body: the JWT in the `Authorization` header, with or without `Bearer`, must
/// be HS256 by the key that it names, in its time (with a minute of leeway), and carry the SHA-256 of a body.
pub fn verify(authorization: Option<&str>, keys: &ApiKeys, now_ms: u64) -> Result<SignedDigest, SignatureError> {
    let header = authorization.ok_or(SignatureError::NoToken)?.trim();
    if header.len() > MAX_HEADER {
        return Err(SignatureError::Malformed);
    }
    let token = header.strip_prefix("Bearer ").unwrap_or(header).trim();
    let token = UntrustedToken::new(token).map_err(|_| SignatureError::Malformed)?;
    let unchecked: Claims<WebhookClaims> =
        token.deserialize_claims_unchecked().map_err(|_| SignatureError::Malformed)?;
    let key = keys.named(&unchecked.custom.iss).ok_or(SignatureError::UnknownKey)?;
    let token =
        Hs256.validator::<WebhookClaims>(&key.secret).validate(&token).map_err(|_| SignatureError::WrongSignature)?;
    let claims = token.claims();

    // Not with the JWT crate's own checks: their arithmetic panics for times at the ends of the calendar.
    let now_s = i64::try_from(now_ms / 1000).map_err(|_| SignatureError::Expired)?;
    let expires_at_s = claims.expiration.ok_or(SignatureError::Expired)?.timestamp();
    if expires_at_s.saturating_add(LEEWAY_S) < now_s {
        return Err(SignatureError::Expired);
    }
    if claims.not_before.is_some_and(|from| from.timestamp().saturating_sub(LEEWAY_S) > now_s) {
        return Err(SignatureError::NotYetValid);
    }
    claims.custom.sha256.clone().map(SignedDigest).ok_or(SignatureError::NoDigest)
}

/// Checks that the holder of one of our API keys asks for the state of the rooms: the `Authorization` header is a token
/// of [`ApiKey::sign_status`].
pub fn verify_status(authorization: Option<&str>, keys: &ApiKeys, now_ms: u64) -> Result<(), SignatureError> {
    verify(authorization, keys, now_ms)?.verify(STATUS)
}

impl SignedDigest {
    /// Checks that `body` is the one that was signed.
    pub fn verify(&self, body: &[u8]) -> Result<(), SignatureError> {
        let digest = Base64::encode_string(&Sha256::digest(body));
        match bool::from(digest.as_bytes().ct_eq(self.0.as_bytes())) {
            true => Ok(()),
            false => Err(SignatureError::WrongDigest),
        }
    }
}

impl ApiKey {
    /// Signs `body` like the SFU: returns the `Authorization` header of a webhook, valid from now on for five
    /// minutes. For programs that test whether webhooks are accepted.
    pub fn sign_webhook(&self, body: &[u8], now_ms: u64) -> Result<String, MintError> {
        self.sign(body, now_ms, Duration::minutes(WEBHOOK_LIFETIME_MIN))
    }

    /// Returns a token that [`verify_status`] accepts, for ten minutes. It is of no use for anything else.
    pub fn sign_status(&self, now_ms: u64) -> Result<String, MintError> {
        self.sign(STATUS, now_ms, Duration::minutes(STATUS_LIFETIME_MIN))
    }

    fn sign(&self, body: &[u8], now_ms: u64, lifetime: Duration) -> Result<String, MintError> {
        let now = i64::try_from(now_ms).ok().and_then(DateTime::<Utc>::from_timestamp_millis).ok_or(MintError)?;
        let sha256 = Some(Base64::encode_string(&Sha256::digest(body)));
        let mut claims = Claims::new(WebhookClaims { iss: self.name.clone(), sha256 }).set_not_before(now);
        claims.expiration = Some(now + lifetime);
        Hs256.token(&Header::empty(), &claims, &self.secret).map_err(|_| MintError)
    }
}

#[derive(Clone, Deserialize, Serialize)]
struct WebhookClaims {
    iss: String,
    sha256: Option<String>,
}

/// Reason for rejecting a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// The `Authorization` header is missing.
    #[error("no Authorization header")]
    NoToken,
    /// The header holds no JWT with an issuer.
    #[error("the Authorization header holds no token of LiveKit's")]
    Malformed,
    /// The issuer is not a configured key.
    #[error("signed with an API key that this service doesn't know: see webhook.api_key in the SFU's configuration")]
    UnknownKey,
    /// The signature isn't HS256 by the secret of that key.
    #[error("the signature doesn't fit the secret of its API key")]
    WrongSignature,
    /// The token has expired, or never does.
    #[error("the token has expired: do the clocks agree?")]
    Expired,
    /// The token is not valid yet.
    #[error("the token isn't valid yet: do the clocks agree?")]
    NotYetValid,
    /// The token has no digest of a body.
    #[error("the token has no sha256 claim")]
    NoDigest,
    /// The token has the digest of another body.
    #[error("the body isn't the one that was signed: does a proxy change it?")]
    WrongDigest,
}

/// Length limit of the `Authorization` header, in bytes: LiveKit's are some 400 bytes long.
const MAX_HEADER: usize = 8 * 1024;
const LEEWAY_S: i64 = 60;
const WEBHOOK_LIFETIME_MIN: i64 = 5;
const STATUS_LIFETIME_MIN: i64 = 10;
/// Stands where a webhook has its body. No webhook has this one, which is no JSON.
const STATUS: &[u8] = b"matrixrtc-edge status";

#[cfg(test)]
mod tests {
    use super::*;
    use base64ct::Base64UrlUnpadded;
    use jwt_compact::{Algorithm, AlgorithmSignature};
    use proptest::prelude::*;
    use serde_json::json;

    const NOW_S: i64 = 1_700_000_000;
    const BODY: &[u8] = br#"{"event":"room_finished"}"#;

    fn keys() -> ApiKeys {
        ApiKeys::from_lines("new: first\nold: second").unwrap()
    }

    fn signed(iss: &str, secret_of: &str, exp: i64, nbf: i64, body: &[u8]) -> String {
        let custom = json!({"iss": iss, "sha256": Base64::encode_string(&Sha256::digest(body))});
        let mut claims = Claims::new(custom);
        claims.expiration = DateTime::from_timestamp(NOW_S + exp, 0);
        claims.not_before = DateTime::from_timestamp(NOW_S + nbf, 0);
        Hs256.token(&Header::empty(), &claims, &keys().named(secret_of).unwrap().secret).unwrap()
    }

    fn check(authorization: &str, body: &[u8]) -> Result<(), SignatureError> {
        verify(Some(authorization), &keys(), NOW_S as u64 * 1000)?.verify(body)
    }

    #[test]
    fn every_key_may_sign_with_and_without_bearer() {
        for key in ["new", "old"] {
            let token = signed(key, key, 300, 0, BODY);
            assert_eq!(check(&token, BODY), Ok(()));
            assert_eq!(check(&format!("Bearer {token}"), BODY), Ok(()));
        }
    }

    #[test]
    fn what_a_key_signs_is_believed_for_five_minutes() {
        let keys = keys();
        let signed = keys.signing().sign_webhook(BODY, NOW_S as u64 * 1000).unwrap();
        assert_eq!(check(&signed, BODY), Ok(()));
        assert_eq!(check(&signed, b"{}"), Err(SignatureError::WrongDigest));
        assert_eq!(verify(Some(&signed), &keys, (NOW_S as u64 + 361) * 1000), Err(SignatureError::Expired));
    }

    #[test]
    fn a_minute_of_leeway_is_given_and_no_more() {
        assert_eq!(check(&signed("new", "new", -59, 0, BODY), BODY), Ok(()));
        assert_eq!(check(&signed("new", "new", -61, 0, BODY), BODY), Err(SignatureError::Expired));
        assert_eq!(check(&signed("new", "new", 300, 59, BODY), BODY), Ok(()));
        assert_eq!(check(&signed("new", "new", 300, 61, BODY), BODY), Err(SignatureError::NotYetValid));
    }

    #[test]
    fn what_is_not_signed_by_us_is_refused() {
        assert_eq!(verify(None, &keys(), 0), Err(SignatureError::NoToken));
        assert_eq!(check("", BODY), Err(SignatureError::Malformed));
        assert_eq!(check("Bearer x.y.z", BODY), Err(SignatureError::Malformed));
        assert_eq!(check(&signed("other", "new", 300, 0, BODY), BODY), Err(SignatureError::UnknownKey));
        assert_eq!(check(&signed("new", "old", 300, 0, BODY), BODY), Err(SignatureError::WrongSignature));
        assert_eq!(check(&signed("new", "new", 300, 0, BODY), b"{}"), Err(SignatureError::WrongDigest));
    }

    #[test]
    fn a_token_that_vouches_for_no_body_is_refused() {
        let mut claims = Claims::new(json!({"iss": "new"}));
        claims.expiration = DateTime::from_timestamp(NOW_S + 300, 0);
        let token = Hs256.token(&Header::empty(), &claims, &keys().signing().secret).unwrap();
        assert_eq!(check(&token, BODY), Err(SignatureError::NoDigest));
    }

    /// Signs any payload whatever, as a holder of the secret can.
    fn signed_payload(payload: &str) -> String {
        let signed =
            ["{\"alg\":\"HS256\"}", payload].map(|part| Base64UrlUnpadded::encode_string(part.as_bytes())).join(".");
        let signature = Hs256.sign(&keys().signing().secret, signed.as_bytes());
        format!("{signed}.{}", Base64UrlUnpadded::encode_string(&signature.as_bytes()))
    }

    #[test]
    fn times_at_the_ends_of_the_calendar_are_compared() {
        let digest = Base64::encode_string(&Sha256::digest(BODY));
        let payload = |exp: &str, nbf: &str| format!(r#"{{"iss":"new","sha256":"{digest}","exp":{exp},"nbf":{nbf}}}"#);
        assert_eq!(check(&signed_payload(&payload("1700000300", "1700000000")), BODY), Ok(()));
        let times = [
            "0",
            "-1",
            "8210266876799",
            "8210266876800",
            "-8334601228800",
            "-8334601228801",
            "-8334632851200",
            "9223372036854775807",
            "-9223372036854775808",
            "18446744073709551615",
            "1e300",
            "-1e300",
            "1.5",
            "null",
            "\"1\"",
        ];
        for exp in times {
            for nbf in times {
                // None of these panics, and no time but a later one makes a token valid.
                let _ = check(&signed_payload(&payload(exp, nbf)), BODY);
            }
            assert_ne!(check(&signed_payload(&payload("-9223372036854775808", exp)), BODY), Ok(()), "{exp}");
        }
        assert_eq!(check(&signed_payload(&payload("8210266876799", "-8334601228800")), BODY), Ok(()));
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_panic(header in "(Bearer )?[a-zA-Z0-9_.-]{0,80}|\\PC{0,40}", body: Vec<u8>) {
            prop_assert!(check(&header, &body).is_err());
        }
    }
}
