use black_box::{Reply, Sfu, TestSetup};
use operator::doctor::Status;
use serde_json::json;

use super::{SFU_URL, World};

#[tokio::test]
async fn a_port_at_which_there_is_no_sfu() {
    let mut world = World::new().await;
    world.set("--sfu-url", "wss://sfu.example.org:7881/livekit/sfu");

    let report = world.examine().await;

    World::assert_problem(&report, "sfu", "connection refused");
    World::assert_skipped(&report, &["web-sockets", "sfu-keys", "sfu-rooms", "auto-create"]);
}

#[tokio::test]
async fn something_else_in_place_of_the_sfu() {
    let world = World::new().await;
    for (reply, cause) in [
        (Reply::html(502), "the proxy in front of the SFU can't reach it (502)"),
        (Reply::html(404), "isn't a LiveKit SFU's (404"),
        (Reply::html(200), "isn't a LiveKit SFU's (200"),
        (Reply::redirect(301, "https://sfu.example.org/"), "redirected to https://sfu.example.org/"),
    ] {
        world.sfu.fail(reply);

        let report = world.examine().await;

        World::assert_problem(&report, "sfu", cause);
        World::assert_skipped(&report, &["web-sockets", "sfu-keys", "sfu-rooms", "auto-create"]);
    }
}

#[tokio::test]
async fn tls_at_a_port_without_it() {
    let mut world = World::new().await;
    world.set("--sfu-url", "wss://127.0.0.1:7880");

    let report = world.examine().await;

    World::assert_problem(&report, "sfu", "doesn't speak TLS");
}

#[tokio::test]
async fn an_sfu_without_tls() {
    let mut world = World::new().await;
    let _sfu = world.setup.plain_sfu("open.example.org", 7880).await;
    world.set("--sfu-url", "ws://open.example.org:7880");

    let report = world.examine().await;

    World::assert_finding(&report, "sfu", Status::Problem, "can't open a ws:// URL");
}

#[tokio::test]
async fn a_proxy_that_knows_no_websockets() {
    let world = World::new().await;
    world.sfu.drop_upgrades();

    let report = world.examine().await;

    World::assert_problem(&report, "web-sockets", "clients can't connect");
}

#[tokio::test]
async fn a_key_that_the_sfu_does_not_know() {
    let mut world = World::new().await;
    world.set("--sfu-key", "otherkey");

    let report = world.examine().await;

    World::assert_finding(&report, "sfu-keys", Status::Problem, "the SFU doesn't know the API key");
    World::assert_finding(&report, "webhook", Status::Problem, "the pair isn't the service's");
}

#[tokio::test]
async fn another_secret_than_the_sfus() {
    let world = World::new().await;
    let (key, _) = Sfu::credentials();
    world.sfu.set_keys(&[(key, "another-secret-that-nobody-may-see-either")]);

    let report = world.examine().await;

    World::assert_problem(&report, "sfu-keys", "with another secret");
    World::assert_skipped(&report, &["sfu-rooms", "auto-create"]);
}

#[tokio::test]
async fn a_clock_of_the_sfu_that_goes_wrong() {
    let world = World::new().await;
    for ahead_s in [3600, -3600] {
        world.sfu.set_clock_ahead(ahead_s);

        let report = world.examine().await;

        World::assert_problem(&report, "sfu-keys", "the SFU finds the token expired or not yet valid");
        World::assert_skipped(&report, &["sfu-rooms", "auto-create"]);
    }
}

#[tokio::test]
async fn white_space_in_the_sfus_own_key() {
    let (key, secret) = Sfu::credentials();
    let world = World::new().await;
    for (own, cause) in [
        ((key.to_owned(), format!("{secret}\n")), "a line feed at the end of the secret"),
        ((key.to_owned(), format!("{secret} ")), "a space at the end of the secret"),
        ((format!("{key}\n"), secret.to_owned()), "a line feed at the end of the key"),
    ] {
        world.sfu.set_keys(&[(&own.0, &own.1)]);

        let report = world.examine().await;

        World::assert_problem(&report, "sfu-keys", cause);
    }
}

#[tokio::test]
async fn white_space_in_what_is_given() {
    let mut world = World::new().await;
    let (_, secret) = Sfu::credentials();
    world.set("--sfu-secret", &format!("{secret}\n"));

    let report = world.examine().await;

    World::assert_warning(&report, "sfu-keys", "white space around it");
    assert_eq!(report.count(Status::Warning), 1, "{:#?}", report.findings);
    World::assert_skipped(&report, &[]);
}

#[tokio::test]
async fn a_secret_that_can_be_guessed() {
    let (key, secret) = (Sfu::credentials().0, "short-and-nobody-may-see");
    let mut world = World::with(TestSetup::new().await, |deployment| deployment.set("LIVEKIT_SECRET", secret)).await;
    world.sfu.set_keys(&[(key, secret)]);
    world.set("--sfu-secret", secret);

    let report = world.examine().await;

    World::assert_warning(&report, "sfu-keys", "fewer than 32 characters");
    World::assert_skipped(&report, &[]);
    assert!(!format!("{report:?}").contains(secret));
}

#[tokio::test]
async fn a_server_api_that_is_not_passed_on() {
    let world = World::new().await;
    for (reply, cause) in [
        (Reply::html(404), "no LiveKit server API at LIVEKIT_URL (404)"),
        (Reply::html(200), "isn't a LiveKit SFU's (200, but not JSON)"),
        (Reply::json(500, &json!({ "code": "internal", "msg": "no\u{1b}[31m redis" })), "500 internal: no [31m redis"),
    ] {
        world.sfu.fail_calls(reply);

        let report = world.examine().await;

        World::assert_problem(&report, "sfu-keys", cause);
    }
}

#[tokio::test]
async fn websockets_that_are_answered_by_something_else() {
    let world = World::new().await;
    world.sfu.fail_at("/rtc", Reply::html(403));

    let report = world.examine().await;

    World::assert_problem(&report, "web-sockets", "returned 403; 401 is expected");
}

#[tokio::test]
async fn an_sfu_or_a_proxy_without_the_path_of_newer_clients() {
    let world = World::new().await;
    world.sfu.be_old();
    let report = world.examine().await;
    World::assert_warning(&report, "web-sockets", "has no /rtc/v1 (404)");
    assert!(World::finding(&report, "web-sockets").outcome.change.as_ref().unwrap().contains("1.9.10"));

    let world = World::new().await;
    world.sfu.fail_at("/rtc/v1", Reply::html(403));
    World::assert_warning(&world.examine().await, "web-sockets", "/rtc/v1 returned 403, and 401 is expected");
}

#[tokio::test]
async fn a_room_that_is_created_and_not_deleted() {
    let world = World::new().await;
    world.sfu.fail_at("/DeleteRoom", Reply::html(502));

    let report = world.examine().await;

    World::assert_warning(&report, "sfu-rooms", "was created, but not deleted");
}

#[tokio::test]
async fn clients_that_are_refused() {
    let world = World::new().await;
    for (reply, cause) in [
        (Reply::html(403), "the SFU refuses a client's token (403)"),
        (Reply::html(502), "returned 502: clients don't reach the SFU's signalling"),
    ] {
        world.sfu.fail_at("/rtc/validate", reply);

        let report = world.examine().await;

        World::assert_problem(&report, "auto-create", cause);
    }
}

#[tokio::test]
async fn rooms_that_everybody_creates() {
    let world = World::new().await;
    world.sfu.set_auto_create();

    let report = world.examine().await;

    World::assert_problem(&report, "auto-create", "every user has full access");
    let change = World::finding(&report, "auto-create").outcome.change.as_deref().unwrap();
    assert!(change.contains("auto_create: false"), "{change}");
}

#[tokio::test]
async fn without_the_key_pair_the_sfu_is_looked_at_from_outside() {
    let mut world = World::new().await;
    world.unset("--sfu-key");
    world.unset("--sfu-secret");

    let report = world.examine().await;

    let finding = World::finding(&report, "sfu");
    assert_eq!(finding.outcome.seen, format!("{SFU_URL} is a LiveKit SFU"));
    World::assert_skipped(&report, &["sfu-keys", "sfu-rooms", "auto-create", "webhook"]);
}

#[tokio::test]
async fn an_sfu_with_many_rooms_is_one() {
    let world = World::new().await;
    world.sfu.be_crowded(5000);

    World::assert_well(&world.examine().await);
}
