use black_box::{Reply, TestSetup};
use hyper::header::AUTHORIZATION;
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
    // Something there reads no signature, and refuses only webhooks without one.
    world.proxy.meddle(|request, reply| match request.path.ends_with("/sfu_webhook") {
        true if !request.header(AUTHORIZATION).is_empty() => Reply::json(200, &json!({})),
        _ => reply,
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
    for (reply, cause) in [
        (Reply::json(200, &json!({})), "/sfu_webhook returned 200, in a response that isn't the service's"),
        (Reply::redirect(301, "https://rtc.example.org/"), "/sfu_webhook is redirected (301 to"),
        (Reply::html(401), "something in front of the service requires authentication"),
        (Reply::html(404), "/sfu_webhook returned 404"),
        (Reply::html(429), "something in front of the service limits the rate of requests"),
        (Reply::html(502), "the proxy doesn't reach the service"),
    ] {
        world.proxy.meddle(move |request, there| match request.path.ends_with("/sfu_webhook") {
            true => reply.clone(),
            false => there,
        });

        let report = world.examine().await;

        World::assert_problem(&report, "webhook-passes", cause);
        World::assert_skipped(&report, &["webhook", "forged-webhook"]);
    }
}
