//! Discovery of the homeserver's client-server API, and the form of its delayed events
//! (`docs/protocol.md#finding-the-client-server-api`).
//!
//! The fakes serve well-known files and `/versions` of all kinds. A leave that is restarted, or the 4xx or 5xx for the
//! delegation, shows whether the API was found; counters show the caching.

use std::net::SocketAddr;

use black_box::{DelayedEvents, EntryPoint, Homeserver, Member, Operation, Reply, Service, TestSetup};
use serde_json::json;

use super::{LONG, SHORT, Stage, alice};

#[tokio::test]
async fn well_known_leads_there() {
    let stage = Stage::new().await;

    let (delay_id, participant) = stage.connected(&alice(), LONG).await;
    stage.leave(&participant).await;

    stage.events.sent(&delay_id).await;
}

#[tokio::test]
async fn a_base_url_may_have_a_path_and_a_slash_at_its_end() {
    let stage = Stage::new().await;
    stage.home.has_client_api(&format!("{}/", stage.events.base_url()));

    stage.connected(&alice(), LONG).await;
}

#[tokio::test]
async fn an_override_leads_anywhere_the_operator_wants() {
    let setup = TestSetup::new().await;
    let events = setup.private_delayed_events(SocketAddr::from(([10, 1, 2, 3], 8008)), "/behind/a/proxy").await;

    let url = events.base_url().to_owned();
    assert_overridden(setup, &url, events).await;
}

#[tokio::test]
async fn an_override_without_a_scheme_means_https() {
    let setup = TestSetup::new().await;
    let events = setup.delayed_events("cs.elsewhere.example").await;

    assert_overridden(setup, "cs.elsewhere.example", events).await;
}

async fn assert_overridden(setup: TestSetup, url: &str, events: DelayedEvents) {
    let home = setup.homeserver("example.org").start().await;
    let overrides = format!("other.example=https://other.example, example.org={url}");
    let service = setup.deployment().full_access("example.org").set("LIVEKIT_CS_API_URL_OVERRIDES", &overrides).start();
    let stage = Stage { service, events, home, setup };

    let (delay_id, participant) = stage.connected(&alice(), LONG).await;
    stage.leave(&participant).await;

    stage.events.sent(&delay_id).await;
    assert_eq!(stage.home.client_well_known_requests(), 0);
}

#[tokio::test]
async fn without_an_api_no_leave_is_taken_over_and_no_room_is_created() {
    for (what, well_known) in [
        ("none", Reply::html(404)),
        ("a page", Reply::html(200)),
        ("no homeserver", Reply::json(200, &json!({ "m.identity_server": { "base_url": "https://is.example" } }))),
        ("no URL", base_url("cs.example.org")),
        ("no TLS", base_url("http://cs.example.org")),
        ("a query", base_url("https://cs.example.org/?admin=")),
        ("a fragment", base_url("https://cs.example.org/#")),
        ("a user", base_url("https://user@cs.example.org")),
        ("a password", base_url("https://:password@cs.example.org")),
        ("more than 1 KiB", base_url(&format!("https://cs.example.org/{}", "x".repeat(1024)))),
        ("a private address", base_url("https://10.1.2.3")),
        ("this very machine", base_url("https://127.0.0.1:7880")),
    ] {
        let setup = TestSetup::new().await;
        let home = setup.homeserver("example.org").start().await;
        home.set_client_well_known(well_known);
        let service = setup.deployment().full_access("example.org").start();

        assert_refused(&service, &home, what).await;
        assert_eq!(setup.sfu.requests(), 0, "{what}");
    }
}

async fn assert_refused(service: &Service, home: &Homeserver, what: &str) {
    let token = home.openid_token(&alice().user_id);
    for entry_point in EntryPoint::ALL {
        let answer =
            service.post(entry_point.path(), &alice().delegation(entry_point, &token, "syd_secret", LONG)).await;

        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        answer.assert_error(400, "M_BAD_JSON");
        answer.assert_cors();
    }
    assert!(!service.log().text().contains("syd_secret"));
}

#[tokio::test]
async fn the_stable_form_is_used_where_the_server_has_it() {
    for (versions, stable) in [
        (features(&json!({ "org.matrix.msc4140.stable": true })), true),
        (features(&json!({ "org.matrix.msc4140": true, "org.matrix.msc4140.stable": false })), false),
        (features(&json!({ "org.matrix.msc4140": true })), false),
    ] {
        assert_form(Reply::json(200, &versions), stable, &versions.to_string()).await;
    }
}

fn features(unstable: &serde_json::Value) -> serde_json::Value {
    json!({ "versions": ["v1.1"], "unstable_features": unstable })
}

#[tokio::test]
async fn the_unstable_form_is_used_where_the_server_does_not_say() {
    for (what, reply) in [
        ("an error", Reply::html(500)),
        ("a page", Reply::html(200)),
        ("too much", Reply::json(200, &json!({})).padded_to(10_000_000)),
    ] {
        assert_form(reply, false, what).await;
    }
}

async fn assert_form(versions: Reply, stable: bool, what: &str) {
    let stage = Stage::new().await;
    stage.events.set_versions(versions);

    let (delay_id, participant) = stage.connected(&alice(), LONG).await;
    stage.leave(&participant).await;
    stage.events.sent(&delay_id).await;

    let form = if stable { "v1" } else { "unstable/org.matrix.msc4140" };
    let paths: Vec<_> = stage.events.calls().into_iter().map(|call| call.path).collect();
    let expected = ["restart", "send"].map(|name| format!("/_matrix/client/{form}/delayed_events/{delay_id}/{name}"));
    assert_eq!(paths, expected, "{what}");
}

#[tokio::test]
async fn one_look_up_serves_all_that_follow() {
    let stage = Stage::new().await;
    for entry_point in EntryPoint::ALL {
        stage.delegate(entry_point, &alice(), SHORT).await;
    }
    let (delay_id, participant) = stage.connected(&alice(), SHORT).await;
    stage.events.restarted(&delay_id, 3).await;
    stage.leave(&participant).await;
    stage.events.sent(&delay_id).await;

    assert_eq!(stage.home.client_well_known_requests(), 1);
    assert_eq!(stage.events.versions_requests(), 1);
}

#[tokio::test]
async fn a_failed_look_up_is_not_repeated_at_once() {
    let stage = Stage::new().await;
    stage.home.set_client_well_known(Reply::html(404));

    assert_refused(&stage.service, &stage.home, "no well-known").await;

    assert_eq!(stage.home.client_well_known_requests(), 1);
}

#[tokio::test]
async fn a_well_known_that_goes_away_stops_no_leave() {
    let stage = Stage::new().await;
    let (delay_id, participant) = stage.connected(&alice(), SHORT).await;

    stage.home.set_client_well_known(Reply::html(404));
    // A restart clears all caches.
    stage.service.kill();
    stage.service.start_again();

    stage.restarted_again(&delay_id).await;
    assert!(stage.home.client_well_known_requests() > 1);
    stage.leave(&participant).await;
    stage.events.sent(&delay_id).await;
}

#[tokio::test]
async fn a_delay_id_is_one_segment_of_the_path_whatever_is_in_it() {
    let stage = Stage::new().await;
    for (room, delay_id) in
        ["...", "%2e%2e", "../../../elsewhere", "a/b?c#d&e=f", "a b+c%20d", "ü\u{0}\r\n€\\\"'`{}|^~", &"/".repeat(255)]
            .into_iter()
            .enumerate()
    {
        let member = Member::of_room(&format!("!room{room}:example.org"), "@alice:example.org");
        stage.events.schedule_as(delay_id, LONG);
        assert_eq!(stage.hand_over(EntryPoint::GetToken, &member, delay_id, LONG).await.status, 200, "{delay_id:?}");

        let participant = stage.join(EntryPoint::GetToken, &member).await;
        stage.events.restarted(delay_id, 1).await;
        stage.leave(&participant).await;

        stage.events.sent(delay_id).await;
        let statuses: Vec<_> =
            stage.events.calls_of(delay_id, Operation::Restart).iter().map(|call| call.status).collect();
        assert_eq!(statuses, [200], "{delay_id:?}");
    }
}

fn base_url(url: &str) -> Reply {
    Reply::json(200, &json!({ "m.homeserver": { "base_url": url } }))
}
