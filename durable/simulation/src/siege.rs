//! A room under siege: honest members among hostile ones, who join under hundreds of identities, claim tiny delays, and
//! own homeservers that don't answer, or always refuse. The object never crashes here, and all that is honest works: the
//! other simulations are for the faults.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use delegated_leaves::{
    Action, DelayId, DelayTimeout, DelayedEvent, DelayedEventsUrl, Delegate, DisconnectReason, EngineConfig,
    HomeserverAnswer, Identity, Input, Jitter, MatrixRoomId, MembersAnswer, Occurrence, Outcome, Participant,
    ParticipantRef, ParticipantSid, ParticipantState, RemovalAnswer, Request, RoomCommand, RoomEngine, RoomName, Rows,
    ServerAnswer, ServerName, SfuAnswer, Timestamp, Track, UserId, WebhookEvent,
};
use fastrand::Rng;

use crate::clock::START;
use crate::invariant::{Invariant, Verdict, broken};
use crate::weather::millis;

/// One siege.
pub(crate) struct Siege {
    dice: Rng,
    kind: Kind,
    now: Timestamp,
    queue: BinaryHeap<Reverse<(Timestamp, u64)>>,
    events: BTreeMap<u64, Event>,
    scheduled: u64,
    engine: RoomEngine,
    in_flight: BTreeMap<Target, usize>,
    honest: BTreeMap<String, Honest>,
    connected: BTreeMap<Identity, Timestamp>,
    /// Requests to homeservers for each delayed event, and searches for each participant.
    requests: BTreeMap<String, u64>,
    latest_poll: Option<Timestamp>,
    next_due: Option<Timestamp>,
    commands: u64,
    banned_at: Option<Timestamp>,
}

/// Way of the hostile members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Their homeservers never answer.
    Silence,
    /// Their homeservers answer 429, with a `Retry-After` of zero.
    Refusal,
    /// They get tokens for thousands of identities, and never connect.
    Tokens,
    /// They delegate thousands of leaves, and never connect.
    Delegations,
}

enum Event {
    Command(RoomCommand),
    Leave(Identity),
    Ban,
    Outcome(Box<Action>, Outcome),
    Due,
    End,
}

/// Receiver of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    HonestHomeserver,
    HostileHomeserver,
    Other,
}

/// Leave of an honest member.
struct Honest {
    timeout: DelayTimeout,
    fires_at: Timestamp,
    left_at: Option<Timestamp>,
    sent: bool,
}

impl Siege {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Rng::with_seed(seed);
        let kind = [Kind::Silence, Kind::Refusal, Kind::Tokens, Kind::Delegations]
            [usize::try_from(seed / EVERY).unwrap_or(0) % 4];
        let config = EngineConfig {
            sanity_check_interval: None,
            membership_check_interval: Some(Duration::from_secs(INTERVAL_S)),
        };
        let mut siege = Self {
            kind,
            now: START,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            scheduled: 0,
            engine: RoomEngine::load(config, START, Rows::default(), None),
            in_flight: BTreeMap::new(),
            honest: BTreeMap::new(),
            connected: BTreeMap::new(),
            requests: BTreeMap::new(),
            latest_poll: None,
            next_due: None,
            commands: 0,
            banned_at: None,
            dice: dice.fork(),
        };
        siege.honest_members();
        siege.hostile_members();
        siege.after(Duration::from_secs(LENGTH_S), Event::End);
        siege
    }

    pub(crate) fn run(&mut self) -> Verdict {
        loop {
            let next = self.queue.peek().map(|Reverse((at, _))| *at);
            let event = match (self.next_due, next) {
                (Some(due), next) if next.is_none_or(|next| due < next) => {
                    self.now = due;
                    Event::Due
                }
                _ => {
                    let Some(Reverse((at, id))) = self.queue.pop() else { return Ok(()) };
                    self.now = at;
                    let Some(event) = self.events.remove(&id) else { continue };
                    event
                }
            };
            match event {
                Event::Command(command) => self.command(command)?,
                Event::Leave(identity) => self.leave(&identity)?,
                Event::Ban => self.banned_at = Some(self.now),
                Event::Outcome(action, outcome) => {
                    *self.in_flight.entry(target(&action.request)).or_default() -= 1;
                    self.take_effect(&action.request);
                    let jitter = Jitter::new(self.dice.f64());
                    self.engine.handle(self.now, Input::Outcome { id: action.id, outcome, jitter });
                }
                Event::Due => {}
                Event::End => return self.check(),
            }
            self.act()?;
            self.check()?;
        }
    }

    fn honest_members(&mut self) {
        for n in 0..4_u64 {
            let Some(timeout) = DelayTimeout::from_millis([8_000, 8_000, 20_000, 60_000][self.dice.usize(..4)]) else {
                continue;
            };
            let (name, at) = (format!("honest{n}"), millis(&mut self.dice, 0, 2_000));
            self.arrive(&name, "good.example", timeout, false, at, true);
            let stay = Duration::from_secs(self.dice.u64(60..LENGTH_S - 20));
            self.after(at + stay, Event::Leave(Identity::new(&name)));
        }
        let token = self.token("zoe", "@zoe:good.example".to_owned());
        self.after(Duration::ZERO, Event::Command(RoomCommand::Track(token)));
        self.after(Duration::from_millis(500), Event::Command(joined("zoe", START)));
        let banned_at = Duration::from_secs(self.dice.u64(20..60));
        self.after(banned_at, Event::Ban);
    }

    fn hostile_members(&mut self) {
        let count = match self.kind {
            Kind::Silence | Kind::Refusal => 300,
            Kind::Tokens => [400, 2_400][self.dice.usize(..2)],
            Kind::Delegations => 2_600,
        };
        let restricted = self.dice.bool();
        for n in 0..count {
            let at = Duration::from_secs(3) + millis(&mut self.dice, 0, 8_000);
            let (name, user) = (format!("hostile{n}"), format!("@u{}:evil.example", n / 20));
            if self.kind == Kind::Tokens {
                let token = self.token(&name, user);
                self.after(at, Event::Command(RoomCommand::Track(token)));
                continue;
            }
            let server = match self.dice.bool() {
                true => format!("evil.example:{}", n + 1),
                false => format!("evil{n}.example"),
            };
            let Some(timeout) = DelayTimeout::from_millis([1, 1, 8_000, 3_600_000][self.dice.usize(..4)]) else {
                continue;
            };
            self.arrive(&name, &server, timeout, restricted, at, self.kind != Kind::Delegations);
        }
    }

    /// Lets a member delegate its leave, and connect.
    fn arrive(&mut self, name: &str, server: &str, timeout: DelayTimeout, restricted: bool, at: Duration, joins: bool) {
        let Ok(delay_id) = DelayId::new(name) else { return };
        let user = name.trim_start_matches(char::is_alphabetic).parse().map_or(0, |n: u64| n / 20);
        let delegate = Delegate {
            room: RoomName::new("room"),
            identity: Identity::new(name),
            legacy_identity: None,
            server_name: ServerName::new(server),
            delayed_events_url: DelayedEventsUrl::new("https://homeserver.example/delayed_events"),
            owner: None,
            user_id: UserId::new(format!("@{}{user}:{server}", name.trim_end_matches(char::is_numeric))),
            restricted,
            delay_id,
            delay_timeout: timeout,
            restarted_at: None,
            issued_at: None,
        };
        self.after(at, Event::Command(RoomCommand::Delegate(delegate)));
        if joins {
            let at = at + millis(&mut self.dice, 100, 1_500);
            self.after(at, Event::Command(joined(name, START + at)));
        }
    }

    fn token(&self, name: &str, user: String) -> Track {
        Track {
            room: RoomName::new("room"),
            matrix_room_id: MatrixRoomId::new("!room:good.example"),
            user_id: UserId::new(user),
            identity: Identity::new(name),
            expires_at: self.now + Duration::from_secs(3600),
        }
    }

    fn command(&mut self, command: RoomCommand) -> Verdict {
        match &command {
            RoomCommand::Delegate(delegate) if delegate.identity.as_str().starts_with("honest") => {
                let (timeout, fires_at) = (delegate.delay_timeout, self.now + delegate.delay_timeout.span());
                let honest = Honest { timeout, fires_at, left_at: None, sent: false };
                self.honest.insert(delegate.identity.as_str().to_owned(), honest);
            }
            RoomCommand::Webhook(WebhookEvent { occurrence: Occurrence::ParticipantJoined(participant), .. }) => {
                self.connected.insert(participant.identity.clone(), self.now);
            }
            _ => {}
        }
        self.engine.handle(self.now, Input::Command(command));
        self.commands += 1;
        if !self.commands.is_multiple_of(100) {
            return Ok(());
        }
        let rows = self.engine.rows();
        let restricted = rows.delegations.iter().filter(|row| row.restricted == 1);
        let of_host = restricted.clone().filter(|row| row.server_name.host() == "evil.example").count();
        let within = rows.delegations.len() <= 2_000
            && rows.tracked.len() <= 5_000
            && restricted.count() <= 500
            && of_host <= 100;
        match within {
            true => Ok(()),
            false => broken(Invariant::Limited, format!("{} delegations", rows.delegations.len())),
        }
    }

    fn leave(&mut self, identity: &Identity) -> Verdict {
        self.connected.remove(identity);
        if let Some(honest) = self.honest.get_mut(identity.as_str()) {
            honest.left_at = Some(self.now);
        }
        let participant = reference(identity.as_str(), None);
        let occurrence = Occurrence::ParticipantLeft(participant, DisconnectReason::Other);
        self.command(RoomCommand::Webhook(WebhookEvent { created_at: Some(self.now), occurrence }))
    }

    fn act(&mut self) -> Verdict {
        let busy: usize = self.in_flight.values().sum();
        let actions = self.engine.take_due(self.now, PLACES.saturating_sub(busy));
        for action in actions {
            self.start(action)?;
        }
        drop(self.engine.take_changes());
        drop(self.engine.take_log_events());
        self.next_due = self.engine.next_due_after(self.now);
        Ok(())
    }

    fn start(&mut self, action: Action) -> Verdict {
        let target = target(&action.request);
        *self.in_flight.entry(target).or_default() += 1;
        // A refusal is an answer.
        let silent = self.kind != Kind::Refusal;
        let hostile = self.in_flight.get(&Target::HostileHomeserver).copied().unwrap_or_default();
        if silent && hostile > PLACES - 2 {
            return broken(Invariant::Fair, "hostile homeservers have more than four places".into());
        }
        let soon = millis(&mut self.dice, 50, 150);
        let (outcome, delay) = match &action.request {
            Request::Restart(event) | Request::Send(event) => {
                let requests = self.requests.entry(event.delay_id.secret().to_owned()).or_default();
                *requests += 1;
                // One a second at the shortest delay.
                if *requests > 10 + self.now.since(START).as_secs() {
                    return broken(Invariant::Bounded, format!("{} requests for one event", *requests));
                }
                self.homeserver(event, soon)
            }
            Request::GetParticipant { .. } | Request::ListParticipants { .. } => {
                let early = self.latest_poll.replace(self.now).is_some_and(|at| self.now < at + Duration::from_secs(1));
                if early {
                    return broken(Invariant::Limited, "the SFU is polled twice in a second".into());
                }
                (Outcome::Sfu(SfuAnswer::Participants(self.participants(&action.request))), soon)
            }
            Request::JoinedMembers { .. } => {
                let joined =
                    ["@zoe:good.example", "@other:good.example"].into_iter().skip(self.banned_at.map_or(0, |_| 1));
                (Outcome::Members(MembersAnswer::Joined(joined.map(UserId::new).collect())), soon)
            }
            Request::RemoveParticipant { identity, .. } => {
                let there = self.connected.contains_key(identity);
                let searches = self.requests.entry(format!("search {identity}")).or_default();
                *searches += u64::from(!there);
                if *searches > 1 {
                    return broken(Invariant::Bounded, format!("{identity} is sought again"));
                }
                let answer = if there { RemovalAnswer::Done } else { RemovalAnswer::NotThere };
                (Outcome::Removal(answer), Duration::from_millis(100))
            }
            Request::IsServerJoined { .. } | Request::IsUserJoined { .. } => {
                (Outcome::Server(ServerAnswer::Joined(true)), soon)
            }
            Request::DeleteRoom { .. } => (action.request.failed(), soon),
        };
        self.after(delay, Event::Outcome(Box::new(action), outcome));
        Ok(())
    }

    fn homeserver(&mut self, event: &DelayedEvent, soon: Duration) -> (Outcome, Duration) {
        let (answer, delay) = match self.kind {
            _ if event.server_name.as_str() == "good.example" => (HomeserverAnswer::Done, soon),
            Kind::Refusal => (HomeserverAnswer::Limited(Some(Duration::ZERO)), Duration::from_millis(20)),
            _ => (HomeserverAnswer::Failed, Duration::from_secs(29)),
        };
        (Outcome::Homeserver(answer), delay)
    }

    /// Effect of a request that has reached its server.
    fn take_effect(&mut self, request: &Request) {
        match request {
            Request::Restart(event) => {
                if let Some(honest) = self.honest.get_mut(event.delay_id.secret()).filter(|it| it.fires_at > self.now) {
                    honest.fires_at = self.now + honest.timeout.span();
                }
            }
            Request::Send(event) => {
                if let Some(honest) = self.honest.get_mut(event.delay_id.secret()) {
                    honest.sent = true;
                }
            }
            Request::RemoveParticipant { identity, .. } => drop(self.connected.remove(identity)),
            _ => {}
        }
    }

    fn participants(&self, request: &Request) -> Vec<Participant> {
        let wanted = |identity: &&Identity| match request {
            Request::GetParticipant { identity: wanted, .. } => *identity == wanted,
            _ => true,
        };
        let there = self.connected.keys().filter(wanted);
        there
            .map(|identity| Participant {
                identity: identity.clone(),
                sid: ParticipantSid::new(format!("PA_{identity}")),
                state: ParticipantState::Active,
                joined_at: None,
            })
            .collect()
    }

    fn check(&self) -> Verdict {
        for (name, honest) in &self.honest {
            let connected = self.connected.contains_key(&Identity::new(name));
            if connected && honest.fires_at <= self.now {
                return broken(Invariant::KeptAlive, format!("{name} ran out, {:?}", self.kind));
            }
            if !honest.sent && honest.left_at.is_some_and(|at| at + Duration::from_secs(5) < self.now) {
                return broken(Invariant::LeavesSoon, format!("{name} left five seconds ago"));
            }
        }
        let overdue = self.banned_at.is_some_and(|at| at + Duration::from_secs(INTERVAL_S + 5) < self.now);
        match overdue && self.connected.contains_key(&Identity::new("zoe")) {
            true => broken(Invariant::NonMembersGo, "zoe stays".into()),
            false => Ok(()),
        }
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse((self.now + delay, self.scheduled)));
        self.events.insert(self.scheduled, event);
    }
}

fn target(request: &Request) -> Target {
    match request {
        Request::Restart(event) | Request::Send(event) if event.server_name.as_str() == "good.example" => {
            Target::HonestHomeserver
        }
        Request::Restart(_) | Request::Send(_) => Target::HostileHomeserver,
        _ => Target::Other,
    }
}

fn joined(name: &str, at: Timestamp) -> RoomCommand {
    let occurrence = Occurrence::ParticipantJoined(reference(name, Some(at)));
    RoomCommand::Webhook(WebhookEvent { created_at: Some(at), occurrence })
}

fn reference(name: &str, joined_at: Option<Timestamp>) -> ParticipantRef {
    ParticipantRef { identity: Identity::new(name), sid: ParticipantSid::new(format!("PA_{name}")), joined_at }
}

/// Every how many seeds there is a siege.
pub(crate) const EVERY: u64 = 200;

const LENGTH_S: u64 = 150;
const INTERVAL_S: u64 = 30;
const PLACES: usize = 6;
