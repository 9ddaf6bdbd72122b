//! Model of the SFU: its connections, the webhooks of them, and its answers.

use std::time::Duration;

use delegated_leaves::{
    DisconnectReason, Identity, Occurrence, Participant, ParticipantRef, ParticipantSid, ParticipantState, Request,
    SfuAnswer, Timestamp, WebhookEvent,
};
use fastrand::Rng;

use crate::weather::chance;

/// The room as it really is.
#[derive(Default)]
pub(crate) struct Sfu {
    connections: Vec<Connection>,
    migrating: Vec<Connection>,
    /// Ended connections whose clients connect again at once.
    returning: Vec<Connection>,
    /// For each ended connection, its member and its end.
    ended: Vec<(usize, Timestamp)>,
    next_sid: u32,
    /// Webhooks have `joinedAtMs`, not only `joinedAt`.
    joined_at_ms: bool,
    /// Answers have the beginning of a connection.
    answers_have_joined_at: bool,
    pub(crate) down_until: Timestamp,
    /// No connection begins right after the room has finished: that would take the SFU a moment.
    pub(crate) finished_at: Option<Timestamp>,
}

/// Connection of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) name: ConnectionName,
    pub(crate) alias: MemberAlias,
    pub(crate) began: Timestamp,
    /// When media was connected.
    pub(crate) active_since: Option<Timestamp>,
    /// The connection that this one has displaced, or that has migrated.
    pub(crate) succeeds: Option<ConnectionName>,
}

/// SID of a connection, and the number of its migrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionName {
    pub(crate) sid: u32,
    pub(crate) migrations: u32,
}

/// Member under one of its two identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberAlias {
    pub(crate) member: usize,
    pub(crate) legacy: bool,
}

/// Webhook on its way, and the connection that it is about.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    pub(crate) event: WebhookEvent,
    pub(crate) at: Timestamp,
    pub(crate) about: Option<Connection>,
}

impl Sfu {
    pub(crate) fn new(joined_at_ms: bool, answers_have_joined_at: bool) -> Self {
        Self { joined_at_ms, answers_have_joined_at, ..Self::default() }
    }

    /// Begins a connection. Another one under its identity is displaced.
    pub(crate) fn begin(&mut self, now: Timestamp, alias: MemberAlias) -> (Connection, Option<Webhook>) {
        self.next_sid += 1;
        self.migrating.retain(|connection| connection.alias != alias);
        let displaced =
            self.connections.iter().find(|connection| connection.alias == alias).map(|displaced| displaced.name);
        let webhook = displaced.and_then(|name| self.end(now, name, DisconnectReason::DuplicateIdentity));
        let returned = self.returning.extract_if(.., |connection| connection.alias == alias).last();
        let displaced = displaced.or(returned.map(|returned| returned.name));
        let name = ConnectionName { sid: self.next_sid, migrations: 0 };
        let connection = Connection { name, alias, began: now, active_since: None, succeeds: displaced };
        self.connections.push(connection);
        (connection, webhook)
    }

    /// Connects the media of a connection.
    pub(crate) fn activate(&mut self, now: Timestamp, name: ConnectionName) -> Option<(Connection, Webhook)> {
        let connection = self.connections.iter_mut().find(|connection| connection.name == name)?;
        if connection.active_since.is_some() {
            return None;
        }
        connection.active_since = Some(now);
        let connection = *connection;
        Some((connection, self.webhook(now, connection, Occurrence::ParticipantJoined)))
    }

    /// Ends a connection, whose client doesn't connect again at once.
    pub(crate) fn end(&mut self, now: Timestamp, name: ConnectionName, reason: DisconnectReason) -> Option<Webhook> {
        self.end_and(now, name, reason, false)
    }

    /// Ends a connection, whose client connects again at once.
    pub(crate) fn send_round(
        &mut self,
        now: Timestamp,
        name: ConnectionName,
        reason: DisconnectReason,
    ) -> Option<Webhook> {
        self.end_and(now, name, reason, true)
    }

    fn end_and(
        &mut self,
        now: Timestamp,
        name: ConnectionName,
        reason: DisconnectReason,
        returns: bool,
    ) -> Option<Webhook> {
        let index = self.connections.iter().position(|connection| connection.name == name)?;
        let connection = self.connections.swap_remove(index);
        let occurrence = |participant| match connection.active_since {
            Some(_) => Occurrence::ParticipantLeft(participant, reason),
            None => Occurrence::ParticipantConnectionAborted(participant, reason),
        };
        if reason == DisconnectReason::Migration {
            self.migrating.push(connection);
        } else {
            if connection.active_since.is_some() && returns {
                self.returning.push(connection);
            }
            self.ended.push((connection.alias.member, now));
        }
        Some(self.webhook(now, connection, occurrence))
    }

    /// Lets a migrating connection arrive, under its old SID or a new one.
    pub(crate) fn arrive(
        &mut self,
        now: Timestamp,
        from: ConnectionName,
        same_sid: bool,
    ) -> Option<(Connection, Webhook)> {
        let index = self.migrating.iter().position(|connection| connection.name == from)?;
        let from = self.migrating.swap_remove(index);
        if self.connections.iter().any(|connection| connection.alias == from.alias) {
            return None;
        }
        let name = if same_sid {
            ConnectionName { migrations: from.name.migrations + 1, ..from.name }
        } else {
            self.next_sid += 1;
            ConnectionName { sid: self.next_sid, migrations: 0 }
        };
        let began = if same_sid { from.began } else { now };
        let connection = Connection { name, began, active_since: Some(now), succeeds: Some(from.name), ..from };
        self.connections.push(connection);
        Some((connection, self.webhook(now, connection, Occurrence::ParticipantJoined)))
    }

    /// The member's connections, without those that are migrating.
    pub(crate) fn connections_of(&self, member: usize) -> impl Iterator<Item = &Connection> {
        self.connections.iter().filter(move |connection| connection.alias.member == member)
    }

    /// The member's connections that are migrating.
    pub(crate) fn migrating_of(&self, member: usize) -> impl Iterator<Item = &Connection> {
        self.migrating.iter().filter(move |connection| connection.alias.member == member)
    }

    /// The member's ended connections whose clients connect again at once.
    pub(crate) fn returning_of(&self, member: usize) -> impl Iterator<Item = &Connection> {
        self.returning.iter().filter(move |connection| connection.alias.member == member)
    }

    /// Records that the member's client doesn't connect again at once after all.
    pub(crate) fn stays_away(&mut self, member: usize) {
        self.returning.retain(|connection| connection.alias.member != member);
    }

    /// All connections with media.
    pub(crate) fn all_active(&self) -> Vec<Connection> {
        self.connections.iter().filter(|connection| connection.active_since.is_some()).copied().collect()
    }

    /// The member's connection with media, the oldest if there are two.
    pub(crate) fn active(&self, member: usize) -> Option<Connection> {
        self.connections_of(member)
            .filter(|connection| connection.active_since.is_some())
            .min_by_key(|c| c.name)
            .copied()
    }

    /// Number of the member's connections that didn't end before then.
    pub(crate) fn connections_since(&self, member: usize, then: Timestamp) -> usize {
        let ended = self.ended.iter().filter(|(of, at)| *of == member && *at >= then).count();
        ended + self.connections_of(member).chain(self.migrating_of(member)).count()
    }

    /// Closes the room, if it is empty.
    pub(crate) fn finish(&mut self, now: Timestamp) -> Option<Webhook> {
        if !self.connections.is_empty() || !self.migrating.is_empty() {
            return None;
        }
        self.finished_at = Some(now);
        Some(Webhook {
            event: WebhookEvent { created_at: Some(second(now)), occurrence: Occurrence::RoomFinished },
            at: now,
            about: None,
        })
    }

    /// Ends all connections of an identity, or all, on request.
    pub(crate) fn remove(&mut self, now: Timestamp, identity: Option<&Identity>) -> Vec<Webhook> {
        let wanted = |connection: &&Connection| identity.is_none_or(|wanted| connection.alias.identity() == *wanted);
        let names: Vec<_> = self.connections.iter().filter(wanted).map(|connection| connection.name).collect();
        names.into_iter().filter_map(|name| self.end(now, name, DisconnectReason::Other)).collect()
    }

    /// Answer to a request for participants.
    pub(crate) fn answer(&self, request: &Request, dice: &mut Rng) -> SfuAnswer {
        let wanted = match request {
            Request::GetParticipant { identity, .. } => Some(identity),
            _ => None,
        };
        let participants = self.connections.iter().map(|connection| Participant {
            identity: connection.alias.identity(),
            sid: connection.sid(),
            state: match connection.active_since {
                Some(_) => ParticipantState::Active,
                None if chance(dice, 0.5) => ParticipantState::Joining,
                None => ParticipantState::Joined,
            },
            joined_at: self.answers_have_joined_at.then_some(second(connection.began)),
        });
        SfuAnswer::Participants(
            participants.filter(|participant| wanted.is_none_or(|wanted| *wanted == participant.identity)).collect(),
        )
    }

    fn webhook(
        &self,
        now: Timestamp,
        about: Connection,
        occurrence: impl FnOnce(ParticipantRef) -> Occurrence,
    ) -> Webhook {
        let participant = ParticipantRef {
            identity: about.alias.identity(),
            sid: about.sid(),
            joined_at: Some(if self.joined_at_ms { about.began } else { second(about.began) }),
        };
        let event = WebhookEvent { created_at: Some(second(now)), occurrence: occurrence(participant) };
        Webhook { event, at: now, about: Some(about) }
    }
}

impl Connection {
    pub(crate) fn sid(&self) -> Option<ParticipantSid> {
        ParticipantSid::new(format!("PA_{}", self.name.sid))
    }
}

impl MemberAlias {
    pub(crate) fn identity(self) -> Identity {
        let Self { member, legacy } = self;
        Identity::new(if legacy { format!("@m{member}:D") } else { format!("m{member}") })
    }
}

/// Rounded down, as the SFU does it.
fn second(at: Timestamp) -> Timestamp {
    Timestamp::from_secs(at.as_millis() / 1000)
}

/// Validity of the tokens that LiveKit issues itself.
pub(crate) const REFRESHED_FOR: Duration = Duration::from_secs(600);
