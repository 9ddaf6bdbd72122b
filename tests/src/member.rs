use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::OpenIdToken;

/// Member of a call, with its names on the SFU (`docs/protocol.md#names-on-the-sfu`).
#[derive(Clone, Debug)]
pub struct Member {
    /// Matrix room.
    pub room_id: String,
    /// Slot in the Matrix room.
    pub slot_id: String,
    /// User.
    pub user_id: String,
    /// Device of the user.
    pub device_id: String,
    /// Id of the membership.
    pub member_id: String,
}

/// Entry points for delegating a delayed leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryPoint {
    /// `/get_token`: with a request for a token (MSC4195).
    GetToken,
    /// `/sfu/get`: with a request for a token in the legacy form.
    SfuGet,
    /// `/delegate_delayed_leave`: without a token.
    Delegate,
}

impl EntryPoint {
    /// All entry points.
    pub const ALL: [Self; 3] = [Self::GetToken, Self::SfuGet, Self::Delegate];

    /// Endpoint of the entry point.
    pub fn path(self) -> &'static str {
        match self {
            Self::GetToken => "/get_token",
            Self::SfuGet => "/sfu/get",
            Self::Delegate => "/delegate_delayed_leave",
        }
    }
}

impl Member {
    /// Creates a member of the room's call in the legacy form's slot.
    pub fn of_room(room_id: &str, user_id: &str) -> Self {
        Self {
            room_id: room_id.to_owned(),
            slot_id: LEGACY_SLOT.to_owned(),
            user_id: user_id.to_owned(),
            device_id: String::from("DEVICE"),
            member_id: String::from("member-1"),
        }
    }

    /// LiveKit room.
    pub fn room(&self) -> String {
        hash(&[&self.room_id, &self.slot_id])
    }

    /// Identity of a member that joins through this entry point.
    pub fn identity(&self, entry_point: EntryPoint) -> String {
        match entry_point {
            EntryPoint::GetToken | EntryPoint::Delegate => hash(&[&self.user_id, &self.device_id, &self.member_id]),
            EntryPoint::SfuGet => format!("{}:{}", self.user_id, self.device_id),
        }
    }

    /// Body for this entry point, with a leave to delegate.
    pub fn delegation(&self, entry_point: EntryPoint, token: &OpenIdToken, delay_id: &str, delay: Duration) -> Value {
        let mut body = self.request(entry_point, token);
        body["delay_id"] = delay_id.into();
        body["delay_timeout"] = u64::try_from(delay.as_millis()).expect("a sane delay").into();
        body
    }

    /// Body for this entry point, without a leave.
    pub fn request(&self, entry_point: EntryPoint, token: &OpenIdToken) -> Value {
        let openid_token = json!({
            "access_token": token.access_token,
            "token_type": "Bearer",
            "matrix_server_name": token.matrix_server_name,
            "expires_in": 3600,
        });
        match entry_point {
            EntryPoint::SfuGet => json!({
                "room": self.room_id,
                "openid_token": openid_token,
                "device_id": self.device_id,
            }),
            EntryPoint::GetToken | EntryPoint::Delegate => json!({
                "room_id": self.room_id,
                "slot_id": self.slot_id,
                "openid_token": openid_token,
                "member": {
                    "id": self.member_id,
                    "claimed_user_id": self.user_id,
                    "claimed_device_id": self.device_id,
                },
            }),
        }
    }
}

/// SHA-256 of the canonical JSON array, in base64.
fn hash(parts: &[&str]) -> String {
    STANDARD_NO_PAD.encode(Sha256::digest(json!(parts).to_string()))
}

const LEGACY_SLOT: &str = "m.call#ROOM";
