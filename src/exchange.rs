//! The flow of a token: verify who asks, create the room where they may, sign what lets them in.

use serde_json::{Value, json};

use crate::clock;
use crate::config::Config;
use crate::error::{ApiError, Unauthorized};
use crate::livekit::room_service::RoomService;
use crate::livekit::token::Grant;
use crate::log::{Level, Log};
use crate::matrix::federation::Federation;
use crate::outbound::Outbound;
use crate::token_request::TokenRequest;

/// What an exchange needs besides the request.
pub struct Exchange<'a> {
    /// The deployment's configuration.
    pub config: &'a Config,
    /// The ways out.
    pub outbound: &'a Outbound,
    /// The homeservers.
    pub federation: &'a Federation,
    /// Where to report.
    pub log: &'a Log,
}

impl Exchange<'_> {
    /// Turns `request` into the body of an answer: `{"url", "jwt"}`. The checks run in the order of §2.2.
    pub async fn run(&self, request: TokenRequest) -> Result<Value, ApiError> {
        let started = clock::now_ms();
        let user = request.openid_token.verify(self.federation).await?;
        let identity =
            (request.claim.identity_of(&user)).ok_or(ApiError::Unauthorized(Unauthorized::ClaimedUserDiffers))?;
        let verified = clock::now_ms();

        let key = self.config.keys.signing();
        let full_access = self.config.full_access.includes(&request.openid_token.server);
        if full_access {
            let sfu = RoomService { outbound: self.outbound, sfu: &self.config.sfu, key };
            sfu.create_room(request.room.as_str()).await?;
        }
        let created = clock::now_ms();

        let grant = Grant::Join {
            room: request.room.as_str(),
            can_publish: full_access || self.config.restricted_can_publish,
            can_update_own_metadata: self.config.can_update_own_metadata,
        };
        let jwt = key.mint(Some(identity.as_str()), grant, created, TOKEN_LIFETIME_S)?;
        let fields = json!({
            "user": user.as_str(),
            "access": if full_access { "full" } else { "restricted" },
            "room": request.room.as_str(),
            "openid_ms": verified - started,
            "create_room_ms": full_access.then(|| created - verified),
        });
        self.log.write(Level::Info, "token issued", fields);
        Ok(json!({"url": self.config.sfu.client(), "jwt": jwt}))
    }
}

const TOKEN_LIFETIME_S: u32 = 3600;
