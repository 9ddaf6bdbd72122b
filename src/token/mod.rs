//! The flow of a token: verify who asks, create the room where they may, take over their leave, sign what lets them in.

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
use crate::error::{ApiError, Unauthorized};
use crate::fetch::{Deadline, Fetchers};
use crate::livekit::room_service::RoomService;
use crate::livekit::token::Grant;
use crate::log::{Level, Log};
use crate::matrix::federation::Federation;
use crate::matrix::federation::openid::OpenIdToken;
use crate::matrix::homeserver::client_api::ClientApis;
use crate::matrix::ids::user_id::UserId;
use crate::rate_limit::RateLimits;
use crate::room::client::RoomClient;
use crate::token::access::Access;
use crate::token::openid_request::{ClaimedIdentity, DelayedLeave, DelegationRequest, TokenRequest};

/// What an exchange needs besides the request.
pub struct TokenService<'a> {
    /// The deployment's configuration.
    pub config: &'a Config,
    /// The ways out.
    pub fetchers: &'a Fetchers,
    /// The homeservers' federation API.
    pub federation: &'a Federation,
    /// The homeservers' client-server API.
    pub client_apis: &'a ClientApis,
    /// The rooms' objects.
    pub rooms: RoomClient<'a>,
    /// How often a user may ask.
    pub limits: RateLimits<'a>,
    /// Where to report.
    pub log: &'a Log,
}

impl TokenService<'_> {
    /// Turns `request` into the body of an answer: `{"url", "jwt"}`. The checks run in the order of §2.2.
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

    /// Takes over the leave of a member who is in the call already. The body of the answer is `{}`.
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

    /// Lets somebody in, through whichever door they came: creates the room where they may, takes over their leave, and signs
    /// their token.
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

    /// Has the room's object look after a leave.
    pub async fn register_leave(&self, delegate: Delegate) -> Result<(), ApiError> {
        let room = delegate.room.clone();
        self.tell(&room, RoomCommand::Delegate(delegate)).await
    }

    async fn verify(&self, token: &OpenIdToken, claim: &ClaimedIdentity) -> Result<VerifiedCaller, ApiError> {
        let started = clock::now_ms();
        let user = token.verify(self.federation).await?;
        let identity = claim.identity_of(&user).ok_or(ApiError::Unauthorized(Unauthorized::ClaimedUserDiffers))?;
        self.limits.check_user(&user).await?;
        let full_access = self.config.full_access.includes(&token.server);
        Ok(VerifiedCaller { user, identity, full_access, verified_in_ms: clock::now_ms().saturating_sub(started) })
    }

    async fn build_delegation(
        &self,
        caller: &VerifiedCaller,
        room: &RoomName,
        leave: DelayedLeave,
        token: &OpenIdToken,
        legacy_device: Option<String>,
    ) -> Result<Delegate, ApiError> {
        let found = self.client_apis.find(&token.server, &Deadline::after(CLIENT_API_TIMEOUT)).await;
        let api = found.map_err(ApiError::NoClientApi)?;
        Ok(Delegate {
            room: room.clone(),
            identity: caller.identity.clone(),
            legacy_identity: legacy_device.map(|device| Identity::of_device(caller.user.as_str(), &device)),
            server_name: delegated_leaves::ServerName::new(token.server.as_str()),
            delayed_events_url: api.delayed_events(),
            owner: None,
            user_id: delegated_leaves::UserId::new(caller.user.as_str()),
            restricted: !caller.full_access,
            delay_id: leave.id,
            delay_timeout: leave.timeout,
        })
    }

    /// Creates the room. Where a leave is to be taken over, the room's object is woken meanwhile; it is told no more until
    /// the room exists, or a client that is refused would find its leave taken over.
    async fn create_room(&self, room: &RoomName, delegating: bool) -> Result<(), ApiError> {
        let sfu = RoomService { fetchers: self.fetchers, sfu: &self.config.sfu, key: self.config.keys.signing() };
        if delegating {
            let (created, _) = join(sfu.create_room(room), self.rooms.send(room, &RoomCommand::Wake)).await;
            return Ok(created?);
        }
        Ok(sfu.create_room(room).await?)
    }

    /// Has the room's object remember a token that is to be worth no more than its user's membership in the Matrix room.
    async fn track(&self, track: Track) -> Result<(), ApiError> {
        let room = track.room.clone();
        self.tell(&room, RoomCommand::Track(track)).await
    }

    async fn tell(&self, room: &RoomName, command: RoomCommand) -> Result<(), ApiError> {
        match self.rooms.send(room, &command).await {
            Ok(RoomAnswer::Full) => Err(ApiError::RoomFull),
            Ok(RoomAnswer::Recorded | RoomAnswer::Nothing) => Ok(()),
            Err(error) => Err(ApiError::NotStored(error.to_string())),
        }
    }
}

/// Somebody who may join a LiveKit room: what the doors have found out.
pub struct JoinGrant {
    /// Who it is.
    pub user: UserId,
    /// What they will be called on the SFU.
    pub identity: Identity,
    /// The LiveKit room.
    pub room: RoomName,
    /// What they may do there.
    pub access: Access,
    /// The leave that they hand over with it.
    pub delegate: Option<Delegate>,
    /// How long it took to find that out, in ms.
    pub checked_in_ms: u64,
}

struct VerifiedCaller {
    user: UserId,
    identity: Identity,
    full_access: bool,
    verified_in_ms: u64,
}

const CLIENT_API_TIMEOUT: Duration = Duration::from_secs(10);
