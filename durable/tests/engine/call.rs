//! A call in a LiveKit room, with the engine's part in it. Each method is an event for the engine; its actions are
//! returned as texts: `restart alice`, `send alice`, `get alice`, `list participants`, `members of !room`, `server in
//! !room`, `remove alice` or `delete room`.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use delegated_leaves::{
    Action, Change, DelayId, DelayTimeout, DelayedEvent, DelayedEventsUrl, Delegate, DelegationId, DelegationRow,
    DisconnectReason, Ending, EngineConfig, HomeserverAnswer, Identity, Input, Jitter, LogEventKind, MatrixRoomId,
    MembersAnswer, Occurrence, Outcome, Participant, ParticipantRef, ParticipantSid, ParticipantState, RemovalAnswer,
    Request, RoomAnswer, RoomCommand, RoomEngine, RoomName, RoomRow, Rows, ServerAnswer, ServerName, SfuAnswer,
    StateColumn, Timestamp, Track, TrackedId, TrackedRow, UserId, WebhookEvent,
};

pub struct Call {
    pub now: Timestamp,
    pub room: RoomEngine,
    pub rows: BTreeMap<DelegationId, DelegationRow>,
    pub tracked: BTreeMap<TrackedId, TrackedRow>,
    pub rows_written: usize,
    pub logged: Vec<LogEventKind>,
    pub endings: Vec<Ending>,
    pub jitter: f64,
    room_row: RoomRow,
    config: EngineConfig,
    in_flight: VecDeque<Action>,
}

pub const FAILED: HomeserverAnswer = HomeserverAnswer::Failed;
pub const DONE: HomeserverAnswer = HomeserverAnswer::Done;
pub const GONE: HomeserverAnswer = HomeserverAnswer::Gone;

impl Call {
    pub fn new() -> Self {
        Self::with_rules(EngineConfig::default())
    }

    /// A call in which the members of the Matrix room are checked every minute.
    pub fn with_membership() -> Self {
        let membership_check_interval = Some(Duration::from_secs(60));
        Self::with_rules(EngineConfig { membership_check_interval, ..EngineConfig::default() })
    }

    /// A call in which they are checked when a participant connects, and then for a day no more.
    pub fn with_rare_checks() -> Self {
        let membership_check_interval = Some(Duration::from_secs(24 * 3600));
        Self::with_rules(EngineConfig { membership_check_interval, ..EngineConfig::default() })
    }

    pub fn with_sanity_check(interval_s: u64) -> Self {
        let sanity_check_interval = Some(Duration::from_secs(interval_s));
        Self::with_rules(EngineConfig { sanity_check_interval, ..EngineConfig::default() })
    }

    /// A call in which Alice has delegated her leave with this delay, is connected as `PA_1`, and her leave was
    /// restarted just now.
    pub fn with_alice(timeout_s: u64) -> Self {
        let mut call = Self::new();
        call.delegate("alice", timeout_s);
        call.connect("alice", "PA_1");
        call
    }

    pub fn with_rules(config: EngineConfig) -> Self {
        let now = Timestamp::from_secs(1_790_000_000);
        Self {
            now,
            room: RoomEngine::load(config, now, Rows::default(), None),
            rows: BTreeMap::new(),
            tracked: BTreeMap::new(),
            rows_written: 0,
            logged: Vec::new(),
            endings: Vec::new(),
            jitter: 0.5,
            room_row: RoomRow::default(),
            config,
            in_flight: VecDeque::new(),
        }
    }

    pub fn delegate(&mut self, who: &str, timeout_s: u64) {
        self.delegate_as(request(who, timeout_s));
    }

    pub fn delegate_as(&mut self, request: Delegate) -> RoomAnswer {
        self.handle(Input::Command(RoomCommand::Delegate(request)))
    }

    /// Issues a token to a user of that name, who is in `!room`, valid for an hour.
    pub fn track(&mut self, who: &str) {
        self.track_as(token(who, "!room", self.now + Duration::from_secs(3600)));
    }

    pub fn track_as(&mut self, request: Track) -> RoomAnswer {
        self.handle(Input::Command(RoomCommand::Track(request)))
    }

    /// Issues a token, connects its holder, and answers that `joined` are in the Matrix room.
    pub fn track_and_connect(&mut self, who: &str, sid: &str, joined: &[&str]) {
        self.track(who);
        self.joined(who, sid);
        assert_eq!(self.acts(), ["members of !room"]);
        self.members(joined);
    }

    /// Answers `joined_members` with these users.
    pub fn members(&mut self, joined: &[&str]) {
        let joined: HashSet<_> = joined.iter().map(|who| user(who)).collect();
        self.members_answer(MembersAnswer::Joined(joined));
    }

    pub fn members_answer(&mut self, answer: MembersAnswer) {
        self.outcome(|request| matches!(request, Request::JoinedMembers { .. }), Outcome::Members(answer));
    }

    /// Answers the oldest `is_joined` for a user.
    pub fn user_answers(&mut self, answer: ServerAnswer) {
        self.outcome(|request| matches!(request, Request::IsUserJoined { .. }), Outcome::Server(answer));
    }

    pub fn server_answers(&mut self, answer: ServerAnswer) {
        self.outcome(|request| matches!(request, Request::IsServerJoined { .. }), Outcome::Server(answer));
    }

    /// Answers a removal of a participant, or the deletion of the room.
    pub fn removal(&mut self, answer: RemovalAnswer) {
        self.outcome(is_removal, Outcome::Removal(answer));
    }

    pub fn awaits(&self, what: &str) -> bool {
        self.in_flight.iter().any(|action| describe(&action.request).starts_with(what))
    }

    pub fn is_connected(&self, who: &str) -> Option<bool> {
        self.tracked.values().find(|row| row.identity.as_str() == who).map(|row| row.connected == 1)
    }

    /// Lets the participant join, and its leave be restarted.
    pub fn connect(&mut self, who: &str, sid: &str) {
        self.acts();
        self.joined(who, sid);
        // Polled before it joined: that says nothing any more.
        if self.awaits_sfu() {
            self.sfu(&[]);
        }
        self.acts();
        self.homeserver(DONE);
    }

    /// Does the same for a tracked participant that is found to be in the Matrix room.
    pub fn connect_in_membership(&mut self, who: &str, sid: &str) {
        self.acts();
        self.joined(who, sid);
        self.sfu(&[]);
        self.acts();
        self.members(&[who]);
        self.homeserver(DONE);
    }

    pub fn joined(&mut self, who: &str, sid: &str) {
        let participant = ParticipantRef { joined_at: Some(self.now), ..participant(who, sid) };
        self.webhook(self.now, Occurrence::ParticipantJoined(participant));
    }

    pub fn left(&mut self, who: &str, sid: &str) {
        self.left_because(who, sid, DisconnectReason::Other);
    }

    pub fn left_because(&mut self, who: &str, sid: &str, reason: DisconnectReason) {
        self.webhook(self.now, Occurrence::ParticipantLeft(participant(who, sid), reason));
    }

    pub fn aborted(&mut self, who: &str, sid: &str) {
        let reason = DisconnectReason::Other;
        self.webhook(self.now, Occurrence::ParticipantConnectionAborted(participant(who, sid), reason));
    }

    pub fn room_finished(&mut self) {
        self.webhook(self.now, Occurrence::RoomFinished);
    }

    /// Delivers a webhook of an earlier event now.
    pub fn webhook(&mut self, created_at: Timestamp, occurrence: Occurrence) {
        let created_at = Some(Timestamp::from_secs(created_at.as_millis() / 1000));
        self.event(WebhookEvent { created_at, occurrence });
    }

    pub fn event(&mut self, event: WebhookEvent) {
        self.handle(Input::Command(RoomCommand::Webhook(event)));
    }

    pub fn wait(&mut self, seconds: f64) {
        self.now = self.now + Duration::from_secs_f64(seconds);
    }

    /// Returns the seconds until something is due.
    pub fn due_in(&self) -> f64 {
        self.room.next_due().map_or(f64::INFINITY, |due| due.since(self.now).as_secs_f64())
    }

    /// Lets time pass until something is due.
    pub fn wait_for_due(&mut self) -> f64 {
        let wait = self.due_in();
        self.wait(wait);
        wait
    }

    /// Starts the due actions.
    pub fn acts(&mut self) -> Vec<String> {
        self.acts_up_to(100)
    }

    pub fn acts_up_to(&mut self, limit: usize) -> Vec<String> {
        let actions = self.room.take_due(self.now, limit);
        self.store();
        self.in_flight.extend(actions.iter().cloned());
        actions.iter().map(|action| describe(&action.request)).collect()
    }

    /// Lets time pass until actions are started, and returns them. Panics if that never comes.
    pub fn next_acts(&mut self) -> Vec<String> {
        for _ in 0..100 {
            self.wait_for_due();
            let acts = self.acts();
            if !acts.is_empty() {
                return acts;
            }
        }
        panic!("nothing is ever done");
    }

    /// Answers the oldest request to a homeserver.
    pub fn homeserver(&mut self, answer: HomeserverAnswer) {
        self.outcome(is_for_homeserver, Outcome::Homeserver(answer));
    }

    /// Answers a poll: these participants have media.
    pub fn sfu(&mut self, there: &[(&str, &str)]) {
        let there = there.iter().map(|(who, sid)| (*who, *sid, ParticipantState::Active)).collect::<Vec<_>>();
        self.sfu_shows(&there);
    }

    pub fn sfu_shows(&mut self, there: &[(&str, &str, ParticipantState)]) {
        let participants = there.iter().map(|(who, sid, state)| Participant {
            identity: Identity::new(*who),
            sid: ParticipantSid::new(*sid),
            state: *state,
            joined_at: None,
        });
        self.sfu_answers(SfuAnswer::Participants(participants.collect()));
    }

    pub fn sfu_fails(&mut self) {
        self.sfu_answers(SfuAnswer::Failed);
    }

    pub fn awaits_homeserver(&self) -> bool {
        self.in_flight.iter().any(|action| is_for_homeserver(&action.request))
    }

    pub fn awaits_sfu(&self) -> bool {
        self.in_flight.iter().any(|action| is_poll(&action.request))
    }

    fn sfu_answers(&mut self, answer: SfuAnswer) {
        self.outcome(is_poll, Outcome::Sfu(answer));
    }

    /// Loses everything in memory.
    pub fn crash(&mut self) {
        self.load(None);
    }

    /// Loads the room anew, with the alarm set for that time.
    pub fn load(&mut self, alarm: Option<Timestamp>) {
        self.in_flight.clear();
        self.room = RoomEngine::load(self.config, self.now, self.stored(), alarm);
    }

    pub fn state(&self, who: &str) -> Option<StateColumn> {
        self.rows.values().find(|row| row.identity.as_str() == who).map(|row| row.state)
    }

    /// Ends the oldest action in flight for which `wanted` holds with this outcome.
    pub fn outcome(&mut self, wanted: impl Fn(&Request) -> bool, outcome: Outcome) {
        let index = self.in_flight.iter().position(|action| wanted(&action.request)).expect("no such action");
        let Action { id, .. } = self.in_flight.remove(index).unwrap();
        self.handle(Input::Outcome { id, outcome, jitter: Jitter::new(self.jitter) });
    }

    fn handle(&mut self, input: Input) -> RoomAnswer {
        let answer = self.room.handle(self.now, input);
        self.store();
        answer
    }

    fn stored(&self) -> Rows {
        Rows {
            delegations: self.rows.values().cloned().collect(),
            tracked: self.tracked.values().cloned().collect(),
            room: self.room_row,
        }
    }

    fn store(&mut self) {
        for change in self.room.take_changes() {
            self.rows_written += 1;
            match change {
                Change::Delete(id) => drop(self.rows.remove(&id)),
                Change::Put(row) => drop(self.rows.insert(row.id, *row)),
                Change::Forget(id) => drop(self.tracked.remove(&id)),
                Change::Track(row) => drop(self.tracked.insert(row.id, *row)),
                Change::PutRoom(row) => self.room_row = row,
            }
        }
        if self.room.is_empty() {
            self.room_row = RoomRow::default();
        }
        if self.rows.len() + self.tracked.len() < 100 {
            let (memory, disk) = (self.room.rows(), self.stored());
            assert_eq!(
                (memory.delegations, memory.tracked),
                (disk.delegations, disk.tracked),
                "memory and disk differ"
            );
        }
        for log_event in self.room.take_log_events() {
            self.logged.push(log_event.kind);
            if let LogEventKind::Ended(ending) = log_event.kind {
                self.endings.push(ending);
            }
        }
    }
}

/// Token of a user of that name, who is in that Matrix room.
pub fn token(who: &str, matrix_room: &str, expires_at: Timestamp) -> Track {
    Track {
        room: RoomName::new("room"),
        matrix_room_id: MatrixRoomId::new(matrix_room),
        user_id: user(who),
        identity: Identity::new(who),
        expires_at,
    }
}

pub fn user(who: &str) -> UserId {
    UserId::new(format!("@{who}:example.com"))
}

/// Request of a member to delegate its own leave.
pub fn request(who: &str, timeout_s: u64) -> Delegate {
    Delegate {
        room: RoomName::new("room"),
        identity: Identity::new(who),
        legacy_identity: None,
        server_name: ServerName::new("example.com"),
        delayed_events_url: DelayedEventsUrl::new("https://example.com/delayed_events"),
        owner: None,
        user_id: user(who),
        restricted: false,
        delay_id: DelayId::new(format!("leave of {who}")).unwrap(),
        delay_timeout: DelayTimeout::from_millis(timeout_s * 1000).unwrap(),
        restarted_at: None,
        issued_at: None,
    }
}

/// Participant by its connection, an empty SID being none, without the time of its beginning.
pub fn participant(who: &str, sid: &str) -> ParticipantRef {
    ParticipantRef { identity: Identity::new(who), sid: ParticipantSid::new(sid), joined_at: None }
}

fn is_for_homeserver(request: &Request) -> bool {
    matches!(request, Request::Restart(_) | Request::Send(_))
}

fn is_poll(request: &Request) -> bool {
    matches!(request, Request::GetParticipant { .. } | Request::ListParticipants { .. })
}

fn is_removal(request: &Request) -> bool {
    matches!(request, Request::RemoveParticipant { .. } | Request::DeleteRoom { .. })
}

fn describe(request: &Request) -> String {
    let whose = |event: &DelayedEvent| {
        let leave = event.delay_id.secret().trim_start_matches("leave of ");
        event.owner.as_ref().map_or(leave.to_owned(), |owner| format!("{leave} as {}", owner.as_str()))
    };
    match request {
        Request::Restart(event) => format!("restart {}", whose(event)),
        Request::Send(event) => format!("send {}", whose(event)),
        request => request.to_string(),
    }
}
