//! Messages between the object and the rest of the world.

use std::fmt;
use std::time::Duration;

use delegated_leaves::{
    Action, DelayedEvent, HomeserverAnswer, Input, Jitter, MembersAnswer, Occurrence, Outcome, RemovalAnswer, Request,
    RoomCommand, ServerAnswer, SfuAnswer, Timestamp,
};

use crate::clock::{PROMPT, START};
use crate::homeserver::{Call, DelayedLeave, Homeservers};
use crate::invariant::Verdict;
use crate::sfu::Webhook;
use crate::weather::{chance, millis};
use crate::world::{Event, World};

impl World {
    /// Sends a webhook, perhaps to be lost, or to come twice.
    pub(crate) fn emit(&mut self, webhook: Option<Webhook>) {
        let Some(webhook) = webhook else { return };
        let copies = 1 + u32::from(chance(&mut self.dice, self.weather.webhook_repeat));
        let lost = chance(&mut self.dice, self.weather.webhook_loss);
        self.log(|_| format!("sfu: {webhook}{}", if lost { ", lost" } else { "" }));
        if !lost {
            for _ in 0..copies {
                let delay = self.weather.webhook_latency(&mut self.dice);
                self.after(delay, Event::Deliver { webhook: Box::new(webhook.clone()), tries: 0 });
            }
        }
    }

    pub(crate) fn deliver(&mut self, webhook: Box<Webhook>, tries: u32) -> Verdict {
        let command = RoomCommand::Webhook(webhook.event.clone());
        if self.object.alive && !self.object.is_empty() {
            self.log(|_| format!("webhook arrives: {webhook}, of {:.3}", webhook.at.since(START).as_secs_f64()));
        }
        if !self.fetch(command, Some(&webhook))? && tries < 4 {
            let delay = millis(&mut self.dice, 1_000, 20_000);
            self.after(delay, Event::Deliver { webhook, tries: tries + 1 });
        }
        Ok(())
    }

    /// Sends the request of an action.
    pub(crate) fn act(&mut self, action: Action) -> Verdict {
        self.log(|_| format!("object: {}", Described(&action.request)));
        self.actions += 1;
        let age = self.now.since(START).as_secs();
        let sanity_checks = self.weather.sanity_check_interval.map_or(0, |interval| 1 + age / interval.as_secs());
        let interval = self.weather.membership_check_interval;
        let sanity_checks = sanity_checks + interval.map_or(0, |interval| 1 + age / interval.as_secs());
        self.judge.removals.acts(&action.request, &self.matrix, self.now.since(START), interval)?;
        self.judge.acts(self.now, &action, &self.sfu, &self.homeservers, sanity_checks)?;
        let delay = self.weather.latency(&mut self.dice);
        if let Request::Restart(event) | Request::Send(event) = &action.request
            && delay > PROMPT
        {
            self.trouble_at(server_of(event), self.now + delay);
        }
        let (life, issued_at) = (self.object.life, self.now);
        self.after(delay, Event::Request { life, issued_at, action: Box::new(action) });
        Ok(())
    }

    /// Lets a request reach its server.
    pub(crate) fn request(&mut self, life: u32, issued_at: Timestamp, action: Box<Action>) {
        let delay = self.weather.latency(&mut self.dice);
        let in_time = |now: Timestamp| now.since(issued_at) + delay <= TIMEOUT;
        let timeout = TIMEOUT.saturating_sub(self.now.since(issued_at));
        let id = action.id;
        let (outcome, delay) = match &action.request {
            Request::Restart(event) | Request::Send(event) => {
                let restart = matches!(action.request, Request::Restart(_));
                let server = server_of(event);
                let (answer, applied) = self.query_homeserver(server, DelayedLeave::index(&event.delay_id), restart);
                let answer = answer.filter(|_| in_time(self.now));
                self.log(|_| {
                    format!(
                        "homeserver: {} -> {answer:?}{}",
                        Described(&action.request),
                        if applied { ", done" } else { "" }
                    )
                });
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
                (Outcome::Homeserver(answer.unwrap_or(HomeserverAnswer::Failed)), delay)
            }
            Request::JoinedMembers { .. } | Request::IsServerJoined { .. } | Request::IsUserJoined { .. } => {
                let fails = self.homeservers.down_until[0] > self.now
                    || chance(&mut self.dice, self.weather.homeserver_failure)
                    || !in_time(self.now);
                let members = matches!(action.request, Request::JoinedMembers { .. });
                self.judge.removals.queried(self.now, id);
                let (members_answer, server_answer) = match fails {
                    true => (MembersAnswer::Failed, ServerAnswer::Failed),
                    false => {
                        let server_answer = match &action.request {
                            Request::IsUserJoined { user_id, .. } => self.matrix.user(self.now, user_id),
                            _ => self.matrix.server(self.now),
                        };
                        (self.matrix.members(self.now), server_answer)
                    }
                };
                let answered_at = if fails { self.now + TIMEOUT } else { self.now + delay };
                if fails || answered_at.since(issued_at) > PROMPT {
                    self.trouble_at(0, answered_at);
                }
                let delay = if fails { timeout } else { delay };
                if members {
                    self.log(|_| format!("homeserver: {members_answer:?}"));
                    (Outcome::Members(members_answer), delay)
                } else {
                    self.log(|_| format!("homeserver: {server_answer:?}"));
                    (Outcome::Server(server_answer), delay)
                }
            }
            Request::RemoveParticipant { .. } | Request::DeleteRoom { .. } => {
                let fails = self.sfu.down_until > self.now || chance(&mut self.dice, self.weather.sfu_failure);
                let lost = fails && self.sfu.down_until <= self.now && self.dice.u8(..3) == 0;
                let wanted = match &action.request {
                    Request::RemoveParticipant { identity, .. } => Some(identity),
                    _ => None,
                };
                let ended = if fails && !lost { Vec::new() } else { self.sfu.remove(self.now, wanted) };
                let answered = !fails && in_time(self.now);
                let answer = match answered {
                    true if ended.is_empty() => RemovalAnswer::NotThere,
                    true => RemovalAnswer::Done,
                    false => RemovalAnswer::Failed,
                };
                self.log(|_| format!("sfu: {answer:?}, {} connections ended", ended.len()));
                for webhook in ended {
                    self.removed += 1;
                    let about = webhook.about;
                    self.emit(Some(webhook));
                    if let Some(about) = about {
                        self.removed(about.name, about.alias.member);
                    }
                }
                if !answered || delay > PROMPT {
                    self.sfu_trouble = self.sfu_trouble.max(self.now + TIMEOUT);
                }
                (Outcome::Removal(answer), if answered { delay } else { timeout })
            }
            request @ (Request::GetParticipant { .. } | Request::ListParticipants { .. }) => {
                let fails = self.sfu.down_until > self.now || chance(&mut self.dice, self.weather.sfu_failure);
                let answer = self.sfu.answer(request, &mut self.dice);
                let answered = !fails && in_time(self.now);
                self.log(|_| format!("sfu: {}{}", Described(&answer), if answered { "" } else { ", not answered" }));
                let slow_failure = fails && self.dice.bool();
                let delay = if answered || (fails && !slow_failure) { delay.min(timeout) } else { timeout };
                if !answered {
                    self.sfu_trouble = self.sfu_trouble.max(self.now + TIMEOUT);
                }
                let answer = if answered { answer } else { SfuAnswer::Failed };
                (Outcome::Sfu(answer), delay)
            }
        };
        let jitter = Jitter::new(self.dice.f64());
        let input = Box::new(Input::Outcome { id, outcome, jitter });
        self.after(delay, Event::Answer { life, issued_at, action, input });
    }

    /// Returns the homeserver's answer, if one reaches us, and whether the request took effect.
    pub(crate) fn query_homeserver(
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
            return (reaches.then(|| Homeservers::failure(self.dice.u32(..8), self.dice.u64(0..120))), false);
        }
        let call = if restart { Call::Restart } else { Call::Send };
        let odd = self.dice.bool();
        let answer = self.homeservers.call(self.now, event, call, odd);
        if restart && let Some(event_at) = self.homeservers.events.get(event).map(|event| event.fires_at) {
            self.after(event_at.since(self.now), Event::Fire(event));
        }
        ((!lost).then_some(answer), true)
    }

    pub(crate) fn trouble_at(&mut self, server: usize, at: Timestamp) {
        self.homeserver_trouble[server] = self.homeserver_trouble[server].max(at);
    }
}

/// One line of a trace.
struct Described<'a, T>(&'a T);

impl fmt::Display for Described<'_, Request> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leave = |event: &DelayedEvent| DelayedLeave::index(&event.delay_id).unwrap_or_default();
        match self.0 {
            Request::Restart(event) => write!(f, "restart leave-{} on {}", leave(event), event.server_name),
            Request::Send(event) => write!(f, "send leave-{} on {}", leave(event), event.server_name),
            request => request.fmt(f),
        }
    }
}

impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, participant, reason) = match &self.event.occurrence {
            Occurrence::ParticipantJoined(participant) => ("joined", participant, None),
            Occurrence::ParticipantLeft(participant, reason) => ("left", participant, Some(reason)),
            Occurrence::ParticipantConnectionAborted(participant, reason) => ("aborted", participant, Some(reason)),
            Occurrence::RoomFinished => return f.write_str("room finished"),
        };
        let sid = participant.sid.as_ref().map_or("", |sid| sid.as_str());
        write!(f, "{} {what} as {sid}", participant.identity)?;
        reason.map_or(Ok(()), |reason| write!(f, ", {reason:?}"))
    }
}

impl fmt::Display for Described<'_, SfuAnswer> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SfuAnswer::Participants(participants) = self.0 else { return f.write_str("nothing") };
        if participants.is_empty() {
            return f.write_str("no participants");
        }
        for participant in participants {
            let sid = participant.sid.as_ref().map_or("", |sid| sid.as_str());
            write!(f, "{} {:?} as {sid}; ", participant.identity, participant.state)?;
        }
        Ok(())
    }
}

fn server_of(event: &DelayedEvent) -> usize {
    usize::from(event.server_name.as_str() == "hs1")
}

/// Time-out of the shell for an action.
const TIMEOUT: Duration = Duration::from_secs(5);
