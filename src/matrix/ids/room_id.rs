//! Matrix room identifiers ([appendices, "Room IDs"](https://spec.matrix.org/latest/appendices/#room-ids)).

/// A room identifier: `!` and an opaque part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoomId(String);

impl RoomId {
    /// Parses a room identifier. The part after the `!` is not parsed: newer rooms have no server name in it.
    pub fn parse(text: &str) -> Result<Self, InvalidRoomId> {
        ruma_identifiers_validation::room_id::validate(text).map_err(|_| InvalidRoomId)?;
        Ok(Self(text.to_owned()))
    }

    /// Returns the identifier as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is no Matrix room identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRoomId;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rooms_of_all_versions_are_read() {
        for text in ["!roomid:example.com", "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM", "!a/../b:example.com"] {
            assert_eq!(RoomId::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_is_no_room_id_is_refused() {
        for text in ["", "room", "#room:example.com", "..", "!a\0b", &format!("!{}", "x".repeat(255))] {
            assert_eq!(RoomId::parse(text), Err(InvalidRoomId), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in "!?\\PC{0,40}") {
            if let Ok(room) = RoomId::parse(&text) {
                prop_assert!(room.as_str().starts_with('!'));
            }
        }
    }
}
