//! The artefacts of `cargo xtask release`, used as their README says (`tools/xtask/src/release/worker/README.md`).

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use black_box::{Client, Container, Endpoint, Package, ReleasedWorker, TestSetup};
use hyper::Method;
use xtask::{build::Build, machine_paths, workspace};

/// One test, because `npm ci` takes a while.
#[tokio::test]
async fn the_worker_needs_nothing_but_node() {
    let worker = ReleasedWorker::installed();

    let outcome = worker.run(["run", "deploy", "--", "--dry-run"]);
    let output = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success(), "{outcome:?}");
    for binding in ["env.ASSETS", "env.ROOMS", "env.RATE_LIMIT_BY_ADDRESS", "env.RATE_LIMIT_BY_USER"] {
        assert!(output.contains(binding), "{output}");
    }

    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().full_access("example.org").start_released(&worker);
    assert_eq!(service.request(Method::GET, "/healthz").await.status, 200);
    assert_eq!(service.request(Method::GET, "/livekit-client.js").await.status, 200);
    let answer = service.request_token(Endpoint::GetToken, &home.openid_token("@alice:example.org")).await;
    assert!(!answer.jwt().is_empty(), "{answer:?}");
}

/// It would name the builder, and make each build another one. `cargo xtask release` checks the executable likewise.
#[test]
fn no_path_of_the_building_machine_is_in_the_worker() {
    let root = workspace::root().unwrap();
    let build = Build::existing(&root).unwrap();

    for file in [build.script, build.wasm] {
        machine_paths::check(&root, &file.display().to_string(), &fs::read(&file).unwrap()).unwrap();
    }
}

#[tokio::test]
async fn the_image_needs_nothing_but_a_network_and_its_state() {
    let container = Container::of(&Package::made());
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let outcome = container.health_check();
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");

    let _running = container.start(&setup.deployment().full_access("example.org"));

    let deadline = Instant::now() + PATIENCE;
    while !container.health_check().status.success() {
        assert!(Instant::now() < deadline, "{:?}\n{}", container.health_check(), container.output());
        tokio::time::sleep(POLL).await;
    }
    let client = Client::new(SocketAddr::from(([127, 0, 0, 1], 8080)), "127.0.0.1:8080");
    let token = home.openid_token("@alice:example.org");
    let answer = client.post("/get_token", &Endpoint::GetToken.request(&token)).await;
    assert!(!answer.jwt().is_empty(), "{answer:?}");
}

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);
