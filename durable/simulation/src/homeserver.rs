//! Model of the homeservers' delayed events (MSC4140).

use std::time::Duration;

use delegated_leaves::{DelayId, DelayTimeout, HomeserverAnswer, Timestamp};

/// All delayed events of a simulation, and the outages of their homeservers.
#[derive(Default)]
pub(crate) struct Homeservers {
    pub(crate) events: Vec<DelayedLeave>,
    pub(crate) down_until: [Timestamp; 2],
}

/// A leave, waiting on its homeserver.
pub(crate) struct DelayedLeave {
    pub(crate) server: usize,
    pub(crate) timeout: DelayTimeout,
    pub(crate) fires_at: Timestamp,
    pub(crate) fate: Fate,
}

/// State of a delayed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Pending,
    /// Its timer has run out.
    Fired,
    Sent,
    Cancelled,
}

/// Request to a homeserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Restart,
    Send,
}

impl Homeservers {
    pub(crate) fn schedule(&mut self, now: Timestamp, server: usize, timeout: DelayTimeout) -> usize {
        let fires_at = now + timeout.span();
        self.events.push(DelayedLeave { server, timeout, fires_at, fate: Fate::Pending });
        self.events.len() - 1
    }

    /// Sends the event if its timer has run out, and returns whether it did. The error is when to try again while its
    /// homeserver is down.
    pub(crate) fn fire(&mut self, now: Timestamp, index: usize) -> Result<bool, Timestamp> {
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

    /// Answers a request.
    pub(crate) fn call(&mut self, now: Timestamp, index: usize, call: Call, odd: bool) -> HomeserverAnswer {
        let Some(event) = self.events.get_mut(index) else { return HomeserverAnswer::Gone };
        match (event.fate, call) {
            (Fate::Pending, Call::Restart) => event.fires_at = now + event.timeout.span(),
            (Fate::Pending, Call::Send) => event.fate = Fate::Sent,
            _ => return HomeserverAnswer::of_response(if odd { 409 } else { 404 }, true, None),
        }
        HomeserverAnswer::Done
    }

    pub(crate) fn fate(&self, index: usize) -> Option<Fate> {
        self.events.get(index).map(|event| event.fate)
    }

    /// Answer of a failing homeserver, or of the proxy before it: 5xx, a page with 404, 409 or 200, a login that it wants,
    /// or 429 with or without a `Retry-After`.
    pub(crate) fn failure(pick: u32, seconds: u64) -> HomeserverAnswer {
        match pick {
            0 => HomeserverAnswer::of_response(500, true, None),
            1 => HomeserverAnswer::of_response(403, true, None),
            2 => HomeserverAnswer::of_response(429, true, None),
            3 => HomeserverAnswer::of_response(401, true, None),
            4 => HomeserverAnswer::of_response(404, false, None),
            5 => HomeserverAnswer::of_response(if seconds.is_multiple_of(2) { 200 } else { 409 }, false, None),
            _ => HomeserverAnswer::of_response(429, true, Some(Duration::from_secs(seconds))),
        }
    }
}

impl DelayedLeave {
    /// Cancels the event, as its owner would.
    pub(crate) fn cancel(&mut self) {
        if self.fate == Fate::Pending {
            self.fate = Fate::Cancelled;
        }
    }

    /// Id of the event with that index.
    pub(crate) fn id(index: usize) -> Option<DelayId> {
        DelayId::new(format!("leave-{index}")).ok()
    }

    /// Index of the event with that id.
    pub(crate) fn index(id: &DelayId) -> Option<usize> {
        id.secret().strip_prefix("leave-")?.parse().ok()
    }
}
