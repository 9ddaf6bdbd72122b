//! Names on the SFU (§4 of the protocol): what a LiveKit room and its participants are called.
//!
//! Hashed names are SHA-256 over the canonical JSON array of their parts, in standard base64 without padding.

use std::fmt;

use base64ct::{Base64Unpadded, Encoding};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The name of a LiveKit room.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoomName(String);

impl RoomName {
    /// The room of a call: a slot of a Matrix room.
    pub fn new(room_id: &str, slot_id: &str) -> Self {
        Self(hash(&[room_id, slot_id]))
    }

    /// The name as the SFU knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The identity of a LiveKit participant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(String);

impl Identity {
    /// The identity of a MatrixRTC member.
    pub fn member(user_id: &str, device_id: &str, member_id: &str) -> Self {
        Self(hash(&[user_id, device_id, member_id]))
    }

    /// The identity of a legacy client: user and device in the clear.
    pub fn legacy(user_id: &str, device_id: &str) -> Self {
        Self(format!("{user_id}:{device_id}"))
    }

    /// The identity as the SFU knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn hash(parts: &[&str]) -> String {
    // serde_json writes no spaces and escapes only what canonical JSON escapes, so its array is the canonical one.
    let json = serde_json::Value::from(parts).to_string();
    Base64Unpadded::encode_string(&Sha256::digest(json.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_protocol_hold() {
        let room = |room, slot| RoomName::new(room, slot).as_str().to_owned();
        assert_eq!(room("!roomid:example.com", "slot1234"), "O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc");
        assert_eq!(room("!room:example.com", "m.call#ROOM"), "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs");
        let member = Identity::member("@alice:example.com", "DEVICE", "member-1");
        assert_eq!(member.as_str(), "vYVt8NUMTb0rAawkFqilcAtxKgY26U3Ab7R9INviNnU");
        assert_eq!(hash(&["@alice:example.com", "memberABC"]), "M3VnsLXrkbxIDINXO64u8PZzFyD9ZYFiQULR2dshWYs");
    }

    #[test]
    fn only_what_canonical_json_escapes_is_escaped() {
        let text = serde_json::Value::from(&["\"\\\n\u{1}é/\u{7f}"][..]).to_string();
        assert_eq!(text, "[\"\\\"\\\\\\n\\u0001é/\u{7f}\"]");
    }

    #[test]
    fn a_legacy_identity_is_in_the_clear() {
        assert_eq!(Identity::legacy("@alice:example.com", "").as_str(), "@alice:example.com:");
    }
}
