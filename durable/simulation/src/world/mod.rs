//! The simulated world: an object among clients, an SFU and homeservers, event by event.

mod clients;
mod process;
mod traffic;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use delegated_leaves::{Action, Delegate, DelegationId, DisconnectReason, EngineConfig, Input, Timestamp};
use fastrand::Rng;

use crate::clock::START;
use crate::homeserver::Homeservers;
use crate::invariant::{Invariant, Verdict, broken};
use crate::judge::Judge;
use crate::matrix::MatrixRoom;
use crate::member::{Member, Step};
use crate::object::Object;
use crate::removal::{Intervals, Overstay};
use crate::sfu::{Connection, ConnectionName, Sfu, Webhook};
use crate::weather::{Weather, millis};

/// The world.
pub(crate) struct World {
    pub(crate) dice: Rng,
    /// For what is drawn apart, so that the world is the same without it.
    pub(crate) other_dice: Rng,
    pub(crate) weather: Weather,
    pub(crate) now: Timestamp,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    pub(crate) sfu: Sfu,
    pub(crate) homeservers: Homeservers,
    pub(crate) matrix: MatrixRoom,
    pub(crate) object: Object,
    pub(crate) members: Vec<Member>,
    pub(crate) judge: Judge,
    /// When the last fault of the process ends or has ended, and of each homeserver.
    pub(crate) process_trouble: Timestamp,
    pub(crate) homeserver_trouble: [Timestamp; 2],
    pub(crate) sfu_trouble: Timestamp,
    pub(crate) misconfigured_until: Timestamp,
    pub(crate) vain_alarms: u32,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) steps: u64,
    pub(crate) actions: u64,
    pub(crate) removed: u64,
}

/// Event in the world.
pub(crate) enum Event {
    Step(usize, Step),
    /// The worker sends a command again, whose answer was lost.
    Repeat {
        member: usize,
        command: Box<Delegate>,
    },
    Activate(ConnectionName),
    Abort(ConnectionName),
    Vanish(ConnectionName, DisconnectReason),
    /// The client changes its connection for another while it joins.
    Change(ConnectionName),
    /// Begins the other connection.
    Follow(Connection),
    /// The SFU goes down for a moment, and all its clients connect again.
    Shutdown,
    Arrive {
        from: ConnectionName,
        same_sid: bool,
    },
    FinishRoom,
    Deliver {
        webhook: Box<Webhook>,
        tries: u32,
    },
    Alarm {
        again: bool,
    },
    NextDue {
        life: u32,
    },
    Request {
        life: u32,
        issued_at: Timestamp,
        action: Box<Action>,
    },
    Answer {
        life: u32,
        issued_at: Timestamp,
        action: Box<Action>,
        input: Box<Input>,
    },
    Fire(usize),
    SfuOutage(Duration),
    HomeserverOutage(usize, Duration),
    Crash,
    Configured,
    Recover,
    Calm,
    Judgement,
    Due(DelegationId),
    /// Checks whether this connection ought to have ended.
    Audit(ConnectionName),
    /// Lets the members leave that aren't in the Matrix room, and that the engine needn't remove.
    LastLeave,
    /// Ends the delegations: no more promises hold for them.
    DelegationsEnd,
    End,
}

struct Scheduled {
    at: Timestamp,
    order: u64,
    event: Event,
}

impl World {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let mut dice = Rng::with_seed(seed);
        let mut other_dice = Rng::with_seed(!seed);
        let weather = Weather::draw(&mut dice, &mut other_dice);
        let mut world = Self {
            now: START,
            queue: BinaryHeap::new(),
            scheduled: 0,
            sfu: Sfu::new(weather.joined_at_ms, weather.answers_have_joined_at),
            homeservers: Homeservers::default(),
            matrix: MatrixRoom::new(START, weather.members, weather.hidden, weather.unreadable),
            object: Object::new(EngineConfig {
                sanity_check_interval: weather.sanity_check_interval,
                membership_check_interval: weather.membership_check_interval,
            }),
            members: Vec::new(),
            judge: Judge::default(),
            process_trouble: START,
            homeserver_trouble: [START; 2],
            sfu_trouble: START,
            misconfigured_until: START,
            vain_alarms: 0,
            trace: traced.then(Vec::new),
            steps: 0,
            actions: 0,
            removed: 0,
            dice,
            other_dice,
            weather,
        };
        world.log(|world| format!("{:?}", world.weather));
        world.people();
        world.disasters();
        world.after(world.weather.rough_for, Event::Calm);
        world
    }

    /// Runs all events, until the last promise is checked or one is broken.
    pub(crate) fn run(&mut self) -> Verdict {
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

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse(Scheduled { at: self.now + delay, order: self.scheduled, event }));
    }

    pub(crate) fn log(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let at = self.now.since(START).as_secs_f64();
            let line = format!("{at:10.3}  {}", line(self));
            self.trace.get_or_insert_default().push(line);
        }
    }

    fn happen(&mut self, event: Event) -> Verdict {
        match event {
            Event::Step(member, step) => self.step(member, step)?,
            Event::Repeat { member, command } => self.repeat(member, *command)?,
            Event::Activate(name) => {
                if let Some((connection, webhook)) = self.sfu.activate(self.now, name) {
                    self.judge.connected(connection);
                    self.after(FIRST_AUDIT, Event::Audit(connection.name));
                    self.emit(Some(webhook));
                }
            }
            Event::Abort(name) => self.abort(name),
            Event::Vanish(name, reason) => {
                let webhook = self.sfu.end(self.now, name, reason);
                self.emit(webhook);
            }
            Event::Change(name) => self.change_connection(name),
            Event::Follow(former) => self.follow(former),
            Event::Shutdown => self.shut_down(),
            Event::Arrive { from, same_sid } => {
                if let Some((connection, webhook)) = self.sfu.arrive(self.now, from, same_sid) {
                    self.judge.connected(connection);
                    self.after(FIRST_AUDIT, Event::Audit(connection.name));
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
                    let process_trouble = if self.object.is_late(self.now) { self.now } else { self.process_trouble };
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
                    self.sfu_trouble = self.sfu_trouble.max(self.now + length);
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
            Event::Configured => self.configured()?,
            Event::Recover if self.object.alive => {}
            Event::Recover => {
                self.log(|_| "process: up again".into());
                self.object.alive = true;
                self.in_trouble_until(self.now);
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
                self.after(last.since(self.now), Event::DelegationsEnd);
            }
            // No promise limits the rest.
            Event::DelegationsEnd if !self.weather.membership => self.queue.clear(),
            Event::DelegationsEnd => {
                for event in &mut self.homeservers.events {
                    event.cancel();
                }
                self.after(self.weather.token_lifetime + UNTIL_FORGOTTEN, Event::End);
            }
            Event::End => {
                self.queue.clear();
                if !self.object.tracked.is_empty() {
                    return broken(Invariant::Forgotten, format!("{:?} is remembered", self.object.tracked.values()));
                }
            }
            Event::Audit(name) => self.audit(name)?,
            Event::LastLeave => self.everybody_leaves(true),
            Event::Due(id) => self.judge.is_due(id, &self.homeservers)?,
        }
        Ok(())
    }

    /// Checks that a participant outside of the Matrix room doesn't stay.
    fn audit(&mut self, name: ConnectionName) -> Verdict {
        let Some(connection) = self.connection(name).filter(|_| self.weather.membership && !self.weather.hidden) else {
            return Ok(());
        };
        let member = connection.alias.member;
        if let Some((active_since, left_at)) = connection.active_since.zip(self.matrix.left_at(member)) {
            let process = if self.object.is_late(self.now) { self.now } else { self.process_trouble };
            let trouble = process.max(self.homeserver_trouble[0]).max(self.sfu_trouble);
            let intervals = Intervals {
                membership_check: self.weather.membership_check_interval,
                sanity_check: self.weather.sanity_check_interval,
            };
            let overstay = Overstay { name, active_since, left_at, trouble };
            if self.judge.removals.is_overdue(self.now, overstay, intervals) {
                return broken(Invariant::NonMembersGo, format!("m{member} stays by {connection:?}"));
            }
        }
        self.after(NEXT_AUDIT, Event::Audit(name));
        Ok(())
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
        for _ in 0..self.weather.sfu_shutdowns {
            let at = millis(&mut self.dice, 0, rough_ms);
            self.after(at, Event::Shutdown);
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
        self.misconfigured_until = self.now;
        self.homeservers.down_until = [self.now; 2];
        self.after(Duration::from_secs(1), Event::Recover);
        self.everybody_leaves(false);
        self.after(UNTIL_LAST_LEAVE, Event::LastLeave);
        self.after(UNTIL_JUDGEMENT, Event::Judgement);
    }
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

const FIRST_AUDIT: Duration = Duration::from_secs(21);
const NEXT_AUDIT: Duration = Duration::from_secs(31);

/// Time by which all participants are removed that have to be.
const UNTIL_LAST_LEAVE: Duration = Duration::from_secs(5 * 60);

/// Time by which all participants are forgotten: expired tokens are remembered for a while, and connected
/// participants are polled for once an hour.
const UNTIL_FORGOTTEN: Duration = Duration::from_secs(2 * 3600);

/// A hundred times as many events as a simulation has.
const MOST_STEPS: u64 = 100_000;

const LONGEST_OUTAGE: Duration = Duration::from_secs(20 * 60);

/// Time by which the last webhooks have come, and every back-off and `Retry-After` has run out.
const UNTIL_JUDGEMENT: Duration = Duration::from_secs(8 * 60);
