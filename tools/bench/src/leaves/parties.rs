//! A homeserver with delayed events, and an SFU, on one port: in a thread of their own, so that they are never late.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Context, Result};
use delegated_leaves::{DelayTimeout, Identity, RoomName};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use prost::Message;

use super::{
    super::upstreams::{ROOM, reply},
    report::{Exodus, Restarts},
};

/// The parties. Their thread ends with the process.
pub struct Parties {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    delay: DelayTimeout,
    events: Vec<Event>,
    rooms: HashMap<String, BTreeMap<String, String>>,
    /// Since restarts count.
    measuring: bool,
    restarts: Restarts,
}

/// A delayed event, and its participant.
#[derive(Clone, Copy, Default)]
struct Event {
    /// Since when its timer runs.
    running_since: Option<Instant>,
    connected: Option<Instant>,
    restarted: bool,
    left: Option<Instant>,
    sent: Option<Instant>,
}

impl Parties {
    /// Starts them, with so many events that can be scheduled.
    pub fn start(events: usize, delay: DelayTimeout) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("can't listen")?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let state = State {
            delay,
            events: vec![Event::default(); events],
            rooms: HashMap::new(),
            measuring: false,
            restarts: Restarts::default(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || runtime.block_on(serve(listener, shared)));
        Ok(Self { addr, state })
    }

    /// Where both are.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// An event's timer starts.
    pub fn schedule(&self, number: u32) {
        self.with_event(number, |event| event.running_since = Some(Instant::now()));
    }

    /// An event's participant connects to the SFU.
    pub fn connect(&self, number: u32, room: &RoomName, identity: &Identity, sid: &str) {
        self.with_event(number, |event| event.connected = Some(Instant::now()));
        let mut state = self.lock();
        let room = state.rooms.entry(room.as_str().to_owned()).or_default();
        room.insert(identity.as_str().to_owned(), sid.to_owned());
    }

    /// It goes.
    pub fn disconnect(&self, number: u32, room: &RoomName, identity: &Identity) {
        self.with_event(number, |event| event.left = Some(Instant::now()));
        if let Some(room) = self.lock().rooms.get_mut(room.as_str()) {
            room.remove(identity.as_str());
        }
    }

    /// From now on it counts how late restarts are.
    pub fn measure_restarts(&self) {
        self.lock().measuring = true;
    }

    /// How late they were.
    pub fn restarts(&self) -> Restarts {
        self.lock().restarts.clone()
    }

    /// How many participants have connected.
    pub fn connected(&self) -> usize {
        self.lock().events.iter().filter(|event| event.connected.is_some()).count()
    }

    /// How many events have been sent.
    pub fn sent(&self) -> usize {
        self.lock().events.iter().filter(|event| event.sent.is_some()).count()
    }

    /// Returns the number of events that haven't been sent yet.
    pub fn unsent(&self) -> usize {
        let state = self.lock();
        state.events.iter().filter(|event| event.sent.is_none() && !event.has_fired(state.delay)).count()
    }

    /// How everybody's leaving went, which began at `begun`.
    pub fn exodus(&self, begun: Instant) -> Exodus {
        let state = self.lock();
        let sends = state.events.iter().filter_map(|event| Some((event.left?, event.sent?)));
        Exodus {
            lateness: sends.clone().map(|(left, sent)| sent.saturating_duration_since(left)).collect(),
            until_last_left: state.events.iter().filter_map(|event| event.left).max().map(|at| at - begun),
            until_last_sent: sends.map(|(_, sent)| sent).max().map(|at| at - begun),
        }
    }

    fn with_event(&self, number: u32, work: impl FnOnce(&mut Event)) {
        if let Some(event) = self.lock().events.get_mut(number as usize) {
            work(event);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// The id of an event.
pub fn delay_id(number: u32) -> String {
    format!("syd_{number}")
}

impl Event {
    /// Whether the homeserver has sent it by itself.
    fn has_fired(&self, delay: DelayTimeout) -> bool {
        self.sent.is_none() && self.running_since.is_some_and(|since| since.elapsed() >= delay.span())
    }
}

impl State {
    /// `restart` or `send` of an event; `None` where there is nothing to do it with.
    fn perform(&mut self, number: usize, operation: &str) -> Option<()> {
        let (delay, measuring) = (self.delay, self.measuring);
        let now = Instant::now();
        let event = self.events.get_mut(number)?;
        if event.sent.is_some() || event.has_fired(delay) {
            return None;
        }
        match operation {
            "restart" => {
                let Some(connected) = event.connected else {
                    // Before the delegation is accepted.
                    event.running_since = Some(now);
                    return Some(());
                };
                // The restart on connecting is left out where the one before the acceptance was a moment ago.
                let due = event.running_since.map(|since| since + delay.restart_after());
                let late = match due {
                    Some(due) if event.restarted || now >= due => now.saturating_duration_since(due),
                    _ => now.saturating_duration_since(connected),
                };
                let list =
                    if event.restarted { &mut self.restarts.lateness } else { &mut self.restarts.first_lateness };
                if measuring || !event.restarted {
                    list.push(late);
                }
                (event.running_since, event.restarted) = (Some(now), true);
            }
            "send" => event.sent = Some(now),
            _ => return None,
        }
        Some(())
    }

    fn participant(&self, question: &Question) -> Option<Participant> {
        let sid = self.rooms.get(&question.room)?.get(&question.identity)?;
        Some(Participant::new(&question.identity, sid))
    }

    fn participants(&self, question: &Question) -> Vec<Participant> {
        let room = self.rooms.get(&question.room).into_iter().flatten();
        room.map(|(identity, sid)| Participant::new(identity, sid)).collect()
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(answer(request, &state).await) }
            });
            // Its clients are workerd's, which say themselves when a connection fails.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, state: &Mutex<State>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(|body| body.to_bytes()) else {
        return reply(StatusCode::BAD_REQUEST, JSON, "{}");
    };
    let path = head.uri.path();
    if head.method == Method::GET && path == "/_matrix/client/versions" {
        return reply(
            StatusCode::OK,
            JSON,
            r#"{"versions":["v1.16"],"unstable_features":{"org.matrix.msc4140":true}}"#,
        );
    }
    if let Some(method) = path.strip_prefix("/twirp/livekit.RoomService/") {
        return room_service(method, body, &lock(state));
    }
    let event = path.strip_prefix("/_matrix/client/unstable/org.matrix.msc4140/delayed_events/syd_");
    let done = event
        .and_then(|rest| rest.split_once('/'))
        .and_then(|(number, operation)| lock(state).perform(number.parse().ok()?, operation));
    match done {
        Some(()) => reply(StatusCode::OK, JSON, "{}"),
        None => reply(StatusCode::NOT_FOUND, JSON, r#"{"errcode":"M_NOT_FOUND","error":""}"#),
    }
}

fn room_service(method: &str, body: Bytes, state: &State) -> Response<Full<Bytes>> {
    if method == "CreateRoom" {
        return reply(StatusCode::OK, PROTOBUF, ROOM);
    }
    let Ok(question) = Question::decode(body) else { return reply(StatusCode::BAD_REQUEST, JSON, "{}") };
    match method {
        "GetParticipant" => match state.participant(&question) {
            Some(participant) => reply(StatusCode::OK, PROTOBUF, participant.encode_to_vec()),
            None => reply(StatusCode::NOT_FOUND, JSON, r#"{"code":"not_found","msg":"participant does not exist"}"#),
        },
        "ListParticipants" => {
            let participants = Participants { participants: state.participants(&question) };
            reply(StatusCode::OK, PROTOBUF, participants.encode_to_vec())
        }
        _ => reply(StatusCode::NOT_FOUND, JSON, r#"{"code":"bad_route","msg":""}"#),
    }
}

/// `RoomParticipantIdentity`, of which a `ListParticipantsRequest` has the first field, too.
#[derive(Message)]
struct Question {
    #[prost(string, tag = "1")]
    room: String,
    #[prost(string, tag = "2")]
    identity: String,
}

/// `ParticipantInfo`.
#[derive(Message)]
struct Participant {
    #[prost(string, tag = "1")]
    sid: String,
    #[prost(string, tag = "2")]
    identity: String,
    #[prost(int32, tag = "3")]
    state: i32,
}

/// `ListParticipantsResponse`.
#[derive(Message)]
struct Participants {
    #[prost(message, repeated, tag = "1")]
    participants: Vec<Participant>,
}

impl Participant {
    fn new(identity: &str, sid: &str) -> Self {
        Self { sid: sid.to_owned(), identity: identity.to_owned(), state: ACTIVE }
    }
}

/// A panic elsewhere ends the benchmark anyway.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/protobuf";
const ACTIVE: i32 = 2;
