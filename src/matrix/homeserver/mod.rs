//! This service as an application service of one homeserver ([application service
//! API](https://spec.matrix.org/latest/application-service-api/), `docs/protocol.md#proxied-requests`).
//!
//! How it works:
//! - the homeserver authenticates its requests with `hs_token`, compared in constant time;
//! - this service authenticates its own with `as_token`, which leaves this module only in requests to that
//!   homeserver's client-server API: [`Homeserver`] keeps base URL and token together, and redirects are responses;
//! - the base URL is looked up by [`client_api`]; the modules below add the requests that need it.

pub mod client_api;
pub mod delayed_events;
pub mod members;
pub mod relay;

use std::fmt;

use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::fetch::{Deadline, FetchError, FetchRequest, FetchResponse, Fetchers, MAX_JSON_BODY, Method};
use crate::matrix::homeserver::client_api::{ClientApi, ClientApiError, ClientApis};
use crate::matrix::ids::server_name::ServerName;

/// The homeserver in `LIVEKIT_HS_SERVER_NAME`, with the tokens of its registration file. Printing it shows no token.
#[derive(Clone)]
pub struct ApplicationService {
    server_name: ServerName,
    as_token: Token,
    hs_token: Token,
}

impl ApplicationService {
    /// Creates the registration with the homeserver `server_name`.
    pub fn new(server_name: ServerName, as_token: Token, hs_token: Token) -> Self {
        Self { server_name, as_token, hs_token }
    }

    /// Returns the name of the homeserver.
    pub fn server_name(&self) -> &ServerName {
        &self.server_name
    }

    /// Verifies that a request with this `Authorization` header comes from the homeserver.
    pub fn verify(&self, authorization: Option<&str>) -> Result<(), HomeserverTokenError> {
        let (scheme, token) = authorization.and_then(|header| header.trim().split_once(' ')).unwrap_or_default();
        let token = token.trim();
        if !scheme.eq_ignore_ascii_case("Bearer") || token.is_empty() {
            return Err(HomeserverTokenError::Missing);
        }
        // Digests have equal lengths, so the comparison does not reveal the length of the token.
        let [given, known] = [token, &self.hs_token.0].map(Sha256::digest);
        match bool::from(given.ct_eq(&known)) {
            true => Ok(()),
            false => Err(HomeserverTokenError::Wrong),
        }
    }

    /// Returns a client of the homeserver, after the look-up of its client-server API.
    pub async fn homeserver<'a>(
        &'a self,
        apis: &'a ClientApis,
        deadline: &Deadline,
    ) -> Result<Homeserver<'a>, ClientApiError> {
        let api = apis.find(&self.server_name, deadline).await?;
        Ok(self.at(api, apis))
    }

    /// Returns a client of the homeserver, whose client-server API is known to be `api`.
    fn at<'a>(&'a self, api: ClientApi, apis: &'a ClientApis) -> Homeserver<'a> {
        Homeserver { service: self, api, fetchers: &apis.fetchers }
    }

    fn authorization(&self) -> String {
        format!("Bearer {}", self.as_token.0)
    }
}

impl fmt::Debug for ApplicationService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApplicationService({})", self.server_name)
    }
}

/// One of the two tokens of a registration file.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Parses a token. White space around it, such as a final line feed, is ignored. `None` for a text that no header
    /// can hold.
    pub fn parse(text: &str) -> Option<Self> {
        let token = text.trim();
        (!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(token.to_owned()))
    }
}

/// Reason for rejecting a request as not the homeserver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HomeserverTokenError {
    /// No bearer token.
    #[error("The homeserver's token is missing")]
    Missing,
    /// Another bearer token than the `hs_token`.
    #[error("This is not the homeserver's token")]
    Wrong,
}

/// Client of the client-server API of our homeserver, which sends the `as_token`.
pub struct Homeserver<'a> {
    service: &'a ApplicationService,
    api: ClientApi,
    fetchers: &'a Fetchers,
}

impl Homeserver<'_> {
    /// Returns the name of the homeserver.
    pub fn server_name(&self) -> &ServerName {
        &self.service.server_name
    }

    /// Returns its client-server API.
    pub fn api(&self) -> &ClientApi {
        &self.api
    }

    /// GETs `path` below `/_matrix/client/`.
    pub(super) async fn get(&self, path: &str, deadline: &Deadline) -> Result<FetchResponse, FetchError> {
        let (url, authorization) = (self.api.url(path), self.service.authorization());
        let method = Method::Get { accept: None, authorization: Some(&authorization) };
        let request = FetchRequest { url: &url, method, deadline };
        self.heeded(self.api.fetcher(self.fetchers).send(request).await)
    }

    /// POSTs JSON that must not arrive twice to `path` below `/_matrix/client/`.
    pub(super) async fn post_once(
        &self,
        path: &str,
        json: &[u8],
        deadline: &Deadline,
    ) -> Result<FetchResponse, FetchError> {
        let (url, authorization) = (self.api.url(path), self.service.authorization());
        let method = Method::Post { content_type: "application/json", authorization: Some(&authorization), body: json };
        let request = FetchRequest { url: &url, method, deadline };
        self.heeded(self.api.fetcher(self.fetchers).send_once(&request).await)
    }

    /// Has the API looked up again, and soon, where it doesn't answer as a homeserver does.
    fn heeded(&self, response: Result<FetchResponse, FetchError>) -> Result<FetchResponse, FetchError> {
        let kind = response.as_ref().ok().and_then(|response| response.header("Content-Type"));
        if !kind.is_some_and(|kind| kind.starts_with("application/json")) {
            client_api::doubt(self.server_name());
        }
        response
    }
}

/// Returns the JSON of a response of 200.
pub(super) async fn read(response: FetchResponse) -> Result<Value, HomeserverError> {
    match response.status() {
        200 => serde_json::from_slice(&response.body(MAX_JSON_BODY).await?).map_err(|_| HomeserverError::Malformed),
        status => Err(HomeserverError::Status(status)),
    }
}

/// Reason for a missing or unusable response of the homeserver.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HomeserverError {
    /// No client-server API was found.
    #[error(transparent)]
    NotFound(#[from] ClientApiError),
    /// No response.
    #[error("the homeserver's client-server API doesn't answer: {0}")]
    NoAnswer(#[from] FetchError),
    /// An unexpected status.
    #[error(fmt = explain)]
    Status(u16),
    /// A response that is not the expected JSON.
    #[error("the homeserver's answer isn't the JSON that belongs there")]
    Malformed,
}

/// Writes the cause of an unexpected status, in words an operator can act on.
fn explain(status: &u16, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match status {
        401 => f.write_str(
            "the homeserver refused LIVEKIT_AS_TOKEN (401): it must be the as_token of the registration file that the \
             homeserver has read",
        ),
        403 => f.write_str(
            "the homeserver forbids it (403): has the registration file the scope of is_joined, and all the homeserver's \
             users in its namespace?",
        ),
        404 => f.write_str(
            "the homeserver doesn't have this (404): are msc4143, msc4502 and msc4512 switched on there, and delayed events?",
        ),
        _ => write!(f, "the homeserver answered {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn service() -> ApplicationService {
        let token = |text| Token::parse(text).unwrap();
        ApplicationService::new(ServerName::parse("example.com").unwrap(), token("as-secret"), token(" hs-secret\n"))
    }

    #[test]
    fn only_the_hs_token_is_the_homeserver_s() {
        for header in ["Bearer hs-secret", "bearer hs-secret", " Bearer  hs-secret "] {
            assert_eq!(service().verify(Some(header)), Ok(()), "{header:?}");
        }
        for header in [None, Some(""), Some("Bearer"), Some("Bearer "), Some("hs-secret"), Some("Basic hs-secret")] {
            assert_eq!(service().verify(header), Err(HomeserverTokenError::Missing), "{header:?}");
        }
        for header in ["Bearer as-secret", "Bearer hs-secre", "Bearer hs-secret2", "Bearer hs-secret, Bearer x"] {
            assert_eq!(service().verify(Some(header)), Err(HomeserverTokenError::Wrong), "{header:?}");
        }
    }

    #[test]
    fn a_token_is_what_a_header_can_hold() {
        for text in ["", " ", "two words", "ü", "a\u{7f}"] {
            assert!(Token::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn no_token_is_shown() {
        assert_eq!(format!("{:?}", service()), "ApplicationService(example.com)");
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_panic(header in "(Bearer )?\\PC{0,40}") {
            prop_assert!(service().verify(Some(&header)).is_err());
        }
    }
}
