//! Who is joined to a Matrix room ([client-server API, "Room
//! membership"](https://spec.matrix.org/latest/client-server-api/#get_matrixclientv3roomsroomidjoined_members)), asked of our
//! own homeserver.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use delegated_leaves::{MatrixRoomId, MembersAnswer, UserId};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::outbound::{OutboundError, Reply};

/// Where it is asked, below `/_matrix/client/`.
pub fn path(room: &MatrixRoomId) -> String {
    format!("v3/rooms/{}/joined_members", utf8_percent_encode(room.as_str(), RESERVED))
}

/// Reads the answer, which may be a 403. An error tells nothing about anybody.
pub async fn read(reply: Reply) -> Result<MembersAnswer, JoinedMembersError> {
    match reply.status() {
        200 => joined(&reply.body(MAX_ANSWER).await?).map(MembersAnswer::Joined),
        status => {
            reply.discard();
            if status == 403 { Ok(MembersAnswer::Forbidden) } else { Err(JoinedMembersError::Status(status)) }
        }
    }
}

fn joined(body: &[u8]) -> Result<BTreeSet<UserId>, JoinedMembersError> {
    #[derive(Deserialize)]
    struct JoinedMembers {
        joined: BTreeMap<String, IgnoredAny>,
    }
    let members: JoinedMembers = serde_json::from_slice(body).map_err(|_| JoinedMembersError::Malformed)?;
    // Were nobody joined, the answer would be a 403. Nothing is concluded from what can't be.
    if members.joined.is_empty() {
        return Err(JoinedMembersError::Malformed);
    }
    Ok(members.joined.into_keys().map(UserId::new).collect())
}

/// Why it isn't known who is joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinedMembersError {
    /// The homeserver doesn't answer.
    NoAnswer(OutboundError),
    /// It answered with a status that tells nothing.
    Status(u16),
    /// The answer isn't the JSON that belongs there.
    Malformed,
}

impl From<OutboundError> for JoinedMembersError {
    fn from(error: OutboundError) -> Self {
        Self::NoAnswer(error)
    }
}

impl fmt::Display for JoinedMembersError {
    /// The cause, in words an operator can act on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(error) => write!(f, "the homeserver's client-server API doesn't answer: {error}"),
            Self::Status(status) => write!(f, "the homeserver answered {status}"),
            Self::Malformed => f.write_str("the homeserver's answer isn't the JSON that belongs there"),
        }
    }
}

/// Everything but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

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
            assert_eq!(joined(body.as_bytes()), Err(JoinedMembersError::Malformed), "{body}");
        }
    }

    #[test]
    fn a_room_is_one_segment_of_the_path_whatever_is_in_it() {
        assert_eq!(path(&MatrixRoomId::new("!a/../b?c:d")), "v3/rooms/%21a%2F..%2Fb%3Fc%3Ad/joined_members");
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(body: Vec<u8>) {
            let _ = joined(&body);
        }
    }
}
