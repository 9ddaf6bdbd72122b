//! The Matrix room of the test, of the doctor's own.

use matrixrtc_edge::matrix::homeserver::client_api::escaped;
use matrixrtc_edge::matrix::ids::room_id::RoomId;
use serde_json::json;

use crate::doctor::report::{Outcome, Verdict};
use crate::doctor::user::api::UserApi;

/// Matrix room that the doctor has made.
pub(crate) struct TestRoom(RoomId);

impl TestRoom {
    /// Id of the room.
    pub(crate) fn id(&self) -> &str {
        self.0.as_str()
    }

    /// Path of `rest` in the room, below `/_matrix/client/`.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("v3/rooms/{}/{rest}", escaped(self.id()))
    }
}

/// Makes a private room, whose name says that it is a test.
pub(crate) async fn make(user: UserApi<'_>) -> Verdict<TestRoom> {
    let body = json!({
        "preset": "private_chat",
        "visibility": "private",
        "name": "Test of matrixrtc-doctor, to be left",
        "creation_content": { "m.federate": false },
    });
    let response = match user.post("v3/createRoom", &body).await {
        Ok(response) => response,
        Err(failure) => return (user.unreached(&failure), None),
    };
    let room = response.json().and_then(|body| RoomId::parse(body["room_id"].as_str()?).ok());
    match (response.status, room) {
        (200, Some(room)) => (Outcome::ok("a private room, left and forgotten at the end"), Some(TestRoom(room))),
        (403, _) => {
            let seen = "the homeserver doesn't let this user make rooms (403), so that no call can be tested";
            (Outcome::warning(seen, "log in as a user who may make rooms"), None)
        }
        _ => (user.unexpected("POST …/createRoom", &response), None),
    }
}

/// Leaves the room and forgets it.
pub(crate) async fn leave(user: UserApi<'_>, room: &TestRoom) -> Verdict<()> {
    for action in ["leave", "forget"] {
        let left = user.post(&room.path(action), &json!({})).await;
        let seen = match left {
            Ok(response) if response.status == 200 => continue,
            Ok(response) => format!("POST …/{action} returned {}", response.status),
            Err(failure) => failure.to_string(),
        };
        let change = "leave the room \"Test of matrixrtc-doctor, to be left\" in a client of this user";
        return (Outcome::warning(format!("the test room isn't left: {seen}"), change), Some(()));
    }
    (Outcome::ok("left and forgotten"), Some(()))
}
