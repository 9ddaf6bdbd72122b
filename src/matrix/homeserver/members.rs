//! Who is joined to a Matrix room ([client-server API, "Room
//! membership"](https://spec.matrix.org/latest/client-server-api/#get_matrixclientv3roomsroomidjoined_members)), asked of our
//! own homeserver.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use delegated_leaves::{MembersAnswer, UserId};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::fetch::Deadline;
use crate::matrix::homeserver::client_api::escaped;
use crate::matrix::homeserver::{Homeserver, HomeserverError};
use crate::matrix::ids::room_id::RoomId;

impl Homeserver<'_> {
    /// Who is joined to `room`; or that it doesn't tell us (403). An error tells nothing about anybody.
    pub async fn joined_members(&self, room: &RoomId) -> Result<MembersAnswer, HomeserverError> {
        let path = format!("v3/rooms/{}/joined_members", escaped(room.as_str()));
        let reply = self.get(&path, &Deadline::after(TIMEOUT)).await?;
        match reply.status() {
            200 => joined(&reply.body(MAX_ANSWER).await?).map(MembersAnswer::Joined),
            status => {
                reply.discard();
                if status == 403 { Ok(MembersAnswer::Forbidden) } else { Err(HomeserverError::Status(status)) }
            }
        }
    }
}

fn joined(body: &[u8]) -> Result<HashSet<UserId>, HomeserverError> {
    #[derive(Deserialize)]
    struct JoinedMembers {
        joined: HashMap<UserId, IgnoredAny>,
    }
    let members: JoinedMembers = serde_json::from_slice(body).map_err(|_| HomeserverError::Malformed)?;
    // Were nobody joined, the answer would be a 403. Nothing is concluded from what can't be.
    if members.joined.is_empty() {
        return Err(HomeserverError::Malformed);
    }
    Ok(members.joined.into_keys().collect())
}

/// A room of many takes its time.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Fifty thousand members and more, with their names and pictures.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_members_are_the_keys() {
        let body = br#"{"joined":{"@a:example.com":{"display_name":"A"},"@b:example.org":{}}}"#;
        assert_eq!(joined(body), Ok(["@a:example.com", "@b:example.org"].map(UserId::new).into()));
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
