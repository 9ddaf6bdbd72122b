//! Polls of the SFU for participants that aren't known to be connected, or whose tokens have expired.

use std::time::Duration;

use crate::engine::action::Participant;
use crate::engine::delegation::signals::Scope;
use crate::engine::in_flight::Seq;
use crate::engine::membership::MembershipMonitor;
use crate::engine::membership::participant::{State, Tracked};
use crate::engine::mutant::Mutant;
use crate::time::Timestamp;

impl MembershipMonitor {
    /// Takes the result of a poll that began at these times: the participants, or `None` where the SFU didn't answer.
    pub(crate) fn polled(
        &mut self,
        now: Timestamp,
        (started_at, started_seq): (Timestamp, Seq),
        scope: &Scope,
        participants: Option<&[Participant]>,
    ) {
        if let Some(participants) = participants {
            self.signal_each(now, |tracked| {
                let in_scope = match scope {
                    Scope::All => true,
                    Scope::One(identity) => tracked.request.identity == *identity,
                };
                let overtaken = tracked.presence_seq > started_seq;
                (in_scope && !overtaken).then(|| tracked.read_participants(started_at, participants)).flatten()
            });
        }
        if self.poll_due().is_some_and(|due| due <= now) {
            self.polls_paused_until = Some(now + self.poll_pause());
        }
    }

    /// When the SFU is to be polled for participants whose tokens have expired.
    pub(crate) fn poll_due(&self) -> Option<Timestamp> {
        let due = self.tracked.values().filter_map(Tracked::poll_due).min();
        let due = due.map(|due| due.max(self.polls_paused_until.unwrap_or_default()));
        [due, self.unseen_due()].into_iter().flatten().min()
    }

    /// When the SFU is to be polled for participants that a token admits, and that aren't known to be connected.
    fn unseen_due(&self) -> Option<Timestamp> {
        let due = self.interval.filter(|_| !Mutant::SeekOnlyConnected.is_injected()).map(|_| self.unseen_due)?;
        self.tracked.values().any(|tracked| tracked.may_connect_at(due)).then_some(due)
    }

    /// Pause after a poll. As long as one that may have connected unnoticed wasn't polled for since its known tokens have
    /// expired, polls keep to the interval: one of the SFU's own tokens may admit it.
    fn poll_pause(&self) -> Duration {
        let unseen = self.tracked.values().any(|tracked| tracked.state == State::Absent);
        self.interval.filter(|_| unseen).map_or(POLL_PAUSE, |interval| interval.min(POLL_PAUSE))
    }

    /// Leaves such a participant an interval before the SFU is polled for it.
    pub(super) fn put_off_unseen(&mut self, now: Timestamp) {
        if self.unseen_due <= now {
            self.unseen_due = now + self.interval.unwrap_or_default();
        }
    }

    /// Scopes of the participants to poll the SFU for. A sanity check covers all of them, connected or not: the
    /// webhook of a connection may have been lost.
    pub(crate) fn poll_scopes(&mut self, now: Timestamp, soon: Timestamp, sanity_check: bool) -> Vec<Scope> {
        let unseen = self.unseen_due().is_some_and(|due| due <= soon);
        if unseen || sanity_check {
            self.unseen_due = now + self.interval.unwrap_or_default();
        }
        let poll = self.poll_due().is_some_and(|due| due <= soon);
        let is_due = |tracked: &&Tracked| {
            sanity_check
                || (unseen && tracked.may_connect_at(soon))
                || (poll && tracked.poll_due().is_some_and(|due| due <= soon))
        };
        self.tracked.values().filter(is_due).map(|tracked| Scope::One(tracked.request.identity.clone())).collect()
    }
}

/// Longest pause of the polls after one that the SFU didn't answer.
const POLL_PAUSE: Duration = Duration::from_secs(600);
