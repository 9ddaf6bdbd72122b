//! What `cargo xtask release` publishes, used as its README says (`tools/xtask/src/release/worker/README.md`).

use black_box::{Endpoint, ReleasedWorker, TestSetup};
use hyper::Method;

/// One test, because `npm ci` takes a while.
#[tokio::test]
async fn the_worker_needs_nothing_but_node() {
    let worker = ReleasedWorker::installed();

    let outcome = worker.run(["run", "deploy", "--", "--dry-run"]);
    let output = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success(), "{outcome:?}");
    for binding in ["env.ROOMS", "env.RATE_LIMIT_BY_ADDRESS", "env.RATE_LIMIT_BY_USER"] {
        assert!(output.contains(binding), "{output}");
    }

    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().full_access("example.org").start_released(&worker);
    assert_eq!(service.request(Method::GET, "/healthz").await.status, 200);
    let answer = service.request_token(Endpoint::GetToken, &home.openid_token("@alice:example.org")).await;
    assert!(!answer.jwt().is_empty(), "{answer:?}");
}
