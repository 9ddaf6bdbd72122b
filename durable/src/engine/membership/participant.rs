//! A participant whose user has to be in a Matrix room: what is known of its tokens and of its connection.

use std::time::Duration;

use crate::command::Track;
use crate::engine::action::{ActionId, Participant, ParticipantState, TrackedId};
use crate::engine::backoff::{self, Jitter};
use crate::engine::connection::{Alias, Beginning, Connection, Connections, End};
use crate::engine::in_flight::Seq;
use crate::engine::mutant::Mutant;
use crate::engine::webhook::{Occurrence, WebhookEvent};
use crate::time::Timestamp;

/// Somebody for whom a token was minted.
#[derive(Clone, Debug)]
pub(crate) struct Tracked {
    pub(crate) id: TrackedId,
    /// Of the newest token; its expiry is the latest of all.
    pub(crate) request: Track,
    pub(crate) presence: Presence,
    /// When the latest token was minted: its user was in the room then.
    pub(crate) vouched_seq: Seq,
    /// When a connection was last heard of.
    pub(crate) seen_seq: Seq,
    /// When the SFU was last asked for it, and had an answer.
    pub(crate) looked_at: Option<Timestamp>,
    /// When the SFU was first seen not to have it, of all the times at which no token that is known of let it in any more.
    pub(crate) missed_at: Option<Timestamp>,
    /// It has to be stored.
    pub(crate) changed: bool,
    /// Its user isn't in the room: the SFU is to be told.
    pub(crate) removal: Option<Attempt>,
}

/// What is known of the connection, and has to survive a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Presence {
    pub(crate) connected: bool,
    /// When it was last known to be gone, if it was ever there.
    pub(crate) gone_at: Option<Timestamp>,
    pub(crate) connections: Connections,
}

/// Something is asked of the SFU until it has done it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) due: Timestamp,
    pub(crate) failures: u32,
    pub(crate) action_id: Option<ActionId>,
}

/// What a webhook or an answer of the SFU means to somebody who is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PresenceChange {
    /// It is connected, by a connection that wasn't known.
    Joined,
    /// It isn't connected any more.
    Left,
}

impl Tracked {
    /// What a webhook means here, if anything.
    pub(crate) fn read_webhook(&mut self, now: Timestamp, event: &WebhookEvent) -> Option<PresenceChange> {
        let Presence { connected, connections, .. } = &mut self.presence;
        match &event.occurrence {
            Occurrence::ParticipantJoined(participant) if participant.identity == self.request.identity => {
                let since = participant.joined_at.or(event.created_at);
                let sid = participant.sid.clone();
                let begins = Connection { alias: Alias::Member, sid, since, contested: false };
                match connections.begin(begins) {
                    // One that is known may have migrated, which is a chance to check once more.
                    Beginning::New | Beginning::Known => Some(self.come()),
                    Beginning::Over => None,
                }
            }
            Occurrence::ParticipantLeft(participant, reason)
            | Occurrence::ParticipantConnectionAborted(participant, reason)
                if participant.identity == self.request.identity =>
            {
                // One that is displaced or migrates is as good as there. One that never had media wasn't there, but the SFU
                // has given it a token: that costs a row only if it is good for longer than those that are known.
                let aborted = matches!(event.occurrence, Occurrence::ParticipantConnectionAborted(..));
                if reason.is_coming_back() || (aborted && !*connected) {
                    let gone_at = event.created_at.unwrap_or(now);
                    if self.locked_out_at().is_some_and(|locked_out_at| locked_out_at < gone_at + REUSABLE_FOR) {
                        self.presence.gone_at = Some(gone_at);
                    }
                    return None;
                }
                match connections.end(Alias::Member, participant, true) {
                    End::Latest | End::Later => {
                        // Even if nobody has told that it was there.
                        self.presence.gone_at = Some(now);
                        self.gone(now)
                    }
                    End::Older => None,
                }
            }
            Occurrence::RoomFinished => {
                let since = connections.latest.as_ref().and_then(|latest| latest.since);
                let earlier_room = since.is_some_and(|since| event.happened_before(since) == Some(true));
                if earlier_room { None } else { self.gone(now) }
            }
            _ => None,
        }
    }

    /// What it means that the SFU shows these participants, who may or may not include this one.
    pub(crate) fn read_participants(
        &mut self,
        now: Timestamp,
        asked_at: Timestamp,
        there: &[Participant],
    ) -> Option<PresenceChange> {
        let Presence { connected, connections, .. } = &mut self.presence;
        let mine = there.iter().find(|participant| {
            participant.identity == self.request.identity
                && participant.state != ParticipantState::Disconnected
                && !connections.is_over(participant.sid.as_ref())
        });
        let connecting = mine.is_some_and(|participant| participant.state != ParticipantState::Active);
        if connecting {
            // If it goes again, nobody may tell.
            self.missed_at = None;
        } else {
            self.looked_at = Some(asked_at);
        }
        match mine {
            None => {
                let gone = self.gone(now);
                self.missed(asked_at);
                gone
            }
            Some(participant) if participant.state == ParticipantState::Active => {
                let known = *connected && connections.latest.as_ref().is_some_and(|known| known.sid == participant.sid);
                if known {
                    return None;
                }
                let since = Some(participant.joined_at.unwrap_or(asked_at));
                let sid = participant.sid.clone();
                connections.see(Connection { alias: Alias::Member, sid, since, contested: false });
                Some(self.come())
            }
            // Media is being connected: a webhook will tell.
            Some(_) => None,
        }
    }

    /// It isn't there any more, or never was.
    pub(crate) fn gone(&mut self, now: Timestamp) -> Option<PresenceChange> {
        let was_connected = std::mem::take(&mut self.presence.connected);
        self.removal = None;
        was_connected.then(|| {
            self.presence.gone_at = Some(now);
            PresenceChange::Left
        })
    }

    /// It is loaded, and when the SFU was asked for it before isn't stored. Some time after that was due, it is taken for done.
    pub(crate) fn resume_looks(&mut self, now: Timestamp) {
        self.missed_at = self.locked_out_at().filter(|locked_out_at| *locked_out_at + LOOKED_FOR_WITHIN <= now);
    }

    /// When it is forgotten: when no token that is known of lets it in any more, and the SFU has been seen twice not to have
    /// it. What it may have been given by a connection that wasn't heard of and was over by the first look has expired by the
    /// second. If the SFU doesn't tell, that is waited for, but not for ever.
    pub(crate) fn forgotten_at(&self) -> Option<Timestamp> {
        if Mutant::ForgetWhenGone.is_injected() && self.presence.gone_at.is_some() && !self.presence.connected {
            return self.presence.gone_at;
        }
        let locked_out_at = self.locked_out_at()?;
        let Some(missed_at) = self.missed_since(locked_out_at) else { return Some(locked_out_at + PATIENCE) };
        if Mutant::ForgetAfterFirstLook.is_injected() {
            return Some(missed_at);
        }
        let again_at = missed_at + REUSABLE_FOR;
        Some(if self.looked_for_since(again_at) { again_at } else { missed_at + PATIENCE })
    }

    /// When the SFU is to be asked for it, sanity checks apart: twice before it is forgotten, and now and then once its token
    /// has expired although it is taken for connected, for the webhook of its end may have been lost.
    pub(crate) fn look_due(&self) -> Option<Timestamp> {
        let Some(locked_out_at) = self.locked_out_at() else {
            let again = self.looked_at.map(|looked_at| looked_at + LOOK_INTERVAL).unwrap_or_default();
            return Some(again.max(self.request.expires_at + LEEWAY));
        };
        let again_at = self.missed_since(locked_out_at).map(|missed_at| missed_at + REUSABLE_FOR);
        let due = again_at.unwrap_or(locked_out_at);
        (!self.looked_for_since(due)).then_some(due)
    }

    /// From when on no token that is known of lets it in any more, unless it is connected.
    fn locked_out_at(&self) -> Option<Timestamp> {
        let refreshed = self.presence.gone_at.map(|gone_at| gone_at + REUSABLE_FOR).unwrap_or_default();
        (!self.presence.connected).then(|| refreshed.max(self.request.expires_at + LEEWAY))
    }

    /// The SFU didn't have it when it was asked at that time.
    fn missed(&mut self, asked_at: Timestamp) {
        if let Some(locked_out_at) = self.locked_out_at()
            && locked_out_at <= asked_at
            && self.missed_since(locked_out_at).is_none()
        {
            self.missed_at = Some(asked_at);
        }
    }

    /// When it was first missed, if that was after it was locked out.
    fn missed_since(&self, locked_out_at: Timestamp) -> Option<Timestamp> {
        self.missed_at.filter(|missed_at| *missed_at >= locked_out_at)
    }

    fn looked_for_since(&self, instant: Timestamp) -> bool {
        self.looked_at.is_some_and(|looked_at| looked_at >= instant)
    }

    /// Its user isn't in the room. Each sweep that says so is a reason to try at once, however often the SFU has failed.
    pub(crate) fn remove(&mut self, now: Timestamp) {
        self.removal.get_or_insert(Attempt::new(now)).hasten(now);
    }

    fn come(&mut self) -> PresenceChange {
        self.presence.connected = true;
        PresenceChange::Joined
    }
}

impl Attempt {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { due: now, failures: 0, action_id: None }
    }

    /// When it is due, unless it is under way.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.action_id.is_none().then_some(self.due)
    }

    /// There is a new reason for it.
    pub(crate) fn hasten(&mut self, now: Timestamp) {
        self.due = self.due.min(now);
    }

    /// It has failed once more.
    pub(crate) fn failed(&mut self, now: Timestamp, jitter: Jitter) {
        self.action_id = None;
        self.failures = self.failures.saturating_add(1);
        self.due = now + backoff::after_failure(self.failures, jitter);
    }
}

/// An expired token lets in for another minute, clocks differ, and the webhook takes its time.
const LEEWAY: Duration = Duration::from_secs(300);

/// How long somebody who was connected may come back. A client is given a new token when it connects, before there is media,
/// and then every five minutes, by the SFU itself, that is valid for ten.
const REUSABLE_FOR: Duration = Duration::from_secs(600 + LEEWAY.as_secs());

/// How long after it was due a look at the SFU is taken for done if nobody knows any more: to store it would cost a row for
/// everybody, and each time the object is loaded would be another first look. No shorter than outages usually are.
const LOOKED_FOR_WITHIN: Duration = Duration::from_secs(1800);

/// How long the SFU's answer is waited for before somebody is forgotten. Longer than anything that is repaired.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// How often the SFU is asked for those whose tokens have expired, as long as they are taken for connected.
const LOOK_INTERVAL: Duration = Duration::from_secs(3600);
