//! Who is joined to a Matrix room, as our own homeserver sees it (MSC4502).

use std::time::Duration;

use crate::fetch::Deadline;
use crate::matrix::homeserver::client_api::escaped;
use crate::matrix::homeserver::{Homeserver, HomeserverError, read};
use crate::matrix::ids::room_id::RoomId;
use crate::matrix::ids::server_name::ServerName;
use crate::matrix::ids::user_id::UserId;

/// Who may be joined to a room.
#[derive(Clone, Copy, Debug)]
pub enum Party<'a> {
    /// A user, of whichever server.
    User(&'a UserId),
    /// A server: joined while any of its users is.
    Server(&'a ServerName),
}

impl Homeserver<'_> {
    /// Whether `party` is joined to `room`. An error means that it isn't known.
    pub async fn is_joined(&self, room: &RoomId, party: Party<'_>) -> Result<bool, HomeserverError> {
        let rooms = self.api().is_joined_rooms_path();
        let (name, value) = match party {
            Party::User(user) => ("mxid", user.as_str()),
            Party::Server(server) => ("server_name", server.as_str()),
        };
        let path = format!("{rooms}/{}/is_joined?{name}={}", escaped(room.as_str()), escaped(value));
        let answer = read(self.get(&path, &Deadline::after(TIMEOUT)).await?).await?;
        answer["joined"].as_bool().ok_or(HomeserverError::Malformed)
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);
