//! The flow of a token: verify who asks, create the room where they may, take over their leave, sign what lets them in.

use delegated_leaves::{Delegate, Identity, RoomCommand, RoomName};
use futures_util::future::join;
use serde_json::{Value, json};

use crate::clock;
use crate::config::Config;
use crate::error::{ApiError, Unauthorized};
use crate::livekit::room_service::RoomService;
use crate::livekit::token::Grant;
use crate::log::{Level, Log};
use crate::matrix::client_api::ClientApis;
use crate::matrix::federation::Federation;
use crate::matrix::openid::OpenIdToken;
use crate::matrix::user_id::UserId;
use crate::outbound::{Deadline, Outbound};
use crate::rate_limit::RateLimits;
use crate::rooms::Rooms;
use crate::token_request::{Claim, DelayedLeave, DelegationRequest, TokenRequest};

/// What an exchange needs besides the request.
pub struct Exchange<'a> {
    /// The deployment's configuration.
    pub config: &'a Config,
    /// The ways out.
    pub outbound: &'a Outbound,
    /// The homeservers' federation API.
    pub federation: &'a Federation,
    /// The homeservers' client-server API.
    pub client_apis: &'a ClientApis,
    /// The rooms' objects.
    pub rooms: Rooms<'a>,
    /// How often a user may ask.
    pub limits: RateLimits<'a>,
    /// Where to report.
    pub log: &'a Log,
}

impl Exchange<'_> {
    /// Turns `request` into the body of an answer: `{"url", "jwt"}`. The checks run in the order of §2.2.
    pub async fn token(&self, request: TokenRequest) -> Result<Value, ApiError> {
        let caller = self.verify(&request.openid_token, &request.claim).await?;
        let delegate = match request.delayed_leave {
            None => None,
            Some(_) if !caller.full_access => {
                let text = "delay_id can't be used: users of this homeserver may not delegate leaves here";
                return Err(ApiError::BadJson(text.to_owned()));
            }
            Some(leave) => Some(self.delegation(&caller, &request.room, leave, &request.openid_token, None).await?),
        };
        let verified = clock::now_ms();
        if caller.full_access {
            self.create_room(&request.room, delegate.is_some()).await?;
        }
        let created = clock::now_ms();
        if let Some(delegate) = delegate {
            self.store(delegate).await?;
        }

        let grant = Grant::Join {
            room: request.room.as_str(),
            can_publish: caller.full_access || self.config.restricted_can_publish,
            can_update_own_metadata: self.config.can_update_own_metadata,
        };
        let key = self.config.keys.signing();
        let jwt = key.mint(Some(caller.identity.as_str()), grant, clock::now_ms(), TOKEN_LIFETIME_S)?;
        let fields = json!({
            "user": caller.user.as_str(),
            "access": if caller.full_access { "full" } else { "restricted" },
            "room": request.room.as_str(),
            "openid_ms": caller.verified_in_ms,
            "create_room_ms": caller.full_access.then(|| created.saturating_sub(verified)),
        });
        self.log.write(Level::Info, "token issued", fields);
        Ok(json!({"url": self.config.sfu.client(), "jwt": jwt}))
    }

    /// Takes over the leave of a member who is in the call already. The body of the answer is `{}`.
    pub async fn delegate(&self, request: DelegationRequest) -> Result<Value, ApiError> {
        let legacy_device = request.is_legacy_slot.then(|| request.member.device_id.clone());
        let caller = self.verify(&request.openid_token, &Claim::Member(request.member)).await?;
        if !caller.full_access {
            return Err(ApiError::DelegationForbidden);
        }
        let leave = request.delayed_leave;
        let delegate = self.delegation(&caller, &request.room, leave, &request.openid_token, legacy_device).await?;
        self.store(delegate).await?;
        Ok(json!({}))
    }

    async fn verify(&self, token: &OpenIdToken, claim: &Claim) -> Result<Caller, ApiError> {
        let started = clock::now_ms();
        let user = token.verify(self.federation).await?;
        let identity = claim.identity_of(&user).ok_or(ApiError::Unauthorized(Unauthorized::ClaimedUserDiffers))?;
        self.limits.admit_user(&user).await?;
        let full_access = self.config.full_access.includes(&token.server);
        Ok(Caller { user, identity, full_access, verified_in_ms: clock::now_ms().saturating_sub(started) })
    }

    async fn delegation(
        &self,
        caller: &Caller,
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
            delay_id: leave.id,
            delay_timeout: leave.timeout,
        })
    }

    /// Creates the room. Where a leave is to be taken over, the room's object is woken meanwhile; it is told no more until
    /// the room exists, or a client that is refused would find its leave taken over.
    async fn create_room(&self, room: &RoomName, delegating: bool) -> Result<(), ApiError> {
        let sfu = RoomService { outbound: self.outbound, sfu: &self.config.sfu, key: self.config.keys.signing() };
        if delegating {
            let (created, _) = join(sfu.create_room(room), self.rooms.send(room, &RoomCommand::Wake)).await;
            return Ok(created?);
        }
        Ok(sfu.create_room(room).await?)
    }

    async fn store(&self, delegate: Delegate) -> Result<(), ApiError> {
        let room = delegate.room.clone();
        let stored = self.rooms.send(&room, &RoomCommand::Delegate(delegate)).await;
        stored.map(drop).map_err(|error| ApiError::NotStored(error.to_string()))
    }
}

struct Caller {
    user: UserId,
    identity: Identity,
    full_access: bool,
    verified_in_ms: u64,
}

const TOKEN_LIFETIME_S: u32 = 3600;
const CLIENT_API_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
