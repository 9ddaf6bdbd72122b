//! A call in a LiveKit room, with the engine's part in it: what happens is told to the engine, and what it does is told as
//! text, `restart alice`, `send alice`, `ask alice` or `ask all`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use delegated_leaves::{
    Action, Change, DelayId, DelayTimeout, DelayedEvent, DelayedEventsUrl, Delegate, DelegationId, DelegationRow,
    DisconnectReason, Ending, HomeserverAnswer, Identity, Input, Jitter, MilestoneEvent, Occurrence, Participant,
    ParticipantRef, ParticipantSid, ParticipantState, Request, Room, RoomCommand, RoomName, RoomRow, Rules, ServerName,
    SfuAnswer, StateColumn, Timestamp, WebhookEvent,
};

pub struct Call {
    pub now: Timestamp,
    pub room: Room,
    pub rows: BTreeMap<DelegationId, DelegationRow>,
    pub rows_written: usize,
    pub endings: Vec<Ending>,
    room_row: RoomRow,
    rules: Rules,
    under_way: VecDeque<Action>,
}

pub const FAILED: HomeserverAnswer = HomeserverAnswer::Failed;
pub const DONE: HomeserverAnswer = HomeserverAnswer::Done;
pub const GONE: HomeserverAnswer = HomeserverAnswer::Gone;

impl Call {
    pub fn new() -> Self {
        Self::with_rules(Rules { sanity_check_interval: None })
    }

    pub fn with_sanity_check(interval_s: u64) -> Self {
        Self::with_rules(Rules { sanity_check_interval: Some(Duration::from_secs(interval_s)) })
    }

    /// Alice has delegated her leave with this delay, is connected as `PA_1`, and her leave was restarted just now.
    pub fn with_alice(timeout_s: u64) -> Self {
        let mut call = Self::new();
        call.delegate("alice", timeout_s);
        call.connect("alice", "PA_1");
        call
    }

    fn with_rules(rules: Rules) -> Self {
        let now = Timestamp::from_secs(1_790_000_000);
        Self {
            now,
            room: Room::load(rules, now, [], RoomRow::default()),
            rows: BTreeMap::new(),
            rows_written: 0,
            endings: Vec::new(),
            room_row: RoomRow::default(),
            rules,
            under_way: VecDeque::new(),
        }
    }

    pub fn delegate(&mut self, who: &str, timeout_s: u64) {
        self.delegate_as(terms(who, timeout_s));
    }

    pub fn delegate_as(&mut self, terms: Delegate) {
        self.handle(Input::Command(RoomCommand::Delegate(terms)));
    }

    /// The participant joins, and its leave is restarted.
    pub fn connect(&mut self, who: &str, sid: &str) {
        self.acts();
        self.joined(who, sid);
        // Asked before it joined: that says nothing any more.
        self.sfu(&[]);
        self.acts();
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

    /// A webhook of something that happened then comes in now.
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

    /// Seconds until something is due.
    pub fn due_in(&self) -> f64 {
        self.room.next_due().map_or(f64::INFINITY, |due| due.since(self.now).as_secs_f64())
    }

    /// Time passes until something is due.
    pub fn wait_for_due(&mut self) -> f64 {
        let wait = self.due_in();
        self.wait(wait);
        wait
    }

    /// What is due now gets under way.
    pub fn acts(&mut self) -> Vec<String> {
        self.acts_up_to(100)
    }

    pub fn acts_up_to(&mut self, limit: usize) -> Vec<String> {
        let actions = self.room.take_due(self.now, limit);
        self.store();
        self.under_way.extend(actions.iter().cloned());
        actions.iter().map(|action| told(&action.request)).collect()
    }

    /// Lets time pass until something is done, and tells what. Panics if that never comes.
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

    /// A homeserver answers what it has been asked the longest ago.
    pub fn homeserver(&mut self, answer: HomeserverAnswer) {
        let action = self.take(is_for_homeserver);
        let jitter = Jitter::new(0.5);
        self.handle(Input::Homeserver { ticket: action.ticket, answer, jitter });
    }

    /// The SFU answers: these are there, with media.
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
        self.under_way.iter().any(|action| is_for_homeserver(&action.request))
    }

    pub fn awaits_sfu(&self) -> bool {
        self.under_way.iter().any(|action| !is_for_homeserver(&action.request))
    }

    fn sfu_answers(&mut self, answer: SfuAnswer) {
        let ticket = self.take(|request| !is_for_homeserver(request)).ticket;
        self.handle(Input::Sfu { ticket, answer });
    }

    /// Everything in memory is lost.
    pub fn crash(&mut self) {
        self.under_way.clear();
        self.room = Room::load(self.rules, self.now, self.rows.values().cloned(), self.room_row);
    }

    pub fn state(&self, who: &str) -> Option<StateColumn> {
        self.rows.values().find(|row| row.identity.as_str() == who).map(|row| row.state)
    }

    fn handle(&mut self, input: Input) {
        self.room.handle(self.now, input);
        self.store();
    }

    fn take(&mut self, wanted: impl Fn(&Request) -> bool) -> Action {
        let index = self.under_way.iter().position(|action| wanted(&action.request)).expect("nothing was asked");
        self.under_way.remove(index).unwrap()
    }

    fn store(&mut self) {
        for change in self.room.take_changes() {
            self.rows_written += 1;
            match change {
                Change::Delete(id) => drop(self.rows.remove(&id)),
                Change::Put(row) => drop(self.rows.insert(row.id, *row)),
                Change::PutRoom(row) => self.room_row = row,
            }
        }
        assert!(self.room.rows().iter().eq(self.rows.values()), "memory and disk differ");
        for milestone in self.room.take_milestones() {
            if let MilestoneEvent::Ended(ending) = milestone.event {
                self.endings.push(ending);
            }
        }
    }
}

/// What a member delegates: a leave of its own.
pub fn terms(who: &str, timeout_s: u64) -> Delegate {
    Delegate {
        room: RoomName::new("room"),
        identity: Identity::new(who),
        legacy_identity: None,
        server_name: ServerName::new("example.com"),
        delayed_events_url: DelayedEventsUrl::new("https://example.com/delayed_events"),
        owner: None,
        delay_id: DelayId::new(format!("leave of {who}")).unwrap(),
        delay_timeout: DelayTimeout::from_millis(timeout_s * 1000).unwrap(),
    }
}

/// A participant by its connection, an empty SID being none. It doesn't tell when it joined.
pub fn participant(who: &str, sid: &str) -> ParticipantRef {
    ParticipantRef { identity: Identity::new(who), sid: ParticipantSid::new(sid), joined_at: None }
}

fn is_for_homeserver(request: &Request) -> bool {
    matches!(request, Request::Restart(_) | Request::Send(_))
}

fn told(request: &Request) -> String {
    let whose = |event: &DelayedEvent| {
        let leave = event.delay_id.secret().trim_start_matches("leave of ");
        event.owner.as_ref().map_or(leave.to_owned(), |owner| format!("{leave} as {}", owner.as_str()))
    };
    match request {
        Request::Restart(event) => format!("restart {}", whose(event)),
        Request::Send(event) => format!("send {}", whose(event)),
        Request::GetParticipant { identity, .. } => format!("ask {identity}"),
        Request::ListParticipants { .. } => "ask all".to_owned(),
    }
}
