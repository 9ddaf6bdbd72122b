use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use livekit_protocol::{CreateRoomRequest, ListParticipantsRequest, Room, RoomParticipantIdentity};
use livekit_token::{Claims, TokenVerifier};
use prost::Message;
use serde_json::json;

use crate::participants::{self, Participants};
use crate::server::{Server, Serving};
use crate::{Certificate, Participant, Question, Reply, Request, Strictness, Webhook};

/// LiveKit's RoomService, as far as this service calls it: CreateRoom, GetParticipant and ListParticipants over Twirp, in
/// protobuf.
///
/// It knows the keys that it was given, verifies tokens with LiveKit's own crate, and takes a message only when that message
/// decodes and encodes to the same bytes again, so that a field it doesn't know is a breach.
pub struct Sfu {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    prefix: String,
    _server: Server,
}

struct State {
    keys: HashMap<String, String>,
    prefix: String,
    failure: Option<Reply>,
    created: Vec<CreateRoomRequest>,
    participants: Participants,
    requests: usize,
}

impl Sfu {
    /// LiveKit as `livekit-server --dev` starts it.
    pub(crate) async fn start(strictness: Strictness) -> Self {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7880);
        Self::start_at(address, None, "", strictness).await
    }

    /// The API under a path prefix, with TLS if there is a certificate.
    pub(crate) async fn start_at(
        address: SocketAddr,
        certificate: Option<Certificate>,
        prefix: &str,
        strictness: Strictness,
    ) -> Self {
        let state = Arc::new(Mutex::new(State {
            keys: HashMap::from([(KEY.to_owned(), SECRET.to_owned())]),
            prefix: prefix.to_owned(),
            failure: None,
            created: Vec::new(),
            participants: Participants::default(),
            requests: 0,
        }));
        let handler_state = state.clone();
        let handler = Arc::new(move |request: Request| {
            let reply = handler_state.lock().unwrap().answer(&request, &strictness);
            Box::pin(async { reply }) as _
        });
        let server = Server::start(address, certificate, Serving::Http(handler)).await;
        Self { state, address, prefix: prefix.to_owned(), _server: server }
    }

    /// What `LIVEKIT_URL` is for it, without TLS.
    pub fn url(&self) -> String {
        format!("ws://{}{}", self.address, self.prefix)
    }

    /// The key that it knows from the beginning, and its secret.
    pub fn credentials() -> (&'static str, &'static str) {
        (KEY, SECRET)
    }

    /// Replaces the keys it knows.
    pub fn set_keys(&self, keys: &[(&str, &str)]) {
        self.state.lock().unwrap().keys =
            keys.iter().map(|(key, secret)| ((*key).to_owned(), (*secret).to_owned())).collect();
    }

    /// From now on, what it answers to everything.
    pub fn fail(&self, reply: Reply) {
        self.state.lock().unwrap().failure = Some(reply);
    }

    /// From now on, it works again.
    pub fn recover(&self) {
        self.state.lock().unwrap().failure = None;
    }

    /// A participant connects. It takes the place of an older connection of the same identity.
    pub fn join(&self, room: &str, identity: &str) -> Participant {
        self.state.lock().unwrap().participants.join(room, identity)
    }

    /// A connection ends.
    pub fn leave(&self, participant: &Participant) {
        self.state.lock().unwrap().participants.leave(participant);
    }

    /// The webhook that says that a room is closed.
    pub fn room_finished(&self, room: &str) -> Webhook {
        participants::room_finished(room)
    }

    /// Whether that identity was connected to the room at that time.
    pub fn was_connected(&self, room: &str, identity: &str, at: Instant) -> bool {
        self.state.lock().unwrap().participants.was_connected(room, identity, at)
    }

    /// What it was asked about participants and did answer, in order.
    pub fn questions(&self) -> Vec<Question> {
        self.state.lock().unwrap().participants.questions().to_vec()
    }

    /// How often it was asked for anything.
    pub fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }

    /// The CreateRoom requests that it granted.
    pub fn created(&self) -> Vec<CreateRoomRequest> {
        self.state.lock().unwrap().created.clone()
    }
}

impl State {
    fn answer(&mut self, request: &Request, strictness: &Strictness) -> Reply {
        self.requests += 1;
        if let Some(failure) = &self.failure {
            return failure.clone();
        }
        let method = request.path.strip_prefix(&format!("{}/twirp/livekit.RoomService/", self.prefix));
        let (Some(method), None) = (method, &request.query) else {
            strictness.breach(format!("no such method of the SFU: {request:?}"));
            return twirp_error(404, "bad_route", "no handler for path");
        };
        strictness.expect(request.method == "POST" && request.header(CONTENT_TYPE) == PROTOBUF, || {
            format!("not a Twirp call in protobuf: {request:?}")
        });
        let Some(claims) = self.verified(request) else {
            return twirp_error(401, "unauthenticated", "invalid token");
        };
        strictness.expect(claims.exp.saturating_sub(claims.nbf) <= SHORT_LIVED, || {
            String::from("a token for the SFU's API is valid for more than ten minutes")
        });
        let administers = |room: &str| claims.video.room_admin && claims.video.room == room;
        let reply = match method {
            "CreateRoom" => participants::decode(&request.body).map(|message: CreateRoomRequest| {
                if !claims.video.room_create {
                    return permission_denied();
                }
                let room = self.room(&message.name);
                self.created.push(message);
                Reply::new(200, PROTOBUF, room.encode_to_vec())
            }),
            "GetParticipant" => participants::decode(&request.body).map(|message: RoomParticipantIdentity| {
                if !administers(&message.room) {
                    return permission_denied();
                }
                match self.participants.get(message) {
                    Some(participant) => Reply::new(200, PROTOBUF, participant.encode_to_vec()),
                    None => twirp_error(404, "not_found", "participant does not exist"),
                }
            }),
            "ListParticipants" => participants::decode(&request.body).map(|message: ListParticipantsRequest| {
                if !administers(&message.room) {
                    return permission_denied();
                }
                Reply::new(200, PROTOBUF, self.participants.list(message).encode_to_vec())
            }),
            _ => None,
        };
        reply.unwrap_or_else(|| {
            strictness.breach(format!("not a message of a method that the SFU has: {request:?}"));
            twirp_error(400, "malformed", "the protobuf request could not be decoded")
        })
    }

    fn verified(&self, request: &Request) -> Option<Claims> {
        let token = request.header(AUTHORIZATION).strip_prefix("Bearer ")?;
        let issuer = Claims::from_unverified(token).ok()?.iss;
        TokenVerifier::with_api_key(&issuer, self.keys.get(&issuer)?).verify(token).ok()
    }

    fn room(&self, name: &str) -> Room {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        Room {
            sid: format!("RM_{}", self.created.len()),
            name: name.to_owned(),
            creation_time: now.as_secs().try_into().expect("a year before 292 billion"),
            ..Room::default()
        }
    }
}

fn permission_denied() -> Reply {
    twirp_error(403, "permission_denied", "permissions denied")
}

/// <https://twitchtv.github.io/twirp/docs/errors.html>
fn twirp_error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({ "code": code, "msg": message }))
}

const KEY: &str = "devkey";
const SECRET: &str = "the-secret-of-devkey-nobody-may-see";
const PROTOBUF: &str = "application/protobuf";
const SHORT_LIVED: usize = 600;
