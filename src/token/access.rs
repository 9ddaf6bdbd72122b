//! What a caller may do in a LiveKit room.

use crate::config::Config;
use crate::matrix::ids::room_id::RoomId;

/// What somebody may do, by the door that they came through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// With an OpenID token of a homeserver in `LIVEKIT_FULL_ACCESS_HOMESERVERS`.
    Full,
    /// With an OpenID token of another one.
    Restricted,
    /// Through our homeserver, as its user and a member of this room.
    Local(RoomId),
    /// Through our homeserver, as another one's user and a member of this room.
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
            // They publish on the SFU of their own homeserver.
            Self::Federated(_) => false,
        }
    }

    pub fn token_lifetime_s(&self, config: &Config) -> u32 {
        match self {
            Self::Full | Self::Restricted => TOKEN_LIFETIME_S,
            Self::Local(_) | Self::Federated(_) => config.token_ttl_s,
        }
    }

    /// The Matrix room whose member they have been found to be.
    pub fn matrix_room(&self) -> Option<&RoomId> {
        match self {
            Self::Full | Self::Restricted => None,
            Self::Local(room) | Self::Federated(room) => Some(room),
        }
    }
}

const TOKEN_LIFETIME_S: u32 = 3600;
