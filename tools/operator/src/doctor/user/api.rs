//! Requests to the homeserver's client-server API as the user.

use matrixrtc_edge::matrix::homeserver::client_api::escaped;
use serde_json::Value;

use crate::doctor::client_api::{self, ClientApi};
use crate::doctor::report::Outcome;
use crate::doctor::user::login::{JSON, Session, unlike_a_homeserver};
use crate::doctor::web::{Failure, Request, Response, Web};

/// The homeserver's client-server API, with a user's session.
#[derive(Clone, Copy)]
pub(crate) struct UserApi<'a> {
    /// HTTP client.
    pub(crate) web: &'a Web,
    /// The client-server API.
    pub(crate) api: &'a ClientApi,
    /// The user's session.
    pub(crate) session: &'a Session,
}

impl UserApi<'_> {
    /// Sends a GET for `path` below `/_matrix/client/`.
    pub(crate) async fn get(&self, path: &str) -> Result<Response, Failure> {
        let authorization = self.session.token.bearer();
        self.web.send(&Request::get(&self.api.url(path), &[("authorization", &authorization)])).await
    }

    /// Sends a POST to `path` below `/_matrix/client/`.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Response, Failure> {
        self.send("POST", path, body).await
    }

    /// Sends a PUT to `path` below `/_matrix/client/`.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Response, Failure> {
        self.send("PUT", path, body).await
    }

    /// The user's id, for one segment of a path.
    pub(crate) fn escaped_user_id(&self) -> String {
        escaped(self.session.user_id.as_str()).to_string()
    }

    /// Outcome of a request that gets no response.
    pub(crate) fn unreached(&self, failure: &Failure) -> Outcome {
        client_api::unreached(self.api.base(), failure)
    }

    /// Outcome of a request that gets a response which isn't expected.
    pub(crate) fn unexpected(&self, request: &str, response: &Response) -> Outcome {
        match (response.status, response.errcode().as_deref()) {
            (429, _) => Outcome::warning(
                format!("the homeserver limits this user's requests ({request}: 429)"),
                "try again in a minute",
            ),
            (401, Some(_)) => Outcome::problem(
                format!("{request} is refused (401), although the homeserver knows the session"),
                "let the proxy forward the Authorization header; with workers, let them all use the same configuration",
            ),
            _ => unlike_a_homeserver(self.api, request, response),
        }
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Result<Response, Failure> {
        let authorization = self.session.token.bearer();
        let (url, body) = (self.api.url(path), body.to_string());
        let headers = [("authorization", authorization.as_str()), JSON];
        self.web.send(&Request { method, ..Request::post(&url, &headers, body.as_bytes()) }).await
    }
}
