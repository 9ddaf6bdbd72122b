use std::sync::{Arc, Mutex};

use black_box::TestSetup;
use hyper::header::{CONTENT_TYPE, USER_AGENT};
use operator::doctor::{Status, Watcher, examine};
use std::time::Duration;

use super::World;

#[tokio::test]
async fn nothing_is_wrong_with_a_deployment_as_it_should_be() {
    let world = World::new().await;

    let report = world.examine().await;

    World::assert_well(&report);
    assert!(report.to_string().starts_with("0 problems, 0 warnings, "), "{report}");
    World::assert_skipped(&report, &[]);
    assert_eq!(world.sfu.test_rooms().len(), 0, "a test room is left");
}

#[tokio::test]
async fn the_stable_form_of_delayed_events_is_queried_where_it_is_announced() {
    let world = World::new().await;
    world.own.events.has_stable_form();

    let report = world.examine().await;

    assert!(!report.has_problem(), "{:#?}", report.findings);
    let calls = world.own.events.calls();
    assert!(calls.iter().all(|call| call.path.starts_with("/_matrix/client/v1/")) && !calls.is_empty(), "{calls:?}");
}

#[tokio::test]
async fn srv_records_lead_to_the_federation_api() {
    let setup = TestSetup::new().await;
    setup.resolver.add_srv("_matrix-fed._tcp.example.net", 1, 1, 4433, "target.example.net");
    let _home = setup
        .homeserver("example.net")
        .without_well_known()
        .federation_behind_srv("example.net", "target.example.net", 4433)
        .browsed()
        .start()
        .await;
    let mut world = World::with(setup, |deployment| deployment).await;
    world.set("--server-name", "example.net");

    let report = world.examine().await;

    World::assert_finding(&report, "federation-discovery", Status::Warning, "works at home, not on Cloudflare");
    let found = &World::finding(&report, "federation-discovery").outcome;
    assert!(found.seen.contains("SRV record"), "{found:?}");
    for remedy in [
        r#"{"m.server": "target.example.net:4433"} at https://example.net/.well-known/matrix/server"#,
        "LIVEKIT_FEDERATION_URL_OVERRIDES=example.net=https://target.example.net:4433",
    ] {
        assert!(found.change.as_ref().unwrap().contains(remedy), "{found:?}");
    }
    assert_eq!(World::finding(&report, "open-id").outcome.status, Status::Ok, "{:#?}", report.findings);
}

#[tokio::test]
async fn what_is_not_given_is_skipped_with_the_reason() {
    let mut world = World::new().await;
    for option in ["--secrets-file", "--server-name", "--sfu-url", "--sfu-key", "--sfu-secret"] {
        world.unset(option);
    }

    let report = world.examine().await;

    assert!(!report.has_problem(), "{:#?}", report.findings);
    let skipped = [
        "variables",
        "announcement",
        "federation-discovery",
        "open-id",
        "client-api",
        "delayed-events",
        "rtc-transports",
        "sfu",
        "web-sockets",
        "sfu-keys",
        "sfu-rooms",
        "auto-create",
        "webhook",
    ];
    World::assert_skipped(&report, &skipped);
    let reason = |check| World::finding(&report, check).outcome.seen.as_str();
    assert!(reason("variables").contains("--secrets-file"));
    assert!(reason("announcement").contains("--server-name"));
    assert!(reason("sfu").contains("--sfu-url"));
    assert!(reason("webhook").contains("--sfu-key"));
}

#[tokio::test]
async fn whoever_waits_sees_what_for() {
    struct Notes(Vec<(String, Duration)>);
    impl Watcher for Notes {
        fn found(&mut self, _: &operator::doctor::Finding) {}

        fn waiting(&mut self, title: &str, elapsed: Duration) {
            self.0.push((title.to_owned(), elapsed));
        }
    }
    let mut world = World::new().await;
    world.proxy.meddle(|request, reply| match request.path.ends_with("/healthz") {
        true => reply.that_never_ends(),
        false => reply,
    });
    for option in ["--server-name", "--sfu-url"] {
        world.unset(option);
    }
    let mut notes = Notes(Vec::new());

    let report = examine(&world.subject(), &mut notes).await;

    World::assert_problem(&report, "healthz", "no response within 10 s");
    assert!(notes.0.iter().all(|(title, _)| title == "service: /healthz") && notes.0.len() >= 2, "{:?}", notes.0);
}

#[tokio::test]
async fn requests_are_those_of_the_parts_for_which_the_doctor_stands_in() {
    let world = World::new().await;
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    let recorded = seen.clone();
    world.proxy.meddle(move |request, reply| {
        let agent = request.header(USER_AGENT).to_owned();
        recorded.lock().unwrap().push((request.path.clone(), agent, request.header(CONTENT_TYPE).to_owned()));
        reply
    });

    World::assert_well(&world.examine().await);

    let seen = seen.lock().unwrap();
    let (webhooks, others): (Vec<_>, Vec<_>) = seen.iter().partition(|(path, ..)| path.ends_with("/sfu_webhook"));
    assert!(!others.is_empty() && !webhooks.is_empty());
    let service = concat!("matrixrtc-edge/", env!("CARGO_PKG_VERSION"));
    assert!(others.iter().all(|(_, agent, _)| agent == service), "{others:?}");
    let livekit = |(_, agent, kind): &&(String, String, String)| {
        agent == "Go-http-client/1.1" && kind == "application/webhook+json"
    };
    assert!(webhooks.iter().all(livekit), "{webhooks:?}");
}
