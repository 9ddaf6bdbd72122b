//! Names of things on the SFU and on the homeserver. The engine compares them and passes them on; parsing them is the
//! caller's.

use std::fmt;

use base64ct::{Base64Unpadded, Encoding};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Defines string types that differ in meaning only.
macro_rules! string_ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
            #[serde(transparent)]
            pub struct $name(String);

            impl $name {
                /// Wraps a text that the caller has parsed, or that the SFU has sent.
                pub fn new(text: impl Into<String>) -> Self {
                    Self(text.into())
                }

                /// The text.
                pub fn as_str(&self) -> &str {
                    &self.0
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(&self.0)
                }
            }
        )*
    };
}

string_ids! {
    /// Name of a LiveKit room.
    RoomName;
    /// Identity of a LiveKit participant. A client that reconnects keeps it.
    Identity;
    /// Name of the homeserver that holds a delayed event.
    ServerName;
    /// Id of a Matrix room.
    MatrixRoomId;
    /// Id of a Matrix user.
    UserId;
    /// URL of a homeserver's delayed events, below which each has its id, without a slash at its end. The engine
    /// passes it on for times when it can't be looked up.
    DelayedEventsUrl;
}

impl RoomName {
    /// The room of a slot in a Matrix room: `H(room_id, slot_id)`.
    pub fn of_slot(room_id: &str, slot_id: &str) -> Self {
        Self(hash(&[room_id, slot_id]))
    }
}

impl Identity {
    /// A member's identity at `/get_token` and `/delegate_delayed_leave`: `H(user_id, claimed_device_id, member.id)`.
    pub fn of_member(user_id: &str, device_id: &str, member_id: &str) -> Self {
        Self(hash(&[user_id, device_id, member_id]))
    }

    /// A device's identity at `/sfu/get`: `{user_id}:{device_id}` in the clear.
    pub fn of_device(user_id: &str, device_id: &str) -> Self {
        Self(format!("{user_id}:{device_id}"))
    }

    /// A member's identity at the homeserver's own endpoints (MSC4195): `H(user_id, member_id)`.
    pub fn of_homeserver_member(user_id: &str, member_id: &str) -> Self {
        Self(hash(&[user_id, member_id]))
    }
}

impl ServerName {
    /// The name without its port. Ports are free, hosts aren't: what is counted by homeserver is counted by host.
    pub fn host(&self) -> &str {
        let end_of_literal = self.0.rfind(']').map_or(0, |bracket| bracket + 1);
        match self.0.rfind(':') {
            Some(colon) if colon >= end_of_literal => &self.0[..colon],
            _ => &self.0,
        }
    }
}

/// The SFU's id of one connection of a participant: each new connection has a new one, a migrated one keeps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ParticipantSid(String);

impl ParticipantSid {
    /// Parses a `sid` field. `None` where it is empty, which is protobuf's way of leaving it out, or holds white
    /// space.
    pub fn new(sid: impl Into<String>) -> Option<Self> {
        let sid = sid.into();
        (!sid.is_empty() && !sid.contains(char::is_whitespace)).then_some(Self(sid))
    }

    /// The SID, as the SFU writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// SHA-256 of the canonical JSON array of `parts`, in standard base64 without padding (MSC4195).
fn hash(parts: &[&str]) -> String {
    // serde_json writes strings as canonical JSON wants them: only `"`, `\` and control characters escaped.
    let array = serde_json::Value::from(parts).to_string();
    Base64Unpadded::encode_string(&Sha256::digest(array))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_clients_compute() {
        assert_eq!(
            RoomName::of_slot("!roomid:example.com", "slot1234").as_str(),
            "O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc"
        );
        assert_eq!(
            RoomName::of_slot("!room:example.com", "m.call#ROOM").as_str(),
            "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs"
        );
        assert_eq!(
            Identity::of_member("@alice:example.com", "DEVICE", "member-1").as_str(),
            "vYVt8NUMTb0rAawkFqilcAtxKgY26U3Ab7R9INviNnU"
        );
        assert_eq!(
            Identity::of_homeserver_member("@alice:example.com", "memberABC").as_str(),
            "M3VnsLXrkbxIDINXO64u8PZzFyD9ZYFiQULR2dshWYs"
        );
        assert_eq!(Identity::of_device("@alice:example.com", "DEVICE").as_str(), "@alice:example.com:DEVICE");
    }

    #[test]
    fn only_what_canonical_json_escapes_is_escaped() {
        // printf '["é/\\"","\\n\\u0001\x7f"]' | sha256sum
        let array = "[\"é/\\\"\",\"\\n\\u0001\u{7f}\"]";
        let expected = Base64Unpadded::encode_string(&Sha256::digest(array));
        assert_eq!(hash(&["é/\"", "\n\u{1}\u{7f}"]), expected);
    }

    #[test]
    fn a_host_has_no_port() {
        for (name, host) in [
            ("example.com", "example.com"),
            ("example.com:8448", "example.com"),
            ("1.2.3.4:1", "1.2.3.4"),
            ("[::1]", "[::1]"),
            ("[::1]:8448", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(ServerName::new(name).host(), host);
        }
    }

    #[test]
    fn a_missing_sid_is_none() {
        assert_eq!(ParticipantSid::new(""), None);
        assert_eq!(ParticipantSid::new("PA_1").unwrap().as_str(), "PA_1");
    }
}
