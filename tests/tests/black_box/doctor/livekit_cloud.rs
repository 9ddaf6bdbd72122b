//! An SFU whose settings are in LiveKit Cloud's console: every change that is named is one that can be made there.

use black_box::{Sfu, TestSetup};
use operator::doctor::Status;

use super::World;

#[tokio::test]
async fn changes_are_those_of_the_console() {
    let setup = TestSetup::new().await;
    let cloud = setup.sfu_behind_proxy("calls-abcdefgh.livekit.cloud", 443, "").await;
    let url = "wss://calls-abcdefgh.livekit.cloud";
    let mut world = World::with(setup, |deployment| deployment.set("LIVEKIT_URL", url)).await;
    world.set("--sfu-url", url);
    World::assert_well(&world.examine().await);

    cloud.set_auto_create();
    let report = world.examine().await;
    World::assert_problem(&report, "auto-create", "every user has full access");
    assert_console(&report, "auto-create", "rooms are created when a participant joins");

    let (key, secret) = Sfu::credentials();
    for (pair, cause) in [
        ((key, "another-secret-that-nobody-may-see-either"), "with another secret"),
        (("APIother", secret), "doesn't know the API key"),
    ] {
        cloud.set_keys(&[pair]);
        let report = world.examine().await;
        World::assert_problem(&report, "sfu-keys", cause);
        assert_console(&report, "sfu-keys", "in the project's settings");
    }

    world.set("--sfu-secret", "a-secret-that-the-service-does-not-have-00");
    let report = world.examine().await;
    World::assert_finding(&report, "webhook", Status::Problem, "the pair isn't the service's");
    assert_console(&report, "webhook", "with which the webhook is signed");
}

#[track_caller]
fn assert_console(report: &operator::doctor::Report, check: &str, change: &str) {
    let said = World::finding(report, check).outcome.change.as_deref().unwrap();
    assert!(said.contains(change) && said.contains("https://cloud.livekit.io"), "{said}");
    assert!(!said.contains("restart"), "{said}");
}
