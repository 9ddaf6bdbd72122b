//! The round: what is checked in which order, and what is left out when something fundamental fails.

use std::future::Future;
use std::time::{Duration, Instant};

use matrixrtc_edge::livekit::keys::{ApiKey, ApiKeys};
use matrixrtc_edge::livekit::sfu_url::SfuUrl;
use matrixrtc_edge::matrix::federation::discovery::AddressPolicy;
use matrixrtc_edge::matrix::ids::server_name::ServerName;
use tokio::time::{MissedTickBehavior, interval_at};
use url::Url;

use crate::doctor::announcement;
use crate::doctor::client_api::{self, ClientApi};
use crate::doctor::federation;
use crate::doctor::homeserver_mode::{self, Homeserver, RegistrationToken};
use crate::doctor::report::{Check, Finding, Outcome, Report, Status};
use crate::doctor::service;
use crate::doctor::service_url::ServiceUrl;
use crate::doctor::sfu::Sfu;
use crate::doctor::trust::Trust;
use crate::doctor::watch::Watcher;
use crate::doctor::web::Web;
use crate::doctor::webhook;

/// What is to be examined.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Where the service is.
    pub service: ServiceUrl,
    /// A homeserver whose users call with it.
    pub server_name: Option<ServerName>,
    /// The SFU's URL that clients get.
    pub sfu_url: Option<SfuUrl>,
    /// The key pair that the service and the SFU share.
    pub credentials: Option<SfuCredentials>,
    /// The `as_token` of the registration file at `server_name`, or why it isn't there.
    pub as_token: Result<RegistrationToken, &'static str>,
    /// The `hs_token` of that file, or why it isn't there.
    pub hs_token: Result<RegistrationToken, &'static str>,
    /// Which certificates are trusted.
    pub trust: Trust,
    /// Where homeservers may be.
    pub addresses: AddressPolicy,
    /// The resolver for SRV records.
    pub dns_over_https_url: Url,
}

/// A key pair, as the service reads it and as it was given. Printing it shows neither.
#[derive(Clone)]
pub struct SfuCredentials {
    /// As the service reads it: without white space around it.
    pub(crate) keys: ApiKeys,
    /// As it was given.
    name: String,
    secret: String,
}

impl SfuCredentials {
    /// A pair; `None` when either is empty.
    pub fn parse(name: &str, secret: &str) -> Option<Self> {
        Some(Self { keys: ApiKeys::single(name, secret)?, name: name.to_owned(), secret: secret.to_owned() })
    }

    /// What the service signs with.
    pub(crate) fn key(&self) -> &ApiKey {
        self.keys.signing()
    }

    /// Whether the key or the secret was given with white space around it: which of them.
    pub(crate) fn padded(&self) -> Option<&'static str> {
        match (self.name.trim() != self.name, self.secret.trim() != self.secret) {
            (true, _) => Some("key"),
            (_, true) => Some("secret"),
            _ => None,
        }
    }

    /// The pair with white space that may have got into one of the two at the SFU, and what that is.
    pub(crate) fn variants(&self) -> impl Iterator<Item = (&'static str, ApiKey)> + '_ {
        let (name, secret) = (self.name.trim(), self.secret.trim());
        [
            ("a line feed at the end of the secret", ApiKey::new(name, &format!("{secret}\n"))),
            ("a line feed at the end of the secret", ApiKey::new(name, &format!("{secret}\r\n"))),
            ("a space at the end of the secret", ApiKey::new(name, &format!("{secret} "))),
            ("a space at the beginning of the secret", ApiKey::new(name, &format!(" {secret}"))),
            ("a line feed at the end of the key", ApiKey::new(&format!("{name}\n"), secret)),
            ("a space at the end of the key", ApiKey::new(&format!("{name} "), secret)),
        ]
        .into_iter()
    }
}

impl std::fmt::Debug for SfuCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SfuCredentials")
    }
}

/// Examines `subject`; `watcher` hears of it as it goes on.
pub async fn examine(subject: &Subject, watcher: &mut dyn Watcher) -> Report {
    let web = Web { trust: subject.trust.clone() };
    let mut round = Round { report: Report::default(), watcher };
    let healthy = the_service(&mut round, &web, subject).await;
    let homeserver = match &subject.server_name {
        Some(server_name) => the_homeserver(&mut round, &web, subject, server_name).await,
        None => {
            round.skip_all(&HOMESERVER_CHECKS, NO_HOMESERVER);
            None
        }
    };
    homeserver_mode(&mut round, &web, subject, healthy, homeserver.as_ref()).await;
    the_sfu(&mut round, &web, subject).await;
    the_webhooks(&mut round, &web, subject, healthy).await;
    round.report
}

/// Gives whether the service is there and well.
async fn the_service(round: &mut Round<'_>, web: &Web, subject: &Subject) -> bool {
    let service = &subject.service;
    if !round.gate(Check::ServiceAddress, service::address(service)).await {
        round.skip_all(&SERVICE_CHECKS, "no connection to the service");
        return false;
    }
    if !round.gate(Check::ServiceCertificate, service::certificate(web, service)).await {
        round.skip_all(&SERVICE_CHECKS[1..], "no trusted TLS connection to the service");
        return false;
    }
    if !round.gate(Check::Healthz, service::healthz(web, service)).await {
        round.skip_all(&SERVICE_CHECKS[2..], "/healthz must be well first");
        return false;
    }
    let errors = round.check(Check::Endpoints, service::endpoints(web, service)).await;
    round.check(Check::Slashes, service::slashes(web, service)).await;
    round.check(Check::Preflight, service::preflight(web, service)).await;
    match errors {
        Some(errors) => _ = round.check(Check::CorsOnErrors, service::cors_on_errors(&errors)).await,
        None => round.skip(Check::CorsOnErrors, "no endpoint answers with an error of the service's"),
    }
    true
}

/// Gives its client-server API, where it is.
async fn the_homeserver(
    round: &mut Round<'_>,
    web: &Web,
    subject: &Subject,
    server_name: &ServerName,
) -> Option<ClientApi> {
    let well_known = round.check(Check::Announcement, announcement::check(web, &subject.service, server_name)).await;
    match round.check(Check::FederationDiscovery, federation::discovery(web, subject, server_name)).await {
        Some(found) => _ = round.check(Check::OpenId, federation::openid(web, &found)).await,
        None => round.skip(Check::OpenId, "the federation API isn't found"),
    }
    let Some(well_known) = well_known else {
        round.skip_all(&[Check::ClientApi, Check::DelayedEvents], "there is no .well-known/matrix/client");
        return None;
    };
    let api = round.check(Check::ClientApi, client_api::find(web, subject, &well_known)).await;
    match &api {
        Some(api) => _ = round.check(Check::DelayedEvents, client_api::delayed_events(web, api)).await,
        None => round.skip(Check::DelayedEvents, NO_CLIENT_API),
    }
    api
}

async fn homeserver_mode(round: &mut Round<'_>, web: &Web, subject: &Subject, healthy: bool, api: Option<&ClientApi>) {
    let is_on = match &subject.hs_token {
        Err(reason) => {
            round.skip(Check::Ping, reason);
            healthy
        }
        Ok(_) if !healthy => {
            round.skip(Check::Ping, NOT_WELL);
            false
        }
        Ok(token) => round.gate(Check::Ping, homeserver_mode::ping(web, &subject.service, token)).await,
    };
    let homeserver = match (&subject.as_token, &subject.server_name, api) {
        (Err(reason), ..) => Err(*reason),
        (_, None, _) => Err(NO_HOMESERVER),
        (_, _, None) => Err(NO_CLIENT_API),
        (Ok(as_token), Some(server_name), Some(api)) => Ok(Homeserver { web, api, server_name, as_token }),
    };
    let homeserver = match homeserver {
        Ok(homeserver) => homeserver,
        Err(reason) => return round.skip_all(&AS_TOKEN_CHECKS, reason),
    };
    if !round.gate(Check::AsToken, homeserver.takes_as_token()).await {
        round.skip_all(&AS_TOKEN_CHECKS[1..], "the homeserver must take the as_token first");
        return;
    }
    round.check(Check::IsJoined, homeserver.tells_who_is_joined()).await;
    round.check(Check::Transports, homeserver.announces(subject.sfu_url.as_ref())).await;
    match is_on {
        true => _ = round.check(Check::Proxying, homeserver.passes_requests_on()).await,
        false => round.skip(Check::Proxying, "the service must be well, and in homeserver mode, first"),
    }
}

async fn the_sfu(round: &mut Round<'_>, web: &Web, subject: &Subject) {
    let Some(url) = &subject.sfu_url else {
        let reason = "clients are told the SFU's URL with a token, which takes a login: name it with --sfu-url";
        round.skip_all(&SFU_CHECKS, reason);
        return;
    };
    let sfu = Sfu { web, url };
    if !round.gate(Check::Sfu, sfu.answers()).await {
        round.skip_all(&SFU_CHECKS[1..], "no SFU answers");
        return;
    }
    round.check(Check::WebSockets, sfu.lets_websockets_through()).await;
    let Some(credentials) = &subject.credentials else {
        round.skip_all(&SFU_CHECKS[2..], NO_CREDENTIALS);
        return;
    };
    if !round.gate(Check::SfuKeys, sfu.takes_key(credentials)).await {
        round.skip_all(&SFU_CHECKS[3..], "the SFU must take the key first");
        return;
    }
    round.check(Check::SfuRooms, sfu.creates_rooms(credentials.key())).await;
    round.check(Check::AutoCreate, sfu.auto_create_is_off(credentials.key())).await;
}

async fn the_webhooks(round: &mut Round<'_>, web: &Web, subject: &Subject, healthy: bool) {
    if !healthy {
        round.skip_all(&WEBHOOK_CHECKS, NOT_WELL);
        return;
    }
    match &subject.credentials {
        Some(credentials) => {
            _ = round.check(Check::Webhook, webhook::is_taken(web, &subject.service, credentials.key())).await;
        }
        None => round.skip(Check::Webhook, NO_CREDENTIALS),
    }
    round
        .check(Check::ForgedWebhook, webhook::forgery_is_refused(web, &subject.service, subject.credentials.as_ref()))
        .await;
}

/// What a check has come to, with what it leaves to those that follow: nothing where they can't go on.
pub(crate) type Verdict<T> = (Outcome, Option<T>);

struct Round<'a> {
    report: Report,
    watcher: &'a mut dyn Watcher,
}

impl Round<'_> {
    /// Runs a check, telling the watcher when it takes long.
    async fn check<T>(&mut self, check: Check, run: impl Future<Output = Verdict<T>>) -> Option<T> {
        let begun = Instant::now();
        let mut ticks = interval_at(tokio::time::Instant::now() + FIRST_SIGN, LATER_SIGNS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut run = std::pin::pin!(run);
        let (outcome, left) = loop {
            tokio::select! {
                verdict = &mut run => break verdict,
                _ = ticks.tick() => self.watcher.waiting(check, begun.elapsed()),
            }
        };
        self.note(check, outcome);
        left
    }

    /// Runs a check that others depend on; gives whether they can go on.
    async fn gate(&mut self, check: Check, run: impl Future<Output = Verdict<()>>) -> bool {
        self.check(check, run).await.is_some()
    }

    fn skip(&mut self, check: Check, reason: &str) {
        self.note(check, Outcome::skipped(reason));
    }

    fn skip_all(&mut self, checks: &[Check], reason: &str) {
        for check in checks {
            self.skip(*check, reason);
        }
    }

    fn note(&mut self, check: Check, outcome: Outcome) {
        let outcome = outcome.printable();
        let finding = Finding { check, outcome };
        self.watcher.found(&finding);
        self.report.findings.push(finding);
    }
}

/// The outcome, and leave to go on unless it is a problem.
pub(crate) fn unless_problem(outcome: Outcome) -> Verdict<()> {
    let go_on = (outcome.status != Status::Problem).then_some(());
    (outcome, go_on)
}

/// Those that need the service's address.
const SERVICE_CHECKS: [Check; 6] = [
    Check::ServiceCertificate,
    Check::Healthz,
    Check::Endpoints,
    Check::Slashes,
    Check::Preflight,
    Check::CorsOnErrors,
];
const HOMESERVER_CHECKS: [Check; 5] =
    [Check::Announcement, Check::FederationDiscovery, Check::OpenId, Check::ClientApi, Check::DelayedEvents];
/// Those that need the as_token.
const AS_TOKEN_CHECKS: [Check; 4] = [Check::AsToken, Check::IsJoined, Check::Transports, Check::Proxying];
const SFU_CHECKS: [Check; 5] = [Check::Sfu, Check::WebSockets, Check::SfuKeys, Check::SfuRooms, Check::AutoCreate];
const WEBHOOK_CHECKS: [Check; 2] = [Check::Webhook, Check::ForgedWebhook];
const NOT_WELL: &str = "the service must be well first";
const NO_HOMESERVER: &str = "no homeserver is named: --server-name";
const NO_CLIENT_API: &str = "the client-server API isn't there";
const NO_CREDENTIALS: &str = "the key pair isn't told: --sfu-key and --sfu-secret, or LIVEKIT_KEY and LIVEKIT_SECRET";
const FIRST_SIGN: Duration = Duration::from_secs(1);
const LATER_SIGNS: Duration = Duration::from_secs(4);
