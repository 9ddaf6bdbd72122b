//! The systemd unit (`docs/guides/own-machine.md#with-systemd`): valid, tightly sandboxed, and the service works in it.
//!
//! `systemd-analyze` judges the file. The other tests boot a systemd as process 1 of a namespace, which runs the unit
//! with the packaged executable between the fakes. They need root, and are skipped without.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use black_box::{Client, DelayedEvents, Departure, EntryPoint, Homeserver, Member, Package, Systemd, TestSetup};
use hyper::Method;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn systemd_finds_nothing_wrong_with_it() {
    let programs = tempfile::tempdir().unwrap();
    fs::write(programs.path().join("matrixrtc-edge"), "").unwrap();
    Command::new("chmod").arg("755").arg(programs.path().join("matrixrtc-edge")).status().unwrap();

    let outcome = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-e", "-c"])
        .arg(r#"mount --bind "$0" /usr/local/bin; exec systemd-analyze verify --man=no --recursive-errors=no "$1""#)
        .arg(programs.path())
        .arg(Systemd::unit())
        .output()
        .unwrap();

    assert!(outcome.status.success() && stderr(&outcome).is_empty(), "{outcome:?}");
}

#[test]
fn systemd_finds_it_tight() {
    let outcome = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=15"])
        .arg(Systemd::unit())
        .output()
        .unwrap();

    assert!(outcome.status.success(), "{outcome:?}");
}

#[tokio::test]
async fn the_service_does_all_it_does_in_it() {
    let Some(stage) = Stage::new().await else { return };

    let (delay_id, participant) = stage.connected().await;
    for (field, expected) in [("NoNewPrivs:", "1"), ("Seccomp:", "2"), ("CapBnd:", "0000000000000000")] {
        let found = stage.systemd.status_of_processes(field);
        assert_eq!(found, [expected; 2], "{field}");
    }
    let users = stage.systemd.status_of_processes("Uid:");
    assert!(users.iter().all(|user| !user.starts_with("0\t")), "{users:?}");

    // The state survives a restart, under whichever user id `DynamicUser` assigns next.
    let restarts = stage.events.restarts(&delay_id);
    let outcome = stage.systemd.systemctl(["restart", UNIT]);
    assert!(outcome.status.success(), "{outcome:?}");
    stage.started().await;
    stage.events.restarted(&delay_id, restarts + 1).await;
    stage.setup.sfu.leave(&participant);
    let answer = stage.client.webhook("/sfu_webhook", &participant.left(Departure::ClientInitiated)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    stage.events.sent(&delay_id).await;
}

#[tokio::test]
async fn it_comes_back_when_workerd_dies_and_stops_when_it_is_given_to() {
    let Some(stage) = Stage::new().await else { return };
    let processes = stage.systemd.processes();
    let [_, workerd] = &processes[..] else { panic!("{processes:?}") };

    kill(Pid::from_raw(workerd.parse().unwrap()), Signal::SIGKILL).unwrap();

    stage.systemd.has("NRestarts", "1").await;
    stage.started().await;
    let outcome = stage.systemd.systemctl(["stop", UNIT]);
    assert!(outcome.status.success(), "{outcome:?}");
    assert_eq!(stage.systemd.property("ActiveState"), "inactive");
    assert_eq!(stage.systemd.property("ExecMainStatus"), "0");
    assert!(stage.systemd.processes().is_empty());
}

#[tokio::test]
async fn it_does_not_try_a_wrong_configuration_again_and_again() {
    let Some(setup) = test_setup().await else { return };
    let environment = setup.deployment().unset("LIVEKIT_SECRET").environment_file();
    let systemd = Systemd::boot(&Package::made(), &environment, &setup.authority.pem());

    systemd.has("ActiveState", "failed").await;

    assert_eq!(systemd.property("ExecMainStatus"), "2");
    assert_eq!(systemd.property("NRestarts"), "0");
}

/// A homeserver with delayed events, an SFU, and the service in its unit between them.
struct Stage {
    systemd: Systemd,
    client: Client,
    events: DelayedEvents,
    home: Homeserver,
    setup: TestSetup,
}

impl Stage {
    async fn new() -> Option<Self> {
        let setup = test_setup().await?;
        let home = setup.homeserver("example.org").start().await;
        let events = setup.delayed_events("cs.example.org").await;
        home.has_client_api(events.base_url());
        let environment = setup.deployment().full_access("example.org").environment_file();
        let systemd = Systemd::boot(&Package::made(), &environment, &setup.authority.pem());
        let client = Client::new(SocketAddr::from(([127, 0, 0, 1], 8080)), "127.0.0.1:8080");
        let stage = Self { systemd, client, events, home, setup };
        stage.started().await;
        Some(stage)
    }

    /// Waits until systemd considers the unit started, and checks that the service is healthy by then.
    async fn started(&self) {
        self.systemd.has("ActiveState", "active").await;
        let answer = self.client.request(Method::GET, "/healthz").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Delegates Alice's leave, connects her, and waits for the first restart. Returns the id of the leave too.
    async fn connected(&self) -> (String, black_box::Participant) {
        let alice = Member::of_room("!room:example.org", "@alice:example.org");
        let delay_id = self.events.schedule(DELAY);
        self.events.limit_acceptance(&delay_id);
        let token = self.home.openid_token(&alice.user_id);
        let request = alice.delegation(EntryPoint::GetToken, &token, &delay_id, DELAY);
        let answer = self.client.post(EntryPoint::GetToken.path(), &request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let participant = self.setup.sfu.join(&alice.room(), &alice.identity(EntryPoint::GetToken));
        let answer = self.client.webhook("/sfu_webhook", &participant.joined()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.events.restarted(&delay_id, 1).await;
        (delay_id, participant)
    }
}

/// Returns a test setup where systemd can run; prints the reason where it can't.
async fn test_setup() -> Option<TestSetup> {
    let setup = TestSetup::new().await;
    match Systemd::unavailable() {
        Some(why) => {
            eprintln!("skipped, systemd can't run here: {why}");
            None
        }
        None => Some(setup),
    }
}

fn stderr(outcome: &Output) -> String {
    String::from_utf8_lossy(&outcome.stderr).into_owned()
}

const UNIT: &str = "matrixrtc-edge.service";
/// A delay with a restart every few seconds, long enough for a start of the service between two of them.
const DELAY: Duration = Duration::from_secs(20);
