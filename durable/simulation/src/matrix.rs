//! Model of the Matrix room that participants have to be in, and of our homeserver's answers about it.

use std::collections::HashSet;

use delegated_leaves::{MatrixRoomId, MembersAnswer, RoomName, ServerAnswer, Timestamp, Track, UserId};

use crate::sfu::MemberAlias;

/// Memberships over time.
#[derive(Default)]
pub(crate) struct MatrixRoom {
    /// For each member, since when it is joined, or not: oldest first. All are in the beginning.
    changes: Vec<Vec<(Timestamp, bool)>>,
    /// The namespace in our registration doesn't cover the members.
    pub(crate) hidden: bool,
    /// There are too many of them to be read.
    pub(crate) unreadable: bool,
}

impl MatrixRoom {
    pub(crate) fn new(now: Timestamp, members: usize, hidden: bool, unreadable: bool) -> Self {
        Self { changes: vec![vec![(now, true)]; members], hidden, unreadable }
    }

    /// Records that a member joins, leaves, is kicked or banned.
    pub(crate) fn set(&mut self, now: Timestamp, member: usize, joined: bool) {
        if let Some(changes) = self.changes.get_mut(member) {
            changes.push((now, joined));
        }
    }

    pub(crate) fn was_joined(&self, member: usize, at: Timestamp) -> bool {
        let changes = self.changes.get(member).into_iter().flatten();
        changes.take_while(|(since, _)| *since <= at).last().is_none_or(|(_, joined)| *joined)
    }

    /// When the member left, if it isn't joined.
    pub(crate) fn left_at(&self, member: usize) -> Option<Timestamp> {
        self.changes.get(member)?.last().filter(|(_, joined)| !joined).map(|(since, _)| *since)
    }

    pub(crate) fn is_joined(&self, member: usize) -> bool {
        self.left_at(member).is_none()
    }

    /// Returns whether any user of our homeserver was joined. Where our namespace is wrong there are others.
    pub(crate) fn was_anybody_joined(&self, at: Timestamp) -> bool {
        self.hidden || (0..self.changes.len()).any(|member| self.was_joined(member, at))
    }

    /// Answer to `joined_members`.
    pub(crate) fn members(&self, now: Timestamp) -> MembersAnswer {
        let joined: HashSet<_> =
            (0..self.changes.len()).filter(|member| self.was_joined(*member, now)).map(user_id).collect();
        match self.unreadable {
            _ if self.hidden || joined.is_empty() => MembersAnswer::Forbidden,
            true => MembersAnswer::Unreadable,
            false => MembersAnswer::Joined(joined),
        }
    }

    /// Answer to `is_joined` for a user.
    pub(crate) fn user(&self, now: Timestamp, user_id: &UserId) -> ServerAnswer {
        let is_joined = |member: &usize| self.was_joined(*member, now);
        ServerAnswer::Joined((0..self.changes.len()).filter(is_joined).any(|member| self::user_id(member) == *user_id))
    }

    /// Answer to `is_joined` for our own server.
    pub(crate) fn server(&self, now: Timestamp) -> ServerAnswer {
        ServerAnswer::Joined(self.was_anybody_joined(now))
    }
}

/// Token of a member that is valid until `expires_at`.
pub(crate) fn token(member: usize, expires_at: Timestamp) -> Track {
    Track {
        room: RoomName::new("room"),
        matrix_room_id: MatrixRoomId::new("!room:hs0"),
        user_id: user_id(member),
        identity: MemberAlias { member, legacy: false }.identity(),
        expires_at,
    }
}

pub(crate) fn user_id(member: usize) -> UserId {
    UserId::new(format!("@m{member}:hs0"))
}
