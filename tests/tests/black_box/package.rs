//! The packaged executable (`docs/guides/own-machine.md`): start, shutdown, state directory and health check.
//!
//! The tests run the executable that `cargo xtask package` builds, between the fakes. They end it by signals in the
//! middle of requests and delegations, and start it, or a copy as an upgrade would, on the same state.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use black_box::{Endpoint, Gate, Package, Reply, Service, TestSetup};
use hyper::Method;
use nix::mount::{MsFlags, mount, umount};
use serde_json::json;

use crate::leaves::{Stage, alice};

#[tokio::test]
async fn it_gives_out_tokens() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().full_access("example.org").start_package(&Package::made());
    let token = home.openid_token("@alice:example.org");

    for endpoint in Endpoint::BOTH {
        let answer = service.request_token(endpoint, &token).await;

        assert!(!answer.jwt().is_empty(), "{answer:?}");
    }
    let log = service.log();
    log.line("a token", |line| line.has(&["token issued"])).await;
    assert!(log.foreign_lines().is_empty(), "{}", log.text());
}

/// Without V8's flags the last 3,000 of these requests add 40 MiB (`docs/decisions.md#the-executable`).
#[tokio::test]
async fn its_memory_does_not_grow_with_the_number_of_requests() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().full_access("example.org").start_package(&Package::made());
    let token = home.openid_token("@alice:example.org");
    let mib_after = async |requests: usize| {
        for _ in 0..requests {
            assert!(!service.request_token(Endpoint::GetToken, &token).await.jwt().is_empty());
        }
        service.anonymous_kib() / 1024
    };

    let (warm, later) = (mib_after(1_000).await, mib_after(3_000).await);

    println!("memory of its own after 1,000 and 4,000 requests: {warm} and {later} MiB");
    assert!(later < warm + 20, "{warm} MiB became {later} MiB");
}

#[tokio::test]
async fn a_request_that_is_under_way_is_finished() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().full_access("example.org").start_package(&Package::made());
    let token = home.openid_token("@alice:example.org");
    let gate = Gate::closed();
    home.set_userinfo(Reply::json(200, &json!({ "sub": token.user_id })).behind(&gate));
    let mut idle = service.connect().await;
    idle.send(b"GET /healthz HTTP/1.1\r\nHost: edge\r\n\r\n").await;
    let stop_meanwhile = async {
        home.userinfo_requested().await;
        service.terminate();
        // workerd closes idle connections when its shutdown begins.
        idle.receive_to_end().await;
        gate.open();
    };

    let (answer, ()) = tokio::join!(service.request_token(Endpoint::GetToken, &token), stop_meanwhile);

    assert!(!answer.jwt().is_empty(), "{answer:?}");
    assert!(service.ended().await.success());
}

#[tokio::test]
async fn a_request_that_never_ends_is_waited_for_for_ten_seconds() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start_package(&Package::made());
    // An idle connection doesn't delay the shutdown; a request whose body never comes does.
    assert_eq!(service.request(Method::GET, "/healthz").await.status, 200);
    let mut unfinished = service.connect().await;
    unfinished.send(b"POST /get_token HTTP/1.1\r\nHost: edge\r\nContent-Length: 100\r\n\r\n{").await;
    assert_eq!(service.request(Method::GET, "/healthz").await.status, 200);

    let queried = Instant::now();
    service.terminate();
    let status = service.ended().await;

    assert!(status.success(), "{status}");
    assert!(queried.elapsed() >= Duration::from_secs(9), "it ended too early, after {:?}", queried.elapsed());
    assert!(queried.elapsed() < Duration::from_secs(20), "it ended too late, after {:?}", queried.elapsed());
    assert!(service.log().text().contains("still running"), "{}", service.log().text());
}

#[tokio::test]
async fn with_nothing_to_finish_it_ends_at_once() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start_package(&Package::made());
    assert_eq!(service.request(Method::GET, "/healthz").await.status, 200);

    let queried = Instant::now();
    service.terminate();
    let status = service.ended().await;

    assert!(status.success(), "{status}");
    assert!(queried.elapsed() < Duration::from_secs(5), "it took {:?}", queried.elapsed());
}

#[tokio::test]
async fn delegations_are_carried_on_by_another_executable() {
    let stage = Stage::packaged().await;
    let (delay_id, participant) = stage.connected(&alice(), DELAY).await;

    stage.service.terminate();
    assert!(stage.service.ended().await.success());
    let elsewhere = tempfile::tempdir().unwrap();
    let upgraded = Package::made().copied_to(&elsewhere.path().join("matrixrtc-edge-2"));
    // Files of an older version must be replaced, not run.
    let unpacked = stage.service.launch().state.join("package");
    fs::write(unpacked.join("index.js"), "export default {}").unwrap();
    fs::write(unpacked.join("of-an-older-version"), "").unwrap();
    let restarts = stage.events.restarts(&delay_id);
    stage.service.start_again_from(&upgraded);

    stage.events.restarted(&delay_id, restarts + 1).await;
    stage.leave(&participant).await;
    stage.events.sent(&delay_id).await;
    assert!(!unpacked.join("of-an-older-version").exists());
}

/// The id of a room's object is derived from the room and the name of the namespace. If the derivation changed, an
/// upgrade would lose the stored delegations.
#[tokio::test]
async fn the_state_directory_is_laid_out_as_ever() {
    let stage = Stage::packaged().await;
    stage.connected(&alice(), DELAY).await;

    let state = &stage.service.launch().state;

    let objects = state.join("objects/ROOMS");
    let object = objects.join(OBJECT_OF_ALICES_ROOM);
    let found: Vec<_> = fs::read_dir(objects).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(object.exists(), "{found:?}");
    assert_eq!(fs::metadata(state).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_state_directory_is_for_one_at_a_time() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start_package(&Package::made());
    let state = &service.launch().state;

    let outcome = start_with_environment_of(&service, state);

    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(stderr(&outcome).contains("in use by another process"), "{outcome:?}");
    assert_eq!(service.request(Method::GET, "/healthz").await.status, 200);
}

#[tokio::test]
async fn who_kills_it_kills_workerd_too() {
    let stage = Stage::packaged().await;
    let (delay_id, _) = stage.connected(&alice(), DELAY).await;
    let addr = stage.service.addr();

    stage.service.kill();

    refused(&stage.service).await;
    let restarts = stage.events.restarts(&delay_id);
    stage.service.start_again();
    assert_ne!(stage.service.addr(), addr);
    stage.events.restarted(&delay_id, restarts + 1).await;
}

#[tokio::test]
async fn what_is_wrong_with_the_configuration_is_said_before_anything_starts() {
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("state");
    let mut command = Command::new(Package::made().path());
    command.arg("--state").arg(&state).env_clear();

    let outcome = command.env("LIVEKIT_KEY", "key").env("LIVEKIT_LOG_LEVEL", "WRONG").output().unwrap();

    assert_eq!(outcome.status.code(), Some(2), "{outcome:?}");
    for variable in ["LIVEKIT_URL", "LIVEKIT_SECRET", "LIVEKIT_FULL_ACCESS_HOMESERVERS", "LIVEKIT_LOG_LEVEL"] {
        assert!(stderr(&outcome).contains(variable), "{outcome:?}");
    }
    assert!(!stderr(&outcome).contains("LIVEKIT_KEY ") && stderr(&outcome).contains("WRONG"), "{outcome:?}");
    assert!(!state.exists());
}

#[tokio::test]
async fn a_state_directory_that_nothing_can_be_run_from_is_named() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start_package(&Package::made());
    let place = tempfile::tempdir().unwrap();
    mount(None::<&str>, place.path(), Some("tmpfs"), MsFlags::MS_NOEXEC, None::<&str>).unwrap();

    let outcome = start_with_environment_of(&service, place.path());
    umount(place.path()).unwrap();

    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(stderr(&outcome).contains("mounted noexec"), "{outcome:?}");
}

#[tokio::test]
async fn a_state_directory_that_cannot_hold_the_state_is_named_with_the_remedy() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start_package(&Package::made());
    for (flags, size, said) in [
        (MsFlags::empty(), "size=8m", ["No space left on device", ": it needs 165 MB at first"]),
        (MsFlags::MS_RDONLY, "size=1m,mode=700", ["Read-only file system", ": put it on a disk that can be written"]),
    ] {
        let place = tempfile::tempdir().unwrap();
        mount(None::<&str>, place.path(), Some("tmpfs"), flags, Some(size)).unwrap();

        let outcome = start_with_environment_of(&service, place.path());
        umount(place.path()).unwrap();

        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        let said_by = stderr(&outcome);
        assert!(said.iter().all(|text| said_by.contains(text)), "{said_by}");
        assert!(said_by.contains(place.path().to_str().unwrap()), "{said_by}");
    }
}

/// `tools/standalone/tests/mistakes.rs` has all of them, on an executable without a worker.
#[tokio::test]
async fn mistakes_are_named_with_their_remedies() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start_package(&Package::made());
    let taken = service.addr().to_string();
    let place = tempfile::tempdir().unwrap();
    let secret = place.path().join("secret");
    fs::write(&secret, "\n").unwrap();
    let secret = secret.to_str().unwrap();
    for (variables, status, said) in [
        (vec![("LIVEKIT_URL", "\"wss://sfu.example\"")], 2, vec!["LIVEKIT_URL is in quotation marks", "--env-file"]),
        (
            vec![("LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS", "60s")],
            2,
            vec!["LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS", "write 60, without a unit"],
        ),
        (vec![("LIVEKIT_SECRET", ""), ("LIVEKIT_SECRET_FROM_FILE", secret)], 2, vec![secret, "which is empty"]),
        (vec![("LIVEKIT_INSECURE_SKIP_VERIFY_TLS", "yes")], 2, vec!["--trust-ca FILE"]),
        (vec![("MATRIXRTC_EDGE_ADDR", taken.as_str())], 1, vec![taken.as_str(), "in use by another program"]),
    ] {
        let outcome = Command::new(Package::made().path())
            .arg("--state")
            .arg(place.path().join("state"))
            .env_clear()
            .envs(&service.launch().env)
            .envs(variables)
            .output()
            .unwrap();

        assert_eq!(outcome.status.code(), Some(status), "{outcome:?}");
        for text in said {
            assert!(stderr(&outcome).contains(text), "no {text:?} in {outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_health_check_says_a_service_that_is_well_from_one_that_isnt() {
    let setup = TestSetup::new().await;
    let package = Package::made();
    let well = setup.deployment().start_package(&package);
    let ill = setup.deployment().unset("LIVEKIT_URL").start();
    let check = |addr: &str| package.run(["healthcheck", "--addr", addr]);

    let outcome = check(&well.addr().to_string());
    assert!(outcome.status.success(), "{outcome:?}");
    let everywhere = format!("0.0.0.0:{}", well.addr().port());
    assert!(check(&everywhere).status.success());

    let outcome = check(&ill.addr().to_string());
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(stderr(&outcome).contains("503") && stderr(&outcome).contains("LIVEKIT_URL"), "{outcome:?}");

    let outcome = check("127.0.0.1:9");
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(stderr(&outcome).contains("127.0.0.1:9 doesn't answer"), "{outcome:?}");
}

/// The environment of a container, and of a shell that has loaded the unit's configuration.
#[tokio::test]
async fn a_health_check_finds_the_address_in_the_environment() {
    let setup = TestSetup::new().await;
    let package = Package::made();
    let service = setup.deployment().start_package(&package);
    let addr = service.addr().to_string();

    for environment in [
        vec![("MATRIXRTC_EDGE_ADDR", addr.as_str())],
        vec![("MATRIXRTC_EDGE_ADDR", addr.as_str()), ("STATE_DIRECTORY", "/state")],
    ] {
        let outcome = Command::new(package.path()).arg("healthcheck").env_clear().envs(environment).output().unwrap();

        assert!(outcome.status.success(), "{outcome:?}");
        assert_eq!(outcome.stdout, b"ok\n");
    }
}

/// Waits until the service refuses connections.
async fn refused(service: &Service) {
    let poll = async {
        while tokio::net::TcpStream::connect(service.addr()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), poll).await.expect("it stops listening");
}

/// Starts another service with the same environment, to completion: it is expected to fail.
fn start_with_environment_of(service: &Service, state: &Path) -> Output {
    Command::new(Package::made().path())
        .args(["--addr", "127.0.0.1:0", "--state"])
        .arg(state)
        .env_clear()
        .envs(&service.launch().env)
        .output()
        .unwrap()
}

fn stderr(outcome: &Output) -> String {
    String::from_utf8_lossy(&outcome.stderr).into_owned()
}

/// A delay with a restart every few seconds, long enough for a start of the service between two of them.
const DELAY: Duration = Duration::from_secs(20);
const OBJECT_OF_ALICES_ROOM: &str = "8c5d9262e52e2730b7c7691f05d9cbd67c238fc0f0a32932ae49f0985a88af15.sqlite";
