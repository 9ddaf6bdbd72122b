//! What happens to delegations, for the log.

use std::fmt;

use crate::command::Delegate;
use crate::delegation::{Delegation, Ending, News, State};
use crate::names::{Identity, RoomName, ServerName};

/// Something worth a line in the log. It tells nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Milestone {
    /// In which room.
    pub room: RoomName,
    /// Whose delegation.
    pub identity: Identity,
    /// Whose homeserver holds the delayed event.
    pub server_name: ServerName,
    /// What has happened.
    pub event: MilestoneEvent,
}

/// What has happened to a delegation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MilestoneEvent {
    /// It was accepted.
    Delegated,
    /// The participant is there, or there again.
    Connected,
    /// The participant is said to be gone; the SFU is asked.
    Doubted,
    /// The participant is gone.
    Leaving,
    /// A `restart` has failed; it is tried again.
    RestartFailed,
    /// A `send` has failed; it is tried again.
    SendFailed,
    /// It is over.
    Ended(Ending),
}

impl MilestoneEvent {
    /// Everything that may happen.
    pub const ALL: [Self; 10] = [
        Self::Delegated,
        Self::Connected,
        Self::Doubted,
        Self::Leaving,
        Self::RestartFailed,
        Self::SendFailed,
        Self::Ended(Ending::Sent),
        Self::Ended(Ending::EventGone),
        Self::Ended(Ending::GaveUp),
        Self::Ended(Ending::Replaced),
    ];
}

impl Milestone {
    pub(crate) fn delegated(terms: &Delegate) -> Self {
        Self::of(terms, MilestoneEvent::Delegated)
    }

    pub(crate) fn ended(delegation: &Delegation, ending: Ending) -> Self {
        Self::of(&delegation.terms, MilestoneEvent::Ended(ending))
    }

    /// What the news has changed, if that is worth telling.
    pub(crate) fn between(before: State, after: &Delegation, news: News) -> Option<Self> {
        let state = after.progress.state;
        let event = match (news, state) {
            (News::NotRestarted(_), State::Connected | State::Doubted { .. }) => MilestoneEvent::RestartFailed,
            (News::NotSent(_), State::Leaving { .. }) => MilestoneEvent::SendFailed,
            _ if std::mem::discriminant(&before) == std::mem::discriminant(&state) => return None,
            (_, State::Waiting) => return None,
            (_, State::Connected) => MilestoneEvent::Connected,
            (_, State::Doubted { .. }) => MilestoneEvent::Doubted,
            (_, State::Leaving { .. }) => MilestoneEvent::Leaving,
        };
        Some(Self::of(&after.terms, event))
    }

    fn of(terms: &Delegate, event: MilestoneEvent) -> Self {
        Self {
            room: terms.room.clone(),
            identity: terms.identity.clone(),
            server_name: terms.server_name.clone(),
            event,
        }
    }
}

impl fmt::Display for MilestoneEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delegated => "delayed leave delegated",
            Self::Connected => "participant connected",
            Self::Doubted => "participant said to be gone, asking the SFU",
            Self::Leaving => "participant gone, sending its leave",
            Self::RestartFailed => "homeserver didn't restart the delayed leave, trying again",
            Self::SendFailed => "homeserver didn't send the delayed leave, trying again",
            Self::Ended(Ending::Sent) => "leave sent",
            Self::Ended(Ending::EventGone) => "delayed leave is gone from the homeserver",
            Self::Ended(Ending::GaveUp) => "homeserver out of reach until the delay was over",
            Self::Ended(Ending::Replaced) => "delegation replaced",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_listed_at_its_place() {
        for (place, event) in MilestoneEvent::ALL.into_iter().enumerate() {
            // A new event has no place until it gets one here, and then in the list.
            let expected = match event {
                MilestoneEvent::Delegated => 0,
                MilestoneEvent::Connected => 1,
                MilestoneEvent::Doubted => 2,
                MilestoneEvent::Leaving => 3,
                MilestoneEvent::RestartFailed => 4,
                MilestoneEvent::SendFailed => 5,
                MilestoneEvent::Ended(Ending::Sent) => 6,
                MilestoneEvent::Ended(Ending::EventGone) => 7,
                MilestoneEvent::Ended(Ending::GaveUp) => 8,
                MilestoneEvent::Ended(Ending::Replaced) => 9,
            };
            assert_eq!(place, expected, "{event}");
        }
    }
}
