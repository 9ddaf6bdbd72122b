//! Black-box tests of the doctor: it finds nothing wrong with a correct deployment, and names the cause of each known
//! problem.

mod announcements;
mod cloudflare;
mod configured;
mod healthy;
mod homeserver;
mod homeserver_mode;
mod livekit_cloud;
mod service;
mod sfu;
mod user;
mod webhooks;

use black_box::{Deployment, MeddlingProxy, Operation, OwnHomeserver, Reply, Service, Sfu, TestSetup};
use clap::Parser;
use operator::doctor::{Finding, Password, Report, ServiceUrl, Status, Subject, examine};
use serde_json::{Value, json};
use std::fs;
use tempfile::NamedTempFile;

/// Correct deployment with all its parts and real names, in which a test breaks one part.
struct World {
    proxy: MeddlingProxy,
    own: OwnHomeserver,
    sfu: Sfu,
    service: Service,
    setup: TestSetup,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    secrets_file: NamedTempFile,
}

impl World {
    async fn new() -> Self {
        Self::with(TestSetup::new().await, |deployment| deployment).await
    }

    /// Sets up the deployment with another configuration of the service.
    async fn with(setup: TestSetup, configure: impl FnOnce(Deployment) -> Deployment) -> Self {
        Self::with_homeserver(setup, |deployment, _| configure(deployment)).await
    }

    /// The homeserver has the service as an application service, and the doctor gets the tokens.
    async fn in_homeserver_mode() -> Self {
        let mut world = Self::with_homeserver(TestSetup::new().await, Deployment::homeserver_mode).await;
        let (as_token, hs_token) = (world.own.as_token().to_owned(), world.own.hs_token().to_owned());
        world.set("--as-token", &as_token);
        world.set("--hs-token", &hs_token);
        world.own.announces_nothing();
        world.own.announces(&entry(Some(SFU_URL)));
        world.own.passes_on_to(&world.service.url(""), &hs_token);
        world
    }

    async fn with_homeserver(
        setup: TestSetup,
        configure: impl FnOnce(Deployment, &OwnHomeserver) -> Deployment,
    ) -> Self {
        let sfu = setup.sfu_behind_proxy("sfu.example.org", 443, "/livekit/sfu").await;
        let own = setup.own_homeserver_of(setup.homeserver("example.org").browsed().start().await).await;
        for operation in [Operation::Restart, Operation::Send] {
            own.events.answer_always(MADE_UP, operation, error(404, "M_NOT_FOUND"));
        }
        own.home.set_client_well_known(well_known(&announcement(SERVICE_URL)));
        own.announces(&entry(None));
        let deployment = setup.deployment().full_access("example.org").set("LIVEKIT_URL", SFU_URL);
        let service = configure(deployment, &own).start();
        let proxy = setup.proxy("rtc.example.org", "/livekit/jwt", &service).await;
        let (key, secret) = Sfu::credentials();
        let secrets_file = NamedTempFile::new().unwrap();
        let (arguments, environment) = (Vec::new(), Vec::new());
        let mut world = Self { proxy, own, sfu, service, setup, arguments, environment, secrets_file };
        world.has_secrets(&json!({}));
        world.arguments = vec![String::from("doctor"), String::from(SERVICE_URL)];
        world.set("--server-name", "example.org");
        world.set("--sfu-url", SFU_URL);
        world.set("--sfu-key", key);
        world.set("--sfu-secret", secret);
        let path = world.secrets_file.path().display().to_string();
        world.set("--secrets-file", &path);
        let resolver = world.setup.resolver.url();
        world.set("--dns-over-https-url", &resolver);
        world
    }

    /// Sets the content of the doctor's secrets file.
    fn has_secrets(&self, secrets: &Value) {
        fs::write(self.secrets_file.path(), secrets.to_string()).unwrap();
    }

    /// Sets an option of the doctor, replacing its value.
    fn set(&mut self, option: &str, value: &str) {
        self.unset(option);
        self.arguments.extend([option.to_owned(), value.to_owned()]);
    }

    /// Removes an option of the doctor.
    fn unset(&mut self, option: &str) {
        if let Some(at) = self.arguments.iter().position(|argument| argument == option) {
            self.arguments.drain(at..at + 2);
        }
    }

    async fn examine(&self) -> Report {
        examine(&self.subject(), &mut ()).await
    }

    fn subject(&self) -> Subject {
        #[derive(Parser)]
        struct Program {
            #[command(flatten)]
            options: operator::doctor::Options,
        }
        let mut arguments = self.arguments.clone();
        arguments.extend([String::from("--trust-ca"), self.setup.authority.pem().display().to_string()]);
        let program = Program::try_parse_from(arguments).unwrap_or_else(|error| panic!("{error}"));
        let variable =
            |name: &str| self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        program.options.into_subject(variable, |_| Ok(Password::new(self.own.password().to_owned()))).unwrap()
    }

    /// Fails unless this check, and no other, is a problem, with this cause and something to change.
    #[track_caller]
    fn assert_problem(report: &Report, check: &str, cause: &str) {
        Self::assert_finding(report, check, Status::Problem, cause);
        let problems: Vec<_> =
            report.findings.iter().filter(|finding| finding.outcome.status == Status::Problem).collect();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert_eq!(format!("{:?}", report.exit_code()), format!("{:?}", std::process::ExitCode::FAILURE));
    }

    /// Fails unless this check is a warning, with this cause, and nothing is a problem.
    #[track_caller]
    fn assert_warning(report: &Report, check: &str, cause: &str) {
        Self::assert_finding(report, check, Status::Warning, cause);
        assert!(!report.has_problem(), "{:#?}", report.findings);
        assert_eq!(format!("{:?}", report.exit_code()), format!("{:?}", std::process::ExitCode::SUCCESS));
    }

    #[track_caller]
    fn assert_finding(report: &Report, check: &str, status: Status, cause: &str) {
        let Finding { outcome, .. } = Self::finding(report, check);
        assert_eq!(outcome.status, status, "{:#?}", report.findings);
        assert!(outcome.seen.contains(cause), "{outcome:#?}");
        assert!(outcome.change.as_ref().is_some_and(|change| !change.is_empty()), "{outcome:#?}");
        Self::assert_no_secret(report);
    }

    /// Fails unless everything is well, homeserver mode included, as far as it isn't for a user only.
    #[track_caller]
    fn assert_well_in_homeserver_mode(report: &Report) {
        let mut checked = report.findings.iter().filter(|finding| !Self::is_of_a_user_only(finding));
        assert!(checked.all(|finding| finding.outcome.status == Status::Ok), "{:#?}", report.findings);
    }

    /// The checks that were skipped, beside those that are for a user only.
    fn skipped(report: &Report) -> Vec<&'static str> {
        let skipped = report.findings.iter().filter(|finding| finding.outcome.status == Status::Skipped);
        skipped.filter(|finding| !Self::is_of_a_user_only(finding)).map(|finding| finding.check).collect()
    }

    /// Fails unless exactly these were skipped, beside those that are for homeserver mode or a user only.
    #[track_caller]
    fn assert_skipped(report: &Report, checks: &[&str]) {
        let skipped = report.findings.iter().filter(|finding| finding.outcome.status == Status::Skipped);
        let other = skipped.filter(|finding| !Self::is_for_another_purpose(finding));
        assert_eq!(other.map(|finding| finding.check).collect::<Vec<_>>(), checks);
    }

    /// Fails unless everything is well, as far as it isn't for homeserver mode or a user only.
    #[track_caller]
    fn assert_well(report: &Report) {
        let mut checked = report.findings.iter().filter(|finding| !Self::is_for_another_purpose(finding));
        assert!(checked.all(|finding| finding.outcome.status == Status::Ok), "{:#?}", report.findings);
    }

    /// Whether a check was skipped because the deployment isn't in homeserver mode, or no user is given, as far as the
    /// doctor's options say.
    fn is_for_another_purpose(finding: &Finding) -> bool {
        let of_the_mode = ["ping", "as-token", "is-joined", "transports", "proxying"];
        let is_known = of_the_mode.contains(&finding.check) || finding.check.starts_with("user-homeserver");
        let not_given = finding.outcome.seen.contains("for homeserver mode only");
        Self::is_of_a_user_only(finding) || is_known && finding.outcome.status == Status::Skipped && not_given
    }

    /// Whether a check was skipped because no user is given.
    fn is_of_a_user_only(finding: &Finding) -> bool {
        let not_given = finding.outcome.seen.contains("for the way of a user only");
        finding.check.starts_with("user") && finding.outcome.status == Status::Skipped && not_given
    }

    #[track_caller]
    fn assert_no_secret(report: &Report) {
        let (_, secret) = Sfu::credentials();
        let whole = serde_json::to_string(report).unwrap();
        // The tokens of the registration file begin with SECRET-.
        let is_in_it = [secret, "eyJ", "SECRET-"].iter().any(|text| whole.contains(text));
        assert!(!is_in_it, "a secret is in the report");
    }

    #[track_caller]
    fn finding<'a>(report: &'a Report, check: &str) -> &'a Finding {
        let mut found = report.findings.iter().filter(|finding| finding.check == check);
        let finding = found.next().unwrap_or_else(|| panic!("{check:?} isn't in {report:#?}"));
        assert!(found.next().is_none(), "{check:?} is there twice");
        finding
    }
}

/// Well-known file, as a web server should serve it.
fn well_known(content: &Value) -> Reply {
    Reply::json(200, content).header("access-control-allow-origin", "*")
}

fn announcement(service_url: &str) -> Value {
    json!({
        "m.homeserver": { "base_url": "https://cs.example.org" },
        "org.matrix.msc4143.rtc_foci": [{ "type": "livekit", "livekit_service_url": service_url }],
    })
}

/// Entry of both places; with both keys in homeserver mode.
fn entry(sfu_url: Option<&str>) -> Value {
    operator::doctor::announcement::entry(&ServiceUrl::parse(SERVICE_URL).unwrap(), sfu_url)
}

fn error(status: u16, errcode: &str) -> Reply {
    Reply::json(status, &json!({ "errcode": errcode, "error": "" }))
}

const SERVICE_URL: &str = "https://rtc.example.org/livekit/jwt";
const SFU_URL: &str = "wss://sfu.example.org/livekit/sfu";
const MADE_UP: &str = "made-up-by-matrixrtc-doctor";
