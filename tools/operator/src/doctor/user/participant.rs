//! Participant that joins a call and leaves it as far as the SFU's webhooks show it (`docs/protocol.md#webhook-body`).
//!
//! The doctor has no media, without which no participant is connected; the key pair lets it sign the webhooks of one. A
//! leave is restarted and sent because of them as because of the SFU's own.

use matrixrtc_edge::livekit::keys::ApiKey;
use serde_json::json;

use crate::doctor::service_url::ServiceUrl;
use crate::doctor::user::token::JoinToken;
use crate::doctor::web::Web;
use crate::doctor::webhook::post;

/// Participant of the test's call.
pub(crate) struct SeemingParticipant<'a> {
    /// HTTP client.
    pub(crate) web: &'a Web,
    /// The service.
    pub(crate) service: &'a ServiceUrl,
    /// The key pair that the SFU shares with the service.
    pub(crate) key: &'a ApiKey,
    /// The participant's token, which has the room and the identity.
    pub(crate) token: &'a JoinToken,
}

impl SeemingParticipant<'_> {
    /// Reports to the service that the participant's media is connected. Returns whether it accepts the webhook.
    pub(crate) async fn joins(&self) -> bool {
        self.report("participant_joined").await
    }

    /// Reports to the service that the connection has ended, likewise.
    pub(crate) async fn leaves(&self) -> bool {
        self.report("participant_left").await
    }

    async fn report(&self, event: &str) -> bool {
        let JoinToken { room, identity, .. } = self.token;
        let participant = json!({ "sid": SID, "identity": identity });
        let event = json!({ "event": event, "room": { "name": room }, "participant": participant });
        matches!(post(self.web, self.service, self.key, &event).await, Ok(response) if response.status == 200)
    }
}

/// Id of the connection, the only one under its identity.
const SID: &str = "PA_matrixrtcDoctor";
