//! What is promised about those who have to be in the Matrix room, and whether it is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use delegated_leaves::{
    ActionId, Identity, Input, MembersAnswer, Occurrence, Outcome, Request, ServerAnswer, Timestamp, Track, TrackedId,
    TrackedRow,
};

use crate::invariant::{Invariant, Verdict, broken};
use crate::matrix::MatrixRoom;
use crate::sfu::{ConnectionName, REFRESHED_FOR, Webhook};

/// What the engine was told about the Matrix room and its members' tokens and connections.
#[derive(Default)]
pub(crate) struct Removals {
    /// When our homeserver looked for which answer.
    queried_at: BTreeMap<ActionId, Timestamp>,
    /// The latest answer that told something and that the engine has in memory.
    evidence: Option<Evidence>,
    /// When a token for whom was last recorded, and until when the longest is valid.
    tokens: BTreeMap<usize, (Timestamp, Timestamp)>,
    /// Of which connections a webhook was recorded, and when.
    reported: Vec<(ConnectionName, Timestamp)>,
    /// When the latest connection of each member ended whose end was told.
    left_at: BTreeMap<usize, Timestamp>,
    questions: u64,
    stimuli: u64,
}

/// Why somebody may be removed.
#[derive(Clone, Copy)]
struct Evidence {
    requested_at: Timestamp,
    queried_at: Timestamp,
    finding: Finding,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Finding {
    /// These are joined.
    Members,
    /// Our homeserver isn't.
    NotJoined,
    /// It is, but we may not know who is.
    Hidden,
}

impl Removals {
    /// A token was recorded.
    pub(crate) fn tracked(&mut self, now: Timestamp, token: &Track) {
        self.stimuli += 1;
        if let Some(member) = member_of(&token.identity) {
            let (at, until) = self.tokens.entry(member).or_default();
            (*at, *until) = (now, token.expires_at.max(*until));
        }
    }

    /// A webhook was recorded, when these were on disk.
    pub(crate) fn reported(&mut self, now: Timestamp, webhook: &Webhook, rows: &BTreeMap<TrackedId, TrackedRow>) {
        self.stimuli += 1;
        // Who was forgotten had its tokens only because of connections that nobody has told of.
        let about = webhook.about.filter(|about| rows.values().any(|row| row.identity == about.who.identity()));
        match (about, &webhook.event.occurrence) {
            (Some(about), Occurrence::ParticipantJoined(_)) => self.reported.push((about.name, now)),
            (Some(about), Occurrence::ParticipantLeft(..) | Occurrence::ParticipantConnectionAborted(..)) => {
                let left_at = self.left_at.entry(about.who.member).or_default();
                *left_at = webhook.at.max(*left_at);
            }
            _ => {}
        }
    }

    /// The object has been loaded anew.
    pub(crate) fn reloaded(&mut self) {
        self.stimuli += 1;
        self.evidence = None;
    }

    pub(crate) fn stimuli(&self) -> u64 {
        self.stimuli
    }

    /// Our homeserver looks for an answer.
    pub(crate) fn queried(&mut self, now: Timestamp, action_id: ActionId) {
        self.queried_at.insert(action_id, now);
    }

    /// The engine has its answer.
    pub(crate) fn answered(&mut self, requested_at: Timestamp, input: &Input) {
        let Input::Outcome { id, outcome, .. } = input else { return };
        let finding = match outcome {
            Outcome::Members(MembersAnswer::Joined(_)) => Finding::Members,
            Outcome::Server(ServerAnswer::Joined(false)) => Finding::NotJoined,
            Outcome::Server(ServerAnswer::Joined(true)) => Finding::Hidden,
            _ => return,
        };
        if let Some(queried_at) = self.queried_at.remove(id) {
            self.evidence = Some(Evidence { requested_at, queried_at, finding });
        }
    }

    /// The engine acts.
    pub(crate) fn acts(
        &mut self,
        request: &Request,
        matrix: &MatrixRoom,
        age: Duration,
        interval: Option<Duration>,
    ) -> Verdict {
        match request {
            Request::JoinedMembers { .. } => {
                self.questions += 1;
                let rounds = age.as_secs() / interval.map_or(60, |interval| interval.as_secs());
                match self.questions > 5 + rounds + 4 * self.stimuli {
                    true => broken(Invariant::Bounded, format!("our homeserver is asked {} times", self.questions)),
                    false => Ok(()),
                }
            }
            Request::RemoveParticipant { identity, .. } => {
                let wrong = member_of(identity).is_none_or(|member| !self.may_remove(member, matrix));
                match wrong {
                    true => broken(Invariant::MembersStay, format!("{identity} is removed")),
                    false => Ok(()),
                }
            }
            Request::DeleteRoom { .. } => {
                let not_joined = self.evidence.is_some_and(|evidence| evidence.finding == Finding::NotJoined);
                match not_joined && self.tokens.keys().all(|member| self.may_remove(*member, matrix)) {
                    true => Ok(()),
                    false => broken(Invariant::MembersStay, "the room is deleted".into()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Whether that connection of somebody who isn't joined since then ought to be over by now, if all has worked since
    /// `trouble`.
    pub(crate) fn is_overdue(&self, now: Timestamp, connection: Overstay, intervals: Intervals) -> bool {
        let Overstay { name, active_since, left_at, trouble } = connection;
        let reported = self.reported.iter().filter(|(reported, _)| *reported == name).map(|(_, at)| *at).min();
        let known_at = match (reported, intervals.sanity_check) {
            (Some(reported), _) => reported,
            // The SFU shows a connection that has migrated as the one that was checked before.
            (None, _) if name.migrations > 0 && intervals.membership_check.is_none() => return false,
            (None, Some(interval)) => active_since + interval,
            (None, None) => return false,
        };
        let checked_by = match intervals.membership_check {
            Some(interval) => known_at.max(left_at).max(trouble) + interval + SLACK,
            // Only its beginning was checked, and only if nothing went wrong then.
            None if left_at <= active_since && trouble <= active_since => known_at + SLACK,
            None => return false,
        };
        // What finds it without a webhook has to work again first.
        let found_by = match (reported, intervals.sanity_check) {
            (None, Some(interval)) => trouble + interval + intervals.membership_check.unwrap_or_default() + SLACK,
            _ => trouble,
        };
        checked_by.max(found_by) <= now
    }

    /// Something has been stored.
    pub(crate) fn stored(
        &self,
        now: Timestamp,
        forgotten: &[TrackedRow],
        rows: &BTreeMap<TrackedId, TrackedRow>,
    ) -> Verdict {
        let refreshed_until = |row: &TrackedRow| {
            let left_at = member_of(&row.identity).and_then(|member| self.left_at.get(&member));
            left_at.map_or(row.expires_at, |left_at| *left_at + REFRESHED_FOR)
        };
        if forgotten.iter().any(|row| row.expires_at.max(refreshed_until(row)) > now) {
            return broken(Invariant::AcknowledgedIsKept, "a token is forgotten that is still valid".into());
        }
        for (member, (_, until)) in &self.tokens {
            let kept = rows.values().any(|row| member_of(&row.identity) == Some(*member) && row.expires_at >= *until);
            if *until > now && !kept {
                return broken(Invariant::AcknowledgedIsKept, format!("the token of m{member} isn't on disk"));
            }
        }
        Ok(())
    }

    /// Whether the latest answer says so, and it has been given no token since it was asked for.
    fn may_remove(&self, member: usize, matrix: &MatrixRoom) -> bool {
        let Some(Evidence { requested_at, queried_at, finding }) = self.evidence else { return false };
        let renewed = self.tokens.get(&member).is_some_and(|(at, _)| *at > requested_at);
        let absent = match finding {
            Finding::Members => !matrix.was_joined(member, queried_at),
            Finding::NotJoined => !matrix.was_anybody_joined(queried_at),
            Finding::Hidden => false,
        };
        absent && !renewed
    }
}

/// A connection that shouldn't be.
pub(crate) struct Overstay {
    pub(crate) name: ConnectionName,
    pub(crate) active_since: Timestamp,
    /// Since when its user isn't in the Matrix room.
    pub(crate) left_at: Timestamp,
    /// When something last went wrong with any of those who have a part in its end.
    pub(crate) trouble: Timestamp,
}

/// How often is looked.
#[derive(Clone, Copy)]
pub(crate) struct Intervals {
    pub(crate) membership_check: Option<Duration>,
    pub(crate) sanity_check: Option<Duration>,
}

pub(crate) fn member_of(identity: &Identity) -> Option<usize> {
    identity.as_str().strip_prefix('m')?.parse().ok()
}

/// For two questions and a removal, each of which may take as long as an answer is waited for, and for alarms.
const SLACK: Duration = Duration::from_secs(20);
