//! The flow of a token: verify the caller, create the room, register the leave, sign the token, track the
//! participant.
//!
//! How it works:
//! - an entry point parses a request: [`openid_request`] for the endpoints of clients, [`homeserver_request`] in
//!   homeserver mode;
//! - the OpenID token is verified with its homeserver, and the user is compared with the claimed one; [`homeserver`]
//!   queries membership instead, and where membership is required, so do the endpoints of clients;
//! - the result is a [`JoinGrant`]: user, identity, room, permissions, and maybe a leave;
//! - with it, [`TokenService::issue_token`] creates the room where the caller may, and at the same time restarts the
//!   delayed event once: a leave that can't be kept isn't taken over;
//! - then it registers the leave with the object of the room, and signs the token, in this order, so that no leave is
//!   delegated for a call that the SFU doesn't offer;
//! - where membership was checked, the object also tracks the participant, to remove it when its user leaves the Matrix
//!   room.

pub mod access;
pub mod homeserver;
pub mod homeserver_request;
pub mod openid_request;

use std::time::Duration;

use delegated_leaves::{Delegate, Identity, MatrixRoomId, RoomCommand, RoomName, Timestamp, Track};
use futures_util::future;
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
use crate::matrix::homeserver::Homeserver;
use crate::matrix::homeserver::client_api::{ClientApi, ClientApis};
use crate::matrix::homeserver::delayed_events::Candidate;
use crate::matrix::homeserver::members::Party;
use crate::matrix::ids::room_id::RoomId;
use crate::matrix::ids::server_name::ServerName;
use crate::matrix::ids::user_id::UserId;
use crate::rate_limit::RateLimits;
use crate::room::client::RoomClient;
use crate::token::access::Access;
use crate::token::openid_request::{
    ClaimedIdentity, DelayedLeave, DelegationRequest, IfLeaveRefused, TokenRequest, device_identity,
};

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
    /// Handles `request`, and returns the body of the response: `{"url", "jwt"}`.
    pub async fn handle_token(&self, request: TokenRequest) -> Result<Value, ApiError> {
        let text = "delay_id can't be used: users of this homeserver may not delegate leaves here";
        let join = self.check(request, None, ApiError::BadJson(text.to_owned())).await?;
        Ok(json!({"url": self.config.sfu.client(), "jwt": self.issue_token(join).await?}))
    }

    /// Registers the leave of a member who is in the call already. The body of the response is `{}`.
    pub async fn handle_delegation(&self, request: DelegationRequest) -> Result<Value, ApiError> {
        let legacy_device = request.is_legacy_slot.then(|| request.member.device_id.clone());
        let request = TokenRequest {
            matrix_room: request.matrix_room,
            room: request.room,
            claim: ClaimedIdentity::Member(request.member),
            openid_token: request.openid_token,
            delayed_leave: Some(request.delayed_leave),
            if_leave_refused: IfLeaveRefused::Reject,
        };
        let join = self.check(request, legacy_device, ApiError::DelegationForbidden).await?;
        if let Some(delegate) = self.accept(join.leave.as_ref()).await? {
            self.register_leave(delegate).await?;
        }
        Ok(json!({}))
    }

    /// Runs all checks of a request with an OpenID token, in the order of `docs/protocol.md#errors`. `if_forbidden` is
    /// the error for users who may not delegate.
    async fn check(
        &self,
        request: TokenRequest,
        legacy_device: Option<String>,
        if_forbidden: ApiError,
    ) -> Result<JoinGrant, ApiError> {
        let TokenRequest { matrix_room, room, claim, openid_token, delayed_leave, if_leave_refused } = request;
        let caller = self.verify(&openid_token, &claim).await?;
        if delayed_leave.is_some() && !self.may_delegate(&caller, &room).await? {
            return Err(if_forbidden);
        }
        let membership = self.expect_member(&caller, &matrix_room).await?;
        let leave = match delayed_leave {
            None => None,
            Some(leave) => {
                let found = self.find_leave(&caller, &room, matrix_room, leave, legacy_device).await?;
                Some((found, if_leave_refused))
            }
        };
        let (matrix_room, membership_ms) = membership.unzip();
        Ok(JoinGrant {
            access: if caller.full_access { Access::Full } else { Access::Restricted(caller.homeserver) },
            user: caller.user,
            identity: caller.identity,
            room,
            matrix_room,
            leave,
            openid_ms: Some(caller.verified_in_ms),
            membership_ms,
        })
    }

    /// Issues a token, whatever the entry point: creates the room where the caller may, registers the leave, and
    /// signs.
    pub async fn issue_token(&self, join: JoinGrant) -> Result<String, ApiError> {
        let JoinGrant { user, identity, room, access, matrix_room, leave, openid_ms, membership_ms } = join;
        let (created, accepted) = future::join(
            async {
                match access.creates_rooms() {
                    true => self.create_room(&room, leave.is_some()).await.map(Some),
                    false => Ok(None),
                }
            },
            self.accept(leave.as_ref()),
        )
        .await;
        let delegate = accepted?;
        let create_room_ms = created?;
        let grant = Grant::Join {
            room: room.as_str(),
            can_publish: access.can_publish(self.config),
            can_update_own_metadata: self.config.can_update_own_metadata,
        };
        let now = clock::now_ms();
        let lifetime_s = self.config.token_ttl_s;
        let jwt = self.config.keys.signing().mint(Some(identity.as_str()), grant, now, lifetime_s)?;
        if let Some(matrix_room) = matrix_room {
            let expires_at = tracked_until(now, Duration::from_secs(lifetime_s.into()));
            let track = Track {
                room: room.clone(),
                matrix_room_id: MatrixRoomId::new(matrix_room.as_str()),
                user_id: delegated_leaves::UserId::new(user.as_str()),
                identity: identity.clone(),
                expires_at,
            };
            self.track(track).await?;
        }
        // What fails after this would leave a leave behind that its client doesn't know to be delegated.
        if let Some(delegate) = delegate {
            self.register_leave(delegate).await?;
        }
        let fields = json!({
            "user": user.as_str(),
            "access": access.name(),
            "room": room.as_str(),
            "openid_ms": openid_ms,
            "membership_ms": membership_ms,
            "create_room_ms": create_room_ms,
            "room_not_created": access.why_no_room(&self.config.full_access),
        });
        self.log.write(Level::Info, "token issued", fields);
        Ok(jwt)
    }

    /// Registers a leave with the room's object.
    pub async fn register_leave(&self, delegate: Delegate) -> Result<(), ApiError> {
        let room = delegate.room.clone();
        Ok(self.rooms.send(&room, &RoomCommand::Delegate(delegate)).await?)
    }

    async fn verify(&self, token: &OpenIdToken, claim: &ClaimedIdentity) -> Result<VerifiedCaller, ApiError> {
        let started = clock::now_ms();
        // Before any request to that homeserver.
        self.expect_allowed(&token.server)?;
        let user = token.verify(self.federation).await?;
        let identity = claim.identity_of(&user)?;
        self.limits.check_user(&user).await?;
        let homeserver = token.server.clone();
        let full_access = self.config.full_access.includes(&homeserver);
        let verified_in_ms = clock::now_ms().saturating_sub(started);
        Ok(VerifiedCaller { user, identity, homeserver, full_access, verified_in_ms })
    }

    /// Whether the caller may delegate a leave in `room`. Restricted users may where that isn't switched off, in rooms
    /// that are on the SFU: they can't fill the service with leaves of rooms that don't exist.
    async fn may_delegate(&self, caller: &VerifiedCaller, room: &RoomName) -> Result<bool, ApiError> {
        if caller.full_access {
            return Ok(true);
        }
        Ok(self.config.restricted_can_delegate && self.sfu().has_room(room).await?)
    }

    /// Fails for users of a homeserver that the operator has not allowed.
    fn expect_allowed(&self, server: &ServerName) -> Result<(), ApiError> {
        match self.config.allows(server) {
            true => Ok(()),
            false => Err(ApiError::HomeserverNotAllowed(server.to_string())),
        }
    }

    /// Where membership is required, checks that the caller is joined to the Matrix room, as our homeserver knows it.
    /// Returns the room, and the duration of the check in ms.
    ///
    /// It comes after the verification of the OpenID token: otherwise a stranger could query the membership of any user.
    async fn expect_member(&self, caller: &VerifiedCaller, room: &str) -> Result<Option<(RoomId, u64)>, ApiError> {
        let Some(service) = self.config.application_service.as_ref().filter(|_| self.config.require_membership) else {
            return Ok(None);
        };
        let started = clock::now_ms();
        let room = RoomId::parse(room).map_err(|_| ApiError::NotJoined)?;
        let homeserver = service.homeserver(self.client_apis, &ClientApis::deadline()).await;
        let homeserver = homeserver.map_err(|error| ApiError::MembershipUnknown(error.into()))?;
        expect_joined(&homeserver, &room, Party::User(&caller.user)).await?;
        Ok(Some((room, clock::now_ms().saturating_sub(started))))
    }

    /// Finds the client-server API of a leave's homeserver.
    async fn find_leave(
        &self,
        caller: &VerifiedCaller,
        room: &RoomName,
        matrix_room: String,
        leave: DelayedLeave,
        legacy_device: Option<String>,
    ) -> Result<FoundLeave, ApiError> {
        let found = self.client_apis.find(&caller.homeserver, &ClientApis::deadline()).await;
        let api = found.map_err(ApiError::NoClientApi)?;
        let is_ours = self.config.application_service.as_ref().is_some_and(|it| *it.server_name() == caller.homeserver);
        let user_id = delegated_leaves::UserId::new(caller.user.as_str());
        let delegate = Delegate {
            room: room.clone(),
            identity: caller.identity.clone(),
            legacy_identity: legacy_device.and_then(|device| device_identity(&caller.user, &device)),
            server_name: delegated_leaves::ServerName::new(caller.homeserver.as_str()),
            delayed_events_url: api.delayed_events(),
            owner: is_ours.then(|| user_id.clone()),
            user_id,
            restricted: !caller.full_access,
            delay_id: leave.id,
            delay_timeout: leave.timeout,
            restarted_at: None,
            issued_at: Some(Timestamp::from_millis(clock::now_ms())),
        };
        let (homeserver, owner) = (caller.homeserver.clone(), is_ours.then(|| caller.user.clone()));
        Ok(FoundLeave { delegate, homeserver, api, owner, matrix_room })
    }

    /// Restarts the event of a leave, and returns the leave for the object of the room. Where the homeserver doesn't let
    /// us keep it, that is an error, or the leave isn't taken over, by the endpoint.
    async fn accept(&self, leave: Option<&(FoundLeave, IfLeaveRefused)>) -> Result<Option<Delegate>, ApiError> {
        let Some((leave, if_refused)) = leave else { return Ok(None) };
        let candidate = Candidate {
            server: &leave.homeserver,
            api: &leave.api,
            owner: self.config.application_service.as_ref().zip(leave.owner.as_ref()),
            room_id: &leave.matrix_room,
            id: &leave.delegate.delay_id,
        };
        match (candidate.restart_once(self.client_apis).await, if_refused) {
            (Ok(acceptance), _) => Ok(Some(Delegate {
                restarted_at: acceptance.restarted_at,
                delay_timeout: acceptance.delay.unwrap_or(leave.delegate.delay_timeout),
                ..leave.delegate.clone()
            })),
            (Err(cause), IfLeaveRefused::Reject) => Err(ApiError::LeaveRefused(cause)),
            (Err(cause), IfLeaveRefused::IssueWithout) => {
                let fields = json!({
                    "user": leave.delegate.user_id.as_str(),
                    "homeserver": leave.delegate.server_name.as_str(),
                    "cause": cause.to_string(),
                });
                self.log.write(Level::Warn, "delayed leave not taken over", fields);
                Ok(None)
            }
        }
    }

    /// Creates the room, and returns the time that took in ms. Where a leave is to be registered, the object of the room
    /// is woken in parallel. The leave itself waits until the room exists: otherwise a client whose request fails would
    /// have delegated it.
    async fn create_room(&self, room: &RoomName, delegating: bool) -> Result<u64, ApiError> {
        let started = clock::now_ms();
        let sfu = self.sfu();
        let wake = async {
            if delegating {
                self.rooms.wake(room).await;
            }
        };
        let created = async {
            let created = sfu.create_room(room).await;
            created.map(|()| clock::now_ms().saturating_sub(started))
        };
        let (created, ()) = future::join(created, wake).await;
        Ok(created?)
    }

    fn sfu(&self) -> RoomService<'_> {
        let (sfu, key) = (&self.config.sfu, self.config.keys.signing());
        RoomService { fetchers: self.fetchers, sfu, key, rooms: self.config.room_settings() }
    }

    /// Registers the participant with the room's object: the token is worth no more than its user's membership in the
    /// Matrix room.
    async fn track(&self, track: Track) -> Result<(), ApiError> {
        let room = track.room.clone();
        Ok(self.rooms.send(&room, &RoomCommand::Track(track)).await?)
    }
}

/// Checks that `party` is joined to `room`, as our homeserver knows it.
async fn expect_joined(homeserver: &Homeserver<'_>, room: &RoomId, party: Party<'_>) -> Result<(), ApiError> {
    match homeserver.is_joined(room, party).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(ApiError::NotJoined),
        Err(error) => Err(ApiError::MembershipUnknown(error)),
    }
}

/// Returns the time until which a token that is issued now keeps its participant tracked: its expiry, or up to a sixtieth
/// of its lifetime later. Tokens of one participant that follow each other closely have the same time, so that the later
/// ones change nothing that has to be stored.
fn tracked_until(now_ms: u64, lifetime: Duration) -> Timestamp {
    let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
    let step_ms = (lifetime_ms / 60).max(1);
    let expires_at_ms = now_ms.saturating_add(lifetime_ms);
    Timestamp::from_millis(expires_at_ms.checked_next_multiple_of(step_ms).unwrap_or(expires_at_ms))
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
    /// The Matrix room whose membership was checked, and must be kept. `None` where none was checked.
    pub matrix_room: Option<RoomId>,
    /// The leave to take over, if there is one, and the meaning of a refusal.
    pub leave: Option<(FoundLeave, IfLeaveRefused)>,
    /// Duration of the verification of the OpenID token in ms.
    pub openid_ms: Option<u64>,
    /// Duration of the check of the membership in ms.
    pub membership_ms: Option<u64>,
}

/// A leave whose homeserver was found, before any request about its event.
pub struct FoundLeave {
    delegate: Delegate,
    homeserver: ServerName,
    api: ClientApi,
    /// The owner, where our homeserver has the event.
    owner: Option<UserId>,
    matrix_room: String,
}

struct VerifiedCaller {
    user: UserId,
    identity: Identity,
    homeserver: ServerName,
    full_access: bool,
    verified_in_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_one_minute_are_tracked_until_the_same_time() {
        let hour = Duration::from_secs(3600);
        let until = |now_ms| tracked_until(now_ms, hour).as_millis();
        assert_eq!(until(60_000), 3_660_000);
        assert_eq!((until(60_001), until(120_000)), (3_720_000, 3_720_000));
        assert_eq!(tracked_until(1_000_001, Duration::from_secs(1)).as_millis(), 1_001_008);
        for now_ms in [0, 1, u64::MAX] {
            assert!(tracked_until(now_ms, hour) >= Timestamp::from_millis(now_ms));
        }
    }
}
