//! The process of the object: it takes commands, acts when its alarm goes off, and dies now and then.

use std::time::Duration;

use delegated_leaves::{
    Action, Alarm, HomeserverAnswer, Input, Outcome, ROUNDING, Request, RoomCommand, Timestamp, TrackedRow,
};

use crate::clock::PROMPT;
use crate::homeserver::Call;
use crate::invariant::{Invariant, Verdict, Violation, broken};
use crate::removal::member_of;
use crate::sfu::{REFRESHED_FOR, Webhook};
use crate::weather::{chance, millis};
use crate::world::{Event, World};

impl World {
    /// Sends a command to the object. Returns whether it was acknowledged.
    pub(crate) fn fetch(&mut self, command: RoomCommand, webhook: Option<&Webhook>) -> Result<bool, Violation> {
        if !self.object.alive || self.is_misconfigured() {
            return Ok(false);
        }
        if chance(&mut self.dice, self.weather.eviction) {
            self.object.evict();
        }
        self.loading();
        let token = match &command {
            RoomCommand::Track(token) => Some(token.clone()),
            _ => None,
        };
        self.object.command(self.now, command);
        if !self.commit()? {
            return Ok(false);
        }
        if let Some(token) = token {
            self.judge.removals.tracked(self.now, &token);
        }
        if let Some(webhook) = webhook {
            self.judge.reported(self.now, webhook);
            self.judge.removals.reported(self.now, webhook, &self.object.tracked);
        }
        if self.object.handling {
            self.pump()?;
        }
        // It is stored, but the acknowledgement is lost.
        if chance(&mut self.dice, self.weather.crash_at_commit) {
            self.crash();
        }
        Ok(self.object.alive)
    }

    /// Lets the alarm go off, for the second time if `again`.
    pub(crate) fn alarm(&mut self, again: bool) -> Verdict {
        let overdue =
            self.object.alarm.map(Alarm::time).filter(|alarm| *alarm <= self.now).map(|alarm| self.now.since(alarm));
        if !self.object.alive || self.object.handling || (overdue.is_none() && !again) {
            return Ok(());
        }
        if overdue.is_some_and(|late| late > PROMPT) {
            self.in_trouble_until(self.now);
        }
        if chance(&mut self.other_dice, self.weather.misconfiguration) {
            self.misconfigure();
        }
        if self.is_misconfigured() {
            self.log(|_| "object: misconfigured, the alarm is put off".into());
            self.object.put_off(self.now, UNTIL_MENDED);
            self.in_trouble_until(self.now + UNTIL_MENDED);
            self.set_alarm();
            return Ok(());
        }
        if chance(&mut self.dice, self.weather.eviction) {
            self.object.evict();
        }
        self.loading();
        self.object.handling = true;
        self.object.alarm = None;
        let before = self.actions;
        self.pump()?;
        let vain = self.object.alive && self.actions == before;
        self.vain_alarms = if vain { self.vain_alarms + 1 } else { 0 };
        if self.vain_alarms > 2 && self.object.alarm.is_some_and(|alarm| alarm.time() <= self.now) {
            return broken(Invariant::Bounded, "the alarm goes off in vain, again and again".into());
        }
        if chance(&mut self.dice, self.weather.alarm_twice) {
            let delay = millis(&mut self.dice, 0, 3_000);
            self.after(delay, Event::Alarm { again: true });
        }
        Ok(())
    }

    /// Runs the loop of the alarm's handler as far as it goes without an outcome.
    pub(crate) fn pump(&mut self) -> Verdict {
        let actions = self.object.take_due(self.now);
        if !self.commit()? {
            return Ok(());
        }
        for action in actions {
            self.act(action)?;
        }
        if self.object.in_flight == 0 {
            if let Some(due) = self.object.nap_until(self.now) {
                self.after(due.since(self.now), Event::NextDue { life: self.object.life });
                return Ok(());
            }
            self.object.finishing = true;
            self.commit()?;
        } else if let Some(due) = self.object.next_due_after(self.now) {
            self.after(due.since(self.now), Event::NextDue { life: self.object.life });
        }
        Ok(())
    }

    /// Hands an outcome to the object, if it is still the same.
    pub(crate) fn answer(&mut self, life: u32, issued_at: Timestamp, action: &Action, input: Input) -> Verdict {
        if life != self.object.life || !self.object.alive {
            return Ok(());
        }
        self.object.in_flight -= 1;
        let call = match &action.request {
            Request::Restart(event) => Some((event.delegation, Call::Restart)),
            Request::Send(event) => Some((event.delegation, Call::Send)),
            _ => None,
        };
        let silent = call.is_some_and(|(id, _)| self.judge.cases.get(&id).is_some_and(|case| case.replaced));
        let answered = match &input {
            Input::Outcome { outcome: Outcome::Homeserver(answer), .. } => Some(*answer),
            _ => None,
        };
        let before = if silent { self.object.engine.as_ref().map(|engine| engine.rows().delegations) } else { None };
        self.judge.removals.answered(issued_at, &action.request, &input);
        self.object.handle(self.now, input);
        if let Some(before) = before
            && self.object.engine.as_ref().is_some_and(|engine| engine.rows().delegations != before)
        {
            return broken(Invariant::ReplacedIsSilent, "the result of a replaced delegation's action counts".into());
        }
        if !self.commit()? {
            return Ok(());
        }
        if let Some((id, call)) = call
            && let Some(case) = self.judge.cases.get_mut(&id)
        {
            match answered {
                Some(HomeserverAnswer::Done) => case.armed(issued_at),
                Some(HomeserverAnswer::Limited(Some(wait))) => case.limited(self.now + wait, call),
                _ => {}
            }
        }
        self.pump()
    }

    /// Breaks the configuration for a while.
    fn misconfigure(&mut self) {
        let length = millis(&mut self.other_dice, 1_000, 90_000);
        self.log(|_| format!("process: misconfigured for {length:?}"));
        self.misconfigured_until = self.misconfigured_until.max(self.now + length);
        self.in_trouble_until(self.misconfigured_until);
        self.after(length, Event::Configured);
    }

    /// Mends the configuration: by a new deployment, or because its source is back. A token may be requested soon.
    pub(crate) fn configured(&mut self) -> Verdict {
        if self.other_dice.bool() {
            self.object.evict();
        }
        if self.other_dice.bool() {
            self.fetch(RoomCommand::Wake, None)?;
        }
        Ok(())
    }

    /// Faults overlap: the process may die while it is misconfigured, too.
    pub(crate) fn in_trouble_until(&mut self, end: Timestamp) {
        self.process_trouble = self.process_trouble.max(end);
    }

    fn is_misconfigured(&self) -> bool {
        self.now < self.misconfigured_until
    }

    pub(crate) fn crash(&mut self) {
        let down = match self.dice.u8(..4) {
            0 => millis(&mut self.dice, 5_000, 600_000),
            _ => millis(&mut self.dice, 50, 5_000),
        };
        self.log(|_| format!("process: dies, for {down:?}"));
        self.object.crash(self.now);
        self.in_trouble_until(self.now + down);
        self.after(down, Event::Recover);
    }

    /// Stores the changes. Returns false if the process dies instead.
    fn commit(&mut self) -> Result<bool, Violation> {
        if chance(&mut self.dice, self.weather.crash_at_commit) {
            self.crash();
            return Ok(false);
        }
        let changes = self.object.take_changes();
        if !changes.is_empty() && chance(&mut self.dice, self.weather.torn_commit) {
            let count = self.dice.usize(..changes.len());
            self.log(|_| format!("process: stores {count} changes of {}", changes.len()));
            let stored = self.object.commit_in_part(self.now, changes, count);
            self.judge.stored(self.now, &stored, &self.object.rows, &self.sfu, &self.homeservers)?;
            self.judge.removals.stored(self.now, &stored.forgotten, &self.object.tracked)?;
            self.in_trouble_until(self.now + TORN_FOR);
            self.set_alarm();
            return Ok(false);
        }
        let stored = self.object.commit(changes);
        if let Some(engine) = &mut self.object.engine {
            let log_events = engine.take_log_events();
            if self.trace.is_some() {
                for log_event in log_events {
                    self.log(|_| format!("object: {:?}: {}", log_event.subject, log_event.kind));
                }
            }
        }
        self.judge.stored(self.now, &stored, &self.object.rows, &self.sfu, &self.homeservers)?;
        self.judge.removals.stored(self.now, &stored.forgotten, &self.object.tracked)?;
        for row in &stored.forgotten {
            self.check_forgotten(row)?;
        }
        self.check_storage()?;
        self.set_alarm();
        Ok(true)
    }

    /// Checks that a forgotten participant has no valid token, unless from the second connection that was never
    /// reported, or with an SFU that didn't answer in time.
    fn check_forgotten(&self, row: &TrackedRow) -> Verdict {
        let Some(index) = member_of(&row.identity) else { return Ok(()) };
        let valid = self.members.get(index).is_some_and(|member| member.token_until > self.now);
        // Earlier tokens have expired with the others.
        let counts_from = (row.gone_at.unwrap_or_default() + ROUNDING).max(row.expires_at - REFRESHED_FOR);
        let unnoticed = self.sfu.connections_since(index, counts_from);
        match valid && unnoticed < 2 && self.judge.removals.was_polled_in_time(row) {
            true => broken(Invariant::AcknowledgedIsKept, format!("m{index} is forgotten with a token that is valid")),
            false => Ok(()),
        }
    }

    fn check_storage(&self) -> Verdict {
        let Some(engine) = &self.object.engine else { return Ok(()) };
        if !engine.is_stored_as(&self.object.rows, &self.object.tracked) {
            return broken(Invariant::Recorded, "memory and disk differ".into());
        }
        if self.object.is_empty() && !self.object.handling && self.object.alarm.is_some() {
            return broken(Invariant::Bounded, "an empty room has an alarm".into());
        }
        Ok(())
    }

    pub(crate) fn set_alarm(&mut self) {
        if let Some(alarm) = self.object.alarm {
            let lateness = self.weather.alarm_lateness(&mut self.dice);
            let at = alarm.time().max(self.now);
            self.after(at.since(self.now) + lateness, Event::Alarm { again: false });
        }
    }

    fn loading(&mut self) {
        if self.object.engine.is_none() {
            self.judge.removals.reloaded();
            for case in self.judge.cases.values_mut() {
                case.reloaded();
            }
        }
    }
}

/// As long as the object waits until it looks at a broken configuration again.
const UNTIL_MENDED: Duration = Duration::from_secs(60);

/// As long as the object waits after a failure to store.
const TORN_FOR: Duration = Duration::from_secs(5);
