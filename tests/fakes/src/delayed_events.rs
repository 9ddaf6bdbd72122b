use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, ORIGIN};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::server::{Handler, Server, Serving};
use crate::{CertificateAuthority, Names, Reply, Request, Strictness};

/// Client-server API of a homeserver, as far as delayed leaves need it: MSC4140's `restart` and `send`, and
/// `/versions`.
///
/// Where the worker is an application service of the homeserver, events have owners, and can be looked up on their
/// behalf. A request with the service's token is made on behalf of the owner; one without a token needs only the id.
///
/// Each event has a real timer: an event that isn't restarted in time is sent by the homeserver itself. A request that
/// Synapse would refuse, also one for an id that was never issued, is a breach.
pub struct DelayedEvents {
    state: Arc<Mutex<State>>,
    base_url: String,
    server: Option<Server>,
    address: SocketAddr,
    listening: Listening,
}

/// Operation on a delayed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Starts its delay anew.
    Restart,
    /// Sends it now.
    Send,
}

/// Request for a delayed event, with its response.
#[derive(Clone, Debug)]
pub struct DelayedEventCall {
    /// Id of the event.
    pub delay_id: String,
    /// Requested operation.
    pub operation: Operation,
    /// Time of its arrival.
    pub at: Instant,
    /// Path of the request.
    pub path: String,
    /// User on whose behalf it was made, if it came with the application service's token.
    pub user_id: Option<String>,
    /// Status of the response.
    pub status: u16,
}

/// Fate of a delayed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its timer is running.
    Scheduled,
    /// It was sent by `send`, at that time.
    Sent(Instant),
    /// Its delay was over at that time.
    TimedOut(Instant),
    /// It was cancelled by its owner.
    Cancelled,
}

/// The events of a homeserver, for the requests of their owners.
#[derive(Clone)]
pub struct OwnedEvents(Arc<Mutex<State>>);

/// Certificate and handler of the API, for listening again after an outage.
struct Listening {
    certificate: Option<crate::Certificate>,
    handler: Handler,
}

/// Handler of further paths; `None` for a path that doesn't exist.
pub type Rest = Arc<dyn Fn(&str, &Request) -> Option<Pin<Box<dyn Future<Output = Reply> + Send>>> + Send + Sync>;

/// Application service of the homeserver, with its further paths.
pub struct ForService {
    /// Its `as_token`.
    pub as_token: String,
    /// Handler of all paths but those of delayed events.
    pub rest: Rest,
}

#[derive(Default)]
struct State {
    name: String,
    as_token: Option<String>,
    events: HashMap<String, Event>,
    scripts: HashMap<(String, Operation), Script>,
    versions: Option<Reply>,
    versions_requests: usize,
    look_ups: usize,
    look_up_reply: Option<Reply>,
    limited_first: HashSet<String>,
    software: Option<String>,
    wants_login: bool,
    calls: Vec<DelayedEventCall>,
}

struct Event {
    owner: Option<(String, String)>,
    delay: Duration,
    running_since: Instant,
    restarts: u64,
    sent: Option<Instant>,
    cancelled: bool,
}

/// Replies to send instead of performing the operation.
#[derive(Default)]
struct Script {
    next: Vec<Reply>,
    always: Option<Reply>,
}

impl DelayedEvents {
    /// Listens at `https://{name}`.
    pub async fn start(
        names: &impl Names,
        authority: &CertificateAuthority,
        name: &str,
        strictness: Strictness,
        service: Option<ForService>,
    ) -> Self {
        let address = SocketAddr::new(names.address_of(name), 443);
        let certificate = Some(authority.certificate(name));
        Self::start_at(address, certificate, format!("https://{name}"), strictness, service).await
    }

    /// Listens at `http://{address}{path}`, which only an operator can configure.
    pub async fn start_without_tls(address: SocketAddr, path: &str, strictness: Strictness) -> Self {
        Self::start_at(address, None, format!("http://{address}{path}"), strictness, None).await
    }

    async fn start_at(
        address: SocketAddr,
        certificate: Option<crate::Certificate>,
        base_url: String,
        strictness: Strictness,
        service: Option<ForService>,
    ) -> Self {
        let as_token = service.as_ref().map(|service| service.as_token.clone());
        let state = Arc::new(Mutex::new(State { name: base_url.clone(), as_token, ..State::default() }));
        let handler_state = state.clone();
        let (_, place) = base_url.split_once("://").expect("an absolute URL");
        let (host, prefix) = place.split_at(place.find('/').unwrap_or(place.len()));
        let (host, prefix) = (host.to_owned(), prefix.to_owned());
        let handler: Handler = Arc::new(move |request: Request| {
            strictness.expect(request.header(HOST) == host, || format!("not for {host}: {request:?}"));
            let path = request.path.strip_prefix(&prefix).unwrap_or_default();
            if let Some(reply) = service.as_ref().and_then(|service| (service.rest)(path, &request)) {
                return reply;
            }
            let reply = handler_state.lock().unwrap().answer(&prefix, request, &strictness);
            Box::pin(async { reply })
        });
        let listening = Listening { certificate, handler };
        let server = Some(listening.at(address).await);
        Self { state, base_url, server, address, listening }
    }

    /// Base URL, for a well-known file or an override.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Schedules a delayed event, whose timer starts now, and returns its id.
    pub fn schedule(&self, delay: Duration) -> String {
        let number = self.lock().events.len();
        self.schedule_as(&format!("syd_secret_{number}"), delay)
    }

    /// Schedules a delayed event with this id.
    pub fn schedule_as(&self, delay_id: &str, delay: Duration) -> String {
        self.insert(delay_id, None, delay)
    }

    /// Schedules a delayed event of this user in this Matrix room, and returns its id.
    pub fn schedule_for(&self, user_id: &str, room_id: &str, delay: Duration) -> String {
        self.owned().schedule(user_id, room_id, delay)
    }

    fn insert(&self, delay_id: &str, owner: Option<(String, String)>, delay: Duration) -> String {
        self.lock().insert(delay_id, owner, delay)
    }

    /// The events, for the requests of their owners.
    pub fn owned(&self) -> OwnedEvents {
        OwnedEvents(self.state.clone())
    }

    /// Sends these replies to the next requests of this kind for this event, one each, without an effect on the event.
    pub fn answer_next(&self, delay_id: &str, operation: Operation, replies: impl IntoIterator<Item = Reply>) {
        let mut state = self.lock();
        let script = state.scripts.entry((delay_id.to_owned(), operation)).or_default();
        script.next.extend(replies);
    }

    /// Sends this reply to all requests of this kind for this event from now on, without an effect on the event.
    pub fn answer_always(&self, delay_id: &str, operation: Operation, reply: Reply) {
        self.lock().scripts.entry((delay_id.to_owned(), operation)).or_default().always = Some(reply);
    }

    /// Answers the restart before the acceptance of a delegation with 429, and leaves it out of all counts: such a
    /// delegation is accepted, and every restart that is counted is one for a connected participant.
    pub fn limit_acceptance(&self, delay_id: &str) {
        self.lock().limited_first.insert(delay_id.to_owned());
    }

    /// Refuses requests without a token from now on, as the merged MSC4140 wants it.
    pub fn want_login(&self) {
        self.lock().wants_login = true;
    }

    /// Sets the reply to look-ups of events.
    pub fn answer_look_ups(&self, reply: Reply) {
        self.lock().look_up_reply = Some(reply);
    }

    /// Number of look-ups of events.
    pub fn look_ups(&self) -> usize {
        self.lock().look_ups
    }

    /// Sets the reply of `/versions`.
    pub fn set_versions(&self, reply: Reply) {
        self.lock().versions = Some(reply);
    }

    /// Lets `/versions` announce the stable form of delayed events.
    pub fn has_stable_form(&self) {
        self.set_versions(versions(&json!({ "org.matrix.msc4140": true, "org.matrix.msc4140.stable": true })));
    }

    /// Sets the name of its software, which its federation API shows.
    pub fn has_software(&self, name: &str) {
        self.lock().software = Some(name.to_owned());
    }

    /// Closes the port.
    pub fn go_away(&mut self) {
        self.server = None;
    }

    /// Listens again.
    pub async fn come_back(&mut self) {
        self.server = Some(self.listening.at(self.address).await);
    }

    /// Fate of an event.
    pub fn fate(&self, delay_id: &str) -> Fate {
        self.lock().events[delay_id].fate()
    }

    /// From now on closes idle connections just as they are used again.
    pub fn cut_idle_connections(&self) {
        self.server.iter().for_each(Server::cut_idle_connections);
    }

    /// Number of connections that were closed so.
    pub fn cut(&self) -> usize {
        self.server.as_ref().map_or(0, Server::cut)
    }

    /// Number of requests for `/versions`.
    pub fn versions_requests(&self) -> usize {
        self.lock().versions_requests
    }

    /// Returns all requests for delayed events, in order.
    pub fn calls(&self) -> Vec<DelayedEventCall> {
        self.lock().calls.clone()
    }

    /// Returns the requests of one kind for one event.
    pub fn calls_of(&self, delay_id: &str, operation: Operation) -> Vec<DelayedEventCall> {
        let is = |call: &&DelayedEventCall| call.delay_id == delay_id && call.operation == operation;
        self.lock().calls.iter().filter(is).cloned().collect()
    }

    /// Number of `restart` requests for an event.
    pub fn restarts(&self, delay_id: &str) -> usize {
        self.calls_of(delay_id, Operation::Restart).len()
    }

    /// Number of `send` requests for an event.
    pub fn sends(&self, delay_id: &str) -> usize {
        self.calls_of(delay_id, Operation::Send).len()
    }

    /// Waits until there were this many `restart` requests for an event.
    pub async fn restarted(&self, delay_id: &str, times: usize) {
        self.until(&format!("{times} restarts"), || self.restarts(delay_id), |restarts| *restarts >= times).await;
    }

    /// Waits until the event is sent by `send`.
    pub async fn sent(&self, delay_id: &str) {
        self.until("a send", || self.fate(delay_id), |fate| matches!(fate, Fate::Sent(_))).await;
    }

    /// Waits until `is` holds for the result of `look`.
    pub async fn until<T: Debug>(&self, what: &str, look: impl Fn() -> T, is: impl Fn(&T) -> bool) {
        let poll = async {
            while !is(&look()) {
                sleep(POLL).await;
            }
        };
        let in_time = timeout(PATIENCE, poll).await.is_ok();
        assert!(in_time, "still no {what} at {}: {:?}; {:?}", self.base_url, look(), self.calls());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl OwnedEvents {
    /// Schedules a delayed event of this user in this Matrix room, and returns its id.
    pub fn schedule(&self, user_id: &str, room_id: &str, delay: Duration) -> String {
        let mut state = self.0.lock().unwrap();
        let delay_id = format!("syd_secret_{}", state.events.len());
        state.insert(&delay_id, Some((user_id.to_owned(), room_id.to_owned())), delay)
    }

    /// Restarts an event; `false` if it isn't scheduled.
    pub fn restart(&self, delay_id: &str) -> bool {
        self.with(delay_id, Event::restart).is_some()
    }

    /// Cancels an event; `false` if it isn't scheduled.
    pub fn cancel(&self, delay_id: &str) -> bool {
        self.with(delay_id, |event| event.cancelled = true).is_some()
    }

    /// Time since which the event's delay is running, in ms since 1970. `None` if it isn't scheduled.
    pub fn running_since(&self, delay_id: &str) -> Option<u64> {
        self.with(delay_id, |event| SCHEDULED_AT_MS + event.restarts)
    }

    /// Fate of an event.
    pub fn fate(&self, delay_id: &str) -> Fate {
        self.0.lock().unwrap().events[delay_id].fate()
    }

    fn with<T>(&self, delay_id: &str, act: impl FnOnce(&mut Event) -> T) -> Option<T> {
        let mut state = self.0.lock().unwrap();
        state.events.get_mut(delay_id).filter(|event| event.fate() == Fate::Scheduled).map(act)
    }
}

impl Listening {
    async fn at(&self, address: SocketAddr) -> Server {
        Server::start(address, self.certificate.clone(), Serving::Http(self.handler.clone())).await
    }
}

impl State {
    fn insert(&mut self, delay_id: &str, owner: Option<(String, String)>, delay: Duration) -> String {
        let event = Event { owner, delay, running_since: Instant::now(), restarts: 0, sent: None, cancelled: false };
        self.events.insert(delay_id.to_owned(), event);
        delay_id.to_owned()
    }

    fn answer(&mut self, prefix: &str, request: Request, strictness: &Strictness) -> Reply {
        for unwanted in [COOKIE, ORIGIN] {
            strictness.expect(!request.headers.contains_key(&unwanted), || format!("{unwanted} in {request:?}"));
        }
        if request.path.starts_with("/.well-known/matrix/") {
            return Reply::html(404);
        }
        let path = request.path.strip_prefix(prefix).unwrap_or_default().to_owned();
        let user_id = match self.speaks_as(&request, strictness) {
            Ok(user_id) => user_id,
            Err(reply) => return reply,
        };
        if let (Some(user_id), "GET") = (&user_id, request.method.as_str()) {
            return self.look_up(&path, user_id, &request, strictness);
        }
        if path == "/_matrix/client/versions" {
            strictness.expect(request.method == "GET", || format!("not a GET: {request:?}"));
            self.versions_requests += 1;
            return self.versions.clone().unwrap_or_else(|| versions(&json!({ "org.matrix.msc4140": true })));
        }
        if path == "/_matrix/federation/v1/version" {
            let software = self.software.as_ref().map(|name| json!({ "server": { "name": name, "version": "1" } }));
            return software.map_or_else(|| error(404, "M_UNRECOGNIZED"), |body| Reply::json(200, &body));
        }
        strictness.expect(
            request.method == "POST" && request.header(CONTENT_TYPE) == "application/json" && request.body == "{}",
            || format!("not a POST of an empty object: {request:?}"),
        );
        let Some((delay_id, operation)) = parse(&path) else {
            strictness.breach(format!("not a request for a delayed event: {request:?}"));
            return error(404, "M_UNRECOGNIZED");
        };
        if operation == Operation::Restart && self.limited_first.remove(&delay_id) {
            return error(429, "M_LIMIT_EXCEEDED");
        }
        let is_owner = |event: &Event| event.owner.as_ref().map(|(owner, _)| owner) == user_id.as_ref();
        let known = self.events.get(&delay_id).is_none_or(|event| user_id.is_none() || is_owner(event));
        strictness.expect(known, || format!("not in the owner's name: {request:?}"));
        let reply = match self.wants_login && user_id.is_none() {
            true => error(401, "M_MISSING_TOKEN"),
            false => self.perform(&delay_id, operation, strictness),
        };
        let status = reply.status();
        let path = request.path;
        self.calls.push(DelayedEventCall { delay_id, operation, at: Instant::now(), path, user_id, status });
        reply
    }

    /// User on whose behalf the application service makes a request; `None` without a token.
    fn speaks_as(&self, request: &Request, strictness: &Strictness) -> Result<Option<String>, Reply> {
        match (request.header(AUTHORIZATION), &self.as_token) {
            ("", _) => {
                strictness.expect(request.query.is_none(), || format!("a query in {request:?}"));
                Ok(None)
            }
            (_, None) => {
                strictness.breach(format!("a token in {request:?}"));
                Err(error(401, "M_UNKNOWN_TOKEN"))
            }
            (bearer, Some(token)) if bearer != format!("Bearer {token}") => Err(error(401, "M_UNKNOWN_TOKEN")),
            _ => {
                let mut pairs = form_urlencoded::parse(request.query.as_deref().unwrap_or_default().as_bytes());
                match (pairs.next(), pairs.next()) {
                    (Some((name, user_id)), None) if name == "user_id" => Ok(Some(user_id.into_owned())),
                    _ => {
                        strictness.breach(format!("not on behalf of a user: {request:?}"));
                        Err(error(403, "M_FORBIDDEN"))
                    }
                }
            }
        }
    }

    fn look_up(&mut self, path: &str, user_id: &str, request: &Request, strictness: &Strictness) -> Reply {
        let delay_id = below_delayed_events(path).and_then(decoded);
        strictness.expect(delay_id.is_some() && request.body.is_empty(), || format!("no look-up: {request:?}"));
        self.look_ups += 1;
        if let Some(reply) = &self.look_up_reply {
            return reply.clone();
        }
        let event = delay_id.and_then(|delay_id| self.events.get(&delay_id));
        match event.map(|event| (event, &event.owner)) {
            Some((event, Some((owner, room_id)))) if owner == user_id => {
                let delay = u64::try_from(event.delay.as_millis()).expect("a sane delay");
                let mut body = json!({
                    "delay_id": request.path.rsplit('/').next(),
                    "room_id": room_id,
                    "type": "org.matrix.msc3401.call.member",
                    "delay_ms": delay,
                    "delayed_since_ts": SCHEDULED_AT_MS + event.restarts,
                    "content": {},
                });
                if event.fate() != Fate::Scheduled {
                    body["finalised"] = json!({ "outcome": "send" });
                }
                Reply::json(200, &body)
            }
            _ => error(404, "M_NOT_FOUND"),
        }
    }

    fn perform(&mut self, delay_id: &str, operation: Operation, strictness: &Strictness) -> Reply {
        if let Some(reply) = self.scripts.get_mut(&(delay_id.to_owned(), operation)).and_then(Script::next) {
            return reply;
        }
        let Some(event) = self.events.get_mut(delay_id) else {
            strictness.breach(format!("{} never gave out the delay_id {delay_id:?}", self.name));
            return error(404, "M_NOT_FOUND");
        };
        if event.fate() != Fate::Scheduled {
            return error(404, "M_NOT_FOUND");
        }
        match operation {
            Operation::Restart => event.restart(),
            Operation::Send => event.sent = Some(Instant::now()),
        }
        Reply::json(200, &json!({}))
    }
}

impl Script {
    fn next(&mut self) -> Option<Reply> {
        if self.next.is_empty() { self.always.clone() } else { Some(self.next.remove(0)) }
    }
}

impl Event {
    fn restart(&mut self) {
        self.running_since = Instant::now();
        self.restarts += 1;
    }

    fn fate(&self) -> Fate {
        if self.cancelled {
            return Fate::Cancelled;
        }
        let over = self.running_since + self.delay;
        match self.sent {
            Some(at) => Fate::Sent(at),
            None if Instant::now() >= over => Fate::TimedOut(over),
            None => Fate::Scheduled,
        }
    }
}

/// `{base}/{delay_id}/{operation}`, in either form, with the id in one segment.
fn parse(path: &str) -> Option<(String, Operation)> {
    let (delay_id, operation) = below_delayed_events(path)?.split_once('/')?;
    let operation = match operation {
        "restart" => Operation::Restart,
        "send" => Operation::Send,
        _ => return None,
    };
    Some((decoded(delay_id)?, operation))
}

fn below_delayed_events(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/_matrix/client/")?;
    let rest = rest.strip_prefix("unstable/org.matrix.msc4140").or_else(|| rest.strip_prefix("v1"))?;
    rest.strip_prefix("/delayed_events/")
}

/// Decodes one segment of a path.
pub fn decoded(segment: &str) -> Option<String> {
    // A plus sign isn't a space in a path.
    let form = format!("id={}", segment.replace('+', "%2B"));
    let (_, decoded) = form_urlencoded::parse(form.as_bytes()).next()?;
    (!segment.contains('/')).then(|| decoded.into_owned())
}

fn versions(unstable_features: &Value) -> Reply {
    Reply::json(200, &json!({ "versions": ["v1.1", "v1.16"], "unstable_features": unstable_features }))
}

/// Builds a Matrix error without a text.
pub fn error(status: u16, errcode: &str) -> Reply {
    Reply::json(status, &json!({ "errcode": errcode, "error": "" }))
}

const SCHEDULED_AT_MS: u64 = 1_700_000_000_000;
const POLL: Duration = Duration::from_millis(5);
/// Long enough for a slow machine, a killed worker, and the longest wait of the worker in a test.
const PATIENCE: Duration = Duration::from_secs(40);
