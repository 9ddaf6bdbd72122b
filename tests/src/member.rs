use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::OpenIdToken;

/// A member of a call, with the names that this has on the SFU (protocol 4).
#[derive(Clone, Debug)]
pub struct Member {
    /// The Matrix room.
    pub room_id: String,
    /// The slot in it.
    pub slot_id: String,
    /// The user.
    pub user_id: String,
    /// The user's device.
    pub device_id: String,
    /// The membership's own id.
    pub member_id: String,
}

/// The ways to hand over a delayed leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryPoint {
    /// With a request for a token, MSC4195.
    GetToken,
    /// With a request for a token, the legacy form.
    SfuGet,
    /// On its own.
    Delegate,
}

impl EntryPoint {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::GetToken, Self::SfuGet, Self::Delegate];

    /// Where it is.
    pub fn path(self) -> &'static str {
        match self {
            Self::GetToken => "/get_token",
            Self::SfuGet => "/sfu/get",
            Self::Delegate => "/delegate_delayed_leave",
        }
    }
}

impl Member {
    /// A member of the room's one call that the legacy form knows.
    pub fn of_room(room_id: &str, user_id: &str) -> Self {
        Self {
            room_id: room_id.to_owned(),
            slot_id: LEGACY_SLOT.to_owned(),
            user_id: user_id.to_owned(),
            device_id: String::from("DEVICE"),
            member_id: String::from("member-1"),
        }
    }

    /// The LiveKit room.
    pub fn room(&self) -> String {
        hash(&[&self.room_id, &self.slot_id])
    }

    /// The identity of who comes in through this entry_point.
    pub fn identity(&self, entry_point: EntryPoint) -> String {
        match entry_point {
            EntryPoint::GetToken | EntryPoint::Delegate => hash(&[&self.user_id, &self.device_id, &self.member_id]),
            EntryPoint::SfuGet => format!("{}:{}", self.user_id, self.device_id),
        }
    }

    /// What to POST to this entry_point, with a leave to hand over.
    pub fn delegation(&self, entry_point: EntryPoint, token: &OpenIdToken, delay_id: &str, delay: Duration) -> Value {
        let mut body = self.request(entry_point, token);
        body["delay_id"] = delay_id.into();
        body["delay_timeout"] = u64::try_from(delay.as_millis()).expect("a sane delay").into();
        body
    }

    /// What to POST to this entry_point, without one.
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
