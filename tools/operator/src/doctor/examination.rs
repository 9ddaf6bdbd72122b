//! The round: what is checked in which order, and what is left out when something fundamental fails.

use std::future::Future;
use std::time::{Duration, Instant};

use matrixrtc_edge::matrix::ids::server_name::ServerName;
use tokio::time::{MissedTickBehavior, interval_at};

use crate::doctor::announcement;
use crate::doctor::client_api::{self, ClientApi};
use crate::doctor::federation;
use crate::doctor::homeserver_mode::{self, Homeserver};
use crate::doctor::report::{Check, Finding, Outcome, Report, Verdict};
use crate::doctor::service;
use crate::doctor::sfu::Sfu;
use crate::doctor::subject::Subject;
use crate::doctor::watch::Watcher;
use crate::doctor::web::Web;
use crate::doctor::webhook;

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
    if !round.gate(Check::AsToken, homeserver.accepts_as_token()).await {
        round.skip_all(&AS_TOKEN_CHECKS[1..], "the homeserver must take the as_token first");
        return;
    }
    round.check(Check::IsJoined, homeserver.reports_is_joined()).await;
    round.check(Check::Transports, homeserver.announces_sfu(subject.sfu_url.as_ref())).await;
    match is_on {
        true => _ = round.check(Check::Proxying, homeserver.forwards_requests()).await,
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
    round.check(Check::WebSockets, sfu.passes_websockets()).await;
    let Some(credentials) = &subject.credentials else {
        round.skip_all(&SFU_CHECKS[2..], NO_CREDENTIALS);
        return;
    };
    if !round.gate(Check::SfuKeys, sfu.accepts_key(credentials)).await {
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
            _ = round.check(Check::Webhook, webhook::is_accepted(web, &subject.service, credentials.key())).await;
        }
        None => round.skip(Check::Webhook, NO_CREDENTIALS),
    }
    round
        .check(Check::ForgedWebhook, webhook::forgery_is_refused(web, &subject.service, subject.credentials.as_ref()))
        .await;
}

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
