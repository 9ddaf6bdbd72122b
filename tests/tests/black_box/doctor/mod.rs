//! The doctor finds everything well where it is, and names the cause of each problem that it knows.

mod configured;
mod healthy;
mod homeserver;
mod service;
mod sfu;
mod webhooks;

use black_box::{DelayedEvents, Deployment, Homeserver, Lab, MeddlingProxy, Operation, Reply, Service, Sfu};
use clap::Parser;
use matrixrtc_doctor::{Check, Finding, Report, Status, Subject, examine};
use serde_json::{Value, json};

/// A deployment as it should be, with all its parts and real names, for a test to break one thing in it.
struct World {
    proxy: MeddlingProxy,
    home: Homeserver,
    client_api: DelayedEvents,
    sfu: Sfu,
    _service: Service,
    lab: Lab,
    arguments: Vec<String>,
}

impl World {
    async fn new() -> Self {
        Self::with(Lab::new().await, |deployment| deployment).await
    }

    /// With another configuration of the service.
    async fn with(lab: Lab, configure: impl FnOnce(Deployment) -> Deployment) -> Self {
        let sfu = lab.sfu_behind_proxy("sfu.example.org", 443, "/livekit/sfu").await;
        let home = lab.homeserver("example.org").browsed().start().await;
        let client_api = lab.delayed_events("cs.example.org").await;
        client_api.answer_always(MADE_UP, Operation::Restart, error(404, "M_NOT_FOUND"));
        home.set_client_well_known(well_known(&announcement(SERVICE_URL)));
        let deployment = lab.deployment().full_access("example.org").set("LIVEKIT_URL", SFU_URL);
        let service = configure(deployment).start();
        let proxy = lab.proxy("rtc.example.org", "/livekit/jwt", &service).await;
        let (key, secret) = Sfu::credentials();
        let mut world = Self { proxy, home, client_api, sfu, _service: service, lab, arguments: Vec::new() };
        world.arguments = vec![String::from("doctor"), String::from(SERVICE_URL)];
        world.set("--server-name", "example.org");
        world.set("--sfu-url", SFU_URL);
        world.set("--sfu-key", key);
        world.set("--sfu-secret", secret);
        let resolver = world.lab.resolver.url();
        world.set("--dns-over-https-url", &resolver);
        world
    }

    /// Gives an option, in place of the one that is there.
    fn set(&mut self, option: &str, value: &str) {
        self.unset(option);
        self.arguments.extend([option.to_owned(), value.to_owned()]);
    }

    /// Takes an option away.
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
            options: matrixrtc_doctor::Options,
        }
        let mut arguments = self.arguments.clone();
        arguments.extend([String::from("--trust-ca"), self.lab.authority.pem().display().to_string()]);
        let program = Program::try_parse_from(arguments).unwrap_or_else(|error| panic!("{error}"));
        program.options.into_subject(|_| None).unwrap()
    }

    /// Fails unless this check, and no other, is a problem, with this cause and something to change.
    #[track_caller]
    fn assert_problem(report: &Report, check: Check, cause: &str) {
        Self::assert_finding(report, check, Status::Problem, cause);
        let problems: Vec<_> =
            report.findings.iter().filter(|finding| finding.outcome.status == Status::Problem).collect();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert_eq!(format!("{:?}", report.exit_code()), format!("{:?}", std::process::ExitCode::FAILURE));
    }

    /// Fails unless this check is a warning, with this cause, and nothing is a problem.
    #[track_caller]
    fn assert_warning(report: &Report, check: Check, cause: &str) {
        Self::assert_finding(report, check, Status::Warning, cause);
        assert!(!report.has_problem(), "{:#?}", report.findings);
        assert_eq!(format!("{:?}", report.exit_code()), format!("{:?}", std::process::ExitCode::SUCCESS));
    }

    #[track_caller]
    fn assert_finding(report: &Report, check: Check, status: Status, cause: &str) {
        let Finding { outcome, .. } = Self::finding(report, check);
        assert_eq!(outcome.status, status, "{:#?}", report.findings);
        assert!(outcome.seen.contains(cause), "{outcome:#?}");
        assert!(outcome.change.as_ref().is_some_and(|change| !change.is_empty()), "{outcome:#?}");
        let (_, secret) = Sfu::credentials();
        let whole = serde_json::to_string(report).unwrap();
        assert!(!whole.contains(secret) && !whole.contains("eyJ"), "a secret is in {whole}");
    }

    /// Fails unless exactly these were skipped.
    #[track_caller]
    fn assert_skipped(report: &Report, checks: &[Check]) {
        let skipped = report.findings.iter().filter(|finding| finding.outcome.status == Status::Skipped);
        assert_eq!(skipped.map(|finding| finding.check).collect::<Vec<_>>(), checks);
    }

    #[track_caller]
    fn finding(report: &Report, check: Check) -> &Finding {
        let mut found = report.findings.iter().filter(|finding| finding.check == check);
        let finding = found.next().unwrap_or_else(|| panic!("{check:?} isn't in {report:#?}"));
        assert!(found.next().is_none(), "{check:?} is there twice");
        finding
    }
}

/// The file, as a web server should serve it.
fn well_known(content: &Value) -> Reply {
    Reply::json(200, content).header("access-control-allow-origin", "*")
}

fn announcement(service_url: &str) -> Value {
    json!({
        "m.homeserver": { "base_url": "https://cs.example.org" },
        "org.matrix.msc4143.rtc_foci": [{ "type": "livekit", "livekit_service_url": service_url }],
    })
}

fn error(status: u16, errcode: &str) -> Reply {
    Reply::json(status, &json!({ "errcode": errcode, "error": "" }))
}

const SERVICE_URL: &str = "https://rtc.example.org/livekit/jwt";
const SFU_URL: &str = "wss://sfu.example.org/livekit/sfu";
const MADE_UP: &str = "made-up-by-matrixrtc-doctor";
