//! The simulated world: an object among clients, a SFU and homeservers, event by event.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;

use super::homeserver::{Call, DelayedLeave, Homeservers};
use super::judge::{Invariant, Judge, Verdict, broken};
use super::member::{Member, Step};
use super::object::Object;
use super::sfu::{ConnectionName, Sfu, Webhook};
use super::weather::{Weather, chance, millis};
use crate::action::{Action, DelayedEvent, DelegationId, HomeserverAnswer, Request, SfuAnswer};
use crate::backoff::Jitter;
use crate::command::RoomCommand;
use crate::room::{Input, Rules};
use crate::time::Timestamp;

/// Everything there is.
pub(super) struct World {
    pub(super) dice: Rng,
    pub(super) weather: Weather,
    pub(super) now: Timestamp,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    pub(super) sfu: Sfu,
    pub(super) homeservers: Homeservers,
    pub(super) object: Object,
    pub(super) members: Vec<Member>,
    pub(super) judge: Judge,
    /// When something last went wrong with the process, and with each homeserver.
    process_trouble: Timestamp,
    homeserver_trouble: [Timestamp; 2],
    vain_alarms: u32,
    pub(super) trace: Option<Vec<String>>,
    pub(super) steps: u64,
    pub(super) actions: u64,
}

/// Something that happens.
pub(super) enum Event {
    Step(usize, Step),
    Activate(ConnectionName),
    Abort(ConnectionName),
    Vanish(ConnectionName),
    Arrive { from: ConnectionName, same_sid: bool },
    FinishRoom,
    Deliver { webhook: Box<Webhook>, tries: u32 },
    Alarm { again: bool },
    NextDue { life: u32 },
    Request { life: u32, issued_at: Timestamp, action: Box<Action> },
    Answer { life: u32, issued_at: Timestamp, action: Box<Action>, input: Box<Input> },
    Fire(usize),
    SfuOutage(Duration),
    HomeserverOutage(usize, Duration),
    Crash,
    Recover,
    Calm,
    Judgement,
    Due(DelegationId),
    End,
}

struct Scheduled {
    at: Timestamp,
    order: u64,
    event: Event,
}

impl World {
    pub(super) fn new(seed: u64, traced: bool) -> Self {
        let mut dice = Rng::with_seed(seed);
        let weather = Weather::draw(&mut dice);
        let mut world = Self {
            now: START,
            queue: BinaryHeap::new(),
            scheduled: 0,
            sfu: Sfu::new(weather.joined_at_ms, weather.answers_tell_joined_at),
            homeservers: Homeservers::default(),
            object: Object::new(Rules { sanity_check_interval: weather.sanity_check_interval }),
            members: Vec::new(),
            judge: Judge::default(),
            process_trouble: START,
            homeserver_trouble: [START; 2],
            vain_alarms: 0,
            trace: traced.then(Vec::new),
            steps: 0,
            actions: 0,
            dice,
            weather,
        };
        world.log(|world| format!("{:?}", world.weather));
        world.people();
        world.disasters();
        world.after(world.weather.rough_for, Event::Calm);
        world
    }

    /// Lets it all happen, until the last promise is due or one is broken.
    pub(super) fn run(&mut self) -> Verdict {
        while let Some(Reverse(Scheduled { at, event, .. })) = self.queue.pop() {
            self.now = at;
            self.steps += 1;
            if self.steps > MOST_STEPS {
                return broken(Invariant::Bounded, "it goes on and on".into());
            }
            self.happen(event)?;
        }
        Ok(())
    }

    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse(Scheduled { at: self.now + delay, order: self.scheduled, event }));
    }

    pub(super) fn log(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let at = self.now.since(START).as_secs_f64();
            let line = format!("{at:10.3}  {}", line(self));
            self.trace.get_or_insert_default().push(line);
        }
    }

    /// A webhook sets out, perhaps to be lost, or to come twice.
    pub(super) fn emit(&mut self, webhook: Option<Webhook>) {
        let Some(webhook) = webhook else { return };
        let copies = 1 + u32::from(chance(&mut self.dice, self.weather.webhook_repeat));
        let lost = chance(&mut self.dice, self.weather.webhook_loss);
        self.log(|_| format!("sfu: {webhook:?}{}", if lost { ", lost" } else { "" }));
        if !lost {
            for _ in 0..copies {
                let delay = self.weather.webhook_latency(&mut self.dice);
                self.after(delay, Event::Deliver { webhook: Box::new(webhook.clone()), tries: 0 });
            }
        }
    }

    /// A command reaches the object, or doesn't. True if it was acknowledged.
    pub(super) fn fetch(&mut self, command: RoomCommand, webhook: Option<&Webhook>) -> Result<bool, super::Violation> {
        if !self.object.alive {
            return Ok(false);
        }
        if chance(&mut self.dice, self.weather.eviction) {
            self.object.evict();
        }
        self.loading();
        self.object.command(self.now, command);
        if !self.commit()? {
            return Ok(false);
        }
        if let Some(webhook) = webhook {
            self.judge.told(self.now, webhook);
        }
        if self.object.handling {
            self.pump()?;
        }
        // It is stored, but nobody hears of it.
        if chance(&mut self.dice, self.weather.crash_at_commit) {
            self.crash();
        }
        Ok(self.object.alive)
    }

    fn happen(&mut self, event: Event) -> Verdict {
        match event {
            Event::Step(member, step) => self.step(member, step)?,
            Event::Activate(name) => {
                if let Some((connection, webhook)) = self.sfu.activate(self.now, name) {
                    self.judge.connected(connection);
                    self.emit(Some(webhook));
                }
            }
            Event::Abort(name) => self.abort(name),
            Event::Vanish(name) => {
                let webhook = self.sfu.end(self.now, name, crate::event::DisconnectReason::Other);
                self.emit(webhook);
            }
            Event::Arrive { from, same_sid } => {
                if let Some((connection, webhook)) = self.sfu.arrive(self.now, from, same_sid) {
                    self.judge.connected(connection);
                    self.arrived(connection);
                    if self.dice.bool() {
                        self.emit(Some(webhook));
                    }
                }
            }
            Event::FinishRoom => {
                let webhook = self.sfu.finish(self.now);
                self.emit(webhook);
            }
            Event::Deliver { webhook, tries } => self.deliver(webhook, tries)?,
            Event::Alarm { again } => self.alarm(again)?,
            Event::NextDue { life } => {
                if self.object.handling && self.object.life == life && self.object.is_due(self.now) {
                    self.pump()?;
                }
            }
            Event::Request { life, issued_at, action } => self.request(life, issued_at, action),
            Event::Answer { life, issued_at, action, input } => self.answer(life, issued_at, &action, *input)?,
            Event::Fire(event) => match self.homeservers.fire(self.now, event) {
                Ok(true) => {
                    self.log(|_| format!("homeserver: leave-{event} sent by itself"));
                    let server = self.homeservers.events.get(event).map_or(0, |event| event.server);
                    let late = self.object.alarm.is_some_and(|alarm| self.now.since(alarm) > PROMPT);
                    let process_trouble = if late { self.now } else { self.process_trouble };
                    let trouble = process_trouble.max(self.homeserver_trouble[server]);
                    self.judge.fired(self.now, event, trouble, &self.sfu)?;
                }
                Ok(false) => {}
                Err(later) => self.after(later.since(self.now), Event::Fire(event)),
            },
            Event::SfuOutage(length) => {
                if !self.weather.calm {
                    self.log(|_| format!("sfu: down for {length:?}"));
                    self.sfu.down_until = self.now + length;
                }
            }
            Event::HomeserverOutage(server, length) => {
                if !self.weather.calm {
                    self.log(|_| format!("homeserver {server}: down for {length:?}"));
                    self.homeservers.down_until[server] = self.now + length;
                    self.trouble_at(server, self.now + length);
                }
            }
            Event::Crash => {
                if !self.weather.calm && self.object.alive {
                    self.crash();
                }
            }
            Event::Recover if self.object.alive => {}
            Event::Recover => {
                self.log(|_| "process: up again".into());
                self.object.alive = true;
                self.process_trouble = self.now;
                self.set_alarm();
            }
            Event::Calm => self.calm_down(),
            Event::Judgement => {
                let sanity_check = self.weather.sanity_check_interval.is_some();
                let mut last = self.now;
                for id in self.judge.cases.keys().copied().collect::<Vec<_>>() {
                    if let Some(at) = self.judge.promised_by(id, self.now, sanity_check) {
                        self.after(at.since(self.now), Event::Due(id));
                        last = last.max(at);
                    }
                }
                // What nobody promised may go on for ever.
                self.after(last.since(self.now), Event::End);
            }
            Event::End => self.queue.clear(),
            Event::Due(id) => self.judge.is_due(id, &self.homeservers)?,
        }
        Ok(())
    }

    fn deliver(&mut self, webhook: Box<Webhook>, tries: u32) -> Verdict {
        let command = RoomCommand::Webhook(webhook.event.clone());
        if self.object.alive && !self.object.rows.is_empty() {
            self.log(|_| format!("webhook arrives: {:?} of {:?}", webhook.event.occurrence, webhook.at));
        }
        if !self.fetch(command, Some(&webhook))? && tries < 4 {
            let delay = millis(&mut self.dice, 1_000, 20_000);
            self.after(delay, Event::Deliver { webhook, tries: tries + 1 });
        }
        Ok(())
    }

    /// The alarm goes off, `again` perhaps.
    fn alarm(&mut self, again: bool) -> Verdict {
        let overdue = self.object.alarm.filter(|alarm| *alarm <= self.now).map(|alarm| self.now.since(alarm));
        if !self.object.alive || self.object.handling || (overdue.is_none() && !again) {
            return Ok(());
        }
        if overdue.is_some_and(|late| late > PROMPT) {
            self.process_trouble = self.now;
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
        if self.vain_alarms > 2 && self.object.alarm.is_some_and(|alarm| alarm <= self.now) {
            return broken(Invariant::Bounded, "the alarm goes off in vain, again and again".into());
        }
        if chance(&mut self.dice, self.weather.alarm_twice) {
            let delay = millis(&mut self.dice, 0, 3_000);
            self.after(delay, Event::Alarm { again: true });
        }
        Ok(())
    }

    /// The loop of the alarm's handler, as far as it goes without an answer.
    fn pump(&mut self) -> Verdict {
        let actions = self.object.take_due(self.now);
        if !self.commit()? {
            return Ok(());
        }
        for action in actions {
            self.log(|_| format!("object: {:?}", action.request));
            self.actions += 1;
            self.judge.acts(self.now, &action, &self.sfu, &self.homeservers)?;
            let delay = self.weather.latency(&mut self.dice);
            if let Request::Restart(event) | Request::Send(event) = &action.request
                && delay > PROMPT
            {
                self.trouble_at(server_of(event), self.now + delay);
            }
            let (life, issued_at) = (self.object.life, self.now);
            self.after(delay, Event::Request { life, issued_at, action: Box::new(action) });
        }
        if self.object.under_way == 0 {
            self.object.finishing = true;
            self.commit()?;
        } else if let Some(due) = self.object.next_due_after(self.now) {
            self.after(due.since(self.now), Event::NextDue { life: self.object.life });
        }
        Ok(())
    }

    /// A request reaches its server.
    fn request(&mut self, life: u32, issued_at: Timestamp, action: Box<Action>) {
        let delay = self.weather.latency(&mut self.dice);
        let in_time = |now: Timestamp| now.since(issued_at) + delay <= TIMEOUT;
        let timeout = TIMEOUT.saturating_sub(self.now.since(issued_at));
        let ticket = action.ticket;
        let (input, delay) = match &action.request {
            Request::Restart(event) | Request::Send(event) => {
                let restart = matches!(action.request, Request::Restart(_));
                let server = server_of(event);
                let (answer, applied) = self.ask_homeserver(server, DelayedLeave::index(&event.delay_id), restart);
                let answer = answer.filter(|_| in_time(self.now));
                self.log(|_| format!("homeserver: {:?} -> {answer:?}, applied {applied}", action.request));
                if answer.is_none_or(|answer| matches!(answer, HomeserverAnswer::Limited(_) | HomeserverAnswer::Failed))
                {
                    let until = match answer {
                        Some(HomeserverAnswer::Limited(Some(wait))) => self.now + wait,
                        _ => self.now + TIMEOUT,
                    };
                    self.trouble_at(server, until);
                }
                let delay = if answer.is_some() { delay } else { timeout };
                let answered_at = self.now + delay;
                if answered_at.since(issued_at) > PROMPT {
                    self.trouble_at(server, answered_at);
                }
                let jitter = Jitter::new(self.dice.f64());
                (Input::Homeserver { ticket, answer: answer.unwrap_or(HomeserverAnswer::Failed), jitter }, delay)
            }
            request => {
                let fails = self.sfu.down_until > self.now || chance(&mut self.dice, self.weather.sfu_failure);
                let answer = self.sfu.answer(request, &mut self.dice);
                let answered = !fails && in_time(self.now);
                self.log(|_| format!("sfu: {answer:?}{}", if answered { "" } else { ", not answered" }));
                let slow_failure = fails && self.dice.bool();
                let delay = if answered || (fails && !slow_failure) { delay.min(timeout) } else { timeout };
                let answer = if answered { answer } else { SfuAnswer::Failed };
                (Input::Sfu { ticket, answer }, delay)
            }
        };
        self.after(delay, Event::Answer { life, issued_at, action, input: Box::new(input) });
    }

    /// What a homeserver answers, if anything reaches us, and whether it has done anything.
    fn ask_homeserver(
        &mut self,
        server: usize,
        event: Option<usize>,
        restart: bool,
    ) -> (Option<HomeserverAnswer>, bool) {
        let Some(event) = event.filter(|_| self.homeservers.down_until[server] <= self.now) else {
            return (None, false);
        };
        let fails = chance(&mut self.dice, self.weather.homeserver_failure);
        let lost = fails && self.dice.u8(..3) == 0;
        if fails && !lost {
            let reaches = self.dice.u8(..4) != 0;
            return (reaches.then(|| Homeservers::failure(self.dice.u32(..4), self.dice.u64(0..120))), false);
        }
        let call = if restart { Call::Restart } else { Call::Send };
        let odd = self.dice.bool();
        let answer = self.homeservers.call(self.now, event, call, odd);
        if restart && let Some(event_at) = self.homeservers.events.get(event).map(|event| event.fires_at) {
            self.after(event_at.since(self.now), Event::Fire(event));
        }
        ((!lost).then_some(answer), true)
    }

    /// A result reaches the object, if it is still the same.
    fn answer(&mut self, life: u32, issued_at: Timestamp, action: &Action, input: Input) -> Verdict {
        if life != self.object.life || !self.object.alive {
            return Ok(());
        }
        self.object.under_way -= 1;
        let call = match &action.request {
            Request::Restart(event) => Some((event.delegation, Call::Restart)),
            Request::Send(event) => Some((event.delegation, Call::Send)),
            Request::GetParticipant { .. } | Request::ListParticipants { .. } => None,
        };
        let silent = call.is_some_and(|(id, _)| self.judge.cases.get(&id).is_some_and(|case| case.replaced));
        let answered = match &input {
            Input::Homeserver { answer, .. } => Some(*answer),
            Input::Command(_) | Input::Sfu { .. } => None,
        };
        let before = if silent { self.object.engine.as_ref().map(|engine| engine.rows()) } else { None };
        self.object.handle(self.now, input);
        if let Some(before) = before
            && self.object.engine.as_ref().is_some_and(|engine| engine.rows() != before)
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

    /// Stores what has changed. False if the process dies instead.
    fn commit(&mut self) -> Result<bool, super::Violation> {
        if chance(&mut self.dice, self.weather.crash_at_commit) {
            self.crash();
            return Ok(false);
        }
        let stored = self.object.commit();
        if let Some(engine) = &mut self.object.engine {
            let milestones = engine.take_milestones();
            if self.trace.is_some() {
                for milestone in milestones {
                    self.log(|_| format!("object: {}: {}", milestone.identity, milestone.event));
                }
            }
        }
        self.judge.stored(self.now, &stored, &self.object.rows, &self.sfu, &self.homeservers)?;
        self.check_storage()?;
        self.set_alarm();
        Ok(true)
    }

    fn check_storage(&self) -> Verdict {
        let Some(engine) = &self.object.engine else { return Ok(()) };
        if !engine.rows().iter().eq(self.object.rows.values()) {
            return broken(Invariant::Recorded, "memory and disk differ".into());
        }
        if self.object.rows.is_empty() && !self.object.handling && self.object.alarm.is_some() {
            return broken(Invariant::Bounded, "an empty room has an alarm".into());
        }
        Ok(())
    }

    fn set_alarm(&mut self) {
        if let Some(alarm) = self.object.alarm {
            let lateness = self.weather.alarm_lateness(&mut self.dice);
            let at = alarm.max(self.now);
            self.after(at.since(self.now) + lateness, Event::Alarm { again: false });
        }
    }

    fn loading(&mut self) {
        if self.object.engine.is_none() {
            for case in self.judge.cases.values_mut() {
                case.reloaded();
            }
        }
    }

    fn crash(&mut self) {
        let down = match self.dice.u8(..4) {
            0 => millis(&mut self.dice, 5_000, 600_000),
            _ => millis(&mut self.dice, 50, 5_000),
        };
        self.log(|_| format!("process: dies, for {down:?}"));
        self.object.crash(self.now);
        self.process_trouble = self.now + down;
        self.after(down, Event::Recover);
    }

    fn trouble_at(&mut self, server: usize, at: Timestamp) {
        self.homeserver_trouble[server] = self.homeserver_trouble[server].max(at);
    }

    fn disasters(&mut self) {
        let rough_ms = u64::try_from(self.weather.rough_for.as_millis()).unwrap_or(u64::MAX);
        for _ in 0..self.weather.crashes {
            let at = millis(&mut self.dice, 0, rough_ms);
            self.after(at, Event::Crash);
        }
        for _ in 0..self.weather.sfu_outages {
            let at = millis(&mut self.dice, 0, rough_ms);
            let length = millis(&mut self.dice, 1_000, rough_ms / 3);
            self.after(at, Event::SfuOutage(length.min(LONGEST_OUTAGE)));
        }
        for _ in 0..self.weather.homeserver_outages {
            let at = millis(&mut self.dice, 0, rough_ms);
            let length = millis(&mut self.dice, 1_000, rough_ms / 3);
            let server = self.dice.usize(..self.weather.servers);
            self.after(at, Event::HomeserverOutage(server, length.min(LONGEST_OUTAGE)));
        }
    }

    fn calm_down(&mut self) {
        self.log(|_| "calm".into());
        self.weather.calm_down();
        self.sfu.down_until = self.now;
        self.homeservers.down_until = [self.now; 2];
        self.after(Duration::from_secs(1), Event::Recover);
        self.everybody_leaves();
        self.after(UNTIL_JUDGEMENT, Event::Judgement);
    }
}

fn server_of(event: &DelayedEvent) -> usize {
    usize::from(event.server_name.as_str() == "hs1")
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

/// Some day in 2026.
pub(super) const START: Timestamp = Timestamp::from_secs(1_790_000_000);

/// What an action may take before the shell gives up on it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// An alarm that is later than this counts as trouble, and so does an answer.
const PROMPT: Duration = Duration::from_millis(500);

/// A hundred times what happens in a simulation.
const MOST_STEPS: u64 = 100_000;

const LONGEST_OUTAGE: Duration = Duration::from_secs(20 * 60);

/// The latest webhooks have come by then, and every back-off and `Retry-After` has run out.
const UNTIL_JUDGEMENT: Duration = Duration::from_secs(8 * 60);
