//! Calls behind one rate limit: their homeserver has one bucket for all restarts that come without a login, as Synapse
//! has, one a second and five in a burst. That is less than twenty delayed events of ten seconds need, so some of them run
//! out; but none does while another one is restarted for the second time, whether they are of one room or of twenty.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use delegated_leaves::{
    Action, DelayId, DelayTimeout, DelayedEvent, DelayedEventsUrl, Delegate, DisconnectReason, EngineConfig,
    HomeserverAnswer, Identity, Input, Jitter, Occurrence, Outcome, Pacing, Participant, ParticipantRef,
    ParticipantSid, ParticipantState, Request, RoomCommand, RoomEngine, RoomName, Rows, ServerName, SfuAnswer,
    Timestamp, UserId, WebhookEvent,
};
use fastrand::Rng;

use crate::clock::START;
use crate::invariant::{Invariant, Verdict, broken};
use crate::weather::millis;

/// Rooms whose members' homeserver limits restarts.
pub(crate) struct Limit {
    dice: Rng,
    now: Timestamp,
    queue: BinaryHeap<Reverse<(Timestamp, u64)>>,
    events: BTreeMap<u64, Event>,
    scheduled: u64,
    rooms: Vec<Room>,
    members: BTreeMap<String, Member>,
    /// Content of the homeserver's bucket, and when it was last filled.
    bucket: (f64, Timestamp),
    /// Its events, line by line, where they are wanted.
    pub(crate) trace: Option<Vec<String>>,
}

struct Room {
    engine: RoomEngine,
    in_flight: usize,
    due: Option<Timestamp>,
}

/// A member, and its delayed event.
struct Member {
    room: usize,
    connected: bool,
    fires_at: Timestamp,
    over: bool,
    /// When its timer was started: the sending of the latest restart.
    started_at: Timestamp,
    /// When each restart was sent.
    restarts: Vec<Timestamp>,
}

enum Event {
    Command(usize, RoomCommand),
    Arrive(usize, Timestamp, Box<Action>),
    Outcome(usize, Box<Action>, Outcome),
    Due(usize),
    Fire(String),
    End,
}

impl Limit {
    pub(crate) fn new(seed: u64, tracing: bool) -> Self {
        let mut dice = Rng::with_seed(seed);
        let kind = usize::try_from(seed / EVERY).unwrap_or(0);
        let (rooms, members) = ([1, 1, 4, 20][kind % 4], [20, 20, 12, 8][kind / 4 % 4]);
        let pacing = Pacing::default();
        let engine = || {
            let mut engine = RoomEngine::load(EngineConfig::default(), START, Rows::default(), None);
            engine.share_pacing(pacing.for_another_room());
            engine
        };
        let mut limit = Self {
            dice: dice.fork(),
            now: START,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            scheduled: 0,
            rooms: (0..rooms).map(|_| Room { engine: engine(), in_flight: 0, due: None }).collect(),
            members: BTreeMap::new(),
            bucket: (BURST, START),
            trace: tracing.then(Vec::new),
        };
        for n in 0..members {
            limit.arrive(n % rooms, &format!("m{n}"));
        }
        limit.after(LENGTH, Event::End);
        limit
    }

    pub(crate) fn run(&mut self) -> Verdict {
        while let Some(Reverse((at, id))) = self.queue.pop() {
            self.now = at;
            let Some(event) = self.events.remove(&id) else { continue };
            match event {
                Event::Command(room, command) => {
                    self.take_effect(&command);
                    self.input(room, Input::Command(command))?;
                }
                Event::Arrive(room, sent_at, action) => {
                    let outcome = self.answer(room, sent_at, &action.request);
                    self.log(|| format!("room {room}: {}: {outcome:?}", request(&action)));
                    let delay = millis(&mut self.dice, 10, 80);
                    self.after(delay, Event::Outcome(room, action, outcome));
                }
                Event::Outcome(room, action, outcome) => {
                    if let Some(room) = self.rooms.get_mut(room) {
                        room.in_flight -= 1;
                    }
                    let jitter = Jitter::new(self.dice.f64());
                    self.input(room, Input::Outcome { id: action.id, outcome, jitter })?;
                }
                Event::Due(room) => {
                    if self.rooms.get(room).is_some_and(|room| room.due == Some(at)) {
                        self.act(room)?;
                    }
                }
                Event::Fire(name) => self.fire(&name)?,
                Event::End => return Ok(()),
            }
        }
        Ok(())
    }

    /// Lets a member delegate its leave, connect, and perhaps leave.
    fn arrive(&mut self, room: usize, name: &str) {
        let (Ok(delay_id), Some(delay_timeout)) = (DelayId::new(name), DelayTimeout::from_millis(10_000)) else {
            return;
        };
        let at = millis(&mut self.dice, 0, 300);
        let member = Member {
            room,
            connected: false,
            fires_at: START + at + DELAY,
            over: false,
            started_at: START + at,
            restarts: Vec::new(),
        };
        self.members.insert(name.to_owned(), member);
        self.after(at + DELAY, Event::Fire(name.to_owned()));
        let delegate = Delegate {
            room: RoomName::new("room"),
            identity: Identity::new(name),
            legacy_identity: None,
            server_name: ServerName::new("example.com"),
            delayed_events_url: DelayedEventsUrl::new("https://example.com/delayed_events"),
            owner: None,
            user_id: UserId::new(format!("@{name}:example.com")),
            restricted: false,
            delay_id,
            delay_timeout,
            restarted_at: None,
            issued_at: None,
        };
        self.after(at, Event::Command(room, RoomCommand::Delegate(delegate)));
        let joins_at = at + millis(&mut self.dice, 10, 500);
        let participant = ParticipantRef {
            identity: Identity::new(name),
            sid: ParticipantSid::new(format!("PA_{name}")),
            joined_at: Some(START + joins_at),
        };
        let joined = Occurrence::ParticipantJoined(participant.clone());
        self.webhook(room, joins_at, joined);
        if self.dice.u8(..8) == 0 {
            let left = Occurrence::ParticipantLeft(participant, DisconnectReason::Other);
            let stay = millis(&mut self.dice, 1_000, 40_000);
            self.webhook(room, joins_at + stay, left);
        }
    }

    fn webhook(&mut self, room: usize, at: Duration, occurrence: Occurrence) {
        let event = WebhookEvent { created_at: Some(START + at), occurrence };
        self.after(at, Event::Command(room, RoomCommand::Webhook(event)));
    }

    fn take_effect(&mut self, command: &RoomCommand) {
        let RoomCommand::Webhook(event) = command else { return };
        self.log(|| format!("webhook: {:?}", event.occurrence));
        match &event.occurrence {
            Occurrence::ParticipantJoined(participant) => {
                if let Some(member) = self.members.get_mut(participant.identity.as_str()) {
                    member.connected = true;
                }
            }
            Occurrence::ParticipantLeft(participant, _) => {
                if let Some(member) = self.members.get_mut(participant.identity.as_str()) {
                    member.connected = false;
                }
            }
            _ => {}
        }
    }

    fn input(&mut self, room: usize, input: Input) -> Verdict {
        if let Some(room) = self.rooms.get_mut(room) {
            room.engine.handle(self.now, input);
        }
        self.act(room)
    }

    fn act(&mut self, index: usize) -> Verdict {
        let Some(room) = self.rooms.get_mut(index) else { return Ok(()) };
        let actions = room.engine.take_due(self.now, PLACES.saturating_sub(room.in_flight));
        room.in_flight += actions.len();
        drop(room.engine.take_changes());
        drop(room.engine.take_log_events());
        let due = match room.in_flight {
            0 => room.engine.next_due(),
            _ => room.engine.next_due_after(self.now),
        };
        let is_scheduled = room.due == due;
        room.due = due;
        if room.in_flight == 0 && due.is_some_and(|due| due <= self.now) && actions.is_empty() {
            return broken(Invariant::Bounded, format!("nothing is done, although it is due at {due:?}"));
        }
        for action in actions {
            let delay = millis(&mut self.dice, 10, 80);
            self.after(delay, Event::Arrive(index, self.now, Box::new(action)));
        }
        if let Some(due) = due.filter(|_| !is_scheduled) {
            self.after(due.since(self.now), Event::Due(index));
        }
        Ok(())
    }

    fn answer(&mut self, room: usize, sent_at: Timestamp, request: &Request) -> Outcome {
        match request {
            Request::Restart(event) => Outcome::Homeserver(self.homeserver(event, Some(sent_at))),
            Request::Send(event) => Outcome::Homeserver(self.homeserver(event, None)),
            Request::GetParticipant { .. } | Request::ListParticipants { .. } => {
                let there = self.members.iter().filter(|(_, member)| member.connected && member.room == room);
                Outcome::Sfu(SfuAnswer::Participants(
                    there
                        .map(|(name, _)| Participant {
                            identity: Identity::new(name),
                            sid: ParticipantSid::new(format!("PA_{name}")),
                            state: ParticipantState::Active,
                            joined_at: None,
                        })
                        .collect(),
                ))
            }
            request => request.failed(),
        }
    }

    /// Answers as Synapse does: a refused request takes nothing from the bucket.
    fn homeserver(&mut self, event: &DelayedEvent, restart_sent_at: Option<Timestamp>) -> HomeserverAnswer {
        let (content, filled_at) = self.bucket;
        let content = (content + self.now.since(filled_at).as_secs_f64()).min(BURST);
        if content < 1.0 {
            self.bucket = (content, self.now);
            return HomeserverAnswer::Limited(Some(Duration::from_secs(1)));
        }
        self.bucket = (content - 1.0, self.now);
        let name = event.delay_id.secret().to_owned();
        let Some(member) = self.members.get_mut(&name).filter(|member| !member.over) else {
            return HomeserverAnswer::Gone;
        };
        match restart_sent_at {
            None => member.over = true,
            Some(sent_at) => {
                member.started_at = sent_at;
                member.restarts.push(sent_at);
                member.fires_at = self.now + DELAY;
                self.after(DELAY, Event::Fire(name));
            }
        }
        HomeserverAnswer::Done
    }

    /// Lets an event run out, if it wasn't restarted, and compares it with the others.
    fn fire(&mut self, name: &str) -> Verdict {
        let now = self.now;
        let Some(member) = self.members.get_mut(name).filter(|member| !member.over && member.fires_at <= now) else {
            return Ok(());
        };
        member.over = true;
        let (connected, started_at) = (member.connected, member.started_at);
        self.log(|| format!("{name} runs out"));
        for (other, member) in self.members.iter().filter(|_| connected) {
            let counts = |at: &&Timestamp| **at > started_at && **at + LAST_TRY <= now;
            let restarts = member.restarts.iter().filter(counts).count();
            if restarts > 1 {
                return broken(Invariant::InTurn, format!("{name} runs out after {restarts} restarts of {other}"));
            }
        }
        Ok(())
    }

    fn log(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:10.3}  {}", self.now.since(START).as_secs_f64(), line()));
        }
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse((self.now + delay, self.scheduled)));
        self.events.insert(self.scheduled, event);
    }
}

/// Describes the request of an action.
fn request(action: &Action) -> String {
    match &action.request {
        Request::Restart(event) => format!("restart {}", event.delay_id.secret()),
        Request::Send(event) => format!("send {}", event.delay_id.secret()),
        _ => "poll".to_owned(),
    }
}

/// Returns whether there is one in the simulation with that seed.
pub(crate) fn is_in(seed: u64) -> bool {
    seed % EVERY == EVERY - 20
}

/// Every how many seeds there is one.
const EVERY: u64 = 50;

const DELAY: Duration = Duration::from_secs(10);
const BURST: f64 = 5.0;
const LENGTH: Duration = Duration::from_secs(60);
const PLACES: usize = 6;

/// Time before the end of a delay in which no refused restart can be tried again.
const LAST_TRY: Duration = Duration::from_secs(2);
