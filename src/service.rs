//! One request: what is asked for, may it be asked, and who answers.

use std::rc::Rc;

use serde_json::{Value, json};
use web_sys::Request;
use worker::{Context, Env};

use crate::answer::Answer;
use crate::body;
use crate::clock;
use crate::config::Config;
use crate::deployment;
use crate::error::ApiError;
use crate::exchange::Exchange;
use crate::livekit::webhook;
use crate::log::{Level, Log};
use crate::matrix::federation::Federation;
use crate::outbound::Outbound;
use crate::route::Endpoint;
use crate::token_request::TokenRequest;

/// Answers `request`, errors included.
pub async fn answer(request: &Request, env: &Env, context: Context) -> Answer {
    let url = request.url();
    let endpoint = Endpoint::at(path_of(&url));
    let method = request.method();
    let for_browsers = endpoint.is_none_or(Endpoint::is_for_browsers);
    let answer = match endpoint {
        // A preflight is answered even by a broken deployment: without it no page could read what is wrong.
        Some(endpoint) if method == "OPTIONS" && endpoint.allows("OPTIONS") => Answer::preflight(),
        _ => {
            let deployment = deployment::configuration(env).await;
            let log = Log {
                threshold: deployment.as_ref().as_ref().map_or(Level::Info, |config| config.log_level),
                request_id: request_id(request),
            };
            let outcome = match deployment.as_ref() {
                Ok(config) => {
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
                Answer::from(&error)
            })
        }
    };
    if for_browsers { answer.with_cors() } else { answer }
}

struct Service<'a> {
    config: &'a Config,
    request: &'a Request,
    env: &'a Env,
    context: Context,
    log: &'a Log,
}

impl Service<'_> {
    async fn respond(self, endpoint: Option<Endpoint>, method: &str) -> Result<Answer, ApiError> {
        let endpoint = endpoint.ok_or(ApiError::Unrecognized)?;
        if !endpoint.allows(method) {
            return Err(ApiError::MethodNotAllowed(endpoint.allow()));
        }
        match endpoint {
            Endpoint::Healthz => Ok(Answer::json(json!({"status": "ok"}))),
            Endpoint::GetToken => self.token(TokenRequest::from_get_token).await,
            Endpoint::SfuGet => self.token(TokenRequest::from_sfu_get).await,
            Endpoint::SfuWebhook => self.webhook().await,
        }
    }

    async fn token(self, parse: fn(&[u8]) -> Result<TokenRequest, ApiError>) -> Result<Answer, ApiError> {
        let request = parse(&body::read(self.request, MAX_CLIENT_BODY).await?)?;
        let outbound = Outbound::from_env(self.env);
        let context = Rc::new(self.context);
        let federation = Federation {
            outbound: outbound.clone(),
            policy: self.config.addresses,
            dns_over_https_url: self.config.dns_over_https_url.clone(),
            wait_until: Rc::new(move |promise| {
                // It fails only where the invocation is over already, and then nobody waits.
                let _ = context.as_ref().as_ref().wait_until(promise);
            }),
        };
        let exchange = Exchange { config: self.config, outbound: &outbound, federation: &federation, log: self.log };
        exchange.run(request).await.map(Answer::json)
    }

    async fn webhook(self) -> Result<Answer, ApiError> {
        let body = body::read(self.request, MAX_WEBHOOK_BODY).await?;
        let authorization = self.request.headers().get("Authorization").ok().flatten();
        webhook::verify(authorization.as_deref(), &body, &self.config.keys, clock::now_ms())
            .map_err(ApiError::Webhook)?;
        Ok(Answer::json(json!({})))
    }
}

fn report(log: &Log, error: &ApiError, endpoint: Option<Endpoint>) {
    let (level, msg) = match error {
        ApiError::Misconfigured(_) => return,
        ApiError::Unauthorized(_) => (Level::Warn, "OpenID token not verified"),
        ApiError::Webhook(_) => (Level::Warn, "webhook refused"),
        ApiError::Sfu(_) => (Level::Error, "room not created"),
        ApiError::Mint(_) => (Level::Error, "token not signed"),
        _ => (Level::Debug, "request refused"),
    };
    let endpoint = endpoint.map_or(Value::Null, |endpoint| format!("{endpoint:?}").into());
    log.write(
        level,
        msg,
        json!({"endpoint": endpoint, "status": error.status(), "errcode": error.errcode(), "cause": error.cause()}),
    );
}

/// The path of an absolute URL in the platform's serialisation.
fn path_of(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let path = url[authority..].find('/').map_or("", |at| &url[authority + at..]);
    path.split(['?', '#']).next().unwrap_or_default()
}

/// The platform's name for the request, or one of our own.
fn request_id(request: &Request) -> String {
    request.headers().get("Cf-Ray").ok().flatten().unwrap_or_else(|| {
        let mut random = [0; 8];
        // Without randomness the line is still worth writing.
        let _ = getrandom::fill(&mut random);
        format!("{:016x}", u64::from_be_bytes(random))
    })
}

const MAX_CLIENT_BODY: usize = 64 * 1024;
const MAX_WEBHOOK_BODY: usize = 1024 * 1024;
