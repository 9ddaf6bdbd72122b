//! One tracked participant: the holder of a token that was issued because its user is in a Matrix room.
//!
//! # How it works
//!
//! - A participant is in one of four states ([`State`]). Webhooks, polls of the SFU, sweeps of the Matrix room and
//!   outcomes of removals are [`Signal`]s; [`Tracked::handle`] is the transition table. [`Tracked::read_webhook`] and
//!   [`Tracked::read_participants`] turn what the SFU reports into signals.
//! - A sweep may find the user of a participant that isn't known to be connected missing from the Matrix room. The
//!   webhook of its connection may have been lost, so its removal is requested all the same, once for each token: the
//!   SFU's `not_found` does no harm.
//! - A token admits its holder until it expires, and the SFU itself refreshes the tokens of its participants. So a
//!   participant is remembered until no token that is known of, and none that the SFU may have issued, admits it any
//!   more: two polls, [`REFRESHED_FOR`] apart, must not find it. The first of them makes it `Missing`, the second ends
//!   the record.
//! - Stored are the token, whether the participant is connected, when it last wasn't, and its connections. `Missing`
//!   and `Unwelcome` are in memory only: after a load the sweep and the polls are repeated.
//!
//! # The transition table
//!
//! Columns are the states, rows the signals; an empty cell does nothing. *Sweep* is a request for the members of the
//! Matrix room, *removal* one to the SFU to remove the participant.
//!
//! | signal | `Absent` | `Missing` | `Connected` | `Unwelcome` |
//! | --- | --- | --- | --- | --- |
//! | `TokenIssued` | no removal | `Absent`, if the token is valid for longer | | `Connected` |
//! | `TokenRefreshed` | remembered for longer | `Absent`, likewise | | |
//! | `Joined` | `Connected`; sweep | `Connected`; sweep | sweep | sweep |
//! | `Connecting` | | `Absent` | | |
//! | `Left` | remembered for longer | `Absent` | `Absent` | `Absent` |
//! | `RoomFinished`, `Removed` | no removal | no removal | `Absent` | `Absent` |
//! | `NotFound` | no removal; `Missing`, if no known token is valid | no removal | `Absent` | `Absent` |
//! | `Member` | no removal | no removal | | `Connected` |
//! | `NotMember` | removal, once a token | removal, once a token | `Unwelcome` | removal at once |
//! | `RemovalFailed` | no removal | no removal | | removal again, with back-off |
//! | `RemovalSuperseded` | no removal | no removal | | `Connected` |
//!
//! `Joined` leads to `Unwelcome` instead of `Connected` while a removal is due or in flight: the sweep decides.

use std::time::Duration;

use crate::command::Track;
use crate::engine::action::{ActionId, Participant, ParticipantState, RemovalAnswer, TrackedId};
use crate::engine::backoff::{self, Jitter};
use crate::engine::connection::{Alias, Beginning, Connection, Connections, End};
use crate::engine::in_flight::Seq;
use crate::engine::mutant::Mutant;
use crate::engine::webhook::{Occurrence, WebhookEvent};
use crate::time::Timestamp;

/// A participant that has to be in a Matrix room.
#[derive(Clone, Debug)]
pub(crate) struct Tracked {
    pub(crate) id: TrackedId,
    /// The newest token, with the latest expiry of all.
    pub(crate) request: Track,
    pub(crate) state: State,
    /// When it was last known not to be connected, if it ever was.
    pub(crate) left_at: Option<Timestamp>,
    pub(crate) connections: Connections,
    /// When its removal was last requested.
    pub(crate) tried_at: Option<Timestamp>,
    /// Its removal was requested while it wasn't known to be connected, since the latest token was issued.
    sought: bool,
    /// Removal to request of the SFU. `Unwelcome` always has one, `Connected` never.
    pub(crate) removal: Option<Attempt>,
    /// When the latest token was issued. Its user was in the Matrix room then.
    pub(crate) token_seq: Seq,
    /// When the participant was last seen to connect or to leave.
    pub(crate) presence_seq: Seq,
    /// When the SFU last answered a poll for it that didn't find it connecting.
    last_polled_at: Option<Timestamp>,
    /// Its row has to be written.
    pub(crate) changed: bool,
}

/// The state of a tracked participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not connected, as far as is known. A token may admit it.
    Absent,
    /// Not connected, after all known tokens had expired: a poll didn't find it. Another poll will end the record.
    Missing { first_missed_at: Timestamp },
    /// Connected. Its user is taken to be in the Matrix room.
    Connected,
    /// Connected, but its user isn't in the Matrix room. The SFU is requested to remove it.
    Unwelcome,
}

/// Meaning of an input to a tracked participant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Signal {
    /// A token was issued to its user.
    TokenIssued,
    /// The SFU has refreshed its token, at that time at the latest, without its being connected since.
    TokenRefreshed(Timestamp),
    /// A connection stands. Even a known one may have migrated, which is an opportunity for a sweep.
    Joined,
    /// The SFU shows it connecting. If it disappears again, no webhook may say so.
    Connecting,
    /// Its latest connection has ended.
    Left,
    /// The LiveKit room is empty.
    RoomFinished,
    /// The SFU didn't have it when polled at that time.
    NotFound { polled_at: Timestamp },
    /// Its user is in the Matrix room, or that can't be known.
    Member,
    /// Its user isn't in the Matrix room.
    NotMember,
    /// The SFU didn't remove it.
    RemovalFailed(Jitter),
    /// The SFU removed an earlier connection than the present one.
    RemovalSuperseded,
    /// The SFU has removed it, or didn't have it.
    Removed,
}

/// The outcome of a [`Signal`] for everything beside the participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PresenceChange {
    /// It is connected. Whether its user is in the Matrix room has to be checked.
    Joined,
    /// It isn't connected any more.
    Left,
}

/// A request that is repeated until the SFU has fulfilled it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    due: Timestamp,
    failures: u32,
    pub(crate) action_id: Option<ActionId>,
}

impl Tracked {
    pub(crate) fn new(id: TrackedId, request: Track, seq: Seq) -> Self {
        Self {
            id,
            request,
            state: State::Absent,
            left_at: None,
            connections: Connections::default(),
            tried_at: None,
            sought: false,
            removal: None,
            token_seq: seq,
            presence_seq: seq,
            last_polled_at: None,
            changed: true,
        }
    }

    /// Goes on after a load. When the SFU was polled before isn't stored: some time after the first poll was due, it
    /// counts as done.
    pub(crate) fn resume(
        id: TrackedId,
        request: Track,
        connected: bool,
        left_at: Option<Timestamp>,
        connections: Connections,
        now: Timestamp,
    ) -> Self {
        let state = if connected { State::Connected } else { State::Absent };
        let mut tracked =
            Self { state, left_at, connections, changed: false, ..Self::new(id, request, Seq::default()) };
        if let Some(first_missed_at) = tracked.access_ends_at()
            && first_missed_at + POLLED_WITHIN <= now
        {
            tracked.state = State::Missing { first_missed_at };
        }
        tracked
    }

    /// The transition table, see the [module's documentation](self).
    pub(crate) fn handle(&mut self, now: Timestamp, signal: Signal) -> Option<PresenceChange> {
        use Signal::*;
        use State::{Absent, Connected, Missing, Unwelcome};

        match (self.state, signal) {
            (Absent | Missing { .. }, Joined) => {
                self.state = if self.removal.is_some() { Unwelcome } else { Connected };
                return Some(PresenceChange::Joined);
            }
            (Connected | Unwelcome, Joined) => return Some(PresenceChange::Joined),
            (Connected | Unwelcome, Left | RoomFinished | NotFound { .. } | Removed) => {
                self.left_at = Some(now);
                self.state = Absent;
                self.removal = None;
                return Some(PresenceChange::Left);
            }

            (Absent | Missing { .. }, Left) => {
                // No webhook and no poll had reported its connection.
                self.left_at = Some(now);
                self.state = Absent;
                self.removal = None;
            }
            (Absent, NotFound { polled_at }) => {
                if self.access_ends_at().is_some_and(|access_ends_at| access_ends_at <= polled_at) {
                    self.state = Missing { first_missed_at: polled_at };
                }
                self.removal = None;
            }
            (Missing { .. }, Connecting) => self.state = Absent,
            (Absent | Missing { .. }, TokenRefreshed(at)) => {
                if self.access_ends_at().is_some_and(|access_ends_at| access_ends_at < at + REFRESHED_FOR) {
                    self.left_at = Some(at);
                    self.withdraw_missing();
                }
            }
            (Absent | Missing { .. }, TokenIssued) => {
                self.removal = None;
                self.withdraw_missing();
            }

            (Unwelcome, TokenIssued | Member | RemovalSuperseded) => {
                self.state = Connected;
                self.removal = None;
            }
            (Connected, NotMember) => {
                self.state = Unwelcome;
                self.remove(now);
            }
            // Sought once for each token: a user could fill the list with identities that never connect.
            (Absent | Missing { .. }, NotMember) if self.sought && !Mutant::SeekAgain.is_injected() => {}
            (Absent | Missing { .. } | Unwelcome, NotMember) => self.remove(now),
            (Unwelcome, RemovalFailed(jitter)) => {
                if let Some(attempt) = &mut self.removal {
                    attempt.fail(now, jitter);
                }
            }
            // Whether it is connected at all is found out by the next sweep.
            (Absent | Missing { .. }, Member | RemovalFailed(_) | RemovalSuperseded | RoomFinished | Removed)
            | (Missing { .. }, NotFound { .. }) => self.removal = None,

            (Absent | Connected | Unwelcome, Connecting) => {}
            (Connected, TokenIssued | Member | RemovalFailed(_) | RemovalSuperseded) => {}
            // The SFU refreshes the token of a connected participant all the time.
            (Connected | Unwelcome, TokenRefreshed(_)) => {}
        }
        None
    }

    /// Signal of a webhook. Records which connections have begun and ended.
    pub(crate) fn read_webhook(&mut self, now: Timestamp, event: &WebhookEvent) -> Option<Signal> {
        match &event.occurrence {
            Occurrence::ParticipantJoined(participant) if participant.identity == self.request.identity => {
                let since = participant.joined_at.or(event.created_at);
                let sid = participant.sid.clone();
                let connection = Connection { alias: Alias::Member, sid, since, contested: false };
                match self.connections.begin(connection) {
                    Beginning::New | Beginning::Known => Some(Signal::Joined),
                    Beginning::Over => None,
                }
            }
            Occurrence::ParticipantLeft(participant, reason)
            | Occurrence::ParticipantConnectionAborted(participant, reason)
                if participant.identity == self.request.identity =>
            {
                // A participant that is displaced or migrates is as good as connected. One whose connection was
                // aborted had no media, but the SFU has given it a token.
                let aborted = matches!(event.occurrence, Occurrence::ParticipantConnectionAborted(..));
                if reason.is_replaced() || (aborted && !self.is_connected()) {
                    // Not later than now, whatever the SFU's clock says: the record is kept for as long as the token may be
                    // valid.
                    return Some(Signal::TokenRefreshed(event.created_at.map_or(now, |created| created.min(now))));
                }
                match self.connections.end(Alias::Member, participant, true) {
                    End::Latest | End::Later => Some(Signal::Left),
                    End::Older => None,
                }
            }
            Occurrence::RoomFinished => {
                let since = self.connections.latest.as_ref().and_then(|latest| latest.since);
                let maybe_earlier_room = since
                    .is_some_and(|since| event.happened_before(since) == Some(true) || event.is_unordered_with(since));
                (!maybe_earlier_room).then_some(Signal::RoomFinished)
            }
            _ => None,
        }
    }

    /// Signal of a poll that showed these participants, be this one among them or not.
    pub(crate) fn read_participants(&mut self, polled_at: Timestamp, participants: &[Participant]) -> Option<Signal> {
        let shown = participants.iter().find(|participant| {
            participant.identity == self.request.identity
                && participant.state != ParticipantState::Disconnected
                && !self.connections.is_over(participant.sid.as_ref())
        });
        if shown.is_some_and(|participant| participant.state != ParticipantState::Active) {
            return Some(Signal::Connecting);
        }
        self.last_polled_at = Some(polled_at);
        let Some(participant) = shown else { return Some(Signal::NotFound { polled_at }) };
        let latest = self.connections.latest.as_ref();
        if self.is_connected() && latest.is_some_and(|latest| latest.sid == participant.sid) {
            return None;
        }
        let since = Some(participant.joined_at.unwrap_or(polled_at));
        let sid = participant.sid.clone();
        self.connections.see(Connection { alias: Alias::Member, sid, since, contested: false });
        Some(Signal::Joined)
    }

    /// Replaces the token by a new one, and keeps the later expiry. Returns whether the Matrix room is another now.
    pub(crate) fn renew(&mut self, now: Timestamp, request: Track, seq: Seq) -> bool {
        let expires_at = self.request.expires_at.max(request.expires_at);
        let renewed = Track { expires_at, ..request };
        let moved = self.request.matrix_room_id != renewed.matrix_room_id;
        self.changed |= self.request != renewed;
        self.request = renewed;
        self.token_seq = seq;
        self.sought = false;
        self.handle(now, Signal::TokenIssued);
        moved
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected | State::Unwelcome)
    }

    /// Returns whether a token may admit it at that time, while it isn't known to be connected.
    pub(crate) fn may_connect_at(&self, time: Timestamp) -> bool {
        self.state == State::Absent && self.access_ends_at().is_some_and(|access_ends_at| time <= access_ends_at)
    }

    /// Ends its connection because the SFU has removed it. `NotThere` leaves open which connections have ended.
    pub(crate) fn removed(&mut self, now: Timestamp, answer: RemovalAnswer) {
        self.changing(|tracked| {
            if answer == RemovalAnswer::Done {
                tracked.connections.end_latest();
            }
            tracked.handle(now, Signal::Removed);
        });
    }

    /// Runs `change`, and marks the row if it differs afterwards.
    pub(crate) fn changing<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        let (connected, left_at, connections) = (self.is_connected(), self.left_at, self.connections.clone());
        let result = change(self);
        self.changed |= (self.is_connected(), self.left_at) != (connected, left_at) || self.connections != connections;
        result
    }

    /// When the SFU is to be polled for it, sanity checks apart: twice before the record ends, and once an hour after
    /// the expiry of its token while it counts as connected, because the webhook of its end may have been lost.
    pub(crate) fn poll_due(&self) -> Option<Timestamp> {
        let due = match (self.state, self.access_ends_at()) {
            (State::Missing { first_missed_at }, _) => first_missed_at + REFRESHED_FOR,
            (_, Some(access_ends_at)) => access_ends_at,
            (_, None) => {
                let again_at = self.last_polled_at.map(|polled_at| polled_at + POLL_INTERVAL).unwrap_or_default();
                return Some(again_at.max(self.request.expires_at + LEEWAY));
            }
        };
        (!self.was_polled_since(due)).then_some(due)
    }

    /// When its record ends: with the second poll that doesn't find it. A token that the SFU issued to an unnoticed
    /// connection which was over by the first poll has expired by the second. An SFU that doesn't answer is waited
    /// for, but not for ever.
    pub(crate) fn expires_from_memory_at(&self) -> Option<Timestamp> {
        if Mutant::ForgetWhenAbsent.is_injected() && self.left_at.is_some() && !self.is_connected() {
            return self.left_at;
        }
        let access_ends_at = self.access_ends_at()?;
        let State::Missing { first_missed_at } = self.state else { return Some(access_ends_at + PATIENCE) };
        if Mutant::ForgetAfterFirstPoll.is_injected() {
            return Some(first_missed_at);
        }
        let again_at = first_missed_at + REFRESHED_FOR;
        Some(if self.was_polled_since(again_at) { again_at } else { first_missed_at + PATIENCE })
    }

    /// From when on no token that is known of admits it. `None` while it is connected.
    fn access_ends_at(&self) -> Option<Timestamp> {
        let refreshed = self.left_at.map(|left_at| left_at + REFRESHED_FOR).unwrap_or_default();
        (!self.is_connected()).then(|| refreshed.max(self.request.expires_at + LEEWAY))
    }

    /// `Missing` holds only for a poll that came after the end of access.
    fn withdraw_missing(&mut self) {
        if let State::Missing { first_missed_at } = self.state
            && self.access_ends_at().is_some_and(|access_ends_at| first_missed_at < access_ends_at)
        {
            self.state = State::Absent;
        }
    }

    fn was_polled_since(&self, instant: Timestamp) -> bool {
        self.last_polled_at.is_some_and(|polled_at| polled_at >= instant)
    }

    /// Records that a request for its removal is in flight.
    pub(crate) fn removal_started(&mut self, now: Timestamp, action_id: ActionId) {
        self.tried_at = Some(now);
        self.sought |= !self.is_connected();
        if let Some(attempt) = &mut self.removal {
            attempt.action_id = Some(action_id);
        }
    }

    /// Requests the removal at once, however often the SFU has failed.
    fn remove(&mut self, now: Timestamp) {
        self.removal.get_or_insert(Attempt::new(now)).hasten(now);
    }
}

impl Attempt {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { due: now, failures: 0, action_id: None }
    }

    /// When it is due, unless it is in flight.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.action_id.is_none().then_some(self.due)
    }

    /// Makes it due now, for a new reason.
    pub(crate) fn hasten(&mut self, now: Timestamp) {
        self.due = self.due.min(now);
    }

    /// Schedules the next try after a failure.
    pub(crate) fn fail(&mut self, now: Timestamp, jitter: Jitter) {
        self.action_id = None;
        self.failures = self.failures.saturating_add(1);
        self.due = now + backoff::after_failure(self.failures, jitter);
    }
}

/// Grace after a token's expiry: the SFU accepts it for another minute, clocks differ, and the webhook takes its time.
const LEEWAY: Duration = Duration::from_secs(300);

/// How long a token that the SFU has issued may admit a participant that has left. The SFU issues one when a client
/// connects, before there is media, and then every five minutes, each valid for ten.
const REFRESHED_FOR: Duration = Duration::from_secs(600 + LEEWAY.as_secs());

/// How long after its due time the first poll counts as done once the object was loaded anew. Storing it would cost a
/// row for each participant, and polling again after every load would put off the end for ever. No shorter than
/// outages usually are.
const POLLED_WITHIN: Duration = Duration::from_secs(1800);

/// How long an SFU that doesn't answer keeps the record alive. Longer than an outage.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Interval of the polls for connected participants whose tokens have expired.
const POLL_INTERVAL: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Identity, MatrixRoomId, RoomName, UserId};

    const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

    fn tracked(state: State) -> Tracked {
        let request = Track {
            room: RoomName::new("room"),
            matrix_room_id: MatrixRoomId::new("!room:example.com"),
            user_id: UserId::new("@alice:example.com"),
            identity: Identity::new("alice"),
            expires_at: NOW - Duration::from_secs(3600),
        };
        let removal = (state == State::Unwelcome).then(|| Attempt::new(NOW));
        Tracked { state, removal, ..Tracked::new(TrackedId(1), request, Seq::default()) }
    }

    #[test]
    fn unwelcome_means_connected_and_to_be_removed() {
        use Signal::*;
        let polled_at = NOW;
        let jitter = Jitter::MIDDLE;
        for state in [State::Absent, State::Missing { first_missed_at: NOW }, State::Connected, State::Unwelcome] {
            for signal in [
                TokenIssued,
                TokenRefreshed(NOW),
                Joined,
                Connecting,
                Left,
                RoomFinished,
                NotFound { polled_at },
                Member,
                NotMember,
                RemovalFailed(jitter),
                RemovalSuperseded,
                Removed,
            ] {
                for second in [Joined, NotMember, Member, Left] {
                    let mut tracked = tracked(state);
                    tracked.handle(NOW, signal);
                    tracked.handle(NOW, second);
                    match tracked.state {
                        State::Unwelcome => assert!(tracked.removal.is_some(), "{state:?}, {signal:?}, {second:?}"),
                        State::Connected => assert_eq!(tracked.removal, None, "{state:?}, {signal:?}, {second:?}"),
                        State::Absent | State::Missing { .. } => assert!(!tracked.is_connected()),
                    }
                }
            }
        }
    }

    #[test]
    fn a_participant_is_missing_once_no_token_admits_it() {
        let mut tracked = tracked(State::Absent);
        tracked.handle(NOW, Signal::NotFound { polled_at: NOW });
        assert_eq!(tracked.state, State::Missing { first_missed_at: NOW });
        tracked.handle(NOW, Signal::TokenRefreshed(NOW));
        assert_eq!(tracked.state, State::Absent);
        tracked.handle(NOW, Signal::NotFound { polled_at: NOW + Duration::from_secs(899) });
        assert_eq!(tracked.state, State::Absent);
    }
}
