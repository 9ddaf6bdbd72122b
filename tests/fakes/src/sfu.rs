use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, UPGRADE};
use livekit_protocol::{
    CreateRoomRequest, DeleteRoomRequest, DeleteRoomResponse, ListParticipantsRequest, ListRoomsRequest,
    ListRoomsResponse, RemoveParticipantResponse, Room, RoomParticipantIdentity,
};
use livekit_token::{Claims, TokenVerifier};
use prost::Message;
use serde_json::json;

use crate::participants::{self, Participants};
use crate::server::{Server, Serving};
use crate::{Certificate, Participant, Query, Removal, Reply, Request, Strictness, Webhook};

/// LiveKit's RoomService, as far as the service calls it: CreateRoom, GetParticipant, ListParticipants,
/// RemoveParticipant and DeleteRoom over Twirp, in protobuf. For the doctor also LiveKit's `OK` at `/`, ListRooms,
/// CreateRoom and DeleteRoom in JSON, and the validation of a client's token.
///
/// It verifies tokens with LiveKit's own crate and its configured keys, and accepts a message only if it decodes and
/// encodes to the same bytes again: an unknown field is a breach.
pub struct Sfu {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    prefix: String,
    server: Server,
}

struct State {
    keys: HashMap<String, String>,
    prefix: String,
    failure: Option<Reply>,
    failure_of_calls: Option<Reply>,
    failures_at: HashMap<&'static str, Reply>,
    created: Vec<CreateRoomRequest>,
    participants: Participants,
    requests: usize,
    requests_to: HashMap<String, usize>,
    auto_create: bool,
    drops_upgrades: bool,
    is_old: bool,
    crowd: usize,
    clock_ahead_s: i64,
    test_rooms: BTreeSet<String>,
}

impl Sfu {
    /// Starts an SFU with the key pair of `livekit-server --dev`.
    pub async fn start(strictness: Strictness) -> Self {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7880);
        Self::start_at(address, None, "", strictness).await
    }

    /// Starts an SFU whose API has a path prefix, with TLS if there is a certificate.
    pub async fn start_at(
        address: SocketAddr,
        certificate: Option<Certificate>,
        prefix: &str,
        strictness: Strictness,
    ) -> Self {
        let state = Arc::new(Mutex::new(State {
            keys: HashMap::from([(KEY.to_owned(), SECRET.to_owned())]),
            prefix: prefix.to_owned(),
            failure: None,
            failure_of_calls: None,
            failures_at: HashMap::new(),
            created: Vec::new(),
            participants: Participants::default(),
            requests: 0,
            requests_to: HashMap::new(),
            auto_create: false,
            drops_upgrades: false,
            is_old: false,
            crowd: 0,
            clock_ahead_s: 0,
            test_rooms: BTreeSet::new(),
        }));
        let handler_state = state.clone();
        let handler = Arc::new(move |request: Request| {
            let reply = handler_state.lock().unwrap().answer(&request, &strictness);
            Box::pin(async { reply }) as _
        });
        let server = Server::start(address, certificate, Serving::Http(handler)).await;
        Self { state, address, prefix: prefix.to_owned(), server }
    }

    /// `LIVEKIT_URL` for this SFU, without TLS.
    pub fn url(&self) -> String {
        format!("ws://{}{}", self.address, self.prefix)
    }

    /// First key, and its secret.
    pub fn credentials() -> (&'static str, &'static str) {
        (KEY, SECRET)
    }

    /// Replaces its keys.
    pub fn set_keys(&self, keys: &[(&str, &str)]) {
        self.state.lock().unwrap().keys =
            keys.iter().map(|(key, secret)| ((*key).to_owned(), (*secret).to_owned())).collect();
    }

    /// Switches `auto_create` on: every client can create a room by joining it.
    pub fn set_auto_create(&self) {
        self.state.lock().unwrap().auto_create = true;
    }

    /// Turns requests to open a WebSocket into ordinary ones, like a proxy that doesn't support them.
    pub fn drop_upgrades(&self) {
        self.state.lock().unwrap().drops_upgrades = true;
    }

    /// Makes it a LiveKit before 1.9.10, without `/rtc/v1`.
    pub fn be_old(&self) {
        self.state.lock().unwrap().is_old = true;
    }

    /// Adds rooms of others, for the lists that the doctor requests.
    pub fn be_crowded(&self, rooms: usize) {
        self.state.lock().unwrap().crowd = rooms;
    }

    /// Sets its clock this many seconds ahead of real time, or behind.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.state.lock().unwrap().clock_ahead_s = seconds;
    }

    /// Rooms that the doctor has created and not deleted.
    pub fn test_rooms(&self) -> BTreeSet<String> {
        self.state.lock().unwrap().test_rooms.clone()
    }

    /// Sets the reply to every request.
    pub fn fail(&self, reply: Reply) {
        self.state.lock().unwrap().failure = Some(reply);
    }

    /// Sets the reply to every call of the server API.
    pub fn fail_calls(&self, reply: Reply) {
        self.state.lock().unwrap().failure_of_calls = Some(reply);
    }

    /// Sets the reply to requests for a path with this end.
    pub fn fail_at(&self, path_end: &'static str, reply: Reply) {
        self.state.lock().unwrap().failures_at.insert(path_end, reply);
    }

    /// Ends the replies that were set: it works again.
    pub fn recover(&self) {
        self.state.lock().unwrap().failure = None;
    }

    /// Connects a participant, in place of an older connection of the same identity.
    pub fn join(&self, room: &str, identity: &str) -> Participant {
        self.state.lock().unwrap().participants.join(room, identity)
    }

    /// Ends a connection.
    pub fn leave(&self, participant: &Participant) {
        self.state.lock().unwrap().participants.leave(participant);
    }

    /// Builds the webhook of the closing of a room.
    pub fn room_finished(&self, room: &str) -> Webhook {
        participants::room_finished(room)
    }

    /// Whether that identity was connected to the room at that time.
    pub fn was_connected(&self, room: &str, identity: &str, at: Instant) -> bool {
        self.state.lock().unwrap().participants.was_connected(room, identity, at)
    }

    /// Queries for participants that it has answered, in order.
    pub fn queries(&self) -> Vec<Query> {
        self.state.lock().unwrap().participants.queries().to_vec()
    }

    /// Removals that it has performed, in order. Their webhooks are sent by the test.
    pub fn removals(&self) -> Vec<Removal> {
        self.state.lock().unwrap().participants.removals().to_vec()
    }

    /// From now on closes idle connections just as they are used again.
    pub fn cut_idle_connections(&self) {
        self.server.cut_idle_connections();
    }

    /// Number of connections that were closed so.
    pub fn cut(&self) -> usize {
        self.server.cut()
    }

    /// Number of all requests.
    pub fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }

    /// Number of requests for paths that end with this segment: the name of a method.
    pub fn requests_to(&self, method: &str) -> usize {
        self.state.lock().unwrap().requests_to.get(method).copied().unwrap_or_default()
    }

    /// CreateRoom requests that have succeeded.
    pub fn created(&self) -> Vec<CreateRoomRequest> {
        self.state.lock().unwrap().created.clone()
    }
}

impl State {
    fn answer(&mut self, request: &Request, strictness: &Strictness) -> Reply {
        self.requests += 1;
        let last = request.path.rsplit('/').next().unwrap_or_default();
        *self.requests_to.entry(last.to_owned()).or_default() += 1;
        if let Some(failure) = &self.failure {
            return failure.clone();
        }
        if let Some((_, failure)) = self.failures_at.iter().find(|(end, _)| request.path.ends_with(*end)) {
            return failure.clone();
        }
        if request.method == "GET" {
            return self.answer_get(request, strictness);
        }
        if let Some(failure) = &self.failure_of_calls {
            return failure.clone();
        }
        let method = request.path.strip_prefix(&format!("{}/twirp/livekit.RoomService/", self.prefix));
        let (Some(method), None) = (method, &request.query) else {
            strictness.breach(format!("no such method of the SFU: {request:?}"));
            return twirp_error(404, "bad_route", "no handler for path");
        };
        let in_json = request.header(CONTENT_TYPE) == "application/json";
        strictness.expect(request.method == "POST" && (in_json || request.header(CONTENT_TYPE) == PROTOBUF), || {
            format!("not a Twirp call: {request:?}")
        });
        let token = request.header(AUTHORIZATION).strip_prefix("Bearer ").unwrap_or_default();
        let claims = match self.verified(token) {
            Ok(claims) => claims,
            Err(refusal) => return refusal,
        };
        strictness.expect(claims.exp.saturating_sub(claims.nbf) <= SHORT_LIVED, || {
            String::from("a token for the SFU's API is valid for more than ten minutes")
        });
        if in_json {
            return self.answer_doctor(method, &claims, &request.body, strictness);
        }
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
            "ListRooms" => participants::decode(&request.body).map(|message: ListRoomsRequest| {
                if !claims.video.room_list {
                    return permission_denied();
                }
                let is_listed = |name: &String| message.names.is_empty() || message.names.contains(name);
                let known = self.created.iter().filter(|room| is_listed(&room.name));
                let rooms = known.map(|room| self.room(&room.name)).collect();
                Reply::new(200, PROTOBUF, ListRoomsResponse { rooms }.encode_to_vec())
            }),
            "GetParticipant" => participants::decode(&request.body).map(|message: RoomParticipantIdentity| {
                if !administers(&message.room) {
                    return permission_denied();
                }
                strictness.expect(message.revoke_token_ts == 0, || String::from("GetParticipant revokes tokens"));
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
            "RemoveParticipant" => participants::decode(&request.body).map(|message: RoomParticipantIdentity| {
                if !administers(&message.room) {
                    return permission_denied();
                }
                strictness.expect((message.revoke_token_ts - self.now_s()).abs() < 60, || {
                    format!("older tokens are revoked from {} on", message.revoke_token_ts)
                });
                match self.participants.remove(message) {
                    true => Reply::new(200, PROTOBUF, RemoveParticipantResponse::default().encode_to_vec()),
                    false => twirp_error(404, "not_found", "participant does not exist"),
                }
            }),
            "DeleteRoom" => participants::decode(&request.body).map(|message: DeleteRoomRequest| {
                if !claims.video.room_create {
                    return permission_denied();
                }
                if !self.created.iter().any(|created| created.name == message.room) {
                    return twirp_error(404, "not_found", "requested room does not exist");
                }
                self.participants.delete_room(message.room);
                Reply::new(200, PROTOBUF, DeleteRoomResponse::default().encode_to_vec())
            }),
            _ => None,
        };
        reply.unwrap_or_else(|| {
            strictness.breach(format!("not a message of a method that the SFU has: {request:?}"));
            twirp_error(400, "malformed", "the protobuf request could not be decoded")
        })
    }

    /// LiveKit's paths for clients.
    fn answer_get(&self, request: &Request, strictness: &Strictness) -> Reply {
        match request.path.strip_prefix(&self.prefix) {
            Some("/") => Reply::new(200, "text/plain", "OK"),
            Some("/rtc/v1" | "/rtc/v1/validate") if self.is_old => {
                Reply::new(404, "text/plain", "404 page not found\n")
            }
            Some("/rtc" | "/rtc/v1") if self.drops_upgrades || request.header(UPGRADE).is_empty() => {
                Reply::new(404, "text/plain", "")
            }
            Some("/rtc" | "/rtc/v1") => Reply::new(401, "text/plain", "no permissions to access the room"),
            Some("/rtc/validate" | "/rtc/v1/validate") => {
                let query = request.query.as_deref().unwrap_or_default();
                let token = query.strip_prefix("access_token=").unwrap_or_default();
                match self.verified(token) {
                    Err(refusal) => refusal,
                    Ok(claims) if !claims.video.room_join || claims.sub.is_empty() => {
                        Reply::new(401, "text/plain", "no permissions to access the room")
                    }
                    Ok(claims) if self.auto_create || self.has_room(&claims.video.room) => {
                        Reply::new(200, "text/plain", "success")
                    }
                    Ok(_) => Reply::new(404, "text/plain", "requested room does not exist"),
                }
            }
            _ => {
                strictness.breach(format!("no such page of the SFU: {request:?}"));
                Reply::html(404)
            }
        }
    }

    fn has_room(&self, name: &str) -> bool {
        self.test_rooms.contains(name) || self.created.iter().any(|room| room.name == name)
    }

    fn answer_doctor(&mut self, method: &str, claims: &Claims, body: &[u8], strictness: &Strictness) -> Reply {
        let refused = |field: &str| {
            strictness.breach(format!("{method} without {field}"));
            twirp_error(400, "malformed", "the json request could not be decoded")
        };
        match method {
            "ListRooms" if claims.video.room_list => {
                let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
                let named = |name: &str| body["names"].as_array().is_none_or(|names| names.iter().any(|n| n == name));
                let crowd = (0..self.crowd).map(|number| format!("room-{number}"));
                let rooms = crowd.filter(|name| named(name)).map(|name| json!({ "sid": "RM", "name": name }));
                Reply::json(200, &json!({ "rooms": rooms.collect::<Vec<_>>() }))
            }
            "CreateRoom" if claims.video.room_create => match serde_json::from_slice::<CreateRoomRequest>(body) {
                Ok(message) if message.empty_timeout > 0 => {
                    self.test_rooms.insert(message.name.clone());
                    Reply::json(200, &json!({ "name": message.name }))
                }
                _ => refused("name and empty_timeout"),
            },
            "DeleteRoom" if claims.video.room_create => match serde_json::from_slice::<DeleteRoomRequest>(body) {
                Ok(message) if self.test_rooms.remove(&message.room) => Reply::json(200, &json!({})),
                Ok(_) => twirp_error(404, "not_found", "requested room does not exist"),
                Err(_) => refused("room"),
            },
            _ => {
                strictness.breach(format!("{method} in JSON, or without its grant"));
                permission_denied()
            }
        }
    }

    /// Texts of refusals are LiveKit's.
    fn verified(&self, token: &str) -> Result<Claims, Reply> {
        let refused = |text: &str| Reply::new(401, "text/plain", text.to_owned());
        let issuer = Claims::from_unverified(token).map_err(|_| refused("invalid authorization token"))?.iss;
        let Some(secret) = self.keys.get(&issuer) else {
            return Err(refused(&format!("invalid API key: {issuer}")));
        };
        let invalid = |cause: &str| refused(&format!("invalid token: {token}, error: {cause}"));
        let verified = TokenVerifier::with_api_key(&issuer, secret).verify(token);
        let claims = verified.map_err(|_| invalid("token signature is invalid: signature is invalid"))?;
        let now = self.now_s();
        let at = |claim: usize| i64::try_from(claim).expect("a year before 292 billion");
        if now < at(claims.nbf) - LEEWAY_S {
            return Err(invalid("token has invalid claims: token is not valid yet"));
        }
        if now > at(claims.exp) + LEEWAY_S {
            return Err(invalid("token has invalid claims: token is expired"));
        }
        Ok(claims)
    }

    fn room(&self, name: &str) -> Room {
        Room {
            sid: format!("RM_{}", self.created.len()),
            name: name.to_owned(),
            creation_time: self.now_s(),
            ..Room::default()
        }
    }

    fn now_s(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        i64::try_from(now.as_secs()).expect("a year before 292 billion") + self.clock_ahead_s
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
/// LiveKit's leeway for different clocks.
const LEEWAY_S: i64 = 60;
