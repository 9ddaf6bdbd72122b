//! Homeserver mode (`docs/protocol.md#homeserver-mode`): the worker as the application service of a homeserver.
//!
//! How it works:
//! - [`Stage`] is one homeserver, the worker registered with it, and an SFU.
//! - [`Stage::forward`] plays the homeserver, which proxies a client's request or that of another homeserver, with the
//!   `hs_token` and the header that names the user or the origin.
//! - The fake homeserver answers the worker's own requests (memberships, delayed events, `fed_proxy`) from the state
//!   that the test gave it, unless the test replaces a response, and records them.
//! - Alice is a user of the homeserver, Bob one of another; the tests' room is Alice's.

mod confinement;
mod counts;
mod entry_points;
mod forms;
mod leaves;
mod merged;
mod openid_endpoints;
mod patience;
mod relaying;
mod removal;
mod tokens;

use black_box::{Answer, Deployment, HomeserverPath, OwnHomeserver, Service, Sfu, TestSetup};
use livekit_token::{Claims, TokenVerifier};
use serde_json::{Value, json};

/// A homeserver, the worker as its application service, and an SFU.
struct Stage {
    service: Service,
    own: OwnHomeserver,
    setup: TestSetup,
}

impl Stage {
    async fn new() -> Self {
        Self::deployed(|deployment| deployment).await
    }

    async fn deployed(configure: impl FnOnce(Deployment) -> Deployment) -> Self {
        let setup = TestSetup::new().await;
        let own = setup.own_homeserver("example.com").await;
        let service = configure(setup.deployment().homeserver_mode(&own)).start();
        Self { service, own, setup }
    }

    /// Starts a stage with Alice and Bob, of another homeserver, in the Matrix room.
    async fn with_members() -> Self {
        let stage = Self::new().await;
        stage.own.join(ROOM, ALICE);
        stage.own.join(ROOM, BOB);
        stage
    }

    /// A complete request body for this path: Bob's over federation, Alice's otherwise.
    fn request(&self, path: HomeserverPath) -> Value {
        let mut body = json!({
            "url": self.setup.sfu.url(),
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

    /// Proxies a request as the homeserver does: that of Bob's homeserver over federation, Alice's otherwise.
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

/// Claims of a token, verified and read by LiveKit's own code.
fn claims(jwt: &str) -> Claims {
    let (key, secret) = Sfu::credentials();
    TokenVerifier::with_api_key(key, secret).verify(jwt).expect("a token that LiveKit accepts")
}

const ROOM: &str = "!room:example.com";
const ALICE: &str = "@alice:example.com";
const BOB: &str = "@bob:remote.example";
/// The test vectors of `docs/protocol.md#names-on-the-sfu`.
const LIVEKIT_ROOM: &str = "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs";
const ALICE_S_IDENTITY: &str = "M3VnsLXrkbxIDINXO64u8PZzFyD9ZYFiQULR2dshWYs";
/// A delay that isn't over while a test runs.
const LONG: std::time::Duration = std::time::Duration::from_secs(600);
/// A delay with a restart every two seconds.
const SHORT: std::time::Duration = std::time::Duration::from_secs(4);
