//! Checks the promises to delegations.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use delegated_leaves::{
    Action, AliasColumn, DelegationId, DelegationRow, DisconnectReason, FRESH, Occurrence, ROUNDING, Request,
    StateColumn, Timestamp,
};

use crate::clock::START;
use crate::homeserver::{Call, DelayedLeave, Fate, Homeservers};
use crate::invariant::{Invariant, Verdict, broken};
use crate::object::Stored;
use crate::removal::Removals;
use crate::sfu::{Connection, ConnectionName, MemberAlias, Sfu, Webhook};

/// All delegations that were ever stored.
#[derive(Default)]
pub(crate) struct Judge {
    pub(crate) cases: BTreeMap<DelegationId, Case>,
    pub(crate) removals: Removals,
    polls: u64,
}

/// History of a delegation, as seen from outside.
pub(crate) struct Case {
    pub(crate) id: DelegationId,
    pub(crate) member: usize,
    pub(crate) event: usize,
    accepted_at: Timestamp,
    timeout: Duration,
    cadence: Duration,
    pub(crate) acknowledged: bool,
    pub(crate) replaced: bool,
    state: StateColumn,
    /// When the state last changed, and the one before.
    former: (Timestamp, StateColumn),
    on_disk: bool,
    over_at: Option<Timestamp>,
    /// Whether the identity under which it has known its participant connected is the legacy one.
    joined_as: Option<bool>,
    /// Beginning of that connection.
    joined_at: Option<Timestamp>,
    /// The latest `restart` that is known to have succeeded.
    armed_at: Timestamp,
    /// The member's latest connection under each identity, when the delegation was stored or since, and its beginning.
    connections: [Option<(ConnectionName, Timestamp)>; 2],
    /// Connections whose beginning was reported to the engine, and when.
    reported: Vec<(ConnectionName, Timestamp)>,
    /// Connections whose end was reported to the engine.
    reported_ends: Vec<ConnectionName>,
    /// Connections whose end was reported when it wasn't certain that they were the newest.
    unclear: Vec<ConnectionName>,
    /// Connections that were reported to make room for the next, while the participant counted as connected.
    reported_reconnects: Vec<(ConnectionName, Timestamp)>,
    /// Request that must wait, and until when.
    not_before: Option<(Timestamp, Call)>,
    calls: u64,
    stimuli: u64,
}

impl Judge {
    /// Checks what was stored.
    pub(crate) fn stored(
        &mut self,
        now: Timestamp,
        stored: &Stored,
        rows: &BTreeMap<DelegationId, DelegationRow>,
        sfu: &Sfu,
        homeservers: &Homeservers,
    ) -> Verdict {
        for row in stored.put.iter().filter_map(|id| rows.get(id)) {
            if !self.cases.contains_key(&row.id) {
                self.open(row, sfu);
            }
            if let Some(case) = self.cases.get_mut(&row.id) {
                case.update(now, row);
            }
        }
        for row in &stored.deleted {
            if let Some(case) = self.cases.get_mut(&row.id) {
                case.close(now, row, homeservers)?;
            }
        }
        for case in self.cases.values() {
            if case.on_disk && !rows.contains_key(&case.id) {
                return broken(Invariant::AcknowledgedIsKept, format!("{case} isn't on disk"));
            }
        }
        Ok(())
    }

    /// Records that the client has its 200.
    pub(crate) fn acknowledged(&mut self, member: usize) {
        if let Some(case) = self.cases.values_mut().rfind(|case| case.member == member) {
            case.acknowledged = true;
        }
    }

    /// Records a webhook that the object has stored.
    pub(crate) fn reported(&mut self, now: Timestamp, webhook: &Webhook) {
        for case in self.cases.values_mut().filter(|case| case.on_disk) {
            case.stimuli += 1;
            let Some(about) = webhook.about else {
                // It reports the end of all known connections.
                if case.state == StateColumn::Waiting {
                    continue;
                }
                let over = case.connections.into_iter().flatten().filter(|(_, since)| *since < webhook.at);
                let known: Vec<_> = case.reported.iter().map(|(name, _)| *name).collect();
                case.reported_ends.extend(over.map(|(name, _)| name).filter(|name| known.contains(name)));
                continue;
            };
            if about.alias.member != case.member {
                continue;
            }
            match &webhook.event.occurrence {
                Occurrence::ParticipantJoined(_) => {
                    // One that may be older than the delegation proves nothing: its end may have been reported
                    // before.
                    let after = webhook.event.happened_after(case.accepted_at) == Some(true);
                    let same_second = webhook.event.happened_before(case.accepted_at) == Some(false);
                    if after || (same_second && !webhook.event.is_stale(now)) {
                        case.reported.push((about.name, now));
                    }
                }
                Occurrence::ParticipantLeft(_, reason) | Occurrence::ParticipantConnectionAborted(_, reason) => {
                    // It may have begun too close to another for the SFU's seconds.
                    let known = case.reported.iter().any(|(name, _)| *name == about.name);
                    let unclear = !known && case.joined_at.is_some_and(|since| about.began < since + ROUNDING * 2);
                    if unclear || case.unclear.contains(&about.name) {
                        case.unclear.push(about.name);
                        continue;
                    }
                    case.reported_ends.push(about.name);
                    // What the webhook itself has changed by now doesn't matter.
                    let (changed_at, former) = case.former;
                    let state = if changed_at == now { former } else { case.state };
                    let counted = matches!(state, StateColumn::Connected | StateColumn::Suspected);
                    let changes = *reason == DisconnectReason::ClientInitiated
                        && webhook.at.since(about.began) <= EARLY
                        && !webhook.event.is_stale(now);
                    if (reason.is_reconnecting() || changes) && counted {
                        case.reported_reconnects.push((about.name, now));
                    }
                }
                Occurrence::RoomFinished => {}
            }
        }
    }

    /// Records that a member's media is connected.
    pub(crate) fn connected(&mut self, connection: Connection) {
        for case in self.cases.values_mut().filter(|case| case.member == connection.alias.member && case.on_disk) {
            case.connected(connection);
        }
    }

    /// Checks an action that is started, given the largest possible number of sanity checks so far.
    pub(crate) fn acts(
        &mut self,
        now: Timestamp,
        action: &Action,
        sfu: &Sfu,
        homeservers: &Homeservers,
        sanity_checks: u64,
    ) -> Verdict {
        let (event, call) = match &action.request {
            Request::Restart(event) => (event, Call::Restart),
            Request::Send(event) => (event, Call::Send),
            Request::GetParticipant { .. } | Request::ListParticipants { .. } => return self.polls(now, sanity_checks),
            _ => return Ok(()),
        };
        let Some(case) = self.cases.get_mut(&event.delegation) else {
            return broken(Invariant::AcknowledgedIsKept, "an action for a delegation that isn't stored".into());
        };
        if case.replaced {
            return broken(Invariant::ReplacedIsSilent, format!("{case} acts"));
        }
        if case.not_before.is_some_and(|(until, limited)| now < until && limited == call) {
            return broken(Invariant::Patient, format!("{case} doesn't wait"));
        }
        case.calls += 1;
        if case.calls > case.calls_by(now) {
            return broken(Invariant::Bounded, format!("{case} has called its homeserver {} times", case.calls));
        }
        if call == Call::Send { case.sends(now, sfu, homeservers) } else { Ok(()) }
    }

    /// Checks a delayed event that its own homeserver has sent. `trouble` is when a fault last occurred there or
    /// here.
    pub(crate) fn fired(&self, now: Timestamp, event: usize, trouble: Timestamp, sfu: &Sfu) -> Verdict {
        for case in self.cases.values().filter(|case| case.event == event && case.on_disk && !case.replaced) {
            let Some(active) = sfu.active(case.member) else { continue };
            let reported = case.reported.iter().filter(|(name, _)| *name == active.name).map(|(_, at)| *at).min();
            if reported.is_some_and(|at| at + REACTION <= now) && trouble + RECOVERY <= now {
                return broken(Invariant::KeptAlive, format!("{case} ran out under {active:?}"));
            }
        }
        Ok(())
    }

    /// Returns when the leave has to be sent at the latest, now that all is calm, all participants have left, and all
    /// webhooks have come. `None`: it needn't, because it was replaced, or its client doesn't know that it is stored.
    pub(crate) fn promised_by(&self, id: DelegationId, now: Timestamp, sanity_check: bool) -> Option<Timestamp> {
        let case = self.cases.get(&id).filter(|case| case.acknowledged && !case.replaced)?;
        let mut connections = case.connections.into_iter().flatten().peekable();
        let connected = connections.peek().is_some();
        let reported = connected && connections.all(|(name, _)| case.reported_ends.contains(&name));
        match case.state {
            _ if reported => Some(now),
            // It has never been seen.
            StateColumn::Waiting => {
                Some(now.max(case.accepted_at + case.timeout.min(Duration::from_secs(3600)) + SLACK))
            }
            // No webhook has reported its end, or it was taken to have connected by one of the second in which it was
            // delegated. It is polled for once an hour.
            StateColumn::Connected if !sanity_check => Some(now + HOURLY + SLACK),
            StateColumn::Connected | StateColumn::Suspected | StateColumn::Leaving => Some(now),
        }
    }

    /// Checks a leave that has to be sent by now.
    pub(crate) fn is_due(&self, id: DelegationId, homeservers: &Homeservers) -> Verdict {
        match self.cases.get(&id) {
            // One that was given up has been checked at that time: its homeserver sends it.
            Some(case) if case.on_disk && homeservers.fate(case.event) == Some(Fate::Pending) => {
                broken(Invariant::NeverLost, format!("{case} hasn't left"))
            }
            _ => Ok(()),
        }
    }

    /// Checks a poll of the SFU.
    fn polls(&mut self, now: Timestamp, sanity_checks: u64) -> Verdict {
        self.polls += 1;
        let delegations: u64 = self.cases.values().map(|case| case.polls_by(now)).sum();
        // Participants whose tokens have expired are polled for twice, until the SFU answers, and now and then; those
        // outside of the Matrix room after each request for its members.
        let queried = now.since(START).as_secs() / POLL_PAUSE.as_secs();
        let budget = delegations + 2 * self.removals.stimuli() + queried + self.removals.requests();
        match self.polls > budget + sanity_checks {
            true => broken(Invariant::Bounded, format!("the SFU is polled for the {}th time", self.polls)),
            false => Ok(()),
        }
    }

    fn open(&mut self, row: &DelegationRow, sfu: &Sfu) {
        let Some((member, event)) = member_of(row).zip(DelayedLeave::index(&row.delay_id)) else { return };
        for former in self.cases.values_mut().filter(|former| former.member == member) {
            former.replaced = true;
        }
        let mut case = Case {
            id: row.id,
            member,
            event,
            accepted_at: row.accepted_at,
            timeout: row.delay_timeout.span(),
            cadence: row.delay_timeout.restart_after(),
            acknowledged: false,
            replaced: false,
            state: row.state,
            former: (row.accepted_at, row.state),
            on_disk: true,
            over_at: None,
            joined_as: None,
            joined_at: None,
            armed_at: row.armed_at,
            connections: [None; 2],
            reported: Vec::new(),
            reported_ends: Vec::new(),
            unclear: Vec::new(),
            reported_reconnects: Vec::new(),
            not_before: None,
            calls: 0,
            stimuli: 0,
        };
        sfu.connections_of(member).for_each(|connection| case.connected(*connection));
        self.cases.insert(row.id, case);
    }
}

impl Case {
    /// Records the success of a `restart` that was sent then.
    pub(crate) fn armed(&mut self, at: Timestamp) {
        self.armed_at = self.armed_at.max(at);
    }

    /// Records a `Retry-After` of the homeserver.
    pub(crate) fn limited(&mut self, until: Timestamp, call: Call) {
        self.not_before = Some((until, call));
    }

    /// Records that the object was loaded anew.
    pub(crate) fn reloaded(&mut self) {
        self.stimuli += 1;
    }

    fn connected(&mut self, connection: Connection) {
        if let Some(since) = connection.active_since {
            self.connections[usize::from(connection.alias.legacy)] = Some((connection.name, since));
        }
    }

    fn update(&mut self, now: Timestamp, row: &DelegationRow) {
        let known = self.reported.last().map(|(name, _)| name.sid);
        let sid = row.participant_sid.as_ref().and_then(|sid| sid.as_str().strip_prefix("PA_")?.parse().ok());
        if row.state == StateColumn::Connected
            && let Some(sid) = sid
            && (known != Some(sid) || self.state != StateColumn::Connected)
        {
            // The engine has found it by a poll: the latest connection of that SID.
            let mut connections = self.connections.into_iter().flatten();
            let migrations = connections.find(|(name, _)| name.sid == sid).map_or(0, |(name, _)| name.migrations);
            self.reported.push((ConnectionName { sid, migrations }, now));
        }
        if row.state != self.state {
            self.former = (now, self.state);
            self.stimuli += 1;
            self.not_before = None;
        }
        self.state = row.state;
        self.joined_at = row.joined_at;
        self.joined_as = row.connected_as.map(|alias| alias == AliasColumn::Legacy);
    }

    fn close(&mut self, now: Timestamp, row: &DelegationRow, homeservers: &Homeservers) -> Verdict {
        self.on_disk = false;
        self.over_at = Some(now);
        let window = Duration::from_secs(3600);
        let given_up = row.state == StateColumn::Leaving && row.since.is_some_and(|since| since + window <= now);
        let pending = homeservers.fate(self.event) == Some(Fate::Pending);
        match pending && !self.replaced && !self.is_out_of_time(now) && !given_up {
            true => broken(Invariant::AcknowledgedIsKept, format!("{self} was forgotten")),
            false => Ok(()),
        }
    }

    fn sends(&self, now: Timestamp, sfu: &Sfu, homeservers: &Homeservers) -> Verdict {
        if homeservers.fate(self.event) != Some(Fate::Pending) || self.is_out_of_time(now) {
            return Ok(());
        }
        let known_as = |alias: MemberAlias| self.joined_as.is_none_or(|legacy| legacy == alias.legacy);
        for connection in sfu.connections_of(self.member) {
            let Some(since) = connection.active_since else { continue };
            let reported = self.reported.iter().any(|(name, _)| *name == connection.name);
            if reported || (since + UNSEEN < now && known_as(connection.alias)) {
                let how = if reported { "as reported" } else { "as it could know" };
                return broken(Invariant::NeverEarly, format!("{self} leaves under {connection:?}, {how}"));
            }
        }
        let displacing = sfu.connections_of(self.member).filter_map(|next| Some((next.succeeds?, next.alias)));
        let migrating = sfu.migrating_of(self.member).map(|connection| (connection.name, connection.alias));
        let returning = sfu.returning_of(self.member).map(|connection| (connection.name, connection.alias));
        for (from, _) in displacing.chain(migrating).chain(returning).filter(|(_, alias)| known_as(*alias)) {
            let reported =
                self.reported_reconnects.iter().any(|(name, at)| *name == from && now < *at + RECONNECT_WINDOW);
            if reported && sfu.active(self.member).is_none() {
                return broken(Invariant::ComingBack, format!("{self} leaves between {from:?} and the next"));
            }
        }
        Ok(())
    }

    /// Returns whether the homeserver sends the event by itself about now, for all that is known.
    fn is_out_of_time(&self, now: Timestamp) -> bool {
        self.armed_at + self.timeout <= now
    }

    /// Returns how many requests its homeserver may have had by now: at the cadence, and after failures.
    fn calls_by(&self, now: Timestamp) -> u64 {
        let cadence = u64::try_from(self.cadence.as_millis()).unwrap_or(u64::MAX);
        let age = u64::try_from(self.age(now).as_millis()).unwrap_or(u64::MAX);
        15 + age / cadence + age / 20_000 + 8 * self.stimuli
    }

    /// Returns how many polls there may have been for it by now: one a minute, and some after each event.
    fn polls_by(&self, now: Timestamp) -> u64 {
        12 + self.age(now).as_secs() / 45 + 8 * self.stimuli
    }

    fn age(&self, now: Timestamp) -> Duration {
        self.over_at.unwrap_or(now).since(self.accepted_at)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delegation {} of m{} ({:?})", self.event, self.member, self.state)
    }
}

fn member_of(row: &DelegationRow) -> Option<usize> {
    row.identity.as_str().strip_prefix('m')?.parse().ok()
}

/// Time for which a connection may be unknown: a webhook may be [`FRESH`], and a poll under way.
const UNSEEN: Duration = Duration::from_secs(FRESH.as_secs() + 6);

/// Age up to which a connection that its client ends may be changed for another.
const EARLY: Duration = Duration::from_secs(5);

/// As long as the specification gives it.
const RECONNECT_WINDOW: Duration = Duration::from_secs(15);

/// Time from the report of a connection to its `restart`.
const REACTION: Duration = Duration::from_secs(3);

/// Time from the end of a trouble to the next `restart`: the longest back-off, and a little more.
const RECOVERY: Duration = Duration::from_secs(66);

/// Reserve for alarms, polls and the last tries.
const SLACK: Duration = Duration::from_secs(180);

/// Longest interval of the hourly polls for connected participants: where the object was loaded in between, one of
/// them may be left out, because the time of the last isn't stored.
const HOURLY: Duration = Duration::from_secs(2 * 3600);

/// Interval of the polls for participants whose tokens have expired.
const POLL_PAUSE: Duration = Duration::from_secs(600);
