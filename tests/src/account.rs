use std::collections::{HashMap, HashSet};
use std::time::Duration;

use fakes::{Fate, OpenIdIssuer, OwnedEvents, Reply, Request, decoded, error};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};

/// A user's account at a homeserver, with the requests that a client makes until it has delegated its leave.
///
/// Its password and each of its access tokens are the only ones that are accepted; requests with another token aren't
/// handled here.
pub(crate) struct Account {
    user_id: String,
    issuer: OpenIdIssuer,
    events: OwnedEvents,
    sessions: HashSet<String>,
    rooms: HashSet<String>,
    leaves: HashMap<String, String>,
    replies: HashMap<String, Reply>,
    requests: Vec<String>,
}

/// Response to a request of a user.
pub(crate) enum Handled {
    /// This reply.
    Reply(Reply),
    /// The reply of the service, to which the homeserver forwards it, with the user's name.
    Forwarded(String),
    /// The reply to any user with a login.
    Transports,
    /// This reply, after which the user is in the room, or not any more.
    Membership(Reply, String, String, bool),
}

impl Account {
    pub(crate) fn new(user_id: &str, issuer: OpenIdIssuer, events: OwnedEvents) -> Self {
        Self {
            user_id: user_id.to_owned(),
            issuer,
            events,
            sessions: HashSet::from([TOKEN.to_owned()]),
            rooms: HashSet::new(),
            leaves: HashMap::new(),
            replies: HashMap::new(),
            requests: Vec::new(),
        }
    }

    /// Sets the reply to requests whose path contains this.
    pub(crate) fn answer(&mut self, part_of_path: &str, reply: Reply) {
        self.replies.insert(part_of_path.to_owned(), reply);
    }

    /// Ends the replies that were set.
    pub(crate) fn answer_as_usual(&mut self) {
        self.replies.clear();
    }

    /// Its requests: methods and paths without queries.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.clone()
    }

    /// Rooms that it is in.
    pub(crate) fn rooms(&self) -> Vec<String> {
        self.rooms.iter().cloned().collect()
    }

    /// Number of open sessions.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Handles a request below `/_matrix/client/`, if it is this user's.
    pub(crate) fn handle(&mut self, path: &str, request: &Request) -> Option<Handled> {
        let token = request.header(AUTHORIZATION).strip_prefix("Bearer ").unwrap_or_default().to_owned();
        let is_login = path == "v3/login" && request.method == "POST";
        if !is_login && !self.sessions.contains(&token) {
            return None;
        }
        self.requests.push(format!("{} {path}", request.method));
        if let Some((_, reply)) = self.replies.iter().find(|(part, _)| path.contains(part.as_str())) {
            return Some(Handled::Reply(reply.clone()));
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let has_body = request.header(CONTENT_TYPE) == "application/json" && body.is_object();
        let segments: Vec<String> = path.split('/').map(|segment| decoded(segment).unwrap_or_default()).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        Some(match (request.method.as_str(), segments.as_slice()) {
            ("GET", [.., "rtc", "transports"]) => Handled::Transports,
            ("POST", [.., "rtc", "livekit", _]) if has_body => Handled::Forwarded(self.user_id.clone()),
            ("POST", ["v3", "login"]) if has_body => Handled::Reply(self.log_in(&body)),
            ("POST", ["v3", "logout"]) => {
                self.sessions.remove(&token);
                Handled::Reply(Reply::json(200, &json!({})))
            }
            ("GET", ["v3", "account", "whoami"]) => {
                Handled::Reply(Reply::json(200, &json!({ "user_id": self.user_id, "device_id": "DEVICE" })))
            }
            ("POST", ["v3", "user", user, "openid", "request_token"]) if *user == self.user_id && has_body => {
                Handled::Reply(self.openid_token())
            }
            ("POST", ["v3", "createRoom"]) if body["preset"] == "private_chat" && body["name"].is_string() => {
                let room = format!("!test-{}:{}", self.rooms.len(), self.issuer.server_name());
                self.rooms.insert(room.clone());
                Handled::Membership(Reply::json(200, &json!({ "room_id": room })), room, self.user_id.clone(), true)
            }
            ("POST", ["v3", "rooms", room, "leave"]) if has_body => {
                let known = self.rooms.remove(*room);
                let reply = if known { Reply::json(200, &json!({})) } else { error(403, "M_FORBIDDEN") };
                Handled::Membership(reply, (*room).to_owned(), self.user_id.clone(), false)
            }
            ("POST", ["v3", "rooms", room, "forget"]) if has_body && !self.rooms.contains(*room) => {
                Handled::Reply(Reply::json(200, &json!({})))
            }
            ("PUT", ["v3", "rooms", room, "state", kind, key]) if has_body && self.rooms.contains(*room) => {
                Handled::Reply(self.schedule(room, &format!("{kind} {key}"), request))
            }
            ("GET", ["v3", "rooms", _, "state", kind, key]) => {
                let sent = self.leaves.get(&format!("{kind} {key}")).map(|id| self.events.fate(id));
                Handled::Reply(match sent {
                    Some(Fate::Sent(_) | Fate::TimedOut(_)) => Reply::json(200, &json!({})),
                    Some(Fate::Scheduled | Fate::Cancelled) | None => error(404, "M_NOT_FOUND"),
                })
            }
            ("GET", [.., "delayed_events", delay_id]) => Handled::Reply(match self.events.running_since(delay_id) {
                Some(since) => Reply::json(200, &json!({ "delay_id": delay_id, "delayed_since_ts": since })),
                None => error(404, "M_NOT_FOUND"),
            }),
            ("POST", [.., "delayed_events", delay_id, "restart"]) if has_body => {
                Handled::Reply(done(self.events.restart(delay_id)))
            }
            ("POST", [.., "delayed_events", delay_id, "cancel"]) if has_body => {
                Handled::Reply(done(self.events.cancel(delay_id)))
            }
            _ => return None,
        })
    }

    fn log_in(&mut self, body: &Value) -> Reply {
        let localpart = self.user_id.trim_start_matches('@').split(':').next().unwrap_or_default();
        let user = body["identifier"]["user"].as_str().unwrap_or_default();
        let is_user = body["identifier"]["type"] == "m.id.user" && (user == self.user_id || user == localpart);
        if body["type"] != "m.login.password" || !is_user || body["password"] != PASSWORD {
            return error(403, "M_FORBIDDEN");
        }
        let token = format!("SECRET-token-of-session-{}", self.sessions.len());
        self.sessions.insert(token.clone());
        Reply::json(200, &json!({ "user_id": self.user_id, "device_id": "LOGIN", "access_token": token }))
    }

    fn openid_token(&self) -> Reply {
        let token = self.issuer.issue(&self.user_id, "SECRET-openid-token");
        Reply::json(
            200,
            &json!({
                "access_token": token.access_token,
                "token_type": "Bearer",
                "matrix_server_name": token.matrix_server_name,
                "expires_in": 3600,
            }),
        )
    }

    fn schedule(&mut self, room: &str, state: &str, request: &Request) -> Reply {
        let query = request.query.as_deref().unwrap_or_default();
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let delay = pairs.find(|(name, _)| name == "org.matrix.msc4140.delay").and_then(|(_, ms)| ms.parse().ok());
        let Some(delay) = delay else { return error(400, "M_BAD_JSON") };
        let id = self.events.schedule(&self.user_id, room, Duration::from_millis(delay));
        self.leaves.insert(state.to_owned(), id.clone());
        Reply::json(200, &json!({ "delay_id": id }))
    }
}

fn done(done: bool) -> Reply {
    if done { Reply::json(200, &json!({})) } else { error(404, "M_NOT_FOUND") }
}

/// Access token of a session that its owner has begun.
pub(crate) const TOKEN: &str = "SECRET-token-of-a-user";
pub(crate) const PASSWORD: &str = "SECRET-password-of-a-user";
