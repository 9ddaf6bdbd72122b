//! The flow of a token: verify the caller, create the room, register the leave, sign the token, track the
//! participant.
//!
//! How it works:
//! - an entry point parses a request: [`openid_request`] for the endpoints of clients, [`homeserver_request`] in
//!   homeserver mode;
//! - the OpenID token is verified with its homeserver, and the user is compared with the claimed one; [`homeserver`]
//!   queries membership instead;
//! - the result is a [`JoinGrant`]: user, identity, room, permissions, and maybe a leave;
//! - with it, [`TokenService::issue_token`] creates the room where the caller may, registers the leave with the
//!   object of the room, and signs the token, in this order, so that no leave is delegated for a call that the SFU
//!   doesn't offer;
//! - in homeserver mode the object also tracks the participant, to remove it when its user leaves the Matrix room.

pub mod access;
pub mod homeserver;
pub mod homeserver_request;
pub mod openid_request;

use std::time::Duration;

use delegated_leaves::{Delegate, Identity, MatrixRoomId, RoomAnswer, RoomCommand, RoomName, Timestamp, Track};
use futures_util::future::join;
use serde_json::{Value, json};

use crate::clock;
use crate::config::Config;
use crate::error::ApiError;
use crate::fetch::Fetchers;
use crate::livekit::room_service::RoomService;
use crate::livekit::token::Grant;
use crate::log::{Level, Log};
use crate::matrix::federation::Federation;
use crate::matrix::federation::openid::OpenIdToken;
use crate::matrix::homeserver::client_api::ClientApis;
use crate::matrix::ids::server_name::ServerName;
use crate::matrix::ids::user_id::UserId;
use crate::rate_limit::RateLimits;
use crate::room::client::RoomClient;
use crate::token::access::Access;
use crate::token::openid_request::{ClaimedIdentity, DelayedLeave, DelegationRequest, TokenRequest, device_identity};

/// Everything that a request for a token needs.
pub struct TokenService<'a> {
    /// The deployment's configuration.
    pub config: &'a Config,
    /// Sends requests.
    pub fetchers: &'a Fetchers,
    /// Client of the homeservers' federation APIs.
    pub federation: &'a Federation,
    /// Client-server APIs of homeservers.
    pub client_apis: &'a ClientApis,
    /// Client of the rooms' objects.
    pub rooms: RoomClient<'a>,
    /// The rate limits.
    pub limits: RateLimits<'a>,
    /// The log of the request.
    pub log: &'a Log,
}

impl TokenService<'_> {
    /// Handles `request`, and returns the body of the response: `{"url", "jwt"}`. The checks run in the order of
    /// `docs/protocol.md#errors`.
    pub async fn handle_token(&self, request: TokenRequest) -> Result<Value, ApiError> {
        let caller = self.verify(&request.openid_token, &request.claim).await?;
        let delegate = match request.delayed_leave {
            None => None,
            Some(_) if !caller.full_access => {
                let text = "delay_id can't be used: users of this homeserver may not delegate leaves here";
                return Err(ApiError::BadJson(text.to_owned()));
            }
            Some(leave) => {
                Some(self.build_delegation(&caller, &request.room, leave, &request.openid_token, None).await?)
            }
        };
        let join = JoinGrant {
            user: caller.user,
            identity: caller.identity,
            room: request.room,
            access: if caller.full_access { Access::Full } else { Access::Restricted },
            delegate,
            checked_in_ms: caller.verified_in_ms,
        };
        Ok(json!({"url": self.config.sfu.client(), "jwt": self.issue_token(join).await?}))
    }

    /// Registers the leave of a member who is in the call already. The body of the response is `{}`.
    pub async fn handle_delegation(&self, request: DelegationRequest) -> Result<Value, ApiError> {
        let legacy_device = request.is_legacy_slot.then(|| request.member.device_id.clone());
        let caller = self.verify(&request.openid_token, &ClaimedIdentity::Member(request.member)).await?;
        if !caller.full_access {
            return Err(ApiError::DelegationForbidden);
        }
        let leave = request.delayed_leave;
        let delegate =
            self.build_delegation(&caller, &request.room, leave, &request.openid_token, legacy_device).await?;
        self.register_leave(delegate).await?;
        Ok(json!({}))
    }

    /// Issues a token, whatever the entry point: creates the room where the caller may, registers the leave, and
    /// signs.
    pub async fn issue_token(&self, join: JoinGrant) -> Result<String, ApiError> {
        let JoinGrant { user, identity, room, access, delegate, checked_in_ms } = join;
        let checked = clock::now_ms();
        if access.creates_rooms() {
            self.create_room(&room, delegate.is_some()).await?;
        }
        let created = clock::now_ms();
        if let Some(delegate) = delegate {
            self.register_leave(delegate).await?;
        }

        let grant = Grant::Join {
            room: room.as_str(),
            can_publish: access.can_publish(self.config),
            can_update_own_metadata: self.config.can_update_own_metadata,
        };
        let now = clock::now_ms();
        let lifetime_s = access.token_lifetime_s(self.config);
        let jwt = self.config.keys.signing().mint(Some(identity.as_str()), grant, now, lifetime_s)?;
        if let Some(matrix_room) = access.matrix_room() {
            let expires_at = Timestamp::from_millis(now) + Duration::from_secs(lifetime_s.into());
            let track = Track {
                room: room.clone(),
                matrix_room_id: MatrixRoomId::new(matrix_room.as_str()),
                user_id: delegated_leaves::UserId::new(user.as_str()),
                identity: identity.clone(),
                expires_at,
            };
            self.track(track).await?;
        }
        let fields = json!({
            "user": user.as_str(),
            "access": access.name(),
            "room": room.as_str(),
            "openid_ms": access.matrix_room().is_none().then_some(checked_in_ms),
            "membership_ms": access.matrix_room().is_some().then_some(checked_in_ms),
            "create_room_ms": access.creates_rooms().then(|| created.saturating_sub(checked)),
        });
        self.log.write(Level::Info, "token issued", fields);
        Ok(jwt)
    }

    /// Registers a leave with the room's object.
    pub async fn register_leave(&self, delegate: Delegate) -> Result<(), ApiError> {
        let room = delegate.room.clone();
        self.send(&room, RoomCommand::Delegate(delegate)).await
    }

    async fn verify(&self, token: &OpenIdToken, claim: &ClaimedIdentity) -> Result<VerifiedCaller, ApiError> {
        let started = clock::now_ms();
        // Before any request to that homeserver.
        self.expect_allowed(&token.server)?;
        let user = token.verify(self.federation).await?;
        let identity = claim.identity_of(&user)?;
        self.limits.check_user(&user).await?;
        let full_access = self.config.full_access.includes(&token.server);
        Ok(VerifiedCaller { user, identity, full_access, verified_in_ms: clock::now_ms().saturating_sub(started) })
    }

    /// Fails for users of a homeserver that the operator has not allowed.
    fn expect_allowed(&self, server: &ServerName) -> Result<(), ApiError> {
        match self.config.allows(server) {
            true => Ok(()),
            false => Err(ApiError::HomeserverNotAllowed(server.to_string())),
        }
    }

    async fn build_delegation(
        &self,
        caller: &VerifiedCaller,
        room: &RoomName,
        leave: DelayedLeave,
        token: &OpenIdToken,
        legacy_device: Option<String>,
    ) -> Result<Delegate, ApiError> {
        let found = self.client_apis.find(&token.server, &ClientApis::deadline()).await;
        let api = found.map_err(ApiError::NoClientApi)?;
        Ok(Delegate {
            room: room.clone(),
            identity: caller.identity.clone(),
            legacy_identity: legacy_device.and_then(|device| device_identity(&caller.user, &device)),
            server_name: delegated_leaves::ServerName::new(token.server.as_str()),
            delayed_events_url: api.delayed_events(),
            owner: None,
            user_id: delegated_leaves::UserId::new(caller.user.as_str()),
            restricted: !caller.full_access,
            delay_id: leave.id,
            delay_timeout: leave.timeout,
            restarted_at: None,
        })
    }

    /// Creates the room. Where a leave is to be registered, the object of the room is woken in parallel. The leave
    /// itself waits until the room exists: otherwise a client whose request fails would have delegated it.
    async fn create_room(&self, room: &RoomName, delegating: bool) -> Result<(), ApiError> {
        let (sfu, key) = (&self.config.sfu, self.config.keys.signing());
        let sfu = RoomService { fetchers: self.fetchers, sfu, key, rooms: self.config.room_settings() };
        if delegating {
            let (created, _) = join(sfu.create_room(room), self.rooms.send(room, &RoomCommand::Wake)).await;
            return Ok(created?);
        }
        Ok(sfu.create_room(room).await?)
    }

    /// Registers the participant with the room's object: the token is worth no more than its user's membership in the
    /// Matrix room.
    async fn track(&self, track: Track) -> Result<(), ApiError> {
        let room = track.room.clone();
        self.send(&room, RoomCommand::Track(track)).await
    }

    async fn send(&self, room: &RoomName, command: RoomCommand) -> Result<(), ApiError> {
        match self.rooms.send(room, &command).await {
            Ok(RoomAnswer::Full) => Err(ApiError::RoomFull),
            Ok(RoomAnswer::Recorded | RoomAnswer::Nothing) => Ok(()),
            Err(error) => Err(ApiError::NotStored(error.to_string())),
        }
    }
}

/// Permission to join a LiveKit room: the result of an entry point.
pub struct JoinGrant {
    /// The Matrix user.
    pub user: UserId,
    /// The identity on the SFU.
    pub identity: Identity,
    /// The LiveKit room.
    pub room: RoomName,
    /// The permissions in the room.
    pub access: Access,
    /// The delegated leave, if there is one.
    pub delegate: Option<Delegate>,
    /// Duration of the checks in ms.
    pub checked_in_ms: u64,
}

struct VerifiedCaller {
    user: UserId,
    identity: Identity,
    full_access: bool,
    verified_in_ms: u64,
}
