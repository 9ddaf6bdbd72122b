//! Delegated leaves (`docs/protocol.md#delayed-events`, `docs/protocol.md#the-life-of-a-delegated-leave`).
//!
//! How it works:
//! - [`Stage`] is a homeserver with delayed events, an SFU, and the worker between them.
//! - A member delegates a leave that is scheduled at the fake homeserver, which records each `restart` and `send` with
//!   its time, and sends the leave itself when the delay elapses.
//! - [`Stage::join`] and [`Stage::leave`] change the fake SFU and deliver its webhook. Tests that need only one of the
//!   two use the fake and [`Stage::deliver`] directly.
//! - To show that an event had no effect, a test waits for the next restart, after which the event has been handled.

mod acceptance;
mod answers;
mod before_acceptance;
mod chaos;
mod client_api;
mod counts;
mod identities;
mod life;
mod logging;
mod outages;
mod replacement;
mod restricted;
mod returning;
mod sanity_check;
mod status;
mod timers;

use std::time::Duration;

use black_box::{
    Answer, DelayedEvents, Departure, Deployment, EntryPoint, Homeserver, Member, Package, Participant, Service,
    TestSetup, Webhook,
};

/// A homeserver with delayed events, an SFU, and the worker between them.
pub(crate) struct Stage {
    pub(crate) service: Service,
    pub(crate) events: DelayedEvents,
    pub(crate) home: Homeserver,
    pub(crate) setup: TestSetup,
}

impl Stage {
    async fn new() -> Self {
        Self::deployed(|deployment| deployment).await
    }

    async fn deployed(configure: impl FnOnce(Deployment) -> Deployment) -> Self {
        Self::started(|deployment| configure(deployment).start()).await
    }

    /// With the packaged executable.
    pub(crate) async fn packaged() -> Self {
        Self::started(|deployment| deployment.start_package(&Package::made())).await
    }

    async fn started(start: impl FnOnce(Deployment) -> Service) -> Self {
        let setup = TestSetup::new().await;
        let home = setup.homeserver("example.org").start().await;
        let events = setup.delayed_events("cs.example.org").await;
        home.has_client_api(events.base_url());
        let service = start(setup.deployment().full_access("example.org"));
        Self { service, events, home, setup }
    }

    /// Delegates a leave that the homeserver sends after `delay`. Returns its id.
    async fn delegate(&self, entry_point: EntryPoint, member: &Member, delay: Duration) -> String {
        let delay_id = self.events.schedule(delay);
        let answer = self.hand_over(entry_point, member, &delay_id, delay).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        delay_id
    }

    /// Requests the delegation of a leave, and returns the response, accepted or not. The restart before the acceptance
    /// isn't counted.
    async fn hand_over(&self, entry_point: EntryPoint, member: &Member, delay_id: &str, delay: Duration) -> Answer {
        self.events.limit_acceptance(delay_id);
        let token = self.home.openid_token(&member.user_id);
        self.service.post(entry_point.path(), &member.delegation(entry_point, &token, delay_id, delay)).await
    }

    /// Connects the member to the SFU, under the identity of that entry point, and delivers the webhook.
    async fn join(&self, entry_point: EntryPoint, member: &Member) -> Participant {
        let participant = self.setup.sfu.join(&member.room(), &member.identity(entry_point));
        self.deliver(&participant.joined()).await;
        participant
    }

    /// Disconnects the participant, and delivers the webhook. Its reason is one that is believed at once: tests are quick,
    /// and a client that leaves soon after it has joined may come back.
    pub(crate) async fn leave(&self, participant: &Participant) {
        self.setup.sfu.leave(participant);
        self.deliver(&participant.left(Departure::SignalClose)).await;
    }

    /// Delivers a webhook, which the worker has to accept.
    async fn deliver(&self, webhook: &Webhook) {
        let answer = webhook.send(&self.service).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Delegates the member's leave, connects the member, and waits for the first restart.
    pub(crate) async fn connected(&self, member: &Member, delay: Duration) -> (String, Participant) {
        let delay_id = self.delegate(EntryPoint::GetToken, member, delay).await;
        let participant = self.join(EntryPoint::GetToken, member).await;
        self.events.restarted(&delay_id, 1).await;
        (delay_id, participant)
    }

    /// Waits for another restart. By then the worker has handled everything that it had received before.
    async fn restarted_again(&self, delay_id: &str) {
        self.events.restarted(delay_id, self.events.restarts(delay_id) + 1).await;
    }

    /// Waits until the delegation is gone from the storage, for the reason `why` in the log.
    async fn forgotten(&self, member: &Member, why: &str) {
        self.service.log().line_with(&[&member.room(), why]).await;
    }
}

/// The member in most tests.
pub(crate) fn alice() -> Member {
    Member::of_room("!room:example.org", "@alice:example.org")
}

fn bob() -> Member {
    Member::of_room("!room:example.org", "@bob:example.org")
}

/// A delay that isn't over while a test runs: one restart when the member joins, and no other.
const LONG: Duration = Duration::from_secs(600);
/// A delay with a restart every two seconds.
const SHORT: Duration = Duration::from_secs(4);
