//! Which connections a participant has had, and which is the last: webhooks tell it in any order.
//!
//! An identity is connected to a room once at most, and a connection that is over never comes back. So what a webhook
//! means depends on which connection it is about, not on when it arrives: a `participant_joined` that is overtaken by the
//! `participant_left` of the same connection must not bring the participant back, and a `participant_left` of an older
//! connection must not take it away.

use crate::engine::webhook::{ParticipantRef, ROUNDING};
use crate::ids::ParticipantSid;
use crate::time::Timestamp;

/// The connections of one participant: of a delegation, or tracked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Connections {
    /// The newest known, be it over or not.
    pub(crate) latest: Option<Connection>,
    /// Those that are known to be over, the newest [`REMEMBERED`] of them, newest last.
    pub(crate) over: Vec<ParticipantSid>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    /// Under which of the delegation's identities.
    pub(crate) alias: Alias,
    pub(crate) sid: Option<ParticipantSid>,
    /// When it began or, failing that, when it was first known to stand.
    pub(crate) since: Option<Timestamp>,
    /// Another may stand beside it, or after it.
    pub(crate) contested: bool,
}

/// An identity of a delegation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alias {
    Member,
    Legacy,
}

/// What a beginning connection is to a delegation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    New,
    /// The latest, once more.
    Known,
    /// It is over by now.
    Over,
}

/// What an ended connection was to a delegation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The latest.
    Latest,
    /// One after the latest known: its beginning hasn't been told.
    Later,
    /// An older one, or one whose end has been told before.
    Older,
}

impl Connections {
    /// A connection has begun.
    pub(crate) fn begin(&mut self, mut connection: Connection) -> Beginning {
        if self.is_over(connection.sid.as_ref()) {
            return Beginning::Over;
        }
        if let Some(latest) = &self.latest {
            let stands = !self.is_over(latest.sid.as_ref());
            if stands && latest.sid.is_some() && (connection.sid.is_none() || connection.sid == latest.sid) {
                return Beginning::Known;
            }
            connection.contested = latest.contested;
            match latest.order(&connection) {
                Order::Before => {
                    self.mark_over(connection.sid);
                    return Beginning::Over;
                }
                Order::After if stands => self.mark_over(latest.sid.clone()),
                Order::Unknown if stands => connection.contested = true,
                Order::After | Order::Unknown => {}
            }
        }
        self.latest = Some(connection);
        Beginning::New
    }

    /// A connection may stand. False if it is known to be over.
    pub(crate) fn suspect(&mut self, alias: Alias, sid: Option<&ParticipantSid>) -> bool {
        if self.is_over(sid) {
            return false;
        }
        if let Some(latest) = &mut self.latest {
            latest.contested |= latest.alias != alias;
        }
        true
    }

    /// A connection has ended; `for_good` unless the same one may come back.
    pub(crate) fn end(&mut self, alias: Alias, participant: &ParticipantRef, for_good: bool) -> End {
        let sid = participant.sid.as_ref();
        if self.is_over(sid) {
            return End::Older;
        }
        let end = match &self.latest {
            None => End::Later,
            Some(latest) if sid.is_none() || latest.sid.is_none() || sid == latest.sid.as_ref() => End::Latest,
            Some(latest) if order(latest.since, participant.joined_at) == Order::After => End::Later,
            Some(_) => End::Older,
        };
        if !for_good {
            return end;
        }
        let latest = self.latest.as_ref().and_then(|latest| latest.sid.clone());
        self.mark_over(participant.sid.clone().or(latest.filter(|_| end == End::Latest)));
        // What began before it under its identity is over too, should it be told late.
        let other_stands =
            self.latest.as_ref().is_some_and(|latest| latest.alias != alias && !self.is_over(latest.sid.as_ref()));
        if end == End::Later && !other_stands {
            let contested = self.latest.as_ref().is_some_and(|latest| latest.contested);
            let (sid, since) = (participant.sid.clone(), participant.joined_at);
            self.latest = Some(Connection { alias, sid, since, contested });
        }
        end
    }

    /// The SFU has ended the latest connection on demand.
    pub(crate) fn end_latest(&mut self) {
        self.mark_over(self.latest.as_ref().and_then(|latest| latest.sid.clone()));
    }

    /// The SFU shows this connection, which isn't known to be over. It is contested unless it was looked for any other, and
    /// there was none.
    pub(crate) fn see(&mut self, connection: Connection) {
        match &mut self.latest {
            Some(latest) if latest.sid == connection.sid => {
                latest.since = latest.since.or(connection.since);
                latest.contested = connection.contested;
            }
            latest => {
                let alias = connection.alias;
                let displaced = latest.replace(connection).filter(|displaced| displaced.alias == alias);
                self.mark_over(displaced.and_then(|displaced| displaced.sid));
            }
        }
    }

    /// Whether the connection is known to be over.
    pub(crate) fn is_over(&self, sid: Option<&ParticipantSid>) -> bool {
        sid.is_some_and(|sid| self.over.contains(sid))
    }

    /// Those with these connections, of which `over` are over, as [`over_column`](Self::over_column) writes them.
    pub(crate) fn from_columns(latest: Option<Connection>, over: &str) -> Self {
        Self { latest, over: over.split_whitespace().filter_map(ParticipantSid::new).collect() }
    }

    /// The SIDs of the connections that are over, separated by spaces.
    pub(crate) fn over_column(&self) -> String {
        let sids: Vec<_> = self.over.iter().map(ParticipantSid::as_str).collect();
        sids.join(" ")
    }

    fn mark_over(&mut self, sid: Option<ParticipantSid>) {
        let Some(sid) = sid else { return };
        if !self.over.contains(&sid) {
            if self.over.len() == REMEMBERED {
                self.over.remove(0);
            }
            self.over.push(sid);
        }
    }
}

impl Connection {
    /// Whether `other` came before or after this one. Two identities may be connected at the same time.
    fn order(&self, other: &Self) -> Order {
        if self.alias == other.alias { order(self.since, other.since) } else { Order::Unknown }
    }
}

/// Whether what began at `other` came before or after what began at `this`.
fn order(this: Option<Timestamp>, other: Option<Timestamp>) -> Order {
    match (this, other) {
        (Some(this), Some(other)) if other + ROUNDING <= this => Order::Before,
        (Some(this), Some(other)) if this + ROUNDING <= other => Order::After,
        _ => Order::Unknown,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Before,
    After,
    /// Not told, or too close for the SFU's seconds.
    Unknown,
}

/// Repeated and reordered webhooks are minutes late, not hours: a client doesn't connect more often in that time.
const REMEMBERED: usize = 8;
