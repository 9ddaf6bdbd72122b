//! LiveKit's access tokens ([LiveKit, "Tokens and grants"](https://docs.livekit.io/frontends/authentication/tokens/),
//! `docs/protocol.md#the-livekit-token`).
//!
//! How it works:
//! - a token is an HS256 JWT with the API key as `iss`, the participant's identity as `sub`, and a `video` claim made
//!   from a [`Grant`];
//! - each has a random `jti`, because two tokens minted in the same second must differ;
//! - the payload is pure ASCII, with escapes in the identity: clients decode it with plain base64.

use std::borrow::Cow;
use std::fmt::Write;

use chrono::{DateTime, Duration, Utc};
use jwt_compact::alg::Hs256;
use jwt_compact::{AlgorithmExt, Claims, Header};
use serde::Serialize;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::livekit::keys::ApiKey;

/// Permissions of a token: the `video` claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant<'a> {
    /// Joins `room` as a client. Never with the grant to create rooms, which also deletes them.
    Join {
        /// The LiveKit room.
        room: &'a str,
        /// Allows to publish tracks.
        can_publish: bool,
        /// Allows the participant to change its own name, metadata and attributes.
        can_update_own_metadata: bool,
    },
    /// Creates rooms, and deletes them.
    CreateRoom,
    /// Lists all rooms.
    ListRooms,
    /// Queries a room's participants, and removes them.
    Administer {
        /// The LiveKit room.
        room: &'a str,
    },
}

impl ApiKey {
    /// Signs a token for `identity`, valid from now on for `lifetime_s` seconds.
    pub fn mint(
        &self,
        identity: Option<&str>,
        grant: Grant<'_>,
        now_ms: u64,
        lifetime_s: u32,
    ) -> Result<String, MintError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| MintError)?;
        let identity = identity.map(ascii_json).transpose()?;
        let claims = TokenClaims {
            iss: &self.name,
            sub: identity.as_deref(),
            jti: hex(&random),
            video: VideoGrant::from(grant),
        };
        let now = i64::try_from(now_ms / 1000)
            .ok()
            .and_then(|now| DateTime::<Utc>::from_timestamp(now, 0))
            .ok_or(MintError)?;
        let mut claims = Claims::new(claims).set_not_before(now);
        claims.expiration = Some(now + Duration::seconds(lifetime_s.into()));
        Hs256.token(&Header::empty().with_token_type("JWT"), &claims, &self.secret).map_err(|_| MintError)
    }
}

/// No token could be signed: there is no randomness, or the clock is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no token could be signed")]
pub struct MintError;

#[derive(Serialize)]
struct TokenClaims<'a> {
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a RawValue>,
    jti: String,
    video: VideoGrant<'a>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct VideoGrant<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_join: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_create: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_list: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_admin: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    can_publish: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    can_subscribe: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    can_update_own_metadata: Option<bool>,
}

impl<'a> From<Grant<'a>> for VideoGrant<'a> {
    fn from(grant: Grant<'a>) -> Self {
        match grant {
            Grant::Join { room, can_publish, can_update_own_metadata } => Self {
                room: Some(room),
                room_join: Some(true),
                room_create: Some(false),
                can_publish: Some(can_publish),
                can_subscribe: Some(true),
                can_update_own_metadata: Some(can_update_own_metadata),
                ..Self::default()
            },
            Grant::CreateRoom => Self { room_create: Some(true), ..Self::default() },
            Grant::ListRooms => Self { room_list: Some(true), ..Self::default() },
            Grant::Administer { room } => Self { room: Some(room), room_admin: Some(true), ..Self::default() },
        }
    }
}

/// Returns `text` as a JSON string in which all characters outside ASCII are escaped.
fn ascii_json(text: &str) -> Result<Box<RawValue>, MintError> {
    let json = serde_json::to_string(text).map_err(|_| MintError)?;
    let json = match json.is_ascii() {
        true => Cow::Borrowed(json.as_str()),
        false => Cow::Owned(json.chars().fold(String::with_capacity(json.len() * 2), |mut out, c| {
            match c.is_ascii() {
                true => out.push(c),
                // Writing into a String can't fail.
                false => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| _ = write!(out, "\\u{unit:04x}")),
            }
            out
        })),
    };
    RawValue::from_string(json.into_owned()).map_err(|_| MintError)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::livekit::keys::ApiKeys;
    use jwt_compact::UntrustedToken;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn payload(identity: Option<&str>, grant: Grant<'_>) -> Value {
        let keys = ApiKeys::single("devkey", "secret").unwrap();
        let token = keys.signing().mint(identity, grant, 1_700_000_000_999, 3600).unwrap();
        let token = UntrustedToken::new(&token).unwrap();
        let claims = Hs256.validator::<Value>(&keys.signing().secret).validate(&token).unwrap();
        serde_json::to_value(claims.claims()).unwrap()
    }

    #[test]
    fn a_joining_token_carries_the_claims_of_the_protocol() {
        let grant = Grant::Join { room: "room", can_publish: true, can_update_own_metadata: false };
        let mut payload = payload(Some("@a:example.com:D"), grant);
        let jti = payload["jti"].take();
        assert_eq!(jti.as_str().map(str::len), Some(32));
        assert_eq!(
            payload,
            json!({
                "iss": "devkey", "sub": "@a:example.com:D", "nbf": 1_700_000_000, "exp": 1_700_003_600, "jti": null,
                "video": {
                    "room": "room", "roomJoin": true, "roomCreate": false, "canPublish": true, "canSubscribe": true,
                    "canUpdateOwnMetadata": false,
                },
            })
        );
    }

    #[test]
    fn tokens_for_the_api_carry_one_grant() {
        assert_eq!(payload(None, Grant::CreateRoom)["video"], json!({"roomCreate": true}));
        assert_eq!(payload(None, Grant::ListRooms)["video"], json!({"roomList": true}));
        assert_eq!(payload(None, Grant::Administer { room: "r" })["video"], json!({"room": "r", "roomAdmin": true}));
    }

    proptest! {
        #[test]
        fn the_payload_is_ascii_and_reads_back_as_the_identity(identity in "\\PC{0,30}|[\\x00-\\x1f\"\\\\]{0,9}") {
            let json = ascii_json(&identity).unwrap();
            prop_assert!(json.get().is_ascii());
            prop_assert_eq!(serde_json::from_str::<String>(json.get()).unwrap(), identity.clone());
            let payload = payload(Some(&identity), Grant::CreateRoom);
            prop_assert_eq!(payload["sub"].as_str(), Some(identity.as_str()));
        }
    }
}
