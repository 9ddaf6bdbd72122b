use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use livekit_protocol::{
    DisconnectReason, ListParticipantsRequest, ListParticipantsResponse, ParticipantInfo, RoomParticipantIdentity,
};
use prost::Message;
use serde_json::{Value, json};

use crate::Webhook;

/// Connection of a participant to a room of the SFU, from its beginning to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Name of the room.
    pub room: String,
    /// Identity of the participant.
    pub identity: String,
    /// SID of this connection.
    pub sid: String,
    /// Time of its beginning, in ms since 1970.
    pub joined_at_ms: i64,
}

/// Reason for the end of a connection.
pub type Departure = DisconnectReason;

/// Query for participants that the SFU has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// GetParticipant.
    Get {
        /// Room of the query.
        room: String,
        /// Identity of the participant.
        identity: String,
    },
    /// ListParticipants.
    List {
        /// Room of the query.
        room: String,
    },
}

/// Removal of participants that the SFU has performed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// RemoveParticipant.
    Participant {
        /// Room of the removal.
        room: String,
        /// Identity of the participant.
        identity: String,
        /// Whether the participant was connected.
        there: bool,
    },
    /// DeleteRoom.
    Room(String),
}

impl Query {
    /// Room of the query.
    pub fn room(&self) -> &str {
        match self {
            Self::Get { room, .. } | Self::List { room } => room,
        }
    }
}

impl Participant {
    /// Builds the webhook of its joining.
    pub fn joined(&self) -> Webhook {
        Webhook::new(&self.event("participant_joined"))
    }

    /// Builds the webhook of its leaving.
    pub fn left(&self, why: Departure) -> Webhook {
        Webhook::new(&self.departure("participant_left", why))
    }

    /// Builds the webhook of a connection that ended before media was connected.
    pub fn aborted(&self) -> Webhook {
        Webhook::new(&self.departure("participant_connection_aborted", Departure::JoinFailure))
    }

    /// Builds an event of it in protojson: 64-bit integers are strings.
    pub fn event(&self, event: &str) -> Value {
        let now_ms = milliseconds_since_1970();
        json!({
            "event": event,
            "id": format!("EV_{}_{now_ms}", self.sid),
            "createdAt": (now_ms / 1000).to_string(),
            "room": { "sid": "RM_x", "name": self.room },
            "participant": {
                "sid": self.sid,
                "identity": self.identity,
                "state": "ACTIVE",
                "joinedAt": (self.joined_at_ms / 1000).to_string(),
                "joinedAtMs": self.joined_at_ms.to_string(),
            },
        })
    }

    fn departure(&self, event: &str, why: Departure) -> Value {
        let mut event = self.event(event);
        event["participant"]["state"] = "DISCONNECTED".into();
        event["participant"]["disconnectReason"] = why.as_str_name().into();
        event
    }
}

/// Builds the webhook of the closing of a room.
pub(crate) fn room_finished(room: &str) -> Webhook {
    Webhook::new(&json!({
        "event": "room_finished",
        "id": "EV_finished",
        "createdAt": (milliseconds_since_1970() / 1000).to_string(),
        "room": { "sid": "RM_x", "name": room },
    }))
}

/// Connections to the SFU, open and closed.
#[derive(Default)]
pub(crate) struct Participants {
    connections: Vec<Connection>,
    queries: Vec<Query>,
    removals: Vec<Removal>,
}

struct Connection {
    participant: Participant,
    since: Instant,
    until: Option<Instant>,
}

impl Participants {
    /// Opens a connection; an older one of the same identity ends.
    pub(crate) fn join(&mut self, room: &str, identity: &str) -> Participant {
        let participant = Participant {
            room: room.to_owned(),
            identity: identity.to_owned(),
            sid: format!("PA_{}", self.connections.len()),
            joined_at_ms: milliseconds_since_1970(),
        };
        let now = Instant::now();
        for connection in &mut self.connections {
            if connection.participant.room == room && connection.participant.identity == identity {
                connection.until.get_or_insert(now);
            }
        }
        self.connections.push(Connection { participant: participant.clone(), since: now, until: None });
        participant
    }

    pub(crate) fn leave(&mut self, participant: &Participant) {
        for connection in &mut self.connections {
            if connection.participant == *participant {
                connection.until.get_or_insert_with(Instant::now);
            }
        }
    }

    pub(crate) fn was_connected(&self, room: &str, identity: &str, at: Instant) -> bool {
        self.connections.iter().any(|connection| {
            connection.participant.room == room
                && connection.participant.identity == identity
                && connection.since <= at
                && connection.until.is_none_or(|until| at < until)
        })
    }

    pub(crate) fn queries(&self) -> &[Query] {
        &self.queries
    }

    pub(crate) fn removals(&self) -> &[Removal] {
        &self.removals
    }

    /// Ends a participant's connection. Returns false if there is none.
    pub(crate) fn remove(&mut self, request: RoomParticipantIdentity) -> bool {
        let RoomParticipantIdentity { room, identity, .. } = request;
        let there = self.end(&room, Some(&identity));
        self.removals.push(Removal::Participant { room, identity, there });
        there
    }

    /// Ends all connections to the room.
    pub(crate) fn delete_room(&mut self, room: String) {
        self.end(&room, None);
        self.removals.push(Removal::Room(room));
    }

    fn end(&mut self, room: &str, identity: Option<&str>) -> bool {
        let now = Instant::now();
        let mut ended = false;
        for Connection { participant, until, .. } in &mut self.connections {
            let concerned = identity.is_none_or(|identity| participant.identity == identity);
            if participant.room == room && concerned && until.is_none() {
                *until = Some(now);
                ended = true;
            }
        }
        ended
    }

    /// Participants that are connected to the room now, by identity.
    fn present(&self, room: &str) -> BTreeMap<&str, ParticipantInfo> {
        let of_room = |connection: &&Connection| connection.participant.room == room && connection.until.is_none();
        let present = self.connections.iter().filter(of_room).map(|connection| &connection.participant);
        present.map(|participant| (participant.identity.as_str(), participant.info())).collect()
    }

    pub(crate) fn get(&mut self, request: RoomParticipantIdentity) -> Option<ParticipantInfo> {
        let found = self.present(&request.room).remove(request.identity.as_str());
        self.queries.push(Query::Get { room: request.room, identity: request.identity });
        found
    }

    pub(crate) fn list(&mut self, request: ListParticipantsRequest) -> ListParticipantsResponse {
        let participants = self.present(&request.room).into_values().collect();
        self.queries.push(Query::List { room: request.room });
        ListParticipantsResponse { participants }
    }
}

impl Participant {
    fn info(&self) -> ParticipantInfo {
        ParticipantInfo {
            sid: self.sid.clone(),
            identity: self.identity.clone(),
            state: livekit_protocol::participant_info::State::Active.into(),
            joined_at: self.joined_at_ms / 1000,
            joined_at_ms: self.joined_at_ms,
            ..ParticipantInfo::default()
        }
    }
}

/// Decodes a message, and refuses one with a field that isn't in the schema.
pub(crate) fn decode<M: Message + Default>(body: &bytes::Bytes) -> Option<M> {
    M::decode(body.clone()).ok().filter(|message| message.encode_to_vec() == *body)
}

fn milliseconds_since_1970() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    since.as_millis().try_into().expect("a year before 292 million")
}
