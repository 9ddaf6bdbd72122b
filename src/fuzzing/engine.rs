//! The engine of a room, driven by a script of commands, outcomes and times.
//!
//! How it works:
//! - the first byte configures the engine; then each step is a letter and a fixed number of arguments of one byte, so
//!   that seeds can be written by hand: see [`Room::step`];
//! - after each step the room acts as its object does: it takes what is due, six actions at a time;
//! - rows are stored in maps, through JSON, and a crash loads the engine from them;
//! - in the end all servers respond that there is nothing, and the room has to become empty.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use delegated_leaves::{
    Action, Change, DelayId, DelayTimeout, DelayedEventsUrl, Delegate, DelegationId, DelegationRow, DisconnectReason,
    EngineConfig, HomeserverAnswer, Identity, Input, InvalidDelayId, Jitter, MatrixRoomId, MembersAnswer, Occurrence,
    Outcome, Participant, ParticipantRef, ParticipantSid, ParticipantState, RemovalAnswer, Request, RoomAnswer,
    RoomCommand, RoomEngine, RoomName, RoomRow, Rows, ServerAnswer, ServerName, SfuAnswer, Timestamp, Track, TrackedId,
    TrackedRow, UserId, WebhookEvent,
};

/// Reads the input as a script.
pub fn engine(data: &[u8]) {
    let mut script = Script(data);
    let Some(config) = script.next() else { return };
    let mut room = Room::new(EngineConfig {
        sanity_check_interval: (config & 1 != 0).then(|| span(config >> 2)),
        membership_check_interval: (config & 2 != 0).then(|| span(config >> 2)),
    });
    for _ in 0..MAX_STEPS {
        if room.step(&mut script).is_none() {
            break;
        }
        room.act();
    }
    room.end();
}

/// The rest of a script.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
}

/// A room's object without a platform.
struct Room {
    now: Timestamp,
    latest: Timestamp,
    config: EngineConfig,
    engine: RoomEngine,
    delegations: BTreeMap<DelegationId, DelegationRow>,
    tracked: BTreeMap<TrackedId, TrackedRow>,
    row: RoomRow,
    in_flight: Vec<(Timestamp, Action)>,
    /// Actions that took too long: their outcomes may still come.
    late: Vec<Action>,
}

impl Room {
    fn new(config: EngineConfig) -> Self {
        let now = Timestamp::from_secs(1_700_000_000);
        Self {
            now,
            latest: now,
            config,
            engine: RoomEngine::load(config, now, Rows::default(), None),
            delegations: BTreeMap::new(),
            tracked: BTreeMap::new(),
            row: RoomRow::default(),
            in_flight: Vec::new(),
            late: Vec::new(),
        }
    }

    /// Takes one step of the script; `None` at its end.
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        match script.next()? {
            // Delegate: member (bit 7: the event was restarted just now, bit 5: with a legacy identity, bit 4: an event that
            // others delegate too), delay,
            // homeserver.
            b'D' => {
                let (who, delay, server) = (script.next()?, span(script.next()?), script.next()? % 3);
                let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                if let (Some(delay_timeout), Ok(delay_id)) = (DelayTimeout::from_millis(delay), delay_id(who)) {
                    let _ = self.command(RoomCommand::Delegate(Delegate {
                        room: RoomName::new("room"),
                        identity: identity(who % MEMBERS),
                        legacy_identity: (who & 0x20 != 0).then(|| identity(who % MEMBERS + MEMBERS)),
                        server_name: ServerName::new(format!("{server}.example.com")),
                        delayed_events_url: DelayedEventsUrl::new("https://example.com/delayed_events"),
                        owner: None,
                        user_id: user(who % MEMBERS),
                        restricted: who & 0x40 != 0,
                        delay_id,
                        delay_timeout,
                        restarted_at: (who & 0x80 != 0).then_some(self.now),
                        issued_at: (who & 0x10 != 0).then_some(self.now),
                    }));
                }
            }
            // Track: identity, Matrix room, lifetime of its token.
            b'T' => {
                let (who, room, lifetime) = (script.next()?, script.next()? % 2, span(script.next()?));
                let _ = self.command(RoomCommand::Track(Track {
                    room: RoomName::new("room"),
                    matrix_room_id: MatrixRoomId::new(format!("!{room}:example.com")),
                    user_id: user(who),
                    identity: identity(who),
                    expires_at: self.now + lifetime.min(YEAR),
                }));
            }
            // Joined, left, aborted: identity, connection, its age, age of the webhook, and why.
            kind @ (b'J' | b'L' | b'A') => {
                let participant = ParticipantRef {
                    identity: identity(script.next()?),
                    sid: sid(script.next()?),
                    joined_at: self.instant(script.next()?),
                };
                let created_at = self.instant(script.next()?);
                let reason = DisconnectReason::from_number(i64::from(script.next()? & 0xf));
                self.webhook(
                    created_at,
                    match kind {
                        b'J' => Occurrence::ParticipantJoined(participant),
                        b'L' => Occurrence::ParticipantLeft(participant, reason),
                        _ => Occurrence::ParticipantConnectionAborted(participant, reason),
                    },
                );
            }
            // Finished: age of the webhook.
            b'F' => {
                let created_at = self.instant(script.next()?);
                self.webhook(created_at, Occurrence::RoomFinished);
            }
            b'W' => _ = self.command(RoomCommand::Wake),
            // Many memberships of one user: how many, and of which homeserver.
            b'B' => {
                let (many, server) = (script.next()? % 32, script.next()? % 3);
                (0..many).for_each(|member| self.membership_of_one_user(member, server));
            }
            // Outcome: of which action, and what.
            b'O' => {
                let (index, what) = (script.next()?, script.next()?);
                if let Some(index) = usize::from(index).checked_rem(self.in_flight.len()) {
                    let (_, action) = self.in_flight.swap_remove(index);
                    let outcome = self.outcome(&action.request, what, script);
                    self.complete(&action, outcome, what);
                }
            }
            // Too late, and perhaps of another kind.
            b'X' => {
                let (index, what) = (script.next()?, script.next()?);
                if let Some(index) = usize::from(index).checked_rem(self.late.len()) {
                    let action = self.late.swap_remove(index);
                    self.complete(&action, Outcome::Sfu(SfuAnswer::Participants(Vec::new())), what);
                }
            }
            // Time passes: how much.
            b'+' => self.now = self.now + span(script.next()?).min(YEAR),
            b'>' => {
                if let Some(due) = self.engine.next_due() {
                    self.now = self.now.max(due);
                }
            }
            // The clock is set back.
            b'<' => self.now = self.now - span(script.next()?).min(YEAR),
            b'C' => self.load(None),
            // The object is evicted while it waits for its alarm.
            b'G' => {
                let waits = self.in_flight.is_empty() && !self.engine.has_actions_in_flight();
                self.load(self.engine.next_due().filter(|due| waits && *due > self.now));
            }
            _ => {}
        }
        self.latest = self.latest.max(self.now);
        Some(())
    }

    fn outcome(&self, request: &Request, what: u8, script: &mut Script<'_>) -> Outcome {
        let mut participants = || {
            let mut there = Vec::new();
            for _ in 0..what % 4 {
                if let (Some(who), Some(connection), Some(state)) = (script.next(), script.next(), script.next()) {
                    there.push(Participant {
                        identity: identity(who),
                        sid: sid(connection),
                        state: ParticipantState::from_number(i32::from(state % 5)),
                        joined_at: self.instant(state),
                    });
                }
            }
            there
        };
        match request {
            _ if what % 8 == 7 => request.failed(),
            Request::Restart(_) | Request::Send(_) => Outcome::Homeserver(match what % 4 {
                0 => HomeserverAnswer::Done,
                1 => HomeserverAnswer::Gone,
                2 => HomeserverAnswer::Limited(Some(span(what >> 2))),
                _ => HomeserverAnswer::Limited(None),
            }),
            Request::GetParticipant { .. } | Request::ListParticipants { .. } => {
                Outcome::Sfu(SfuAnswer::Participants(participants()))
            }
            Request::JoinedMembers { .. } => Outcome::Members(match what % 8 {
                5 => MembersAnswer::Unreadable,
                6 => MembersAnswer::Forbidden,
                _ => MembersAnswer::Joined((0..MEMBERS).filter(|who| what >> who & 1 != 0).map(user).collect()),
            }),
            Request::IsServerJoined { .. } | Request::IsUserJoined { .. } => {
                Outcome::Server(ServerAnswer::Joined(what & 1 != 0))
            }
            Request::RemoveParticipant { .. } | Request::DeleteRoom { .. } => Outcome::Removal(match what & 1 {
                0 => RemovalAnswer::Done,
                _ => RemovalAnswer::NotThere,
            }),
        }
    }

    /// Delegates, and issues a token, for one of the memberships that count together.
    fn membership_of_one_user(&mut self, member: u8, server: u8) {
        let (identity, user_id) = (Identity::new(format!("another {member}")), UserId::new("@a:example.com"));
        let (Some(delay_timeout), Ok(delay_id)) =
            (DelayTimeout::from_millis(8_000), DelayId::new(format!("syd_another_{member}")))
        else {
            return;
        };
        let delegated = self.command(RoomCommand::Delegate(Delegate {
            room: RoomName::new("room"),
            identity: identity.clone(),
            legacy_identity: None,
            server_name: ServerName::new(format!("{server}.example.com")),
            delayed_events_url: DelayedEventsUrl::new("https://example.com/delayed_events"),
            owner: None,
            user_id: user_id.clone(),
            restricted: false,
            delay_id,
            delay_timeout,
            restarted_at: None,
            issued_at: None,
        }));
        let tracked = self.command(RoomCommand::Track(Track {
            room: RoomName::new("room"),
            matrix_room_id: MatrixRoomId::new("!0:example.com"),
            user_id,
            identity,
            expires_at: self.now + Duration::from_secs(3600),
        }));
        let first_ones = usize::from(member) < MOST_OF_ONE_USER;
        assert!(!first_ones || self.delegations.len() >= MOST_OF_ONE_USER || delegated != RoomAnswer::Full);
        assert!(!first_ones || self.tracked.len() >= MOST_OF_ONE_USER || tracked != RoomAnswer::Full);
    }

    fn command(&mut self, command: RoomCommand) -> RoomAnswer {
        super::assert_crosses_to_the_object(&command);
        let answer = self.engine.handle(self.now, Input::Command(command));
        let written = self.store();
        assert!(answer != RoomAnswer::Full || written == 0, "a command that is refused changes something");
        answer
    }

    fn webhook(&mut self, created_at: Option<Timestamp>, occurrence: Occurrence) {
        let _ = self.command(RoomCommand::Webhook(WebhookEvent { created_at, occurrence }));
    }

    fn complete(&mut self, action: &Action, outcome: Outcome, jitter: u8) {
        let jitter = Jitter::new(f64::from(jitter) / 255.0);
        self.engine.handle(self.now, Input::Outcome { id: action.id, outcome, jitter });
        self.store();
    }

    /// Takes all that is due, and asserts that nothing is left to do before another input, or the next due.
    fn act(&mut self) {
        let now = self.now;
        let (in_time, late) = self.in_flight.drain(..).partition(|(started_at, _)| now.since(*started_at) < TOO_LONG);
        self.in_flight = in_time;
        self.late.extend(late.into_iter().map(|(_, action)| action));
        self.late.truncate(CONCURRENT_ACTIONS);
        loop {
            let free = CONCURRENT_ACTIONS.saturating_sub(self.in_flight.len());
            let actions = self.engine.take_due(now, free);
            self.store();
            assert!(actions.len() <= free, "more actions than there are places");
            if actions.is_empty() {
                break;
            }
            for action in actions {
                assert!(self.in_flight.iter().all(|(_, other)| other.id != action.id), "an id is used twice");
                if let Request::Restart(event) | Request::Send(event) = &action.request {
                    assert!(self.delegations.contains_key(&event.delegation), "a request for no delegation");
                }
                self.in_flight.push((now, action));
            }
        }
        let due = self.engine.next_due();
        assert!(self.engine.is_empty() || due.is_some(), "the room waits for nothing");
        let waits = self.engine.has_actions_in_flight() || due.is_none_or(|due| due > now);
        assert!(waits, "an alarm would find nothing to do, at once and again");
        assert!(due.is_none_or(|due| due <= self.latest + LATEST_DUE), "the next due never comes");
        assert!(self.engine.next_due_after(now).is_none_or(|due| due > now));
    }

    /// Stores the changes, and returns their number.
    fn store(&mut self) -> usize {
        let changes = self.engine.take_changes();
        let _ = self.engine.take_log_events();
        let written = changes.len();
        assert!(written <= MAX_ROWS, "one input writes {written} rows");
        for change in changes {
            match change {
                Change::Delete(id) => _ = self.delegations.remove(&id),
                Change::Put(row) => _ = self.delegations.insert(row.id, *row),
                Change::Forget(id) => _ = self.tracked.remove(&id),
                Change::Track(row) => _ = self.tracked.insert(row.id, *row),
                Change::PutRoom(row) => self.row = row,
            }
        }
        if self.engine.is_empty() {
            self.row = RoomRow::default();
        }
        assert_eq!(self.delegations.len(), self.engine.len());
        assert_eq!(self.delegations.is_empty() && self.tracked.is_empty(), self.engine.is_empty());
        let (delegations, tracked) = (self.delegations.len(), self.tracked.len());
        assert!(delegations <= usize::from(MEMBERS) + MOST_OF_ONE_USER, "{delegations} delegations");
        assert!(tracked <= usize::from(MEMBERS) * 2 + MOST_OF_ONE_USER, "{tracked} tracked participants");
        let sids = self.delegations.values().map(|row| &row.ended_sids);
        for sids in sids.chain(self.tracked.values().map(|row| &row.ended_sids)) {
            assert!(sids.split(' ').count() <= MAX_SIDS, "a row grows");
        }
        written
    }

    /// Loads the engine from the rows, with the alarm set for that time.
    fn load(&mut self, alarm: Option<Timestamp>) {
        let stored =
            (self.delegations.values().collect::<Vec<_>>(), self.tracked.values().collect::<Vec<_>>(), self.row);
        let stored = serde_json::to_string(&stored).unwrap_or_default();
        let read = serde_json::from_str::<(Vec<DelegationRow>, Vec<TrackedRow>, RoomRow)>(&stored).ok();
        assert!(read.is_some(), "what is stored can't be read");
        let Some((delegations, tracked, room)) = read else { return };
        assert!(delegations.iter().eq(self.delegations.values()) && tracked.iter().eq(self.tracked.values()));
        self.engine = RoomEngine::load(self.config, self.now, Rows { delegations, tracked, room }, alarm);
        self.in_flight.clear();
        self.late.clear();
        self.store();
    }

    /// Lets all servers respond that there is nothing, once all tokens have expired.
    fn end(&mut self) {
        self.now = self.latest + YEAR + YEAR;
        self.latest = self.now;
        for _ in 0..MAX_LAST_STEPS {
            self.act();
            if self.engine.is_empty() && self.in_flight.is_empty() {
                break;
            }
            let in_flight = std::mem::take(&mut self.in_flight);
            if in_flight.is_empty() {
                // Sanity checks may be due every second.
                self.now = self.engine.next_due().unwrap_or(self.now).max(self.now + span(b'9'));
                self.latest = self.now;
            }
            for (_, action) in in_flight {
                let outcome = match &action.request {
                    Request::Restart(_) | Request::Send(_) => Outcome::Homeserver(HomeserverAnswer::Gone),
                    Request::GetParticipant { .. } | Request::ListParticipants { .. } => {
                        Outcome::Sfu(SfuAnswer::Participants(Vec::new()))
                    }
                    Request::JoinedMembers { .. } => Outcome::Members(MembersAnswer::Joined(HashSet::new())),
                    Request::IsServerJoined { .. } | Request::IsUserJoined { .. } => {
                        Outcome::Server(ServerAnswer::Joined(true))
                    }
                    Request::RemoveParticipant { .. } | Request::DeleteRoom { .. } => {
                        Outcome::Removal(RemovalAnswer::NotThere)
                    }
                };
                self.complete(&action, outcome, 0);
            }
        }
        assert!(self.engine.is_empty(), "something is kept for ever");
    }

    /// None, an instant before now, one after now, or the last of all.
    fn instant(&self, byte: u8) -> Option<Timestamp> {
        match byte >> 5 {
            0 => None,
            1..=4 => Some(self.now - span(byte)),
            5 | 6 => Some(self.now + span(byte)),
            _ => Some(Timestamp::from_millis(u64::MAX)),
        }
    }
}

fn identity(who: u8) -> Identity {
    Identity::new(format!("identity {}", who % (MEMBERS * 2)))
}

fn delay_id(who: u8) -> Result<DelayId, InvalidDelayId> {
    DelayId::new(if who & 0x10 != 0 { "syd_shared".to_owned() } else { format!("syd_{}", who % MEMBERS) })
}

fn user(who: u8) -> UserId {
    UserId::new(format!("@{}:example.com", who % MEMBERS))
}

fn sid(connection: u8) -> Option<ParticipantSid> {
    (connection != b'0').then(|| ParticipantSid::new(format!("PA_{connection}"))).flatten()
}

fn span(byte: u8) -> Duration {
    Duration::from_millis(match byte % 16 {
        0 => 0,
        1 => 1,
        2 => 250,
        3 => 999,
        4 => 2_000,
        5 => 3_000,
        6 => 8_000,
        7 => 15_000,
        8 => 30_000,
        9 => 60_000,
        10 => 600_000,
        11 => 3_600_000,
        12 => 7_200_000,
        13 => 86_400_000,
        14 => 31_536_000_000,
        _ => return Duration::MAX,
    })
}

const MEMBERS: u8 = 4;
const CONCURRENT_ACTIONS: usize = 6;
const MAX_STEPS: usize = 500;
const MAX_LAST_STEPS: usize = 1_000;
/// The most rows that one input may write: each of the room's, once deleted and once put.
const MAX_ROWS: usize = 2 * (3 * MEMBERS as usize + 2 * MOST_OF_ONE_USER) + 1;
/// Delegations of one user, and tracked participants.
const MOST_OF_ONE_USER: usize = 20;
const MAX_SIDS: usize = 16;
const TOO_LONG: Duration = Duration::from_secs(30);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// A delay is a year at most.
const LATEST_DUE: Duration = Duration::from_secs(367 * 24 * 3600);
