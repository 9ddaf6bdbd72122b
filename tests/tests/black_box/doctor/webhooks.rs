use black_box::{Reply, TestSetup};
use serde_json::json;

use super::World;

#[tokio::test]
async fn another_pair_than_the_services() {
    let world = World::with(TestSetup::new().await, |deployment| {
        deployment.set("LIVEKIT_SECRET", "a-secret-that-the-sfu-does-not-have-0000")
    })
    .await;

    let report = world.examine().await;

    World::assert_problem(&report, "webhook", "the pair isn't the service's");
}

#[tokio::test]
async fn a_webhook_path_that_leads_elsewhere() {
    let world = World::new().await;
    world.proxy.meddle(|request, reply| match request.path.ends_with("/sfu_webhook") {
        true => Reply::json(200, &json!({})),
        false => reply,
    });

    let report = world.examine().await;

    World::assert_problem(&report, "forged-webhook", "signed with a wrong secret returned 200");
}

#[tokio::test]
async fn a_webhook_that_is_not_recorded() {
    let world = World::new().await;
    world.proxy.meddle(|request, reply| match request.path.ends_with("/sfu_webhook") && reply.status() == 200 {
        true => Reply::json(500, &json!({ "errcode": "M_UNKNOWN", "error": "This could not be stored" })),
        false => reply,
    });

    let report = world.examine().await;

    World::assert_problem(&report, "webhook", "fails to record a webhook (500)");
}

#[tokio::test]
async fn a_webhook_path_that_is_not_passed_on() {
    let world = World::new().await;
    world.proxy.meddle(|request, reply| match request.path.ends_with("/sfu_webhook") {
        true => Reply::html(404),
        false => reply,
    });

    let report = world.examine().await;

    for check in ["webhook", "forged-webhook"] {
        World::assert_finding(&report, check, operator::doctor::Status::Problem, "/sfu_webhook returned 404");
    }
}
