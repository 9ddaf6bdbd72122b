//! Requests to other homeservers, relayed by our own (MSC4512), which signs them and resolves the destination.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fetch::Deadline;
use crate::matrix::homeserver::{Homeserver, HomeserverError, read};
use crate::matrix::ids::server_name::ServerName;

/// Response of another homeserver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub content: Value,
}

impl Relayed {
    /// Whether the other homeserver doesn't have the path.
    fn is_unrecognized(&self) -> bool {
        self.status == 404 && self.content["errcode"] == "M_UNRECOGNIZED"
    }
}

impl Homeserver<'_> {
    /// POSTs `body` to the first of `paths` that the federation API of `destination` has. An error means that it
    /// returned no response.
    pub async fn relay(
        &self,
        destination: &ServerName,
        paths: &[&str],
        body: &Value,
    ) -> Result<Relayed, HomeserverError> {
        let deadline = Deadline::after(TIMEOUT);
        let mut relayed = Err(HomeserverError::Malformed);
        for path in paths {
            relayed = self.relay_to(destination, path, body, &deadline).await;
            if !relayed.as_ref().is_ok_and(Relayed::is_unrecognized) {
                break;
            }
        }
        relayed
    }

    async fn relay_to(
        &self,
        destination: &ServerName,
        path: &str,
        body: &Value,
        deadline: &Deadline,
    ) -> Result<Relayed, HomeserverError> {
        let request = json!({"destination": destination.as_str(), "method": "POST", "path": path, "body": body});
        let [first, second] = self.api().fed_proxy_paths();
        let body = request.to_string();
        let mut response = self.post_once(first, body.as_bytes(), deadline).await?;
        if response.status() == 404 {
            response = self.post_once(second, body.as_bytes(), deadline).await?;
        }
        let mut relayed = read(response).await?;
        let status = relayed["status"].as_u64().and_then(|status| status.try_into().ok());
        let content = relayed.get_mut("content").map(Value::take).unwrap_or_default();
        Ok(Relayed { status: status.ok_or(HomeserverError::Malformed)?, content })
    }
}

/// Before it responds, the other homeserver queries its own members, and its SFU.
const TIMEOUT: Duration = Duration::from_secs(20);
