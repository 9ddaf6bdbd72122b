//! Who has to be in which Matrix room, and what is done about those who aren't.

pub(crate) mod participant;
pub mod row;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::command::Track;
use crate::engine::action::{
    Action, ActionId, MembersAnswer, Participant, RemovalAnswer, Request, ServerAnswer, TrackedId,
};
use crate::engine::backoff::Jitter;
use crate::engine::delegation::signals::Scope;
use crate::engine::in_flight::{InFlight, Seq};
use crate::engine::log_event::{LogEvent, LogEventKind};
use crate::engine::membership::participant::{Attempt, Presence, PresenceChange, Tracked};
use crate::engine::membership::row::TrackedRow;
use crate::engine::mutant::Mutant;
use crate::engine::webhook::WebhookEvent;
use crate::ids::{Identity, MatrixRoomId, RoomName, UserId};
use crate::time::Timestamp;

/// Those who were given a token because they are in a Matrix room.
#[derive(Clone, Debug, Default)]
pub(crate) struct MembershipMonitor {
    /// How often it is checked who is in a room. `None`: only when somebody connects.
    interval: Option<Duration>,
    tracked: BTreeMap<Identity, Tracked>,
    sweeps: Vec<Sweep>,
    /// Before that time the SFU, which couldn't tell, isn't asked again for those whose tokens have expired.
    look_after: Option<Timestamp>,
    latest: Seq,
    newest: u64,
    deleted: Vec<TrackedId>,
    log_events: Vec<LogEvent>,
}

/// The checks of one Matrix room. There is one room in practice: the LiveKit room's name is made from it.
#[derive(Clone, Debug)]
struct Sweep {
    of: MatrixRoomId,
    /// When the homeserver is next asked. It counts only while somebody is connected.
    due: Option<Timestamp>,
    /// The question under way.
    action_id: Option<ActionId>,
    /// The homeserver doesn't tell us who is joined: it is to be asked whether it is itself.
    forbidden: bool,
    /// It isn't: the LiveKit room is to be deleted.
    deletion: Option<Attempt>,
    /// It is, and that has been told.
    misconfigured: bool,
}

impl MembershipMonitor {
    /// Those who are stored. Whoever is connected is checked at once: what was under way may have been about it.
    pub(crate) fn load(interval: Option<Duration>, now: Timestamp, rows: Vec<TrackedRow>) -> Self {
        let mut tracked: BTreeMap<_, _> = rows
            .into_iter()
            .map(TrackedRow::resume)
            .map(|tracked| (tracked.request.identity.clone(), tracked))
            .collect();
        tracked.values_mut().for_each(|tracked| tracked.resume_looks(now));
        let mut membership = Self {
            interval: interval.map(|interval| interval.max(SHORTEST_INTERVAL)),
            newest: tracked.values().map(|tracked| tracked.id.as_u64()).max().unwrap_or_default(),
            tracked,
            ..Self::default()
        };
        let rooms: Vec<_> = membership.tracked.values().map(|tracked| tracked.request.matrix_room_id.clone()).collect();
        for matrix_room_id in rooms {
            membership.begin(matrix_room_id).due = Some(now);
        }
        membership
    }

    /// A token was minted.
    pub(crate) fn track(&mut self, now: Timestamp, request: Track) {
        let vouched_seq = self.next_seq();
        self.begin(request.matrix_room_id.clone()).deletion = None;
        match self.tracked.get_mut(&request.identity) {
            Some(tracked) => {
                let expires_at = tracked.request.expires_at.max(request.expires_at);
                let renewed = Track { expires_at, ..request };
                tracked.vouched_seq = vouched_seq;
                tracked.removal = None;
                if tracked.request != renewed {
                    tracked.changed = true;
                    let moved = tracked.request.matrix_room_id != renewed.matrix_room_id;
                    tracked.request = renewed;
                    if moved {
                        self.moved(now);
                    }
                }
            }
            None => {
                self.newest = now.as_millis().max(self.newest + 1);
                let identity = request.identity.clone();
                let tracked = Tracked {
                    id: TrackedId(self.newest),
                    request,
                    presence: Presence::default(),
                    vouched_seq,
                    seen_seq: vouched_seq,
                    looked_at: None,
                    missed_at: None,
                    changed: true,
                    removal: None,
                };
                self.tracked.insert(identity, tracked);
            }
        }
    }

    pub(crate) fn webhook(&mut self, now: Timestamp, event: &WebhookEvent) {
        self.each(now, |tracked| tracked.read_webhook(now, event));
    }

    /// The SFU has answered a question that was asked at that moment.
    pub(crate) fn sfu_answered(
        &mut self,
        now: Timestamp,
        asked: (Timestamp, Seq),
        scope: &Scope,
        there: Option<&[Participant]>,
    ) {
        let (asked_at, started_seq) = asked;
        if let Some(there) = there {
            self.each(now, |tracked| {
                let asked_for = match scope {
                    Scope::All => true,
                    Scope::One(identity) => tracked.request.identity == *identity,
                };
                let overtaken = tracked.seen_seq > started_seq;
                (asked_for && !overtaken).then(|| tracked.read_participants(now, asked_at, there)).flatten()
            });
        }
        if self.look_due().is_some_and(|due| due <= now) {
            self.look_after = Some(now + LOOK_AGAIN);
        }
    }

    /// Who is joined, as of that moment.
    pub(crate) fn members_answered(
        &mut self,
        now: Timestamp,
        action_id: ActionId,
        matrix_room_id: &MatrixRoomId,
        started_seq: Seq,
        answer: MembersAnswer,
    ) {
        let Some(sweep) = self.sweep(matrix_room_id).filter(|sweep| sweep.action_id == Some(action_id)) else {
            return;
        };
        sweep.action_id = None;
        let joined = match answer {
            MembersAnswer::Joined(joined) => joined,
            MembersAnswer::Forbidden if Mutant::DeleteWithoutAsking.is_injected() => {
                sweep.deletion.get_or_insert(Attempt::new(now));
                return;
            }
            MembersAnswer::Forbidden => {
                sweep.forbidden = true;
                return;
            }
            MembersAnswer::Failed if Mutant::FailedCheckMeansNobody.is_injected() => HashSet::new(),
            MembersAnswer::Failed => return self.unknown(now, matrix_room_id),
        };
        sweep.misconfigured = false;
        sweep.deletion = None;
        self.judge(now, matrix_room_id, started_seq, |user_id| joined.contains(user_id));
    }

    /// Whether our homeserver is joined, as of that moment.
    pub(crate) fn server_answered(
        &mut self,
        now: Timestamp,
        action_id: ActionId,
        matrix_room_id: &MatrixRoomId,
        started_seq: Seq,
        answer: ServerAnswer,
    ) {
        let Some(sweep) = self.sweep(matrix_room_id).filter(|sweep| sweep.action_id == Some(action_id)) else {
            return;
        };
        sweep.action_id = None;
        match answer {
            ServerAnswer::Failed => self.unknown(now, matrix_room_id),
            ServerAnswer::Joined(true) => {
                sweep.deletion = None;
                let news = !std::mem::replace(&mut sweep.misconfigured, true);
                // What was known of its users can't be known any more.
                self.judge(now, matrix_room_id, started_seq, |_| true);
                if news {
                    self.tell_of(matrix_room_id, LogEventKind::NamespaceMisconfigured);
                }
            }
            ServerAnswer::Joined(false) => {
                sweep.misconfigured = false;
                let alone = self.sweeps.len() == 1;
                let renewed = self.tracked.values().any(|tracked| tracked.vouched_seq > started_seq);
                // Nobody else is in a room that is deleted: it has no other Matrix room, and no newer token.
                match self.sweep(matrix_room_id) {
                    Some(sweep) if alone && !renewed => {
                        sweep.deletion.get_or_insert(Attempt::new(now)).hasten(now);
                    }
                    _ => self.judge(now, matrix_room_id, started_seq, |_| false),
                }
            }
        }
    }

    /// The SFU was told to remove somebody. True if it isn't there any more.
    pub(crate) fn removal_answered(
        &mut self,
        now: Timestamp,
        action_id: ActionId,
        identity: &Identity,
        started_seq: Seq,
        answer: RemovalAnswer,
        jitter: Jitter,
    ) -> bool {
        let Some(tracked) = self.tracked.get_mut(identity) else { return false };
        let attempt = tracked.removal.as_mut().filter(|attempt| attempt.action_id == Some(action_id));
        let awaited = attempt.is_some();
        match (answer, attempt) {
            (RemovalAnswer::Failed, None) => return false,
            (RemovalAnswer::Failed, Some(attempt)) => {
                attempt.failed(now, jitter);
                let log_event = LogEvent::of_tracked(&tracked.request, LogEventKind::RemovalFailed);
                self.log_events.push(log_event);
                // Whether it is there at all is found out with the next sweep.
                if !tracked.presence.connected {
                    tracked.removal = None;
                }
                return false;
            }
            (RemovalAnswer::Done | RemovalAnswer::NotThere, _) => {}
        }
        if answer == RemovalAnswer::Done {
            let log_event = LogEvent::of_tracked(&tracked.request, LogEventKind::ParticipantRemoved);
            self.log_events.push(log_event);
        }
        if awaited {
            tracked.removal = None;
        }
        // It is back already: that was another connection.
        if tracked.seen_seq > started_seq {
            return false;
        }
        self.has_gone(now, identity, answer);
        true
    }

    /// The SFU was told to delete the room. Those who aren't there any more because of it.
    pub(crate) fn deletion_answered(
        &mut self,
        now: Timestamp,
        action_id: ActionId,
        matrix_room_id: &MatrixRoomId,
        started_seq: Seq,
        answer: RemovalAnswer,
        jitter: Jitter,
    ) -> Vec<Identity> {
        let anybody = self.is_anybody_connected(matrix_room_id);
        if let Some(sweep) = self.sweep(matrix_room_id)
            && let Some(attempt) = sweep.deletion.as_mut().filter(|attempt| attempt.action_id == Some(action_id))
        {
            if answer == RemovalAnswer::Failed && anybody {
                attempt.failed(now, jitter);
            } else {
                sweep.deletion = None;
            }
        }
        match answer {
            RemovalAnswer::Done => self.tell_of(matrix_room_id, LogEventKind::RoomDeleted),
            RemovalAnswer::NotThere => {}
            RemovalAnswer::Failed => {
                self.tell_of(matrix_room_id, LogEventKind::DeletionFailed);
                return Vec::new();
            }
        }
        let gone: Vec<_> = self
            .tracked
            .values()
            .filter(|tracked| tracked.seen_seq <= started_seq && tracked.presence.connected)
            .map(|tracked| tracked.request.identity.clone())
            .collect();
        // Of a connection that was migrating just then it says nothing.
        gone.iter().for_each(|identity| self.has_gone(now, identity, RemovalAnswer::NotThere));
        gone
    }

    /// Forgets whom no token lets in any more.
    pub(crate) fn forget(&mut self, now: Timestamp) {
        let over = |tracked: &Tracked| tracked.forgotten_at().is_some_and(|at| at <= now);
        let deleted = self.deleted.len();
        self.deleted.extend(self.tracked.values().filter(|tracked| over(tracked)).map(|tracked| tracked.id));
        if self.deleted.len() > deleted {
            self.tracked.retain(|_, tracked| !over(tracked));
            self.end_sweeps();
        }
    }

    /// Adds what is due to `actions`, up to `limit`: first one question for each Matrix room, then the removals, of which
    /// [`REMOVALS_AT_ONCE`] are under way at a time.
    pub(crate) fn actions(
        &mut self,
        now: Timestamp,
        limit: usize,
        in_flight: &mut InFlight,
        actions: &mut Vec<Action>,
    ) {
        let seq = self.latest;
        let asked: Vec<_> = self.questions().filter(|(due, _)| *due <= now).map(|(_, id)| id.clone()).collect();
        for matrix_room_id in asked.into_iter().take(limit.saturating_sub(actions.len())) {
            let interval = self.interval.filter(|_| !Mutant::CheckOnlyOnce.is_injected());
            let Some(sweep) = self.sweep(&matrix_room_id) else { continue };
            let request = if std::mem::take(&mut sweep.forbidden) {
                Request::IsServerJoined { matrix_room_id }
            } else {
                sweep.due = interval.map(|interval| now + interval);
                Request::JoinedMembers { matrix_room_id }
            };
            let action = in_flight.start(now, seq, request);
            sweep.action_id = Some(action.id);
            actions.push(action);
        }
        self.removals(now, limit, in_flight, actions);
    }

    /// When there is something to do, questions to the SFU apart.
    pub(crate) fn dues(&self) -> impl Iterator<Item = Timestamp> {
        let questions = self.questions().map(|(due, _)| due);
        let removals = self.tracked.values().filter_map(|tracked| tracked.removal?.due());
        let deletions = self.sweeps.iter().filter_map(|sweep| sweep.deletion?.due());
        questions.chain(removals).chain(deletions).chain(self.tracked.values().filter_map(Tracked::forgotten_at))
    }

    /// When the SFU is to be asked for those whose tokens have expired.
    pub(crate) fn look_due(&self) -> Option<Timestamp> {
        let due = self.tracked.values().filter_map(Tracked::look_due).min()?;
        Some(due.max(self.look_after.unwrap_or_default()))
    }

    /// Whom to ask the SFU for, if this is a sanity check, or it is time to look for them. Holders of a token that haven't been
    /// seen are part of a sanity check: the webhook may have been lost.
    pub(crate) fn sought(&self, now: Timestamp, sanity_check: bool) -> Vec<Scope> {
        let look = self.look_due().is_some_and(|due| due <= now);
        let sought = |tracked: &&Tracked| sanity_check || (look && tracked.look_due().is_some_and(|due| due <= now));
        self.tracked.values().filter(sought).map(|tracked| Scope::One(tracked.request.identity.clone())).collect()
    }

    /// Of somebody who is tracked.
    pub(crate) fn room(&self) -> Option<&RoomName> {
        self.tracked.values().next().map(|tracked| &tracked.request.room)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tracked.is_empty()
    }

    pub(crate) fn latest(&self) -> Seq {
        self.latest
    }

    /// The participants whose rows are to be deleted since the last call.
    pub(crate) fn take_deleted(&mut self) -> Vec<TrackedId> {
        std::mem::take(&mut self.deleted)
    }

    /// The rows that have changed since the last call.
    pub(crate) fn take_changed(&mut self) -> impl Iterator<Item = TrackedRow> {
        let changed = self.tracked.values_mut().filter(|tracked| tracked.changed);
        changed.map(|tracked| {
            tracked.changed = false;
            TrackedRow::of(tracked)
        })
    }

    pub(crate) fn take_log_events(&mut self) -> Vec<LogEvent> {
        std::mem::take(&mut self.log_events)
    }

    #[cfg(feature = "mutants")]
    pub(crate) fn rows(&self) -> Vec<TrackedRow> {
        let mut rows: Vec<_> = self.tracked.values().map(TrackedRow::of).collect();
        rows.sort_unstable_by_key(|row| row.id);
        rows
    }

    /// Lets everybody who is tracked learn something.
    fn each(&mut self, now: Timestamp, mut learn: impl FnMut(&mut Tracked) -> Option<PresenceChange>) {
        let heard_at = Seq(self.latest.0 + 1);
        for tracked in self.tracked.values_mut() {
            let before = tracked.presence.clone();
            let sighting = learn(tracked);
            let forgotten = Mutant::ForgetWhoIsConnected.is_injected() && sighting == Some(PresenceChange::Joined);
            tracked.changed |= tracked.presence != before && !forgotten;
            if sighting.is_none() {
                continue;
            }
            self.latest = heard_at;
            tracked.seen_seq = heard_at;
            if sighting == Some(PresenceChange::Joined)
                && let Some(sweep) = self.sweeps.iter_mut().find(|sweep| sweep.of == tracked.request.matrix_room_id)
            {
                sweep.due = Some(sweep.due.map_or(now, |due| due.min(now)));
            }
        }
    }

    /// Those whose users aren't joined are removed, unless they were given a token after that moment.
    fn judge(
        &mut self,
        now: Timestamp,
        matrix_room_id: &MatrixRoomId,
        started_seq: Seq,
        is_joined: impl Fn(&UserId) -> bool,
    ) {
        for tracked in self.tracked.values_mut() {
            let renewed = tracked.vouched_seq > started_seq && !Mutant::BelieveOldMembers.is_injected();
            if tracked.request.matrix_room_id != *matrix_room_id || renewed {
                continue;
            }
            if is_joined(&tracked.request.user_id) {
                tracked.removal = None;
            } else {
                tracked.remove(now);
            }
        }
    }

    /// It isn't known who is joined. It is asked again with the next sweep, or after a while where there is none.
    fn unknown(&mut self, now: Timestamp, matrix_room_id: &MatrixRoomId) {
        if let Some(sweep) = self.sweep(matrix_room_id) {
            sweep.due = sweep.due.or(Some(now + ASK_AGAIN));
        }
        self.tell_of(matrix_room_id, LogEventKind::MembershipUnknown);
    }

    fn has_gone(&mut self, now: Timestamp, identity: &Identity, answer: RemovalAnswer) {
        let Some(tracked) = self.tracked.get_mut(identity) else { return };
        let before = tracked.presence.clone();
        if answer == RemovalAnswer::Done {
            tracked.presence.connections.end_latest();
        }
        tracked.gone(now);
        tracked.changed |= tracked.presence != before;
    }

    fn removals(&mut self, now: Timestamp, limit: usize, in_flight: &mut InFlight, actions: &mut Vec<Action>) {
        let seq = self.latest;
        let places = REMOVALS_AT_ONCE.saturating_sub(in_flight.removing()).min(limit.saturating_sub(actions.len()));
        let is_due = |attempt: &&mut Attempt| attempt.due().is_some_and(|due| due <= now);
        let room = self.room().cloned();
        let deletions = self.sweeps.iter_mut().filter_map(|sweep| {
            let attempt = sweep.deletion.as_mut().filter(is_due)?;
            Some((attempt, Request::DeleteRoom { room: room.clone()?, matrix_room_id: sweep.of.clone() }))
        });
        let removals = self.tracked.values_mut().filter_map(|tracked| {
            let attempt = tracked.removal.as_mut().filter(is_due)?;
            let Track { room, identity, .. } = tracked.request.clone();
            Some((attempt, Request::RemoveParticipant { room, identity }))
        });
        for (attempt, request) in deletions.chain(removals).take(places) {
            let action = in_flight.start(now, seq, request);
            attempt.action_id = Some(action.id);
            actions.push(action);
        }
    }

    /// When which Matrix room's members are to be asked for.
    fn questions(&self) -> impl Iterator<Item = (Timestamp, &MatrixRoomId)> {
        self.sweeps
            .iter()
            .filter(|sweep| sweep.action_id.is_none() && self.is_anybody_connected(&sweep.of))
            .filter_map(|sweep| Some((if sweep.forbidden { Timestamp::default() } else { sweep.due? }, &sweep.of)))
    }

    fn is_anybody_connected(&self, matrix_room_id: &MatrixRoomId) -> bool {
        self.tracked
            .values()
            .any(|tracked| tracked.presence.connected && tracked.request.matrix_room_id == *matrix_room_id)
    }

    /// The identity belongs to another Matrix room now.
    fn moved(&mut self, now: Timestamp) {
        self.end_sweeps();
        self.sweeps.iter_mut().for_each(|sweep| sweep.due = Some(now));
    }

    fn sweep(&mut self, of: &MatrixRoomId) -> Option<&mut Sweep> {
        self.sweeps.iter_mut().find(|sweep| sweep.of == *of)
    }

    /// The checks of that room, which begin if there were none.
    fn begin(&mut self, of: MatrixRoomId) -> &mut Sweep {
        let index = self.sweeps.iter().position(|sweep| sweep.of == of).unwrap_or_else(|| {
            self.sweeps.push(Sweep {
                of,
                due: None,
                action_id: None,
                forbidden: false,
                deletion: None,
                misconfigured: false,
            });
            self.sweeps.len() - 1
        });
        &mut self.sweeps[index]
    }

    /// Nobody has to be in those rooms any more.
    fn end_sweeps(&mut self) {
        self.sweeps.retain(|sweep| self.tracked.values().any(|tracked| tracked.request.matrix_room_id == sweep.of));
    }

    fn tell_of(&mut self, matrix_room_id: &MatrixRoomId, event: LogEventKind) {
        let room = self.room().cloned();
        self.log_events.extend(room.map(|room| LogEvent::of_matrix_room(room, matrix_room_id.clone(), event)));
    }

    fn next_seq(&mut self) -> Seq {
        self.latest.0 += 1;
        self.latest
    }
}

/// How many removals are under way at once: the places that are left are for the delegated leaves.
const REMOVALS_AT_ONCE: usize = 2;

const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// After a check that has failed, where no other is to come.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// When the SFU doesn't tell who is there.
const LOOK_AGAIN: Duration = Duration::from_secs(600);
