//! Membership of Matrix rooms, as our own homeserver reports it (`docs/protocol.md#calls-to-the-homeserver`).
//!
//! How it works:
//! - `is_joined` (MSC4502) is a small query about one user or one server, for a token. The user is `mxid` in it, or
//!   `user_id` where the homeserver misses that;
//! - `joined_members` ([client-server API, "Room
//!   membership"](https://spec.matrix.org/latest/client-server-api/#get_matrixclientv3roomsroomidjoined_members))
//!   lists everyone, for the periodic check of a room;
//! - an error never means "not joined", and a 403 for the list is reported as such: the homeserver may have left the
//!   room, or may not share its members with us.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use delegated_leaves::MembersAnswer;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::fetch::{Deadline, MAX_ERROR_BODY};
use crate::matrix::homeserver::client_api::escaped;
use crate::matrix::homeserver::{Homeserver, HomeserverError, read};
use crate::matrix::ids::room_id::RoomId;
use crate::matrix::ids::server_name::ServerName;
use crate::matrix::ids::user_id::UserId;

/// Subject of a membership query.
#[derive(Clone, Copy, Debug)]
pub enum Party<'a> {
    /// A user, of whichever server.
    User(&'a UserId),
    /// A server: joined while any of its users is.
    Server(&'a ServerName),
}

impl Homeserver<'_> {
    /// Whether `party` is joined to `room`. An error means that the membership is unknown.
    pub async fn is_joined(&self, room: &RoomId, party: Party<'_>) -> Result<bool, HomeserverError> {
        let rooms = self.api().is_joined_rooms_path();
        let deadline = Deadline::after(IS_JOINED_TIMEOUT);
        let query = async |name: &str, value: &str| {
            let path = format!("{rooms}/{}/is_joined?{name}={}", escaped(room.as_str()), escaped(value));
            self.get(&path, &deadline).await
        };
        let response = match party {
            Party::Server(server) => query("server_name", server.as_str()).await?,
            Party::User(user) => {
                let response = query("mxid", user.as_str()).await?;
                match response.status() {
                    // To Synapse `user_id` means the user to act for, so it comes second.
                    400 => match misses_a_parameter(&response.body(MAX_ERROR_BODY).await?) {
                        true => query("user_id", user.as_str()).await?,
                        false => return Err(HomeserverError::Status(400)),
                    },
                    _ => response,
                }
            }
        };
        is_joined(&read(response).await?)
    }

    /// Returns the members of `room`, or that the homeserver refuses to list them (403).
    pub async fn joined_members(&self, room: &RoomId) -> Result<MembersAnswer, HomeserverError> {
        let path = format!("v3/rooms/{}/joined_members", escaped(room.as_str()));
        let response = self.get(&path, &Deadline::after(MEMBERS_TIMEOUT)).await?;
        match response.status() {
            200 => joined(&response.body(MAX_ANSWER).await?).map(MembersAnswer::Joined),
            403 => Ok(MembersAnswer::Forbidden),
            status => Err(HomeserverError::Status(status)),
        }
    }
}

/// Whether a 400 with this body is for a missing parameter.
fn misses_a_parameter(body: &[u8]) -> bool {
    let error: Value = serde_json::from_slice(body).unwrap_or_default();
    error["errcode"] == "M_MISSING_PARAM"
}

/// Parses the response to a query of one membership.
pub(crate) fn is_joined(response: &Value) -> Result<bool, HomeserverError> {
    response["joined"].as_bool().ok_or(HomeserverError::Malformed)
}

pub(crate) fn joined(body: &[u8]) -> Result<HashSet<delegated_leaves::UserId>, HomeserverError> {
    #[derive(Deserialize)]
    struct JoinedMembers {
        joined: HashMap<delegated_leaves::UserId, IgnoredAny>,
    }
    let members: JoinedMembers = serde_json::from_slice(body).map_err(|_| HomeserverError::Malformed)?;
    // A room without members would be a 403, so an empty list is malformed.
    if members.joined.is_empty() {
        return Err(HomeserverError::Malformed);
    }
    Ok(members.joined.into_keys().collect())
}

const IS_JOINED_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer, because the list may be long.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(20);

/// Limit in bytes: fifty thousand members and more, with names and avatars.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_members_are_the_keys() {
        let body = br#"{"joined":{"@a:example.com":{"display_name":"A"},"@b:example.org":{}}}"#;
        assert_eq!(joined(body), Ok(["@a:example.com", "@b:example.org"].map(delegated_leaves::UserId::new).into()));
    }

    #[test]
    fn an_answer_without_members_tells_nothing() {
        for body in ["{}", r#"{"joined":{}}"#, r#"{"joined":null}"#, r#"{"joined":["@a:example.com"]}"#, "<html>", ""] {
            assert_eq!(joined(body.as_bytes()), Err(HomeserverError::Malformed), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(body: Vec<u8>) {
            let _ = joined(&body);
        }
    }
}
