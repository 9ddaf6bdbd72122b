//! Delegated leaves: what is accepted, and what becomes of it (protocol 7 and 8).

mod acceptance;
mod answers;
mod chaos;
mod client_api;
mod counts;
mod identities;
mod life;
mod logging;
mod outages;
mod replacement;
mod returning;
mod sanity_check;

use std::time::Duration;

use black_box::{
    Answer, DelayedEvents, Departure, Deployment, Door, Homeserver, Lab, Member, Participant, Service, Webhook,
};

/// A homeserver with delayed events, an SFU, and the worker between them.
struct Stage {
    service: Service,
    events: DelayedEvents,
    home: Homeserver,
    lab: Lab,
}

impl Stage {
    async fn new() -> Self {
        Self::deployed(|deployment| deployment).await
    }

    async fn deployed(configure: impl FnOnce(Deployment) -> Deployment) -> Self {
        let lab = Lab::new().await;
        let home = lab.homeserver("example.org").start().await;
        let events = lab.delayed_events("cs.example.org").await;
        home.has_client_api(events.base_url());
        let service = configure(lab.deployment().full_access("example.org")).start();
        Self { service, events, home, lab }
    }

    /// Hands over a leave that the homeserver sends after `delay`. Gives its id.
    async fn delegate(&self, door: Door, member: &Member, delay: Duration) -> String {
        let delay_id = self.events.schedule(delay);
        let answer = self.hand_over(door, member, &delay_id, delay).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        delay_id
    }

    /// Asks to take over a leave, whatever comes of it.
    async fn hand_over(&self, door: Door, member: &Member, delay_id: &str, delay: Duration) -> Answer {
        let token = self.home.openid_token(&member.user_id);
        self.service.post(door.path(), &member.delegation(door, &token, delay_id, delay)).await
    }

    /// The member connects, having come in through that door, and the worker is told.
    async fn join(&self, door: Door, member: &Member) -> Participant {
        let participant = self.lab.sfu.join(&member.room(), &member.identity(door));
        self.tell(&participant.joined()).await;
        participant
    }

    /// The participant goes, and the worker is told.
    async fn leave(&self, participant: &Participant) {
        self.lab.sfu.leave(participant);
        self.tell(&participant.left(Departure::ClientInitiated)).await;
    }

    async fn tell(&self, webhook: &Webhook) {
        let answer = webhook.send(&self.service).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// A member whose leave has been handed over, who has joined, and whose leave has been restarted.
    async fn connected(&self, member: &Member, delay: Duration) -> (String, Participant) {
        let delay_id = self.delegate(Door::GetToken, member, delay).await;
        let participant = self.join(Door::GetToken, member).await;
        self.events.restarted(&delay_id, 1).await;
        (delay_id, participant)
    }

    /// As soon as another restart has been asked for: all that was told before has had its effect by then.
    async fn restarted_again(&self, delay_id: &str) {
        self.events.restarted(delay_id, self.events.restarts(delay_id) + 1).await;
    }

    /// As soon as nothing is stored for the room any more.
    async fn forgotten(&self, member: &Member, why: &str) {
        self.service.log().line_with(&[&member.room(), why]).await;
    }
}

/// The member whom most tests are about.
fn alice() -> Member {
    Member::of_room("!room:example.org", "@alice:example.org")
}

fn bob() -> Member {
    Member::of_room("!room:example.org", "@bob:example.org")
}

/// A delay that isn't over while a test runs: one restart when the member joins, and no other.
const LONG: Duration = Duration::from_secs(600);
/// A delay with a restart every two seconds.
const SHORT: Duration = Duration::from_secs(4);
