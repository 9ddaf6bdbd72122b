//! The doors of homeserver mode (MSC4195): who our homeserver says asks, and is a member of the Matrix room, is let in.

use std::time::Duration;

use delegated_leaves::Delegate;
use futures_util::future::join;
use serde_json::{Value, json};

use crate::clock;
use crate::error::ApiError;
use crate::fetch::Deadline;
use crate::log::Level;
use crate::matrix::homeserver::client_api::ClientApiError;
use crate::matrix::homeserver::party::Party;
use crate::matrix::homeserver::relay::Relayed;
use crate::matrix::homeserver::{ApplicationService, Homeserver};
use crate::matrix::ids::room_id::RoomId;
use crate::matrix::ids::server_name::ServerName;
use crate::matrix::ids::user_id::UserId;
use crate::token::access::Access;
use crate::token::homeserver_request::{ClientTokenRequest, FederationTokenRequest, LeaveRequest, Membership};
use crate::token::{JoinGrant, TokenService};

/// A request that has been proven to be our homeserver's.
pub enum HomeserverRequest {
    /// For a token for its user.
    Token(UserId, ClientTokenRequest),
    /// Another homeserver's, for a token for one of that one's users.
    FederatedToken(ServerName, FederationTokenRequest),
    /// To look after a leave of its user's.
    Leave(UserId, LeaveRequest),
}

/// The doors, one for each request.
pub struct HomeserverMode<'a> {
    /// What lies behind them.
    pub tokens: TokenService<'a>,
    /// The homeserver.
    pub service: &'a ApplicationService,
}

impl HomeserverMode<'_> {
    /// The body of the answer: `{"jwt"}` for a token, `{}` for a leave.
    pub async fn answer(&self, request: HomeserverRequest) -> Result<Value, ApiError> {
        match request {
            HomeserverRequest::Token(user, request) => self.token(user, request).await,
            HomeserverRequest::FederatedToken(origin, request) => self.federated_token(origin, request).await,
            HomeserverRequest::Leave(user, request) => self.delegate(user, request).await,
        }
    }

    /// For our SFU there is a token, for another homeserver's what that one answers.
    async fn token(&self, user: UserId, request: ClientTokenRequest) -> Result<Value, ApiError> {
        let started = clock::now_ms();
        self.tokens.limits.check_user(&user).await?;
        let homeserver = self.homeserver().await.map_err(|error| ApiError::MembershipUnknown(error.into()))?;
        let membership = request.membership;
        let is_user_joined = expect_joined(&homeserver, &membership.room, Party::User(&user));
        match request.server.filter(|server| server != self.service.server_name()) {
            None => {
                is_user_joined.await?;
                self.issue_token(user, &membership, Access::Local(membership.room.clone()), started).await
            }
            Some(server) => {
                let is_server_joined = expect_joined(&homeserver, &membership.room, Party::Server(&server));
                let (is_user_joined, is_server_joined) = join(is_user_joined, is_server_joined).await;
                is_user_joined.and(is_server_joined)?;
                self.relay(&homeserver, &user, &server, &membership, started).await
            }
        }
    }

    async fn federated_token(&self, origin: ServerName, request: FederationTokenRequest) -> Result<Value, ApiError> {
        let started = clock::now_ms();
        let user = UserId::parse(&request.user_id).ok().filter(|user| user.server_name() == origin.as_str());
        let user = user.ok_or(ApiError::NotOfOrigin)?;
        self.tokens.limits.check_user(&user).await?;
        let homeserver = self.homeserver().await.map_err(|error| ApiError::MembershipUnknown(error.into()))?;
        let membership = request.membership;
        let (are_we_joined, is_user_joined) = join(
            expect_joined(&homeserver, &membership.room, Party::Server(self.service.server_name())),
            expect_joined(&homeserver, &membership.room, Party::User(&user)),
        )
        .await;
        are_we_joined.and(is_user_joined)?;
        self.issue_token(user, &membership, Access::Federated(membership.room.clone()), started).await
    }

    async fn delegate(&self, user: UserId, request: LeaveRequest) -> Result<Value, ApiError> {
        self.tokens.limits.check_user(&user).await?;
        let LeaveRequest { membership, delay_id } = request;
        self.expect_our_sfu(&membership)?;
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
        };
        self.tokens.register_leave(delegate).await?;
        Ok(json!({}))
    }

    async fn homeserver(&self) -> Result<Homeserver<'_>, ClientApiError> {
        self.service.homeserver(self.tokens.client_apis, &Deadline::after(CLIENT_API_TIMEOUT)).await
    }

    async fn issue_token(
        &self,
        user: UserId,
        membership: &Membership,
        access: Access,
        started: u64,
    ) -> Result<Value, ApiError> {
        self.expect_our_sfu(membership)?;
        let join = JoinGrant {
            identity: membership.identity_of(&user),
            user,
            room: membership.livekit_room(),
            access,
            delegate: None,
            checked_in_ms: clock::now_ms().saturating_sub(started),
        };
        Ok(json!({"jwt": self.tokens.issue_token(join).await?}))
    }

    fn expect_our_sfu(&self, membership: &Membership) -> Result<(), ApiError> {
        match membership.is_on(self.tokens.config.sfu.client()) {
            true => Ok(()),
            false => Err(ApiError::InvalidParam("url is not that of this homeserver's SFU".to_owned())),
        }
    }

    async fn relay(
        &self,
        homeserver: &Homeserver<'_>,
        user: &UserId,
        server: &ServerName,
        membership: &Membership,
        started: u64,
    ) -> Result<Value, ApiError> {
        let checked = clock::now_ms();
        let answer = homeserver.relay(server, FEDERATION_GET_TOKEN, &membership.to_federation_body(user)).await;
        let jwt = token_of(answer.map_err(|error| ApiError::NotRelayed(error.to_string()))?)?;
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

async fn expect_joined(homeserver: &Homeserver<'_>, room: &RoomId, party: Party<'_>) -> Result<(), ApiError> {
    match homeserver.is_joined(room, party).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(ApiError::NotJoined),
        Err(error) => Err(ApiError::MembershipUnknown(error)),
    }
}

/// The token in another homeserver's answer. Of what it may say instead, clients are told two things.
fn token_of(answer: Relayed) -> Result<String, ApiError> {
    let Relayed { status, content } = answer;
    let errcode = content["errcode"].as_str();
    for (told_status, told) in [(403, "M_FORBIDDEN"), (400, "M_INVALID_PARAM")] {
        if (status, errcode) == (told_status, Some(told)) {
            return Err(ApiError::Refused { status, errcode: told, content });
        }
    }
    if status != 200 {
        return Err(ApiError::NotRelayed(format!("the other homeserver answered {status}")));
    }
    let malformed = || ApiError::NotRelayed("the other homeserver's answer holds no token".to_owned());
    content["jwt"].as_str().map(str::to_owned).ok_or_else(malformed)
}

/// In the form that homeservers have now.
const FEDERATION_GET_TOKEN: &str = "/_matrix/federation/unstable/io.element.msc4195/rtc/livekit/get_token";
const CLIENT_API_TIMEOUT: Duration = Duration::from_secs(10);

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
