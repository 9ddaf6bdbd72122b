//! Checks the promises about participants that have to be in the Matrix room.

use std::collections::BTreeMap;
use std::time::Duration;

use delegated_leaves::{
    ActionId, Identity, Input, MembersAnswer, Occurrence, Outcome, Request, ServerAnswer, SfuAnswer, Timestamp, Track,
    TrackedId, TrackedRow,
};

use crate::invariant::{Invariant, Verdict, broken};
use crate::matrix::MatrixRoom;
use crate::sfu::{ConnectionName, REFRESHED_FOR, Webhook};

/// Reports to the engine about the Matrix room and its members' tokens and connections.
#[derive(Default)]
pub(crate) struct Removals {
    /// When our homeserver evaluated which request.
    queried_at: BTreeMap<ActionId, Timestamp>,
    /// The latest conclusive answer that the engine has in memory.
    evidence: Option<Evidence>,
    /// The latest one about a single user, by its member.
    user_evidence: BTreeMap<usize, Evidence>,
    /// For each member, when its latest token was recorded, and the latest expiry of all.
    tokens: BTreeMap<usize, (Timestamp, Timestamp)>,
    /// Connections whose beginning was recorded from a webhook, and when.
    reported: Vec<(ConnectionName, Timestamp)>,
    /// For each member, when the latest connection ended whose end was reported.
    left_at: BTreeMap<usize, Timestamp>,
    /// Polls whose answers the engine got: when each was requested, and for whom. `None`: for all.
    polls: Vec<(Timestamp, Option<Identity>)>,
    requests: u64,
    stimuli: u64,
}

/// Reason for which a participant may be removed.
#[derive(Clone, Copy)]
struct Evidence {
    requested_at: Timestamp,
    queried_at: Timestamp,
    finding: Finding,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Finding {
    /// Exactly these users are joined.
    Members,
    /// Our homeserver isn't joined.
    NotJoined,
    /// It is joined, but its members are kept from us.
    Hidden,
}

impl Removals {
    /// Records a token that the object has stored.
    pub(crate) fn tracked(&mut self, now: Timestamp, token: &Track) {
        self.stimuli += 1;
        if let Some(member) = member_of(&token.identity) {
            let (at, until) = self.tokens.entry(member).or_default();
            (*at, *until) = (now, token.expires_at.max(*until));
        }
    }

    /// Records a webhook that the object has handled with these rows on disk.
    pub(crate) fn reported(&mut self, now: Timestamp, webhook: &Webhook, rows: &BTreeMap<TrackedId, TrackedRow>) {
        self.stimuli += 1;
        // A forgotten participant had its tokens only from connections that were never reported.
        let about = webhook.about.filter(|about| rows.values().any(|row| row.identity == about.alias.identity()));
        match (about, &webhook.event.occurrence) {
            (Some(about), Occurrence::ParticipantJoined(_)) => self.reported.push((about.name, now)),
            (Some(about), Occurrence::ParticipantLeft(..) | Occurrence::ParticipantConnectionAborted(..)) => {
                let left_at = self.left_at.entry(about.alias.member).or_default();
                *left_at = webhook.at.max(*left_at);
            }
            _ => {}
        }
    }

    /// Records that the object was loaded anew.
    pub(crate) fn reloaded(&mut self) {
        self.stimuli += 1;
        self.evidence = None;
        self.user_evidence.clear();
    }

    /// Number of requests for the members of the Matrix room.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    pub(crate) fn stimuli(&self) -> u64 {
        self.stimuli
    }

    /// Records that our homeserver evaluates a request.
    pub(crate) fn queried(&mut self, now: Timestamp, action_id: ActionId) {
        self.queried_at.insert(action_id, now);
    }

    /// Records the outcome that the engine gets.
    pub(crate) fn answered(&mut self, requested_at: Timestamp, request: &Request, input: &Input) {
        let Input::Outcome { id, outcome, .. } = input else { return };
        if let Request::IsUserJoined { user_id, .. } = request {
            let member = user_id.as_str().strip_prefix("@m").and_then(|rest| rest.split(':').next()?.parse().ok());
            if let (Some(member), Outcome::Server(ServerAnswer::Joined(_))) = (member, outcome)
                && let Some(queried_at) = self.queried_at.remove(id)
            {
                let evidence = Evidence { requested_at, queried_at, finding: Finding::Members };
                self.user_evidence.insert(member, evidence);
            }
            return;
        }
        if let Outcome::Sfu(SfuAnswer::Participants(_)) = outcome {
            let identity = match request {
                Request::GetParticipant { identity, .. } => Some(identity.clone()),
                _ => None,
            };
            return self.polls.push((requested_at, identity));
        }
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

    /// Returns whether the SFU answered a poll for the participant in the twenty minutes after its known tokens had
    /// expired. Half an hour after that, a load takes it for granted: the time of the poll isn't stored.
    pub(crate) fn was_polled_in_time(&self, row: &TrackedRow) -> bool {
        let refreshed_until = row.gone_at.unwrap_or_default() + REFRESHED_FOR;
        let expired_at = refreshed_until.max(row.expires_at) + LEEWAY;
        let is_for_it =
            |identity: &Option<Identity>| identity.as_ref().is_none_or(|identity| *identity == row.identity);
        let in_time = |at: Timestamp| at >= expired_at && at <= expired_at + REFRESHED_FOR * 2;
        self.polls.iter().any(|(at, identity)| in_time(*at) && is_for_it(identity))
    }

    /// Checks an action that is started.
    pub(crate) fn acts(
        &mut self,
        request: &Request,
        matrix: &MatrixRoom,
        age: Duration,
        interval: Option<Duration>,
    ) -> Verdict {
        match request {
            Request::JoinedMembers { .. } => {
                self.requests += 1;
                let Some(interval) = interval else {
                    return broken(Invariant::Bounded, "our homeserver has a request, although checks are off".into());
                };
                let rounds = age.as_secs() / interval.as_secs();
                match self.requests > 5 + rounds + 4 * self.stimuli {
                    true => broken(Invariant::Bounded, format!("our homeserver has had {} requests", self.requests)),
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

    /// Returns whether a connection of a participant whose user has left the Matrix room ought to have ended by now,
    /// if all has worked since `trouble`.
    pub(crate) fn is_overdue(&self, now: Timestamp, connection: Overstay, intervals: Intervals) -> bool {
        let Overstay { name, active_since, left_at, trouble } = connection;
        let reported = self.reported.iter().filter(|(reported, _)| *reported == name).map(|(_, at)| *at).min();
        let Some(interval) = intervals.membership_check else { return false };
        // Without a webhook it is found by the sanity check, or by the poll for those that may be connected.
        let poll_interval = intervals.sanity_check.map_or(interval, |sanity_check| sanity_check.min(interval));
        let known_at = reported.unwrap_or(active_since + poll_interval);
        let checked_by = known_at.max(left_at).max(trouble) + interval + SLACK;
        // The poll has to work again first.
        let found_by = match reported {
            None => trouble + poll_interval + interval + SLACK,
            Some(_) => trouble,
        };
        checked_by.max(found_by) <= now
    }

    /// Checks what was stored.
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

    /// Returns whether the latest answer says so, and the member was given no token since it was requested.
    fn may_remove(&self, member: usize, matrix: &MatrixRoom) -> bool {
        let of_user = self.user_evidence.get(&member).copied();
        let latest = [self.evidence, of_user].into_iter().flatten().max_by_key(|evidence| evidence.requested_at);
        let Some(Evidence { requested_at, queried_at, finding }) = latest else { return false };
        let renewed = self.tokens.get(&member).is_some_and(|(at, _)| *at > requested_at);
        // In the millisecond of a change the homeserver may have answered before it or after it.
        let absent = |at: Timestamp| match finding {
            Finding::Members => !matrix.was_joined(member, at),
            Finding::NotJoined => !matrix.was_anybody_joined(at),
            Finding::Hidden => false,
        };
        (absent(queried_at) || absent(queried_at - MILLISECOND)) && !renewed
    }
}

/// Connection that ought to have ended.
pub(crate) struct Overstay {
    pub(crate) name: ConnectionName,
    pub(crate) active_since: Timestamp,
    /// When its user left the Matrix room.
    pub(crate) left_at: Timestamp,
    /// When a fault last occurred in a part that its end depends on.
    pub(crate) trouble: Timestamp,
}

/// Intervals of the checks.
#[derive(Clone, Copy)]
pub(crate) struct Intervals {
    pub(crate) membership_check: Option<Duration>,
    pub(crate) sanity_check: Option<Duration>,
}

pub(crate) fn member_of(identity: &Identity) -> Option<usize> {
    identity.as_str().strip_prefix('m')?.parse().ok()
}

/// Grace of the engine after the expiry of a token.
const LEEWAY: Duration = Duration::from_secs(300);

/// Reserve for two requests and a removal, each of which may take as long as an outcome is waited for, and for
/// alarms.
const SLACK: Duration = Duration::from_secs(20);

/// Times are in milliseconds.
const MILLISECOND: Duration = Duration::from_millis(1);
