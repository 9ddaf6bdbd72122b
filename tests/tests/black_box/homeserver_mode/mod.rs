//! Homeserver mode (MSC4195): what the homeserver forwards, what it is asked, and what comes of it.

mod confinement;
mod counts;
mod entry_points;
mod forms;
mod leaves;
mod patience;
mod relaying;
mod removal;
mod tokens;

use black_box::{Answer, Deployment, HomeserverPath, Lab, OwnHomeserver, Service, Sfu};
use livekit_token::{Claims, TokenVerifier};
use serde_json::{Value, json};

/// A homeserver, the worker as its application service, and an SFU.
struct Stage {
    service: Service,
    own: OwnHomeserver,
    lab: Lab,
}

impl Stage {
    async fn new() -> Self {
        Self::deployed(|deployment| deployment).await
    }

    async fn deployed(configure: impl FnOnce(Deployment) -> Deployment) -> Self {
        let lab = Lab::new().await;
        let own = lab.own_homeserver("example.com").await;
        let service = configure(lab.deployment().homeserver_mode(&own)).start();
        Self { service, own, lab }
    }

    /// One in whose Matrix room Alice is, and Bob of another homeserver.
    async fn with_members() -> Self {
        let stage = Self::new().await;
        stage.own.join(ROOM, ALICE);
        stage.own.join(ROOM, BOB);
        stage
    }

    /// A whole request for this path: Alice's for our SFU, or Bob's.
    fn request(&self, path: HomeserverPath) -> Value {
        let mut body = json!({
            "url": self.lab.sfu.url(),
            "room_id": ROOM,
            "slot_id": "m.call#ROOM",
            "member_id": "memberABC",
        });
        match path {
            HomeserverPath::ClientGetToken => {}
            HomeserverPath::FederationGetToken => body["user_id"] = BOB.into(),
            HomeserverPath::Delegate => {
                body["delay_id"] = self.own.events.schedule_for(ALICE, ROOM, LONG).into();
            }
        }
        body
    }

    /// The homeserver forwards a request: Alice's, or that of Bob's homeserver.
    async fn forward(&self, path: HomeserverPath, body: &Value) -> Answer {
        self.forward_to(path, &path.path(), body).await
    }

    async fn forward_to(&self, path: HomeserverPath, at: &str, body: &Value) -> Answer {
        match path {
            HomeserverPath::FederationGetToken => {
                self.own.forward_federation(&self.service, "remote.example", at, body).await
            }
            _ => self.own.forward(&self.service, ALICE, at, body).await,
        }
    }
}

/// As LiveKit's SFU reads it, verified.
fn claims(jwt: &str) -> Claims {
    let (key, secret) = Sfu::credentials();
    TokenVerifier::with_api_key(key, secret).verify(jwt).expect("a token that LiveKit accepts")
}

const ROOM: &str = "!room:example.com";
const ALICE: &str = "@alice:example.com";
const BOB: &str = "@bob:remote.example";
/// The vectors of protocol 4.
const LIVEKIT_ROOM: &str = "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs";
const ALICE_S_IDENTITY: &str = "M3VnsLXrkbxIDINXO64u8PZzFyD9ZYFiQULR2dshWYs";
/// A delay that isn't over while a test runs.
const LONG: std::time::Duration = std::time::Duration::from_secs(600);
/// A delay with a restart every two seconds.
const SHORT: std::time::Duration = std::time::Duration::from_secs(4);
