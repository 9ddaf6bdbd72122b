use serde_json::{Value, json};

use crate::OpenIdToken;

/// Endpoints that issue LiveKit tokens (`docs/protocol.md#http-surface`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/get_token`, MSC4195.
    GetToken,
    /// `/sfu/get`, the legacy form.
    SfuGet,
}

impl Endpoint {
    /// Both endpoints.
    pub const BOTH: [Self; 2] = [Self::GetToken, Self::SfuGet];

    /// Path of the endpoint.
    pub fn path(self) -> &'static str {
        match self {
            Self::GetToken => "/get_token",
            Self::SfuGet => "/sfu/get",
        }
    }

    /// Builds a complete request, for the room and the device of the examples in `docs/protocol.md#names-on-the-sfu`.
    pub fn request(self, token: &OpenIdToken) -> Value {
        let openid_token = json!({
            "access_token": token.access_token,
            "token_type": "Bearer",
            "matrix_server_name": token.matrix_server_name,
            "expires_in": 3600,
        });
        match self {
            Self::GetToken => json!({
                "room_id": "!roomid:example.com",
                "slot_id": "slot1234",
                "openid_token": openid_token,
                "member": {
                    "id": "member-1",
                    "claimed_user_id": token.user_id,
                    "claimed_device_id": "DEVICE",
                },
            }),
            Self::SfuGet => json!({
                "room": "!room:example.com",
                "openid_token": openid_token,
                "device_id": "DEVICE",
            }),
        }
    }

    /// LiveKit room of that request.
    pub fn room_alias(self) -> &'static str {
        match self {
            Self::GetToken => "O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc",
            Self::SfuGet => "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs",
        }
    }
}
