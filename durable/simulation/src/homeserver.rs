//! A model of the homeservers' delayed events (MSC4140).

use std::time::Duration;

use delegated_leaves::HomeserverAnswer;
use delegated_leaves::Timestamp;
use delegated_leaves::{DelayId, DelayTimeout};

/// All delayed events of a simulation, and when which homeserver is down.
#[derive(Default)]
pub(super) struct Homeservers {
    pub(super) events: Vec<DelayedLeave>,
    pub(super) down_until: [Timestamp; 2],
}

/// A leave, waiting on its homeserver.
pub(super) struct DelayedLeave {
    pub(super) server: usize,
    pub(super) timeout: DelayTimeout,
    pub(super) fires_at: Timestamp,
    pub(super) fate: Fate,
}

/// What has become of a delayed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Pending,
    /// Its timer has run out.
    Fired,
    Sent,
    Cancelled,
}

/// What is asked of a homeserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Restart,
    Send,
}

impl Homeservers {
    pub(super) fn schedule(&mut self, now: Timestamp, server: usize, timeout: DelayTimeout) -> usize {
        let fires_at = now + timeout.span();
        self.events.push(DelayedLeave { server, timeout, fires_at, fate: Fate::Pending });
        self.events.len() - 1
    }

    /// Whether the event's timer has run out; when to look again, if its homeserver is down.
    pub(super) fn fire(&mut self, now: Timestamp, index: usize) -> Result<bool, Timestamp> {
        let Some(event) = self.events.get_mut(index) else { return Ok(false) };
        if event.fate != Fate::Pending || event.fires_at > now {
            return Ok(false);
        }
        if self.down_until[event.server] > now {
            return Err(self.down_until[event.server]);
        }
        event.fate = Fate::Fired;
        Ok(true)
    }

    /// Does what it is asked.
    pub(super) fn call(&mut self, now: Timestamp, index: usize, call: Call, odd: bool) -> HomeserverAnswer {
        let Some(event) = self.events.get_mut(index) else { return HomeserverAnswer::Gone };
        match (event.fate, call) {
            (Fate::Pending, Call::Restart) => event.fires_at = now + event.timeout.span(),
            (Fate::Pending, Call::Send) => event.fate = Fate::Sent,
            _ => return HomeserverAnswer::from_status(if odd { 409 } else { 404 }, None),
        }
        HomeserverAnswer::Done
    }

    pub(super) fn fate(&self, index: usize) -> Option<Fate> {
        self.events.get(index).map(|event| event.fate)
    }

    /// What a failing homeserver answers: 5xx, an odd 4xx, or 429 with or without a `Retry-After`.
    pub(super) fn failure(pick: u32, seconds: u64) -> HomeserverAnswer {
        match pick {
            0 => HomeserverAnswer::from_status(500, None),
            1 => HomeserverAnswer::from_status(403, None),
            2 => HomeserverAnswer::from_status(429, None),
            _ => HomeserverAnswer::from_status(429, Some(Duration::from_secs(seconds))),
        }
    }
}

impl DelayedLeave {
    /// Its owner doesn't want it sent any more.
    pub(super) fn cancel(&mut self) {
        if self.fate == Fate::Pending {
            self.fate = Fate::Cancelled;
        }
    }

    /// What the event with that index is called.
    pub(super) fn id(index: usize) -> Option<DelayId> {
        DelayId::new(format!("leave-{index}")).ok()
    }

    /// The index of the event of that name.
    pub(super) fn index(id: &DelayId) -> Option<usize> {
        id.secret().strip_prefix("leave-")?.parse().ok()
    }
}
