//! A delegated leave, from its schedule to its end (`docs/protocol.md#delayed-events`).
//!
//! # How it works
//!
//! - The user schedules a delayed event in the test room: the leave of a call, which nobody has joined.
//! - It is delegated, through the service or through the homeserver. The service restarts it before it accepts it; in
//!   homeserver mode it looks it up instead. The homeserver shows since when the delay is running.
//! - The participant never comes, so the service sends the leave once its delay is over. In homeserver mode, with the key
//!   pair, webhooks of the doctor's have it come and go: the service restarts the event, and sends it.
//! - The user restarts the event shortly before that. So the homeserver's own timer ends later, and an event that is in
//!   the room's state before was sent by the service.
//! - At the end the event is cancelled, whatever has become of it.

use std::time::Duration;

use matrixrtc_edge::matrix::homeserver::client_api::escaped;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::doctor::report::{Outcome, Verdict};
use crate::doctor::user::api::UserApi;
use crate::doctor::user::participant::SeemingParticipant;
use crate::doctor::user::room::TestRoom;

/// Delayed event of the user's. It has neither `Debug` nor `Display`, because its id allows to send it.
pub(crate) struct DelayedLeave<'a> {
    user: UserApi<'a>,
    /// Path of delayed events, below `/_matrix/client/`.
    events: String,
    /// Path of the event in the room's state.
    state: String,
    delay_id: String,
}

/// Acceptance of a delegation.
pub(crate) enum Accepted {
    /// The service has to have restarted the event.
    Restarted,
    /// The service has looked the event up.
    LookedUp,
}

impl<'a> DelayedLeave<'a> {
    /// Schedules the leave of this member.
    pub(crate) async fn schedule(user: UserApi<'a>, room: &TestRoom, member: &str) -> Result<Self, Outcome> {
        let Some(events) = user.api.delayed_events_path() else {
            return Err(Outcome::skipped("the homeserver announces no delayed events"));
        };
        let key = format!("_{}_{member}_m.call", user.session.user_id);
        let state = room.path(&format!("state/{MEMBERSHIP}/{}", escaped(&key)));
        let path = format!("{state}?org.matrix.msc4140.delay={}", DELAY.as_millis());
        let response = user.put(&path, &json!({})).await.map_err(|failure| user.unreached(&failure))?;
        let body = response.json().unwrap_or_default();
        match (response.status, body["delay_id"].as_str()) {
            (200, Some(delay_id)) => Ok(Self { user, events, state, delay_id: delay_id.to_owned() }),
            (200, None) if body["event_id"].is_string() => Err(Outcome::problem(
                "the homeserver sends an event at once that is to be delayed: clients' leaves end their calls",
                "Synapse: set max_event_delay_duration in homeserver.yaml, for example to 24h; others: switch delayed events (MSC4140) on",
            )),
            (400 | 403 | 404, _) => Err(Outcome::problem(
                format!("the homeserver doesn't schedule a delayed event ({})", response.status),
                "Synapse: set max_event_delay_duration in homeserver.yaml, for example to 24h, and restart it",
            )),
            _ => Err(user.unexpected("PUT …/state/…?org.matrix.msc4140.delay", &response)),
        }
    }

    /// Fields that delegate it through the service.
    pub(crate) fn add_to(&self, body: &mut Value) {
        body["delay_id"] = self.delay_id.as_str().into();
        body["delay_timeout"] = u64::try_from(DELAY.as_millis()).unwrap_or(u64::MAX).into();
    }

    /// Id of the event, for a request through the homeserver.
    pub(crate) fn delay_id(&self) -> &str {
        &self.delay_id
    }

    /// Time since which its delay is running, in ms since 1970. `None` if the homeserver doesn't show it.
    pub(crate) async fn running_since(&self) -> Option<u64> {
        let own = self.user.get(&self.path("")).await.ok()?;
        let event = match own.status {
            200 => own.json()?,
            // Homeservers of an earlier MSC4140 have the list only.
            _ => {
                let list = self.user.get(&self.events).await.ok().filter(|response| response.status == 200)?.json()?;
                let events = list["delayed_events"].as_array()?;
                events.iter().find(|event| event["delay_id"] == self.delay_id.as_str())?.clone()
            }
        };
        event["delayed_since_ts"].as_u64().or_else(|| event["running_since"].as_u64())
    }

    /// Waits until the service has sent the event, since nobody joins the call, and judges what was seen. `scheduled` is
    /// the time since which its delay ran before the delegation.
    pub(crate) async fn followed(&self, accepted: &Accepted, scheduled: Option<u64>) -> Outcome {
        let accepted_at = Instant::now();
        let restarted = match accepted {
            Accepted::LookedUp => None,
            Accepted::Restarted => self.is_restarted(scheduled).await,
        };
        sleep_until(accepted_at + OWN_RESTART).await;
        let own_restart = match self.restart().await {
            Ok(at) => at,
            Err(outcome) => return outcome,
        };
        let sent = self.is_sent_before(own_restart + DELAY).await;
        let seconds = accepted_at.elapsed().as_secs();
        match (sent, restarted) {
            (true, Some(false)) => not_restarted(&format!("taken over and sent after {seconds} s")),
            (true, Some(true)) => Outcome::ok(format!("taken over, restarted at once, and sent after {seconds} s")),
            (true, None) => Outcome::ok(format!("taken over, and sent after {seconds} s")),
            (false, _) => not_sent(&format!("after {seconds} s")),
        }
    }

    /// Lets `participant` join the call and leave it, as far as webhooks show it, and judges what the service does with
    /// the event. `None` if it doesn't believe them.
    pub(crate) async fn followed_through_a_call(&self, participant: &SeemingParticipant<'_>) -> Option<Outcome> {
        let scheduled = self.running_since().await;
        if !participant.joins().await {
            return None;
        }
        let restarted = self.is_restarted(scheduled).await;
        let own_restart = match self.restart().await {
            Ok(at) => at,
            Err(outcome) => return Some(outcome),
        };
        if !participant.leaves().await {
            return None;
        }
        let left_at = Instant::now();
        let sent = self.is_sent_before(own_restart + DELAY).await;
        let seconds = left_at.elapsed().as_secs_f32();
        Some(match (sent, restarted) {
            (true, Some(false)) => not_restarted("taken over, and sent when a webhook had the participant leave"),
            (true, Some(true)) => Outcome::ok(format!(
                "taken over, restarted when a webhook had the participant join, and sent {seconds:.1} s after one had it leave"
            )),
            (true, None) => {
                Outcome::ok(format!("taken over, and sent {seconds:.1} s after a webhook had the participant leave"))
            }
            (false, _) => not_sent("although a webhook has had the participant leave"),
        })
    }

    /// Cancels the event. It may be gone.
    pub(crate) async fn cancel(&self) {
        let _ = self.user.post(&self.path("/cancel"), &json!({})).await;
    }

    /// Restarts the event as the user, and returns the time before that: the homeserver doesn't send the event within its
    /// delay from then on.
    async fn restart(&self) -> Result<Instant, Outcome> {
        let at = Instant::now();
        match self.user.post(&self.path("/restart"), &json!({})).await {
            Ok(response) if response.status == 200 => Ok(at),
            Ok(response) if matches!(response.status, 404 | 409) && response.errcode().is_some() => {
                Err(Outcome::problem(
                    "the delegated leave is gone before its delay is over: something else sends or cancels it",
                    "read the service's log, and the homeserver's",
                ))
            }
            Ok(response) => Err(self.user.unexpected("POST …/delayed_events/…/restart", &response)),
            Err(failure) => Err(self.user.unreached(&failure)),
        }
    }

    /// Whether the delay no longer runs since `scheduled`. `None` if the homeserver hasn't shown that time.
    async fn is_restarted(&self, scheduled: Option<u64>) -> Option<bool> {
        let scheduled = scheduled?;
        for _ in 0..RESTART_POLLS {
            if self.running_since().await.is_some_and(|since| since != scheduled) {
                return Some(true);
            }
            sleep(POLL).await;
        }
        Some(false)
    }

    /// Waits until the event is sent, and returns whether that is before the homeserver's own timer ends at `own`.
    async fn is_sent_before(&self, own: Instant) -> bool {
        let patience = own - MARGIN;
        loop {
            if self.is_sent().await {
                return true;
            }
            if Instant::now() >= patience {
                return false;
            }
            sleep(POLL).await;
        }
    }

    async fn is_sent(&self) -> bool {
        self.user.get(&self.state).await.is_ok_and(|response| response.status == 200)
    }

    fn path(&self, rest: &str) -> String {
        format!("{}/{}{rest}", self.events, escaped(&self.delay_id))
    }
}

/// Ends a check with a leave: cancels it, and returns the verdict.
pub(crate) async fn ended(leave: &DelayedLeave<'_>, outcome: Outcome) -> Verdict<()> {
    leave.cancel().await;
    (outcome, Some(()))
}

/// Outcome where the event was sent, but not restarted before.
fn not_restarted(sent: &str) -> Outcome {
    Outcome::warning(
        format!("{sent}, but not restarted before: leaves come early if that persists"),
        "read \"delayed event request failed\" in the service's log: the homeserver is slow, or limits its requests (Synapse: \
         rc_delayed_event_mgmt)",
    )
}

/// Outcome where the service hasn't sent the event.
fn not_sent(when: &str) -> Outcome {
    Outcome::problem(
        format!(
            "the service has taken the leave over, and hasn't sent it {when}: users stay in calls that they have left"
        ),
        "read \"delayed event request failed\" in the service's log; with Synapse's workers, route …/delayed_events/…/send to the \
         main process",
    )
}

/// Type of a call's membership, whose empty content is a leave.
const MEMBERSHIP: &str = "org.matrix.msc3401.call.member";
/// Delay of the event, after which the service sends it.
const DELAY: Duration = Duration::from_secs(8);
/// Time from the acceptance to the user's own restart.
const OWN_RESTART: Duration = Duration::from_secs(5);
/// Time before the end of the homeserver's timer from which on a leave counts as the homeserver's.
const MARGIN: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(500);
const RESTART_POLLS: usize = 4;
