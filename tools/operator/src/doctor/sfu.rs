//! The SFU, as clients and the service reach it (`docs/protocol.md#livekits-server-api`).

use std::time::{SystemTime, UNIX_EPOCH};

use matrixrtc_edge::livekit::keys::ApiKey;
use matrixrtc_edge::livekit::room_service::{RoomServiceError, TwirpError};
use matrixrtc_edge::livekit::sfu_url::SfuUrl;
use matrixrtc_edge::livekit::token::{Grant, MintError};
use serde_json::{Value, json};
use url::Url;

use crate::doctor::address;
use crate::doctor::credentials::SfuCredentials;
use crate::doctor::livekit_cloud::{self, CONSOLE};
use crate::doctor::report::{Outcome, Status, Verdict, unless_problem};
use crate::doctor::web::{Failure, Request, Response, Web, authority, is_loopback};
use crate::variables::SHORTEST_SECRET;

/// The SFU at the URL that clients get.
pub(crate) struct Sfu<'a> {
    /// HTTP client.
    pub(crate) web: &'a Web,
    /// URL of the SFU.
    pub(crate) url: &'a SfuUrl,
}

/// Whether the SFU makes the rooms that are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AutoCreate {
    /// It does, so the service's access has no effect.
    On,
    /// It doesn't.
    Off,
}

impl Sfu<'_> {
    /// Beginning of LiveKit's response to a valid token for a room that doesn't exist.
    pub(crate) const NO_SUCH_ROOM: &'static [u8] = b"requested room does not exist";

    /// Checks that there is a LiveKit SFU at the URL.
    pub(crate) async fn answers(&self) -> Verdict<()> {
        let Ok(api) = Url::parse(self.url.api()) else {
            return unless_problem(Outcome::problem("LIVEKIT_URL isn't a URL", "set it to wss://…"));
        };
        let reached = match authority(&api) {
            Ok((host, port)) => address::check_for_pages(host, port, THE_SFU).await,
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
                    "the SFU responds, but without TLS: pages under https:// can't open a ws:// URL",
                    "put a proxy with TLS in front of the SFU, and set LIVEKIT_URL to its wss:// URL",
                ),
                (Status::Ok, _) => Outcome::ok(format!("{} is a LiveKit SFU", self.url.client())),
                _ => addresses,
            },
            status @ 502..=504 => Outcome::problem(
                format!("the proxy in front of the SFU can't reach it ({status})"),
                "check that the SFU is running, and let the proxy use its HTTP port (`port:` in its configuration, 7880 by default)",
            ),
            _ => match response.redirect() {
                Some(to) => Outcome::problem(
                    format!("{} is redirected to {to}", self.url.api()),
                    "set LIVEKIT_URL to the SFU's own URL, with wss:// where there is TLS",
                ),
                None => Outcome::problem(
                    format!(
                        "the response from {} isn't a LiveKit SFU's ({}, and not its `OK`)",
                        self.url.api(),
                        response.status
                    ),
                    match self.is_on_livekit_cloud() {
                        true => format!("set LIVEKIT_URL to the project's URL, as its settings at {CONSOLE} show it"),
                        false => String::from(
                            "set LIVEKIT_URL to the host, port and path that the proxy routes to the SFU, and let the proxy strip that path",
                        ),
                    },
                ),
            },
        };
        unless_problem(outcome)
    }

    /// Checks that requests to open a WebSocket reach the SFU as such, at both paths that clients use.
    ///
    /// They have no token and are refused: with 401 if they are still upgrades, with an empty 404 if a proxy has made
    /// them ordinary requests.
    pub(crate) async fn passes_websockets(&self) -> Verdict<()> {
        let url = format!("{}/rtc", self.url.api());
        let outcome = match self.web.send(&Request::get(&url, &UPGRADE)).await {
            Err(failure) => unreached(&failure),
            Ok(response) => match (response.status, response.body.is_empty()) {
                (401, _) => self.passes_newer_websockets().await,
                (404, true) => Outcome::problem(
                    "the proxy in front of the SFU turns requests to open a WebSocket into ordinary ones: clients can't connect",
                    "let the proxy forward WebSockets (nginx: `proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                     proxy_set_header Connection \"upgrade\";`)",
                ),
                (status, _) => Outcome::problem(
                    format!(
                        "a request to open a WebSocket at {url} returned {status}; 401 is expected without a token"
                    ),
                    "let the proxy forward everything below LIVEKIT_URL's path to the SFU, including WebSockets",
                ),
            },
        };
        (outcome, Some(()))
    }

    /// Checks the same at the path of newer clients, where the older one is well.
    async fn passes_newer_websockets(&self) -> Outcome {
        let url = format!("{}/rtc/v1", self.url.api());
        match self.web.send(&Request::get(&url, &UPGRADE)).await {
            Err(failure) => unreached(&failure),
            Ok(response) => match response.status {
                401 => Outcome::ok("a request to open one reaches the SFU, and is refused without a token"),
                404 => Outcome::warning(
                    format!("a request to open one reaches the SFU, but it has no /rtc/v1 (404): {NEWER_CLIENTS}"),
                    HAVE_RTC_V1,
                ),
                status => Outcome::warning(
                    format!(
                        "a request to open one reaches the SFU, but {url} returned {status}, and 401 is expected: {NEWER_CLIENTS}"
                    ),
                    HAVE_RTC_V1,
                ),
            },
        }
    }

    /// Checks that the SFU accepts tokens signed with this key pair; if it refuses them, finds the cause.
    pub(crate) async fn accepts_key(&self, credentials: &SfuCredentials) -> Verdict<()> {
        let refusal = match self.list_rooms(credentials.key()).await {
            Ok(_) => {
                let outcome = match credentials.padded() {
                    _ if credentials.is_short() => self.with_short_secret(),
                    None => Outcome::ok("rooms can be listed"),
                    Some(which) => Outcome::warning(
                        format!(
                            "rooms can be listed, but the {which} was given with white space around it, such as a line feed"
                        ),
                        "nothing for this service, which trims it; other programs may not, so store it without (`printf %s`, not \
                         `echo`)",
                    ),
                };
                return (outcome, Some(()));
            }
            Err(CallError::Response(response)) if response.status == 401 => response,
            Err(error) => return (error.outcome(), None),
        };
        for (mistake, key) in credentials.variants() {
            if self.list_rooms(&key).await.is_ok() {
                let seen = format!("the SFU refuses the key pair, because its own has {mistake}");
                let change = "write the pair under keys: in the SFU's configuration on one line, `KEY: SECRET`, without white space, and restart it";
                return (Outcome::problem(seen, change), None);
            }
        }
        let body = String::from_utf8_lossy(&refusal.body).into_owned();
        let (keys, restart) = match self.is_on_livekit_cloud() {
            true => (format!("in the project's settings at {CONSOLE}"), ""),
            false => (String::from("under keys: in the SFU's configuration"), "; restart the SFU after a change"),
        };
        let (seen, change) = if body.contains("invalid API key") {
            ("the SFU doesn't know the API key (401)", format!("LIVEKIT_KEY must be one of the keys {keys}{restart}"))
        } else if body.contains("signature") {
            (
                "the SFU knows the API key, but with another secret (401)",
                format!("LIVEKIT_SECRET must be the secret of that key {keys}"),
            )
        } else if body.contains("not valid yet") || body.contains("expired") {
            (
                "the SFU finds the token expired or not yet valid (401)",
                String::from("set the clocks of the SFU and of this machine (NTP)"),
            )
        } else {
            (
                "the SFU refuses the key pair (401)",
                format!("LIVEKIT_KEY and LIVEKIT_SECRET must be one of the pairs {keys}"),
            )
        };
        (Outcome::problem(seen, change), None)
    }

    fn with_short_secret(&self) -> Outcome {
        Outcome::warning(
            format!(
                "rooms can be listed, but the secret has fewer than {SHORTEST_SECRET} characters, and can be guessed"
            ),
            match self.is_on_livekit_cloud() {
                true => format!("make a new pair in the project's settings at {CONSOLE}"),
                false => String::from(
                    "make a longer one (`openssl rand -hex 32`), and let it take the place of this one at the SFU and the service \
                     (docs/operations.md#rotating-keys)",
                ),
            },
        )
    }

    /// Checks that the key pair can create rooms and delete them.
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

    /// Checks that a token for a room that doesn't exist doesn't create the room.
    pub(crate) async fn auto_create_is_off(&self, key: &ApiKey) -> Verdict<AutoCreate> {
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
                404 if response.body.starts_with(Self::NO_SUCH_ROOM) => {
                    return (Outcome::ok("a room that doesn't exist can't be joined"), Some(AutoCreate::Off));
                }
                200 => {
                    let seen = "a token for a room that doesn't exist creates it: every user has full access";
                    let change = match self.is_on_livekit_cloud() {
                        true => format!(
                            "in the project's settings at {CONSOLE}, switch off that rooms are created when a participant joins"
                        ),
                        false => String::from(
                            "in the SFU's configuration, set `auto_create: false` under `room:`, and restart it",
                        ),
                    };
                    return (Outcome::problem(seen, change), Some(AutoCreate::On));
                }
                401 | 403 => Outcome::problem(
                    format!("the SFU refuses a client's token ({})", response.status),
                    "check that the clocks of the SFU and of this machine agree, and that the proxy forwards the query",
                ),
                status => Outcome::problem(
                    format!("GET …/rtc/validate returned {status}: clients don't reach the SFU's signalling"),
                    "let the proxy forward /rtc to the SFU as it does /twirp, including WebSockets",
                ),
            },
        };
        (outcome, None)
    }

    /// Whether its settings are in LiveKit Cloud's console.
    fn is_on_livekit_cloud(&self) -> bool {
        livekit_cloud::is_project(self.url.client())
    }

    /// Lists the rooms of a name that none has: the list of all can be longer than any bound.
    async fn list_rooms(&self, key: &ApiKey) -> Result<Value, CallError> {
        self.call(key, "ListRooms", Grant::ListRooms, &json!({ "names": ["matrixrtc-doctor"] })).await
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

/// Error of a call of the server API.
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
            Self::Response(response) if response.status == 200 => Outcome::problem(
                "the response from LIVEKIT_URL's /twirp isn't a LiveKit SFU's (200, but not JSON)",
                AS_ROOT,
            ),
            // The same text as in the service's log.
            Self::Response(Response { status, body, .. }) => {
                let twirp: Option<TwirpError> = serde_json::from_slice(&body).ok();
                Outcome::problem(RoomServiceError::Answer { status, twirp }.to_string(), AS_ROOT)
            }
        }
    }
}

/// Outcome of a check that doesn't reach the SFU.
pub(crate) fn unreached(failure: &Failure) -> Outcome {
    Outcome::problem(failure.to_string(), failure.change(THE_SFU))
}

/// Random name for a test room, which can't collide with a call's.
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

const THE_SFU: &str = "the SFU, or the proxy in front of it,";
/// The nonce is constant, as no WebSocket is opened.
const UPGRADE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "bWF0cml4cnRjLWRvY3Rvcg=="),
];
const AS_ROOT: &str = "let the proxy forward /twirp to the SFU like the rest, and read the SFU's log";
/// Effect on clients of an SFU without `/rtc/v1`.
pub(crate) const NEWER_CLIENTS: &str = "newer clients try it first, and connect later by the older path, or not at all";
/// Change for it.
pub(crate) const HAVE_RTC_V1: &str =
    "update LiveKit to 1.9.10 or newer; if it is, let the proxy forward everything below /rtc to it";
const TOKEN_LIFETIME_S: u32 = 600;
const TEST_ROOM_LIFETIME_S: u32 = 10;
