//! Both places of the announcement, `.well-known/matrix/client` and the homeserver's `rtc/transports`, in both modes.

use black_box::{HomeserverQuery as Query, Reply, TestSetup};
use operator::doctor::Status;
use serde_json::{Value, json};

use super::{SERVICE_URL, SFU_URL, World, announcement, entry, error, well_known};

#[tokio::test]
async fn an_empty_list_of_transports_is_a_problem_however_good_the_well_known_is() {
    let world = World::new().await;
    world.own.answer_transports_without_login(list(&json!({})));

    let report = world.examine().await;

    World::assert_problem(&report, "rtc-transports", "it is empty");
    let change = World::finding(&report, "rtc-transports").outcome.change.as_deref().unwrap();
    for part in ["msc4143_enabled: true", "matrix_rtc", SERVICE_URL] {
        assert!(change.contains(part), "{change}");
    }
}

#[tokio::test]
async fn an_empty_list_is_read_with_the_as_token() {
    let world = World::in_homeserver_mode().await;
    world.own.announces_nothing();

    let report = world.examine().await;

    World::assert_problem(&report, "rtc-transports", "it is empty");
}

#[tokio::test]
async fn a_list_that_needs_a_login_is_there_but_not_read() {
    let world = World::new().await;
    world.own.announces_nothing();

    let report = world.examine().await;

    World::assert_well(&report);
    let seen = &World::finding(&report, "rtc-transports").outcome.seen;
    assert!(seen.contains("401 without one") && seen.contains(SERVICE_URL), "{seen}");
}

#[tokio::test]
async fn a_homeserver_without_a_list_is_a_warning() {
    let world = World::new().await;
    for reply in [error(404, "M_UNRECOGNIZED"), Reply::html(404), error(405, "M_UNRECOGNIZED")] {
        world.own.answer_transports_without_login(reply);

        let report = world.examine().await;

        World::assert_warning(&report, "rtc-transports", "has no list of transports");
    }
}

#[tokio::test]
async fn a_proxy_may_answer_without_a_login() {
    let world = World::new().await;
    for key in ["rtc_transports", "transports"] {
        world.own.answer_transports_without_login(list(&json!({ key: [entry(None)] })));

        let report = world.examine().await;

        World::assert_well(&report);
        assert_eq!(World::finding(&report, "rtc-transports").outcome.seen, SERVICE_URL);
    }
}

#[tokio::test]
async fn what_a_list_announces_has_its_cause() {
    let world = World::new().await;
    let other = json!({ "type": "livekit", "livekit_service_url": "https://other.example.org" });
    for (reply, cause) in [
        (list(&json!({ "rtc_transports": [{ "type": "livekit", "url": SFU_URL }] })), "before 0.28.1"),
        (list(&json!({ "rtc_transports": [other] })), "another service"),
        (list(&json!({ "rtc_transports": [{ "type": "mesh" }] })), "no entry of the type livekit"),
        (Reply::html(200), "isn't JSON"),
        (Reply::html(502), "is 502"),
        (Reply::json(200, &json!({ "rtc_transports": [entry(None)] })), "no Access-Control-Allow-Origin"),
    ] {
        world.own.answer_transports_without_login(reply);

        let report = world.examine().await;

        World::assert_problem(&report, "rtc-transports", cause);
    }
}

#[tokio::test]
async fn in_homeserver_mode_a_url_alone_takes_calls_away() {
    let world = World::in_homeserver_mode().await;
    world
        .own
        .answer_always(Query::Transports, list(&json!({ "rtc_transports": [{ "type": "livekit", "url": SFU_URL }] })));

    let report = world.examine().await;

    World::assert_problem(&report, "rtc-transports", "without livekit_service_url");
    let change = World::finding(&report, "rtc-transports").outcome.change.as_deref().unwrap();
    assert!(change.contains(SERVICE_URL) && change.contains(SFU_URL), "{change}");
}

#[tokio::test]
async fn a_well_known_with_a_url_alone_takes_calls_away() {
    let world = World::new().await;
    let mut file = announcement(SERVICE_URL);
    file["org.matrix.msc4143.rtc_foci"] = json!([{ "type": "livekit", "url": SFU_URL }]);
    world.own.home.set_client_well_known(well_known(&file));

    let report = world.examine().await;

    World::assert_problem(&report, "announcement", "without livekit_service_url");
}

#[tokio::test]
async fn a_well_known_with_a_byte_order_mark_is_read() {
    let world = World::new().await;
    let file = format!("\u{feff}{}", announcement(SERVICE_URL));
    let reply = Reply::new(200, "application/json", file).header("access-control-allow-origin", "*");
    world.own.home.set_client_well_known(reply);

    let report = world.examine().await;

    World::assert_warning(&report, "announcement", "byte order mark");
    assert_eq!(World::finding(&report, "client-api").outcome.status, Status::Ok);
}

#[tokio::test]
async fn the_well_known_of_a_name_with_a_port_may_be_at_the_name_alone() {
    let setup = TestSetup::new().await;
    let named = setup.homeserver("example.net:8449").federation_at("matrix.example.net", 443).browsed().start().await;
    named.set_client_well_known(well_known(&announcement(SERVICE_URL)));
    named.set_client_versions(Reply::json(200, &json!({ "versions": ["v1.11"] })));
    let mut world = World::with(setup, |deployment| deployment).await;
    world.set("--server-name", "example.net:8449");

    let report = world.examine().await;

    assert_eq!(World::finding(&report, "announcement").outcome.status, Status::Ok, "{:#?}", report.findings);
    // The service reads no well-known file there.
    let client_api = &World::finding(&report, "client-api").outcome;
    assert!(client_api.status == Status::Ok && client_api.seen.starts_with("https://example.net "), "{client_api:?}");
}

/// List of transports, as a homeserver serves it.
fn list(body: &Value) -> Reply {
    Reply::json(200, body).header("access-control-allow-origin", "*")
}
