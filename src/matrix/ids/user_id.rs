//! Matrix user identifiers ([appendices, "User Identifiers"](https://spec.matrix.org/latest/appendices/#user-identifiers)).

use std::fmt;

/// A user identifier, `@localpart:server`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserId(String);

impl UserId {
    /// Parses a fully qualified user identifier; the historical grammar of localparts is accepted.
    pub fn parse(text: &str) -> Result<Self, InvalidUserId> {
        ruma_identifiers_validation::user_id::validate(text).map_err(|_| InvalidUserId)?;
        Ok(Self(text.to_owned()))
    }

    /// Returns the identifier as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the part behind the first colon: the name of the homeserver.
    pub fn server_name(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, server)| server)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no Matrix user identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUserId;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_server_name_is_everything_behind_the_first_colon() {
        let user = UserId::parse("@alice:example.com:8448").unwrap();
        assert_eq!(user.server_name(), "example.com:8448");
    }

    #[test]
    fn what_is_no_user_id_is_refused() {
        for text in ["", "alice", "@alice", "alice:example.com", "!room:example.com", "@alice:", "@a\0b:example.com"] {
            assert_eq!(UserId::parse(text), Err(InvalidUserId), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in "@?\\PC{0,30}(:\\PC{0,30})?") {
            if let Ok(user) = UserId::parse(&text) {
                prop_assert!(!user.server_name().is_empty());
            }
        }
    }
}
