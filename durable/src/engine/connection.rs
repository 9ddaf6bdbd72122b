//! The connections of a participant: reconstructed from webhooks, which come in any order.
//!
//! An identity is connected to a room once at most, and an ended connection never comes back. So the meaning of a
//! webhook depends on the connection that it is about, not on its time of arrival: a `participant_joined` that is
//! overtaken by the `participant_left` of the same connection must not bring the participant back, and the
//! `participant_left` of an older connection must not take it away.

use crate::engine::webhook::{ParticipantRef, ROUNDING};
use crate::ids::ParticipantSid;
use crate::time::Timestamp;

/// The connections of one participant, be it a delegation's or tracked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Connections {
    /// The newest known, ended or not.
    pub(crate) latest: Option<Connection>,
    /// Ended connections, the newest [`REMEMBERED`] of them, newest last.
    pub(crate) over: Vec<ParticipantSid>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    /// The delegation's identity under which it was made.
    pub(crate) alias: Alias,
    pub(crate) sid: Option<ParticipantSid>,
    /// When it began or, failing that, when it was first known to stand.
    pub(crate) since: Option<Timestamp>,
    /// Another one may stand beside it, or may have followed it.
    pub(crate) contested: bool,
}

/// An identity of a delegation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alias {
    Member,
    Legacy,
}

/// Relation of a beginning connection to the known ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    New,
    /// The latest, reported again.
    Known,
    /// It has ended by now.
    Over,
}

/// Relation of an ended connection to the known ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The latest.
    Latest,
    /// One after the latest known: its beginning hasn't been reported.
    Later,
    /// An older one, or one whose end has been reported before.
    Older,
}

impl Connections {
    /// Records the beginning of a connection.
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

    /// Records that a connection may stand. Returns false if it is known to have ended.
    pub(crate) fn suspect(&mut self, alias: Alias, sid: Option<&ParticipantSid>) -> bool {
        if self.is_over(sid) {
            return false;
        }
        if let Some(latest) = &mut self.latest {
            latest.contested |= latest.alias != alias;
        }
        true
    }

    /// Records the end of a connection; `for_good` unless the same one may come back.
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
        let latest = self.latest.as_ref();
        if !for_good {
            // The one before it under its identity has ended, even if that is reported late.
            let before = latest.filter(|latest| end == End::Later && latest.alias == alias);
            self.mark_over(before.and_then(|before| before.sid.clone()));
            return end;
        }
        let latest = latest.and_then(|latest| latest.sid.clone());
        self.mark_over(participant.sid.clone().or(latest.filter(|_| end == End::Latest)));
        // Connections that began before it under its identity have ended too, even if their beginning is reported
        // late.
        let other_stands =
            self.latest.as_ref().is_some_and(|latest| latest.alias != alias && !self.is_over(latest.sid.as_ref()));
        if end == End::Later && !other_stands {
            let contested = self.latest.as_ref().is_some_and(|latest| latest.contested);
            let (sid, since) = (participant.sid.clone(), participant.joined_at);
            self.latest = Some(Connection { alias, sid, since, contested });
        }
        end
    }

    /// Records that the SFU has ended the latest connection on request.
    pub(crate) fn end_latest(&mut self) {
        self.mark_over(self.latest.as_ref().and_then(|latest| latest.sid.clone()));
    }

    /// Records a connection that the SFU shows, and that isn't known to have ended. It is contested unless the poll
    /// covered all identities and showed no other.
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

    /// Returns whether the connection is known to have ended.
    pub(crate) fn is_over(&self, sid: Option<&ParticipantSid>) -> bool {
        sid.is_some_and(|sid| self.over.contains(sid))
    }

    /// Restores connections from their columns: the latest, and the ended ones as [`over_column`](Self::over_column)
    /// writes them.
    pub(crate) fn from_columns(latest: Option<Connection>, over: &str) -> Self {
        Self { latest, over: over.split_whitespace().filter_map(ParticipantSid::new).collect() }
    }

    /// SIDs of the ended connections, separated by spaces.
    pub(crate) fn over_column(&self) -> String {
        let sids: Vec<_> = self.over.iter().map(ParticipantSid::as_str).collect();
        sids.join(" ")
    }

    /// Returns whether [`over_column`](Self::over_column) is this text.
    #[cfg(feature = "mutants")]
    pub(crate) fn is_over_column(&self, text: &str) -> bool {
        let mut rest = Some(text).filter(|text| !text.is_empty());
        let mut sids = self.over.iter().map(ParticipantSid::as_str);
        while let Some(here) = rest {
            let (first, others) = here.split_once(' ').map_or((here, None), |(first, others)| (first, Some(others)));
            if sids.next() != Some(first) {
                return false;
            }
            rest = others;
        }
        sids.next().is_none()
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
    /// Order of `other` relative to this one. Two identities may be connected at the same time.
    fn order(&self, other: &Self) -> Order {
        if self.alias == other.alias { order(self.since, other.since) } else { Order::Unknown }
    }
}

/// Order of a connection that began at `other` relative to one that began at `this`.
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
    /// Not reported, or too close for the SFU's whole seconds.
    Unknown,
}

/// Number of ended connections that are kept. Repeated and reordered webhooks are minutes late, not hours: a client
/// doesn't connect more often in that time.
const REMEMBERED: usize = 8;
