//! The steps of the members' clients.

use std::time::Duration;

use delegated_leaves::{
    DelayTimeout, DelayedEventsUrl, Delegate, DisconnectReason, HomeserverAnswer, RoomCommand, RoomName, ServerName,
    Timestamp, UserId,
};

use crate::homeserver::DelayedLeave;
use crate::invariant::{Invariant, Verdict, Violation, broken};
use crate::matrix;
use crate::member::{Member, Step};
use crate::sfu::{Connection, ConnectionName, MemberAlias, REFRESHED_FOR};
use crate::weather::{chance, millis};
use crate::world::{Event, World};

impl World {
    pub(crate) fn people(&mut self) {
        for member in 0..self.weather.members {
            let server = member % self.weather.servers;
            let Some(timeout) = DelayTimeout::from_millis(self.weather.timeouts[member % 2]) else { continue };
            let has_legacy = self.dice.bool() && !self.weather.membership;
            self.members.push(Member {
                server,
                timeout,
                has_legacy,
                legacy: has_legacy && self.dice.bool(),
                event: None,
                connection: None,
                last_began: None,
                requested_at: Timestamp::default(),
                token_until: Timestamp::default(),
                gone: false,
                steps: 0,
            });
            let delay = millis(&mut self.dice, 0, 20_000);
            self.after(delay, Event::Step(member, Step::Start));
        }
    }

    pub(crate) fn step(&mut self, index: usize, step: Step) -> Verdict {
        if self.members[index].gone {
            return Ok(());
        }
        self.members[index].steps += 1;
        self.log(|_| format!("m{index}: {step:?}"));
        match step {
            Step::Start => {
                self.schedule_leave(index);
                let delay = millis(&mut self.dice, 20, 800);
                let (step, decide) = match self.dice.u8(..10) {
                    0 => (Step::Delegate { tries: 0, then_join: false }, false),
                    1..=5 => (Step::Delegate { tries: 0, then_join: true }, false),
                    _ => (Step::Join, true),
                };
                self.after(delay, Event::Step(index, step));
                if decide {
                    let delay = millis(&mut self.dice, 500, 20_000);
                    self.after(delay, Event::Step(index, Step::Delegate { tries: 0, then_join: false }));
                }
            }
            Step::Delegate { tries, then_join } => self.delegate(index, tries, then_join)?,
            Step::Join => self.join(index)?,
            Step::Renew => drop(self.renew_token(index)?),
            Step::Decide => self.decide(index),
        }
        Ok(())
    }

    /// Lets the members leave. Those outside of the Matrix room stay until they are removed, unless `strangers_too`.
    pub(crate) fn everybody_leaves(&mut self, strangers_too: bool) {
        for index in 0..self.members.len() {
            let stays = self.weather.membership && !self.matrix.is_joined(index) && !strangers_too;
            if !stays && !self.members[index].gone {
                self.leave_for_good(index);
            }
        }
    }

    /// Handles a removal by the SFU. Most clients try again.
    pub(crate) fn removed(&mut self, name: ConnectionName, index: usize) {
        self.refresh_token(index);
        let member = &mut self.members[index];
        if member.connection == Some(name) && member.steps < MOST_STEPS && chance(&mut self.dice, 0.7) {
            let delay = millis(&mut self.dice, 200, 30_000);
            self.after(delay, Event::Step(index, Step::Join));
        }
    }

    /// Aborts a connection before its media is connected. Most clients try again.
    pub(crate) fn abort(&mut self, name: ConnectionName) {
        let Some(connection) = self.connection(name).filter(|connection| connection.active_since.is_none()) else {
            return;
        };
        let webhook = self.sfu.end(self.now, name, DisconnectReason::Other);
        self.emit(webhook);
        if chance(&mut self.dice, 0.7) {
            let delay = millis(&mut self.dice, 200, 8_000);
            self.after(delay, Event::Step(connection.alias.member, Step::Join));
        }
    }

    /// Handles the move of a connection to another node.
    pub(crate) fn arrived(&mut self, connection: Connection) {
        let member = &mut self.members[connection.alias.member];
        member.connection = Some(connection.name);
        member.last_began = Some(self.now);
        if member.gone {
            self.after(Duration::from_secs(1), Event::Vanish(connection.name, DisconnectReason::Other));
        }
    }

    fn schedule_leave(&mut self, index: usize) {
        let Member { server, timeout, .. } = self.members[index];
        let event = self.homeservers.schedule(self.now, server, timeout);
        self.members[index].event = Some(event);
        self.after(timeout.span(), Event::Fire(event));
    }

    fn delegate(&mut self, index: usize, tries: u32, then_join: bool) -> Verdict {
        let Member { server, timeout, has_legacy, event, .. } = self.members[index];
        let Some((event, delay_id)) = event.zip(event.and_then(DelayedLeave::id)) else { return Ok(()) };
        // A client makes one request after the other, as long as each may be under way.
        let earliest = self.members[index].requested_at + Duration::from_millis(1);
        let requested_at = earliest.max(self.now - self.weather.latency(&mut self.dice));
        self.members[index].requested_at = requested_at;
        let answer = self.restart_before_acceptance(event);
        let command = Delegate {
            room: RoomName::new("room"),
            identity: MemberAlias { member: index, legacy: false }.identity(),
            legacy_identity: has_legacy.then(|| MemberAlias { member: index, legacy: true }.identity()),
            server_name: ServerName::new(format!("hs{server}")),
            delayed_events_url: DelayedEventsUrl::new("https://homeserver.example/delayed_events"),
            owner: None,
            user_id: UserId::new(format!("@m{index}:hs{server}")),
            restricted: false,
            delay_id,
            delay_timeout: timeout,
            restarted_at: (answer == Some(HomeserverAnswer::Done)).then_some(requested_at),
            issued_at: Some(requested_at),
        };
        let refused = answer == Some(HomeserverAnswer::Gone);
        let is_lost = chance(&mut self.other_dice, self.weather.lost_answers);
        if !refused && self.fetch(RoomCommand::Delegate(command.clone()), None)? {
            match is_lost {
                true => {
                    let delay = millis(&mut self.other_dice, 50, 8_000);
                    self.after(delay, Event::Repeat { member: index, command: Box::new(command) });
                }
                false => self.judge.acknowledged(index),
            }
        } else if !refused && tries < 3 {
            let delay = millis(&mut self.dice, 500, 5_000);
            self.after(delay, Event::Step(index, Step::Delegate { tries: tries + 1, then_join }));
            return Ok(());
        }
        if then_join {
            let longest = if chance(&mut self.dice, 0.1) { 40_000 } else { 2_000 };
            let delay = millis(&mut self.dice, 50, longest);
            self.after(delay, Event::Step(index, Step::Join));
        }
        Ok(())
    }

    /// Sends a command again, as the worker does when its answer is lost. The client may have delegated anew since.
    pub(crate) fn repeat(&mut self, index: usize, command: Delegate) -> Verdict {
        let Some(latest) = self.members[index].event.and_then(DelayedLeave::id) else { return Ok(()) };
        let is_latest = latest == command.delay_id;
        let repeated = command.delay_id.clone();
        let has_latest = self.object.holds(&latest);
        self.log(|_| {
            format!("worker: repeats the command for m{index}, {}", if is_latest { "in time" } else { "late" })
        });
        let answered = self.fetch(RoomCommand::Delegate(command), None)?;
        if answered && is_latest {
            self.judge.acknowledged(index);
        }
        match has_latest && !self.object.holds(&latest) && self.object.holds(&repeated) {
            true => broken(Invariant::AcknowledgedIsKept, format!("an older delegation of m{index} is back")),
            false => Ok(()),
        }
    }

    /// Restarts an event, as the worker does before it accepts a delegation, but an older worker doesn't.
    fn restart_before_acceptance(&mut self, event: usize) -> Option<HomeserverAnswer> {
        let server = self.homeservers.events.get(event).filter(|_| self.dice.bool())?.server;
        let (answer, _) = self.query_homeserver(server, Some(event), true);
        self.log(|_| format!("worker: restart leave-{event} before its acceptance: {answer:?}"));
        answer
    }

    /// Returns whether the member has a valid token: a new one, because it is in the Matrix room, or one that it has
    /// kept.
    fn obtains_token(&mut self, index: usize) -> Result<bool, Violation> {
        if !self.weather.membership {
            return Ok(true);
        }
        self.refresh_token(index);
        let kept = self.members[index].token_until > self.now;
        if !self.matrix.is_joined(index) || (kept && self.dice.bool()) {
            return Ok(kept);
        }
        Ok(self.renew_token(index)? || kept)
    }

    /// Requests a token. Its user's membership is checked before the token is recorded and returned.
    fn renew_token(&mut self, index: usize) -> Result<bool, Violation> {
        if self.homeservers.down_until[0] > self.now || !self.matrix.is_joined(index) {
            return Ok(false);
        }
        let expires_at = self.now + self.weather.token_lifetime;
        let recorded = self.fetch(RoomCommand::Track(matrix::token(index, expires_at)), None)?;
        if recorded {
            let member = &mut self.members[index];
            member.token_until = member.token_until.max(expires_at);
        }
        Ok(recorded)
    }

    /// Refreshes the token, as the SFU does from the beginning of a connection, even without media, to its end.
    fn refresh_token(&mut self, index: usize) {
        if self.sfu.connections_of(index).next().is_some() {
            let member = &mut self.members[index];
            member.token_until = member.token_until.max(self.now + REFRESHED_FOR);
        }
    }

    /// Joins or leaves the Matrix room, or is banned from it.
    fn change_membership(&mut self, index: usize) {
        let joined = !self.matrix.is_joined(index);
        self.log(|_| format!("m{index}: {} the Matrix room", if joined { "joins" } else { "is out of" }));
        self.matrix.set(self.now, index, joined);
        if joined && self.dice.bool() {
            let delay = millis(&mut self.dice, 20, 2_000);
            self.after(delay, Event::Step(index, Step::Renew));
        }
    }

    fn join(&mut self, index: usize) -> Verdict {
        let alias = MemberAlias { member: index, legacy: self.members[index].legacy };
        let last = [self.members[index].last_began, self.sfu.finished_at].into_iter().flatten().max();
        if let Some(wait) = last.map(|last| (last + REST).since(self.now)).filter(|wait| !wait.is_zero()) {
            self.after(wait, Event::Step(index, Step::Join));
            return Ok(());
        }
        if !self.obtains_token(index)? {
            self.sfu.stays_away(index);
            if self.members[index].steps < MOST_STEPS {
                let delay = millis(&mut self.dice, 1_000, 60_000);
                self.after(delay, Event::Step(index, Step::Join));
            }
            return Ok(());
        }
        // The client holds one connection: another one under its other identity ends.
        let other = self.sfu.connections_of(index).find(|connection| connection.alias != alias).map(|other| other.name);
        let (connection, webhook) = self.sfu.begin(self.now, alias);
        // Nor does one that was to be followed under its other identity come back.
        self.sfu.stays_away(index);
        self.emit(webhook);
        self.refresh_token(index);
        self.members[index].connection = Some(connection.name);
        self.members[index].last_began = Some(self.now);
        if let Some(other) = other {
            let delay = millis(&mut self.dice, 0, 10_000);
            self.after(delay, Event::Vanish(other, DisconnectReason::Other));
        }
        let delay = millis(&mut self.dice, 200, 3_000);
        if chance(&mut self.dice, 0.08) {
            self.after(delay, Event::Abort(connection.name));
        } else {
            self.after(delay, Event::Activate(connection.name));
            if chance(&mut self.dice, self.weather.change) {
                let longest = u64::try_from(LATEST_CHANGE.saturating_sub(delay).as_millis()).unwrap_or_default();
                let delay = (delay + millis(&mut self.dice, 1, longest)).max(REST);
                self.after(delay, Event::Change(connection.name));
            }
        }
        let longest = u64::try_from(self.weather.rough_for.as_millis()).unwrap_or(u64::MAX) / 4;
        let stay =
            if self.dice.bool() { millis(&mut self.dice, 200, longest) } else { millis(&mut self.dice, 200, 8_000) };
        self.after(stay, Event::Step(index, Step::Decide));
        Ok(())
    }

    fn decide(&mut self, index: usize) {
        let soon = millis(&mut self.dice, 100, 6_000);
        let Some(name) = self.members[index].connection else { return };
        if self.weather.membership && chance(&mut self.dice, 0.25) {
            self.change_membership(index);
            return self.after(soon, Event::Step(index, Step::Decide));
        }
        self.refresh_token(index);
        match self.dice.u8(..100) {
            _ if self.members[index].steps > MOST_STEPS => self.leave_for_good(index),
            0..=14 => self.leave_for_good(index),
            // Drops out, and comes back.
            15..=39 => {
                let reason = [DisconnectReason::Other, DisconnectReason::StateMismatch][self.dice.usize(..2)];
                let webhook = match reason {
                    DisconnectReason::StateMismatch => self.sfu.send_round(self.now, name, reason),
                    reason => self.sfu.end(self.now, name, reason),
                };
                self.emit(webhook);
                if reason == DisconnectReason::StateMismatch {
                    let away = millis(&mut self.dice, 100, 10_000);
                    return self.after(away, Event::Step(index, Step::Join));
                }
                self.room_may_finish();
                let away = if self.dice.bool() { soon } else { millis(&mut self.dice, 6_000, 60_000) };
                self.after(away, Event::Step(index, Step::Join));
            }
            // Connects again before the SFU has noticed the loss.
            40..=59 => {
                if self.members[index].has_legacy && self.dice.u8(..4) == 0 {
                    self.members[index].legacy ^= true;
                }
                self.after(Duration::ZERO, Event::Step(index, Step::Join));
            }
            60..=74 => {
                // Not within the second of its beginning: webhooks wouldn't show the order. Nor while the member is
                // connected under both identities: that is rare enough without.
                let single = self.sfu.connections_of(index).count() == 1;
                let settled = self.connection(name).filter(|_| single).and_then(|connection| connection.active_since);
                if settled.is_some_and(|since| since + REST <= self.now)
                    && let Some(webhook) = self.sfu.end(self.now, name, DisconnectReason::Migration)
                {
                    self.emit(Some(webhook));
                    let same_sid = self.dice.u8(..3) != 0;
                    self.after(soon, Event::Arrive { from: name, same_sid });
                }
                self.after(soon * 2, Event::Step(index, Step::Decide));
            }
            // Delegates again: the same leave, or another.
            75..=89 => {
                if self.dice.bool() {
                    self.schedule_leave(index);
                }
                self.after(Duration::ZERO, Event::Step(index, Step::Delegate { tries: 0, then_join: false }));
                self.after(soon, Event::Step(index, Step::Decide));
            }
            90..=92 => {
                let pending = self.members[index].event.and_then(|event| self.homeservers.events.get_mut(event));
                if let Some(event) = pending {
                    event.cancel();
                }
                self.after(soon, Event::Step(index, Step::Decide));
            }
            _ => {
                let longest = u64::try_from(self.weather.rough_for.as_millis()).unwrap_or(u64::MAX) / 3;
                let stay = millis(&mut self.dice, 1_000, longest);
                self.after(stay, Event::Step(index, Step::Decide));
            }
        }
    }

    /// Changes a connection for another under the same identity.
    pub(crate) fn change_connection(&mut self, name: ConnectionName) {
        let Some(connection) = self.connection(name).filter(|connection| connection.active_since.is_some()) else {
            return;
        };
        let index = connection.alias.member;
        let member = &self.members[index];
        if member.gone || member.connection != Some(name) || self.sfu.connections_of(index).count() > 1 {
            return;
        }
        let webhook = self.sfu.send_round(self.now, name, DisconnectReason::ClientInitiated);
        self.emit(webhook);
        self.refresh_token(index);
        let delay = millis(&mut self.dice, 0, 900);
        self.after(delay, Event::Follow(connection));
    }

    /// Begins the connection for which the former was changed, unless its client has another by now.
    pub(crate) fn follow(&mut self, former: Connection) {
        let index = former.alias.member;
        if !self.sfu.returning_of(index).any(|returning| returning.name == former.name) {
            return;
        }
        let (connection, _) = self.sfu.begin(self.now, former.alias);
        self.refresh_token(index);
        self.members[index].connection = Some(connection.name);
        self.members[index].last_began = Some(self.now);
        let delay = millis(&mut self.dice, 200, 3_000);
        self.after(delay, Event::Activate(connection.name));
    }

    /// Lets the SFU end all connections. Its clients connect again, and it finishes the room.
    pub(crate) fn shut_down(&mut self) {
        if self.weather.calm || self.sfu.down_until > self.now {
            return;
        }
        let down = millis(&mut self.dice, 100, 3_000);
        self.log(|_| format!("sfu: shuts down for {down:?}"));
        for connection in self.sfu.all_active() {
            let index = connection.alias.member;
            self.refresh_token(index);
            let current = self.members[index].connection == Some(connection.name) && !self.members[index].gone;
            let webhook = match current {
                true => self.sfu.send_round(self.now, connection.name, DisconnectReason::ServerShutdown),
                false => self.sfu.end(self.now, connection.name, DisconnectReason::ServerShutdown),
            };
            self.emit(webhook);
            if current {
                let delay = down + millis(&mut self.dice, 100, 5_000);
                self.after(delay, Event::Step(index, Step::Join));
            }
        }
        self.after(SHUTDOWN_REPORTED, Event::FinishRoom);
        self.sfu.down_until = self.now + down;
        self.sfu_trouble = self.sfu_trouble.max(self.now + down);
    }

    /// Hangs up, or its device dies and the SFU notices after a while.
    fn leave_for_good(&mut self, index: usize) {
        self.log(|_| format!("m{index}: leaves for good"));
        self.members[index].gone = true;
        let silent = self.dice.u8(..3) == 0;
        let names: Vec<_> = self.sfu.connections_of(index).map(|connection| connection.name).collect();
        self.sfu.stays_away(index);
        for name in names {
            let (delay, reason) = match silent {
                true => (millis(&mut self.dice, 10_000, 20_000), DisconnectReason::Other),
                false => (Duration::ZERO, DisconnectReason::ClientInitiated),
            };
            self.after(delay, Event::Vanish(name, reason));
        }
        self.room_may_finish();
    }

    fn room_may_finish(&mut self) {
        if chance(&mut self.dice, 0.3) {
            let delay = millis(&mut self.dice, 200, 25_000);
            self.after(delay, Event::FinishRoom);
        }
    }

    pub(crate) fn connection(&self, name: ConnectionName) -> Option<Connection> {
        (0..self.members.len())
            .flat_map(|member| self.sfu.connections_of(member))
            .find(|connection| connection.name == name)
            .copied()
    }
}

/// Age of a connection that its client changes for another, at most.
const LATEST_CHANGE: Duration = Duration::from_millis(4_900);

/// Time after which the end of the room is reported, so that those of its connections come before, mostly.
const SHUTDOWN_REPORTED: Duration = Duration::from_millis(300);

/// Most steps of one client.
const MOST_STEPS: u32 = 24;

/// Pause between two events of a participant, so that whole seconds show their order.
const REST: Duration = Duration::from_millis(1_100);
