//! State of the rooms, for the operator: `…/status`.
//!
//! How it works:
//! - the caller proves to hold the API key, with a token that is signed for this purpose and valid for ten minutes
//!   ([`ApiKey::sign_status`](crate::livekit::keys::ApiKey::sign_status));
//! - no list of rooms is stored, which would cost a row for each. The SFU lists its rooms, and [`recent`] those of this
//!   instance: a room whose leaves wait for their homeserver may be gone from the SFU;
//! - the object of each room reports its state; a page of rooms a request, a few at a time;
//! - neither ids of delayed events nor tokens are in the response, and ids of users only if requested.

use std::collections::BTreeMap;

use delegated_leaves::RoomName;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::clock;
use crate::livekit::room_service::RoomService;
use crate::room::client::{RoomClient, RoomError};
use crate::room::recent;

/// Query of a request for the state of the rooms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusQuery {
    /// Only rooms with a name behind this one: `next` of the page before.
    after: Option<String>,
    /// Whether the response has ids of users.
    with_users: bool,
}

impl StatusQuery {
    /// Reads `after` and `users=true` from the query of a URL. Everything else is ignored.
    pub fn of_url(url: &str) -> Self {
        let mut query = Self::default();
        let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
        let parameters = parameters.split('#').next().unwrap_or_default();
        for (name, value) in parameters.split('&').filter_map(|parameter| parameter.split_once('=')) {
            match name {
                "after" if value.len() <= MAX_NAME => {
                    query.after = Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
                }
                "users" => query.with_users = value == "true",
                _ => {}
            }
        }
        query
    }

    /// Returns the state of a page of rooms. Where the SFU fails, its rooms are missing, and the response says so.
    pub async fn run(&self, sfu: RoomService<'_>, rooms: RoomClient<'_>) -> Result<Value, RoomError> {
        let (on_sfu, failure) = match sfu.room_names().await {
            Ok(on_sfu) => (on_sfu, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let sfu_rooms = on_sfu.len();
        // Each with whether it is on the SFU. Sorted one by one: the code to sort a list of them is larger.
        let mut names = BTreeMap::new();
        for (room, is_on_sfu) in
            recent::names().into_iter().map(|room| (room, false)).chain(on_sfu.into_iter().map(|room| (room, true)))
        {
            names.insert(room, is_on_sfu);
        }
        let is_later = |room: &RoomName| self.after.as_deref().is_none_or(|after| room.as_str() > after);
        let mut page = Vec::new();
        let (mut last, mut next) = (None, None);
        for (room, is_on_sfu) in names.iter().filter(|(room, _)| is_later(room)) {
            if page.len() == PAGE {
                next = last;
                break;
            }
            last = Some(room.as_str());
            page.push(json!({"room": room.as_str(), "on_sfu": is_on_sfu}));
        }
        let states = rooms.states(page, self.with_users).await?;
        Ok(json!({
            "at": clock::now_ms(), "rooms": states, "next": next, "sfu_rooms": sfu_rooms, "sfu_error": failure,
        }))
    }
}

/// Rooms of one response. The smallest limit of an invocation is 50 requests, and the SFU's list is one.
const PAGE: usize = 40;
/// Length limit of a room's name in a query, in bytes: three for each of LiveKit's 256, percent-encoded.
const MAX_NAME: usize = 3 * 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_has_two_parameters_and_others_are_ignored() {
        let query = StatusQuery::of_url("https://a.example/x/status?after=a%20b&users=true&z=1#users=false");
        assert_eq!(query, StatusQuery { after: Some("a b".to_owned()), with_users: true });
        let too_long = format!("https://a.example/status?after={}", "a".repeat(MAX_NAME + 1));
        for url in ["https://a.example/status", "https://a.example/status?users=1", "nonsense", &too_long] {
            assert_eq!(StatusQuery::of_url(url), StatusQuery::default(), "{url}");
        }
    }
}
