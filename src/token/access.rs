//! Permissions of a caller in a LiveKit room (`docs/protocol.md#access`).
//!
//! How it works:
//! - the entry point decides: an OpenID token gives full or restricted access, by its homeserver; homeserver mode
//!   gives local or federated access, to members of a Matrix room;
//! - from it follow the rights to create the room and to publish;
//! - for restricted access it also says why the room isn't created, since operators look for that.

use crate::config::{Config, HomeserverList};
use crate::matrix::ids::server_name::ServerName;

/// Permissions of a caller, by the entry point of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// OpenID token of a homeserver in `LIVEKIT_FULL_ACCESS_HOMESERVERS`.
    Full,
    /// OpenID token of another homeserver, which is this one.
    Restricted(ServerName),
    /// Request through our homeserver, of its own user.
    Local,
    /// Request through our homeserver, of a user of this other one.
    Federated(ServerName),
}

impl Access {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Restricted(_) => "restricted",
            Self::Local => "local",
            Self::Federated(_) => "federated",
        }
    }

    pub fn creates_rooms(&self) -> bool {
        !matches!(self, Self::Restricted(_))
    }

    /// Returns the reason for not creating the room, for the log.
    pub fn why_no_room(&self, full_access: &HomeserverList) -> Option<String> {
        let Self::Restricted(homeserver) = self else { return None };
        Some(match full_access.in_other_capitals(homeserver) {
            Some(entry) => {
                format!("LIVEKIT_FULL_ACCESS_HOMESERVERS has {entry}, which differs from {homeserver} by capitals only")
            }
            None => format!("{homeserver} isn't in LIVEKIT_FULL_ACCESS_HOMESERVERS"),
        })
    }

    pub fn can_publish(&self, config: &Config) -> bool {
        match self {
            Self::Full | Self::Local => true,
            Self::Restricted(_) => config.restricted_can_publish,
            Self::Federated(origin) => config.remote_can_publish_homeservers.includes(origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_that_is_not_created_has_a_reason() {
        let name = |text| ServerName::parse(text).unwrap();
        let listed = HomeserverList::Listed([name("Example.org"), name("example.com")].into());
        let why = |access: Access| access.why_no_room(&listed).unwrap_or_default();
        assert!(
            why(Access::Restricted(name("example.org"))).contains("Example.org, which differs from example.org by")
        );
        let expected = "example.net isn't in LIVEKIT_FULL_ACCESS_HOMESERVERS";
        assert_eq!(why(Access::Restricted(name("example.net"))), expected);
        for access in [Access::Full, Access::Local, Access::Federated(name("example.net"))] {
            assert_eq!(access.why_no_room(&listed), None);
        }
    }
}
