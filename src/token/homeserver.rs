//! Entry points of homeserver mode (MSC4195, `docs/protocol.md#endpoints-of-homeserver-mode`).
//!
//! How it works:
//! - our homeserver has authenticated the user, or the other homeserver, and forwards the request with `hs_token`;
//!   nothing is verified by OpenID;
//! - a token is for members of the Matrix room only: membership is queried at our homeserver, user and server in
//!   parallel where both matter;
//! - a request for our own SFU gets a token of ours; one for the SFU of another homeserver is relayed there through
//!   ours, and the token in its response is passed on;
//! - a request that another homeserver relays is for one of its users, who gets federated access;
//! - a delegated leave must be a delayed event of this user in this room, looked up at our homeserver, which also has
//!   its delay;
//! - the homeserver gives up after 30 s, so every response comes within 25 s, whatever the other side does.

use std::time::Duration;

use delegated_leaves::{Delegate, Timestamp};
use futures_util::future::join;
use serde_json::{Value, json};

use crate::clock;
use crate::error::ApiError;
use crate::fetch::Deadline;
use crate::log::Level;
use crate::matrix::homeserver::client_api::{ClientApiError, ClientApis};
use crate::matrix::homeserver::members::Party;
use crate::matrix::homeserver::relay::Relayed;
use crate::matrix::homeserver::{ApplicationService, Homeserver};
use crate::matrix::ids::server_name::ServerName;
use crate::matrix::ids::user_id::UserId;
use crate::token::access::Access;
use crate::token::homeserver_request::{ClientTokenRequest, FederationTokenRequest, LeaveRequest, Membership};
use crate::token::{JoinGrant, TokenService, expect_joined};

/// A request that has proven to come from our homeserver.
pub enum HomeserverRequest {
    /// A token for one of its users.
    Token(UserId, ClientTokenRequest),
    /// A token for a user of another homeserver, which sent the request.
    FederatedToken(ServerName, FederationTokenRequest),
    /// Delegation of a leave of one of its users.
    Leave(UserId, LeaveRequest),
}

/// Entry points of homeserver mode, one for each kind of request.
pub struct HomeserverMode<'a> {
    /// Creates rooms and signs tokens.
    pub tokens: TokenService<'a>,
    /// The homeserver.
    pub service: &'a ApplicationService,
}

impl HomeserverMode<'_> {
    /// Returns the body of the response: `{"jwt"}` for a token, `{}` for a leave.
    pub async fn respond(&self, request: HomeserverRequest) -> Result<Value, ApiError> {
        let response = async {
            match request {
                HomeserverRequest::Token(user, request) => self.token(user, request).await,
                HomeserverRequest::FederatedToken(origin, request) => self.federated_token(origin, request).await,
                HomeserverRequest::Leave(user, request) => self.delegate(user, request).await,
            }
        };
        Deadline::after(RESPONSE_TIMEOUT).bound(response).await.unwrap_or(Err(ApiError::OutOfTime))
    }

    /// Issues a token for our SFU, or relays the request to the homeserver of another one.
    async fn token(&self, user: UserId, request: ClientTokenRequest) -> Result<Value, ApiError> {
        let started = clock::now_ms();
        self.tokens.limits.check_user(&user).await?;
        let homeserver = self.homeserver().await.map_err(|error| ApiError::MembershipUnknown(error.into()))?;
        let ClientTokenRequest { server, url, membership } = request;
        let is_user_joined = expect_joined(&homeserver, &membership.room, Party::User(&user));
        match server.filter(|server| server != self.service.server_name()) {
            None => {
                is_user_joined.await?;
                self.issue_token(user, &url, membership, Access::Local, started).await
            }
            Some(server) => {
                let is_server_joined = expect_joined(&homeserver, &membership.room, Party::Server(&server));
                let (is_user_joined, is_server_joined) = join(is_user_joined, is_server_joined).await;
                is_user_joined.and(is_server_joined)?;
                self.relay(&homeserver, &user, &server, &url, &membership, started).await
            }
        }
    }

    async fn federated_token(&self, origin: ServerName, request: FederationTokenRequest) -> Result<Value, ApiError> {
        let started = clock::now_ms();
        let FederationTokenRequest { user, url, membership } = request;
        if user.server_name() != origin.as_str() {
            return Err(ApiError::NotOfOrigin);
        }
        self.tokens.expect_allowed(&origin)?;
        self.tokens.limits.check_user(&user).await?;
        let homeserver = self.homeserver().await.map_err(|error| ApiError::MembershipUnknown(error.into()))?;
        let (are_we_joined, is_user_joined) = join(
            expect_joined(&homeserver, &membership.room, Party::Server(self.service.server_name())),
            expect_joined(&homeserver, &membership.room, Party::User(&user)),
        )
        .await;
        are_we_joined.and(is_user_joined)?;
        self.issue_token(user, &url, membership, Access::Federated(origin), started).await
    }

    async fn delegate(&self, user: UserId, request: LeaveRequest) -> Result<Value, ApiError> {
        self.tokens.limits.check_user(&user).await?;
        let LeaveRequest { url, membership, delay_id } = request;
        if let Some(url) = url {
            self.expect_our_sfu(&url)?;
        }
        let no_such_event = || ApiError::InvalidParam("delay_id is no delayed event of this user and room".to_owned());
        let delay_id = delay_id.ok_or_else(no_such_event)?;
        let homeserver = self.homeserver().await.map_err(|error| ApiError::DelayedEventUnknown(error.into()))?;
        let event = homeserver.delayed_event(&delay_id, &user).await.map_err(ApiError::DelayedEventUnknown)?;
        let event = event.filter(|event| event.room_id == membership.room.as_str()).ok_or_else(no_such_event)?;
        let delegate = Delegate {
            room: membership.livekit_room(),
            identity: membership.identity_of(&user),
            legacy_identity: None,
            server_name: delegated_leaves::ServerName::new(self.service.server_name().as_str()),
            delayed_events_url: homeserver.api().delayed_events(),
            owner: Some(delegated_leaves::UserId::new(user.as_str())),
            user_id: delegated_leaves::UserId::new(user.as_str()),
            restricted: false,
            delay_id,
            delay_timeout: event.delay,
            restarted_at: None,
            issued_at: Some(Timestamp::from_millis(clock::now_ms())),
        };
        self.tokens.register_leave(delegate).await?;
        Ok(json!({}))
    }

    async fn homeserver(&self) -> Result<Homeserver<'_>, ClientApiError> {
        self.service.homeserver(self.tokens.client_apis, &ClientApis::deadline()).await
    }

    async fn issue_token(
        &self,
        user: UserId,
        url: &str,
        membership: Membership,
        access: Access,
        started: u64,
    ) -> Result<Value, ApiError> {
        self.expect_our_sfu(url)?;
        let join = JoinGrant {
            identity: membership.identity_of(&user),
            user,
            room: membership.livekit_room(),
            access,
            matrix_room: Some(membership.room),
            leave: None,
            openid_ms: None,
            membership_ms: Some(clock::now_ms().saturating_sub(started)),
        };
        Ok(json!({"jwt": self.tokens.issue_token(join).await?}))
    }

    /// Checks that `url` is that of our SFU. A slash at the end doesn't matter.
    fn expect_our_sfu(&self, url: &str) -> Result<(), ApiError> {
        match url.trim_end_matches('/') == self.tokens.config.sfu.client().trim_end_matches('/') {
            true => Ok(()),
            false => Err(ApiError::InvalidParam("url is not that of this homeserver's SFU".to_owned())),
        }
    }

    async fn relay(
        &self,
        homeserver: &Homeserver<'_>,
        user: &UserId,
        server: &ServerName,
        url: &str,
        membership: &Membership,
        started: u64,
    ) -> Result<Value, ApiError> {
        let checked = clock::now_ms();
        let response = homeserver.relay(server, &FEDERATION_GET_TOKEN, &membership.to_federation_body(user, url)).await;
        let jwt = token_of(response.map_err(|error| ApiError::NotRelayed(error.to_string()))?)?;
        let fields = json!({
            "user": user.as_str(),
            "server": server.as_str(),
            "room": membership.livekit_room().as_str(),
            "membership_ms": checked.saturating_sub(started),
            "relay_ms": clock::now_ms().saturating_sub(checked),
        });
        self.tokens.log.write(Level::Info, "token relayed", fields);
        Ok(json!({"jwt": jwt}))
    }
}

/// Returns the token in the response of another homeserver. Two of its errors are passed on to the client as they
/// are.
fn token_of(response: Relayed) -> Result<String, ApiError> {
    let Relayed { status, content } = response;
    let errcode = content["errcode"].as_str();
    for (passed_status, passed) in [(403, "M_FORBIDDEN"), (400, "M_INVALID_PARAM")] {
        if (status, errcode) == (passed_status, Some(passed)) {
            return Err(ApiError::Refused { status, errcode: passed, content });
        }
    }
    if status != 200 {
        return Err(ApiError::NotRelayed(format!("the other homeserver answered {status}")));
    }
    let malformed = || ApiError::NotRelayed("the other homeserver's answer holds no token".to_owned());
    content["jwt"].as_str().map(str::to_owned).ok_or_else(malformed)
}

/// The unstable form, which homeservers forward today, and the stable one.
const FEDERATION_GET_TOKEN: [&str; 2] = [
    "/_matrix/federation/unstable/io.element.msc4195/rtc/livekit/get_token",
    "/_matrix/federation/v1/rtc/livekit/get_token",
];

/// Limit for a response, below the 30 s of the homeserver and the 25 s that are documented.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(24);

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, content: Value) -> Result<String, ApiError> {
        token_of(Relayed { status, content })
    }

    #[test]
    fn a_token_is_taken_from_a_good_answer() {
        assert_eq!(of(200, json!({"jwt": "a.b.c", "other": 5})), Ok("a.b.c".to_owned()));
    }

    #[test]
    fn two_refusals_are_told_as_they_are() {
        for (status, errcode) in [(403, "M_FORBIDDEN"), (400, "M_INVALID_PARAM")] {
            let content = json!({"errcode": errcode, "error": "no", "more": 1});
            let error = of(status, content.clone()).unwrap_err();
            assert_eq!((error.status(), error.errcode(), error.body()), (status, errcode, content));
        }
    }

    #[test]
    fn anything_else_is_no_answer() {
        for (status, content) in [
            (200, json!({})),
            (200, json!({"jwt": 5})),
            (200, Value::Null),
            (201, json!({"jwt": "a.b.c"})),
            (403, json!({"errcode": "M_UNKNOWN"})),
            (403, json!("M_FORBIDDEN")),
            (400, json!({"errcode": "M_FORBIDDEN"})),
            (401, json!({"errcode": "M_FORBIDDEN"})),
            (404, json!({"errcode": "M_UNRECOGNIZED"})),
            (500, json!({"jwt": "a.b.c"})),
        ] {
            assert_eq!(of(status, content.clone()).unwrap_err().status(), 502, "{status} {content}");
        }
    }
}
