//! What clients and the service meet at the SFU (§6 of the protocol).

use std::time::{SystemTime, UNIX_EPOCH};

use matrixrtc_edge::livekit::keys::ApiKey;
use matrixrtc_edge::livekit::room_service::{RoomServiceError, TwirpError};
use matrixrtc_edge::livekit::sfu_url::SfuUrl;
use matrixrtc_edge::livekit::token::{Grant, MintError};
use serde_json::{Value, json};
use url::Url;

use crate::doctor::address;
use crate::doctor::credentials::SfuCredentials;
use crate::doctor::report::{Outcome, Status, Verdict, unless_problem};
use crate::doctor::web::{Failure, Request, Response, Web, authority, is_loopback};

/// The SFU.
pub(crate) struct Sfu<'a> {
    /// The way there.
    pub(crate) web: &'a Web,
    /// Where it is.
    pub(crate) url: &'a SfuUrl,
}

impl Sfu<'_> {
    /// There is an SFU at the URL that clients get.
    pub(crate) async fn answers(&self) -> Verdict<()> {
        let Ok(api) = Url::parse(self.url.api()) else {
            return unless_problem(Outcome::problem("LIVEKIT_URL is no URL", "set it to wss://…"));
        };
        let reached = match authority(&api) {
            Ok((host, port)) => address::check(host, port, THE_SFU).await,
            Err(failure) => Err(unreached(&failure)),
        };
        let addresses = match reached {
            Ok(outcome) => outcome,
            Err(outcome) => return (outcome, None),
        };
        let response = match self.web.send(&Request::get(&format!("{}/", self.url.api()), &[])).await {
            Ok(response) => response,
            Err(failure) => return (unreached(&failure), None),
        };
        let outcome = match response.status {
            200 if response.body.trim_ascii() == b"OK" => match (addresses.status, api.scheme()) {
                (Status::Ok, "http") if !is_loopback(&api) => Outcome::problem(
                    "the SFU answers, but without TLS: pages under https:// may not open a ws:// URL",
                    "put TLS before the SFU, and set LIVEKIT_URL to its wss:// URL",
                ),
                (Status::Ok, _) => Outcome::ok(format!("{} is a LiveKit SFU", self.url.client())),
                _ => addresses,
            },
            status @ 502..=504 => Outcome::problem(
                format!("the proxy before the SFU can't reach it ({status})"),
                "see whether the SFU runs, and let the proxy use its HTTP port (`port:` in its configuration, 7880 by default)",
            ),
            _ => match response.redirect() {
                Some(to) => Outcome::problem(
                    format!("{} is redirected to {to}", self.url.api()),
                    "set LIVEKIT_URL to the SFU's own URL, with wss:// where there is TLS",
                ),
                None => Outcome::problem(
                    format!(
                        "what answers at {} is no LiveKit SFU ({}, and not its `OK`)",
                        self.url.api(),
                        response.status
                    ),
                    "set LIVEKIT_URL to host, port and path at which the proxy leads to the SFU, and let the proxy strip that path",
                ),
            },
        };
        unless_problem(outcome)
    }

    /// A request to open a WebSocket reaches it as one.
    ///
    /// Without a token it is refused; but LiveKit refuses what is no such request any more in another way.
    pub(crate) async fn passes_websockets(&self) -> Verdict<()> {
        let url = format!("{}/rtc", self.url.api());
        let outcome = match self.web.send(&Request::get(&url, &UPGRADE)).await {
            Err(failure) => unreached(&failure),
            Ok(response) => match (response.status, response.body.is_empty()) {
                (401, _) => Outcome::ok("a request to open one arrives, and is refused without a token"),
                (404, true) => Outcome::problem(
                    "the proxy before the SFU makes ordinary requests of those that open a WebSocket: clients can't connect",
                    "let the proxy pass WebSockets on (nginx: `proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                     proxy_set_header Connection \"upgrade\";`)",
                ),
                (status, _) => Outcome::problem(
                    format!(
                        "a request to open a WebSocket at {url} is answered with {status}, where 401 belongs without a token"
                    ),
                    "let the proxy pass everything below LIVEKIT_URL's path on to the SFU, WebSockets included",
                ),
            },
        };
        (outcome, Some(()))
    }

    /// It takes tokens that this pair signs.
    pub(crate) async fn accepts_key(&self, credentials: &SfuCredentials) -> Verdict<()> {
        let refusal = match self.call(credentials.key(), "ListRooms", Grant::ListRooms, &json!({})).await {
            Ok(_) => {
                let outcome = match credentials.padded() {
                    None => Outcome::ok("rooms can be listed"),
                    Some(which) => Outcome::warning(
                        format!(
                            "rooms can be listed, but the {which} was given with white space around it (a line feed, say)"
                        ),
                        "nothing for this service, which takes no notice of it; other programs do, so store it without (`printf %s`, not \
                         `echo`)",
                    ),
                };
                return (outcome, Some(()));
            }
            Err(CallError::Response(response)) if response.status == 401 => response,
            Err(error) => return (error.outcome(), None),
        };
        for (what, key) in credentials.variants() {
            if self.call(&key, "ListRooms", Grant::ListRooms, &json!({})).await.is_ok() {
                let seen = format!("the SFU refuses the key pair, because its own has {what}");
                let change = "write the pair under keys: in the SFU's configuration on one line, `KEY: SECRET`, without white space, and restart it";
                return (Outcome::problem(seen, change), None);
            }
        }
        let said = String::from_utf8_lossy(&refusal.body).into_owned();
        let (seen, change) = if said.contains("invalid API key") {
            (
                "the SFU doesn't know the API key (401)",
                "LIVEKIT_KEY must be one of the keys under keys: in the SFU's configuration; restart the SFU after a change",
            )
        } else if said.contains("signature") {
            (
                "the SFU knows the API key, but with another secret (401)",
                "LIVEKIT_SECRET must be the secret of that key under keys: in the SFU's configuration",
            )
        } else if said.contains("not valid yet") || said.contains("expired") {
            ("the SFU finds the token's time wrong (401)", "set the clocks of the SFU and of this machine (NTP)")
        } else {
            (
                "the SFU refuses the key pair (401)",
                "LIVEKIT_KEY and LIVEKIT_SECRET must be one of the pairs under keys: in the SFU's configuration",
            )
        };
        (Outcome::problem(seen, change), None)
    }

    /// A room can be created, and deleted.
    pub(crate) async fn creates_rooms(&self, key: &ApiKey) -> Verdict<()> {
        let room = match test_room() {
            Ok(room) => room,
            Err(error) => return (Outcome::skipped(error.to_string()), None),
        };
        let creation = json!({ "name": room, "empty_timeout": TEST_ROOM_LIFETIME_S });
        if let Err(error) = self.call(key, "CreateRoom", Grant::CreateRoom, &creation).await {
            return (error.outcome(), None);
        }
        match self.call(key, "DeleteRoom", Grant::CreateRoom, &json!({ "room": room })).await {
            Ok(_) => (Outcome::ok("a test room was created and deleted"), Some(())),
            Err(error) => {
                let Outcome { seen, change, .. } = error.outcome();
                let seen = format!("the test room {room} was created, but not deleted: {seen}");
                (Outcome::warning(seen, change.unwrap_or_default()), Some(()))
            }
        }
    }

    /// Who has a token for a room that doesn't exist can't join it.
    pub(crate) async fn auto_create_is_off(&self, key: &ApiKey) -> Verdict<()> {
        let minted = test_room().and_then(|room| {
            let grant = Grant::Join { room: &room, can_publish: false, can_update_own_metadata: false };
            key.mint(Some("matrixrtc-doctor"), grant, now_ms(), TOKEN_LIFETIME_S)
        });
        let token = match minted {
            Ok(token) => token,
            Err(error) => return (Outcome::skipped(error.to_string()), None),
        };
        let url = format!("{}/rtc/validate?access_token={token}", self.url.api());
        let outcome = match self.web.send(&Request::get(&url, &[])).await {
            Err(failure) => unreached(&failure),
            Ok(response) => match response.status {
                404 if response.body.starts_with(b"requested room does not exist") => {
                    Outcome::ok("a room that doesn't exist can't be joined")
                }
                200 => Outcome::problem(
                    "whoever has a token can join a room that doesn't exist, and so creates it: everybody has full access",
                    "in the SFU's configuration, set `auto_create: false` under `room:`, and restart it",
                ),
                401 | 403 => Outcome::problem(
                    format!("the SFU refuses a client's token ({})", response.status),
                    "see whether the clocks of the SFU and of this machine agree, and whether the proxy passes the query on",
                ),
                status => Outcome::problem(
                    format!("GET …/rtc/validate is answered with {status}: clients don't get to the SFU's signalling"),
                    "let the proxy pass /rtc on to the SFU as it does /twirp, WebSockets included",
                ),
            },
        };
        (outcome, Some(()))
    }

    async fn call(&self, key: &ApiKey, method: &str, grant: Grant<'_>, body: &Value) -> Result<Value, CallError> {
        let token = key.mint(None, grant, now_ms(), TOKEN_LIFETIME_S).map_err(CallError::Token)?;
        let url = format!("{}/twirp/livekit.RoomService/{method}", self.url.api());
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let body = body.to_string();
        let response =
            self.web.send(&Request::post(&url, &headers, body.as_bytes())).await.map_err(CallError::NoResponse)?;
        match (response.status, response.json()) {
            (200, Some(body)) => Ok(body),
            _ => Err(CallError::Response(response)),
        }
    }
}

/// Why a call of the server API failed.
enum CallError {
    Token(MintError),
    NoResponse(Failure),
    Response(Response),
}

impl CallError {
    fn outcome(self) -> Outcome {
        match self {
            Self::Token(error) => Outcome::skipped(error.to_string()),
            Self::NoResponse(failure) => unreached(&failure),
            Self::Response(response) if response.status == 200 => {
                Outcome::problem("what answers at LIVEKIT_URL's /twirp is no LiveKit SFU (200, but not JSON)", AS_ROOT)
            }
            // The service's own words for it, which are in its log, too.
            Self::Response(Response { status, body, .. }) => {
                let twirp: Option<TwirpError> = serde_json::from_slice(&body).ok();
                Outcome::problem(RoomServiceError::Answer { status, twirp }.to_string(), AS_ROOT)
            }
        }
    }
}

fn unreached(failure: &Failure) -> Outcome {
    Outcome::problem(failure.to_string(), failure.change(THE_SFU))
}

/// A name that nobody takes for a call, and that no call has.
pub(crate) fn test_room() -> Result<String, MintError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|_| MintError)?;
    Ok(format!("matrixrtc-doctor-test-{:016x}", u64::from_ne_bytes(random)))
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

const THE_SFU: &str = "the SFU, or the proxy before it,";
/// The nonce needn't be one: no WebSocket is opened.
const UPGRADE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "bWF0cml4cnRjLWRvY3Rvcg=="),
];
const AS_ROOT: &str = "let the proxy lead /twirp to the SFU as it does the rest, and look into the SFU's log";
const TOKEN_LIFETIME_S: u32 = 600;
const TEST_ROOM_LIFETIME_S: u32 = 10;
