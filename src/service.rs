//! One request: its endpoint, the checks before it, and its response.
//!
//! How it works:
//! - preflights are answered first, without a configuration: otherwise no page could read the errors of a broken
//!   deployment;
//! - the configuration is read; a misconfigured deployment answers 503 to every request;
//! - the endpoint and the method are checked, then the body is read and parsed; in homeserver mode `hs_token` comes
//!   before the body;
//! - requests of clients count against the limit of their address, then run through [`TokenService`] or
//!   [`HomeserverMode`];
//! - webhooks are verified, and forwarded to the object of their room if they are relevant to it;
//! - an error becomes a response and one log line with its cause; CORS headers come last.

use std::rc::Rc;

use delegated_leaves::RoomCommand;
use serde_json::{Value, json};
use web_sys::Request;
use worker::{Context, Env};

use crate::body;
use crate::clock;
use crate::config::Config;
use crate::config::bindings;
use crate::error::ApiError;
use crate::fetch::Fetchers;
use crate::livekit::room_service::RoomService;
use crate::livekit::webhook::event::{self, Webhook};
use crate::livekit::webhook::signature;
use crate::log::{Level, Log, new_request_id};
use crate::matrix::federation::Federation;
use crate::matrix::homeserver::ApplicationService;
use crate::matrix::homeserver::client_api::ClientApis;
use crate::matrix::lookups::WaitUntil;
use crate::rate_limit::{ClientAddress, RateLimits};
use crate::response::Response;
use crate::room::client::RoomClient;
use crate::route::Endpoint;
use crate::status::StatusQuery;
use crate::token::TokenService;
use crate::token::homeserver::{HomeserverMode, HomeserverRequest};
use crate::token::homeserver_request::{self, ClientTokenRequest, FederationTokenRequest, LeaveRequest, Requester};
use crate::token::openid_request::{DelegationRequest, TokenRequest};

/// Handles `request`, and returns a response for errors too.
pub async fn respond(request: &Request, env: &Env, context: Context) -> Response {
    let url = request.url();
    let endpoint = Endpoint::at(path_of(&url));
    let method = request.method();
    let mut for_browsers = endpoint.is_none_or(Endpoint::is_for_browsers);
    let response = match endpoint {
        // A preflight is answered even by a broken deployment: otherwise no page could read the error.
        Some(endpoint) if method == "OPTIONS" && endpoint.allows("OPTIONS") => Response::preflight(),
        _ => {
            let deployment = bindings::configuration(env).await;
            let log = Log {
                threshold: deployment.as_ref().as_ref().map_or(Level::Info, |config| config.log_level),
                request_id: platform_id(request).unwrap_or_else(new_request_id),
            };
            let outcome = match deployment.as_ref() {
                Ok(config) => {
                    let endpoint =
                        endpoint.filter(|at| config.application_service.is_some() || !at.is_for_homeserver());
                    for_browsers = endpoint.is_none_or(Endpoint::is_for_browsers);
                    let service = Service { config, request, env, context, log: &log };
                    service.respond(endpoint, &method).await
                }
                Err(errors) => {
                    log.write(Level::Error, "misconfigured", json!({"problems": errors.to_string()}));
                    Err(ApiError::Misconfigured(errors.0.iter().map(|problem| problem.variable).collect()))
                }
            };
            outcome.unwrap_or_else(|error| {
                report(&log, &error, endpoint);
                Response::from(&error)
            })
        }
    };
    if for_browsers { response.with_cors() } else { response }
}

/// Request to the token service, parsed.
enum Operation<'a> {
    Token(TokenRequest),
    Delegation(DelegationRequest),
    OfHomeserver(&'a ApplicationService, HomeserverRequest),
}

struct Service<'a> {
    config: &'a Config,
    request: &'a Request,
    env: &'a Env,
    context: Context,
    log: &'a Log,
}

impl<'a> Service<'a> {
    async fn respond(self, endpoint: Option<Endpoint>, method: &str) -> Result<Response, ApiError> {
        let endpoint = endpoint.ok_or(ApiError::Unrecognized)?;
        if !endpoint.allows(method) {
            return Err(ApiError::MethodNotAllowed(endpoint.allow()));
        }
        match endpoint {
            Endpoint::Healthz => Ok(Response::json(json!({"status": "ok"}))),
            Endpoint::GetToken => {
                let request = TokenRequest::from_get_token(&self.client_body().await?)?;
                self.run(Operation::Token(request)).await
            }
            Endpoint::SfuGet => {
                let request = TokenRequest::from_sfu_get(&self.client_body().await?)?;
                self.run(Operation::Token(request)).await
            }
            Endpoint::DelegateDelayedLeave => {
                let request = DelegationRequest::from_body(&self.client_body().await?)?;
                self.run(Operation::Delegation(request)).await
            }
            Endpoint::SfuWebhook => self.webhook().await,
            Endpoint::Status => self.status().await,
            Endpoint::ClientGetToken => {
                let (service, user) = (self.verified_homeserver()?, self.requester()?);
                let request = ClientTokenRequest::from_body(&self.client_body().await?)?;
                self.run(Operation::OfHomeserver(service, HomeserverRequest::Token(user, request))).await
            }
            Endpoint::FederationGetToken => {
                let (service, origin) = (self.verified_homeserver()?, self.requester()?);
                let request = FederationTokenRequest::from_body(&self.client_body().await?)?;
                self.run(Operation::OfHomeserver(service, HomeserverRequest::FederatedToken(origin, request))).await
            }
            Endpoint::ClientDelegateDelayedLeave => {
                let (service, user) = (self.verified_homeserver()?, self.requester()?);
                let request = LeaveRequest::from_body(&self.client_body().await?)?;
                self.run(Operation::OfHomeserver(service, HomeserverRequest::Leave(user, request))).await
            }
            Endpoint::Ping => {
                self.verified_homeserver()?;
                homeserver_request::check_ping(&self.client_body().await?)?;
                Ok(Response::json(json!({})))
            }
        }
    }

    /// Returns our registration with the homeserver, once the request has proven to be from there.
    fn verified_homeserver(&self) -> Result<&'a ApplicationService, ApiError> {
        let service = self.config.application_service.as_ref().ok_or(ApiError::Unrecognized)?;
        service.verify(self.header("Authorization").as_deref()).map_err(ApiError::NotTheHomeserver)?;
        Ok(service)
    }

    /// Returns the user or server that our homeserver forwards the request for.
    fn requester<R: Requester>(&self) -> Result<R, ApiError> {
        R::from_header(self.header(R::HEADER).as_deref())
    }

    fn header(&self, name: &str) -> Option<String> {
        self.request.headers().get(name).ok().flatten()
    }

    async fn client_body(&self) -> Result<Vec<u8>, ApiError> {
        body::read(self.request, MAX_CLIENT_BODY).await
    }

    async fn run(self, operation: Operation<'a>) -> Result<Response, ApiError> {
        let limits = RateLimits { env: self.env, log: self.log };
        // All requests through the homeserver have its address.
        if !matches!(operation, Operation::OfHomeserver(..))
            && let Some(client) = client_address(self.request)
        {
            limits.check_address(&client).await?;
        }
        let fetchers = Fetchers::from_env(self.env);
        let context = Rc::new(self.context);
        let wait_until: WaitUntil = Rc::new(move |promise| {
            // Fails only where the invocation is over, and then nothing depends on it.
            let _ = context.as_ref().as_ref().wait_until(promise);
        });
        let federation = Federation {
            fetchers: fetchers.clone(),
            policy: self.config.addresses,
            dns_over_https_url: Rc::clone(&self.config.dns_over_https_url),
            overrides: Rc::clone(&self.config.federation_url_overrides),
            wait_until: Rc::clone(&wait_until),
        };
        let client_apis = ClientApis {
            fetchers: fetchers.clone(),
            policy: self.config.addresses,
            overrides: Rc::clone(&self.config.cs_api_url_overrides),
            wait_until,
        };
        let tokens = TokenService {
            config: self.config,
            fetchers: &fetchers,
            federation: &federation,
            client_apis: &client_apis,
            rooms: RoomClient::of(self.env, self.config, self.log),
            limits,
            log: self.log,
        };
        let response = match operation {
            Operation::Token(request) => tokens.handle_token(request).await,
            Operation::Delegation(request) => tokens.handle_delegation(request).await,
            Operation::OfHomeserver(service, request) => HomeserverMode { tokens, service }.respond(request).await,
        };
        response.map(Response::json)
    }

    async fn status(self) -> Result<Response, ApiError> {
        let authorization = self.header("Authorization");
        let verified = signature::verify_status(authorization.as_deref(), &self.config.keys, clock::now_ms());
        verified.map_err(ApiError::NotTheOperator)?;
        let fetchers = Fetchers::from_env(self.env);
        let (sfu, key) = (&self.config.sfu, self.config.keys.signing());
        let sfu = RoomService { fetchers: &fetchers, sfu, key, rooms: self.config.room_settings() };
        let rooms = RoomClient::of(self.env, self.config, self.log);
        let state = StatusQuery::of_url(&self.request.url()).run(sfu, rooms).await?;
        Ok(Response::json(state).uncached())
    }

    async fn webhook(self) -> Result<Response, ApiError> {
        let authorization = self.header("Authorization");
        let signed = signature::verify(authorization.as_deref(), &self.config.keys, clock::now_ms());
        let signed = signed.map_err(ApiError::Webhook)?;
        let body = body::read(self.request, MAX_WEBHOOK_BODY).await?;
        signed.verify(&body).map_err(ApiError::Webhook)?;
        let not_an_event = |_| ApiError::NotJson("The body is not a webhook of LiveKit's".to_owned());
        match event::parse(&body).map_err(not_an_event)? {
            Webhook::Relevant { room, event } => {
                let rooms = RoomClient::of(self.env, self.config, self.log);
                rooms.send(&room, &RoomCommand::Webhook(event)).await?;
            }
            Webhook::Irrelevant => {}
            // Each of them is a request to pay for.
            Webhook::Unneeded => {
                let fields = json!({"remedy": INCLUDE_EVENTS, "needed": event::NEEDED});
                self.log.write_once(Level::Info, "webhooks without an effect arrive", fields);
            }
        }
        Ok(Response::json(json!({})))
    }
}

fn report(log: &Log, error: &ApiError, endpoint: Option<Endpoint>) {
    let (level, msg) = match error {
        ApiError::Misconfigured(_) => return,
        ApiError::Unauthorized(_) => (Level::Warn, "OpenID token verification failed"),
        ApiError::Webhook(_) => (Level::Warn, "webhook rejected"),
        ApiError::Sfu(_) => (Level::Error, "SFU room creation failed"),
        ApiError::Mint(_) => (Level::Error, "token signing failed"),
        ApiError::NotStored(_) => (Level::Error, "room object unavailable"),
        ApiError::NotTheOperator(_) => (Level::Warn, "status refused"),
        ApiError::NotTheHomeserver(_) => (Level::Warn, "invalid hs_token"),
        ApiError::MembershipUnknown(_) => (Level::Warn, "membership check failed"),
        ApiError::DelayedEventUnknown(_) => (Level::Warn, "delayed event lookup failed"),
        ApiError::NotRelayed(_) => (Level::Warn, "token relay failed"),
        ApiError::NoClientApi(_) => (Level::Warn, "client-server API not found"),
        ApiError::LeaveRefused(_) => (Level::Warn, "delayed leave not taken over"),
        ApiError::OutOfTime => (Level::Warn, "response out of time"),
        ApiError::RateLimited(_) => (Level::Warn, "rate limit reached"),
        ApiError::HomeserverNotAllowed(_) => (Level::Info, "homeserver not allowed"),
        ApiError::RoomFull => (Level::Warn, "room full"),
        _ => (Level::Debug, "request rejected"),
    };
    let endpoint = endpoint.map_or(Value::Null, |endpoint| format!("{endpoint:?}").into());
    log.write(
        level,
        msg,
        json!({"endpoint": endpoint, "status": error.status(), "errcode": error.errcode(), "cause": error.cause()}),
    );
}

/// Returns the path of an absolute URL in the serialisation of the platform.
pub(crate) fn path_of(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let path = url[authority..].find('/').map_or("", |at| &url[authority + at..]);
    path.split(['?', '#']).next().unwrap_or_default()
}

/// Returns the identifier that the edge gave the request. Elsewhere the header is set by the client, so its form is
/// checked.
fn platform_id(request: &Request) -> Option<String> {
    let id = request.headers().get("Cf-Ray").ok().flatten()?;
    (id.len() <= 32 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')).then_some(id)
}

/// Returns the address that the edge received the request from. Elsewhere the header is missing, or set by the
/// client.
fn client_address(request: &Request) -> Option<ClientAddress> {
    ClientAddress::parse(&request.headers().get("CF-Connecting-IP").ok().flatten()?)
}

/// Setting of LiveKit's that keeps webhooks from being sent.
const INCLUDE_EVENTS: &str = "webhook.filter_params.include_events in the SFU's configuration, with those needed";
const MAX_CLIENT_BODY: usize = 64 * 1024;
const MAX_WEBHOOK_BODY: usize = 1024 * 1024;
