//! Permissions of a caller in a LiveKit room (`docs/protocol.md#access`).
//!
//! How it works:
//! - the entry point decides: an OpenID token gives full or restricted access, by its homeserver; homeserver mode
//!   gives local or federated access, to members of a Matrix room;
//! - from it follow the rights to create the room and to publish, and the lifetime of the token;
//! - in homeserver mode it also has the Matrix room, whose membership the participant must keep.

use crate::config::Config;
use crate::matrix::ids::room_id::RoomId;

/// Permissions of a caller, by the entry point of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// OpenID token of a homeserver in `LIVEKIT_FULL_ACCESS_HOMESERVERS`.
    Full,
    /// OpenID token of another homeserver.
    Restricted,
    /// Request through our homeserver, of its own user, who is a member of this room.
    Local(RoomId),
    /// Request through our homeserver, of another homeserver's user, who is a member of this room.
    Federated(RoomId),
}

impl Access {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Restricted => "restricted",
            Self::Local(_) => "local",
            Self::Federated(_) => "federated",
        }
    }

    pub fn creates_rooms(&self) -> bool {
        !matches!(self, Self::Restricted)
    }

    pub fn can_publish(&self, config: &Config) -> bool {
        match self {
            Self::Full | Self::Local(_) => true,
            Self::Restricted => config.restricted_can_publish,
            // These users publish on the SFU of their own homeserver.
            Self::Federated(_) => false,
        }
    }

    pub fn token_lifetime_s(&self, config: &Config) -> u32 {
        match self {
            Self::Full | Self::Restricted => TOKEN_LIFETIME_S,
            Self::Local(_) | Self::Federated(_) => config.token_ttl_s,
        }
    }

    /// Returns the Matrix room in which membership was verified.
    pub fn matrix_room(&self) -> Option<&RoomId> {
        match self {
            Self::Full | Self::Restricted => None,
            Self::Local(room) | Self::Federated(room) => Some(room),
        }
    }
}

const TOKEN_LIFETIME_S: u32 = 3600;
