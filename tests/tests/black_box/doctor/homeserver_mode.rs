use black_box::{HomeserverQuery as Query, Operation, Reply};
use operator::doctor::Status;
use serde_json::{Value, json};

use super::{MADE_UP, World, entry, error};

#[tokio::test]
async fn nothing_is_wrong_with_homeserver_mode_as_it_should_be() {
    let world = World::in_homeserver_mode().await;

    let report = world.examine().await;

    World::assert_well_in_homeserver_mode(&report);
    World::assert_no_secret(&report);
}

#[tokio::test]
async fn the_stable_form_of_is_joined_is_queried_where_it_is_announced() {
    let world = World::in_homeserver_mode().await;
    let features = json!({ "org.matrix.msc4140": true, "io.element.msc4502.stable": true });
    let versions = json!({ "versions": ["v1.1"], "unstable_features": features });
    world.own.events.set_versions(Reply::json(200, &versions));

    let report = world.examine().await;

    World::assert_well_in_homeserver_mode(&report);
    let queried = world.own.queried();
    let is_joined = queried.iter().find(|(query, _)| *query == Query::IsUserJoined);
    assert!(is_joined.is_some_and(|(_, path)| path.starts_with("/_matrix/client/v3/rooms/")), "{queried:?}");
}

#[tokio::test]
async fn a_token_that_is_not_given() {
    let mut world = World::in_homeserver_mode().await;
    world.unset("--as-token");
    let report = world.examine().await;
    assert_eq!(World::skipped(&report), ["as-token", "is-joined", "transports", "proxying"]);
    World::assert_well(&report);
    assert!(World::finding(&report, "as-token").outcome.seen.contains("--as-token"));

    let mut world = World::in_homeserver_mode().await;
    world.unset("--hs-token");
    let report = world.examine().await;
    assert_eq!(World::skipped(&report), ["ping"]);
    World::assert_well(&report);
    assert!(World::finding(&report, "ping").outcome.seen.contains("--hs-token"));
}

#[tokio::test]
async fn delayed_events_that_need_a_login() {
    let world = World::in_homeserver_mode().await;
    world.own.events.answer_always(MADE_UP, Operation::Restart, error(401, "M_MISSING_TOKEN"));

    let report = world.examine().await;

    World::assert_well_in_homeserver_mode(&report);
    assert!(World::finding(&report, "delayed-events").outcome.seen.contains("requires a login (401)"));
}

#[tokio::test]
async fn a_service_that_is_not_in_homeserver_mode() {
    let mut world = World::new().await;
    let (as_token, hs_token) = (world.own.as_token().to_owned(), world.own.hs_token().to_owned());
    world.set("--as-token", &as_token);
    world.set("--hs-token", &hs_token);
    world.own.announces_nothing();
    world.own.announces(&entry(Some(super::SFU_URL)));

    let report = world.examine().await;

    World::assert_problem(&report, "ping", "isn't in homeserver mode (404)");
    World::assert_skipped(&report, &["proxying"]);
}

#[tokio::test]
async fn a_service_with_another_hs_token() {
    let mut world = World::in_homeserver_mode().await;
    world.set("--hs-token", "SECRET-another");

    let report = world.examine().await;

    World::assert_problem(&report, "ping", "isn't the service's LIVEKIT_HS_TOKEN");
}

#[tokio::test]
async fn a_service_without_tls_is_not_given_the_hs_token() {
    let mut world = World::in_homeserver_mode().await;
    world.proxy.show(None).await;
    world.proxy.meddle(|request, reply| match request.path.ends_with("/ping") {
        true => panic!("a ping without TLS"),
        false => reply,
    });
    world.arguments[1] = String::from("http://rtc.example.org:443/livekit/jwt");

    let report = world.examine().await;

    World::assert_finding(&report, "service-certificate", Status::Problem, "no TLS");
    World::assert_skipped(&report, &["ping"]);
    assert!(World::finding(&report, "ping").outcome.seen.contains("isn't sent without TLS"));
}

#[tokio::test]
async fn something_that_answers_a_ping_in_the_service_s_place() {
    let world = World::in_homeserver_mode().await;
    world.proxy.meddle(|request, reply| match request.path.ends_with("/ping") {
        true => Reply::json(200, &json!({})),
        false => reply,
    });
    let report = world.examine().await;
    World::assert_problem(&report, "ping", "with a wrong token returned 200");

    world.proxy.meddle(|request, reply| match request.path.ends_with("/ping") {
        true => Reply::html(404),
        false => reply,
    });
    let report = world.examine().await;
    World::assert_problem(&report, "ping", "this URL isn't routed to the service");
}

#[tokio::test]
async fn a_homeserver_that_has_not_read_the_registration_file() {
    let mut world = World::in_homeserver_mode().await;
    world.set("--as-token", "SECRET-another");

    let report = world.examine().await;

    World::assert_problem(&report, "as-token", "it hasn't read the registration file");
    World::assert_skipped(&report, &["is-joined", "transports", "proxying"]);
}

#[tokio::test]
async fn a_homeserver_of_another_name() {
    let world = World::in_homeserver_mode().await;
    let user = json!({ "user_id": "@_matrixrtc:matrix.example.org" });
    world.own.answer_always(Query::WhoAmI, Reply::json(200, &user));

    let report = world.examine().await;

    World::assert_problem(&report, "as-token", "is matrix.example.org, not example.org");
}

#[tokio::test]
async fn a_homeserver_that_does_not_say_who_it_is() {
    let world = World::in_homeserver_mode().await;
    for reply in [Reply::html(200), Reply::html(502)] {
        world.own.answer_always(Query::WhoAmI, reply);

        let report = world.examine().await;

        World::assert_problem(&report, "as-token", "in a response that isn't a homeserver's");
    }
}

#[tokio::test]
async fn a_homeserver_that_does_not_say_who_is_joined() {
    let world = World::in_homeserver_mode().await;
    for (reply, cause) in [
        (error(403, "M_FORBIDDEN"), "lacks the scope"),
        (error(404, "M_UNRECOGNIZED"), "MSC4502 is off"),
        (Reply::html(502), "returned 502"),
        (Reply::json(200, &json!({ "joined": true })), "in a response that isn't a homeserver's"),
    ] {
        world.own.answer_always(Query::IsUserJoined, reply);

        let report = world.examine().await;

        World::assert_problem(&report, "is-joined", cause);
    }
}

#[tokio::test]
async fn a_homeserver_that_announces_another_sfu_or_none() {
    let world = World::in_homeserver_mode().await;
    let list = |entry: Value| {
        Reply::json(200, &json!({ "rtc_transports": [entry] })).header("access-control-allow-origin", "*")
    };
    world.own.answer_always(Query::Transports, list(entry(Some("wss://other.example.org"))));
    let report = world.examine().await;
    World::assert_problem(&report, "transports", "wss://other.example.org, for which the service issues no token");

    for (reply, cause) in [
        (list(entry(None)), "no SFU with a `url`"),
        (Reply::json(404, &json!({ "errcode": "M_UNRECOGNIZED" })), "MSC4143 is off"),
    ] {
        world.own.answer_always(Query::Transports, reply);

        let report = world.examine().await;

        World::assert_warning(&report, "transports", cause);
    }
}

#[tokio::test]
async fn a_homeserver_that_does_not_pass_requests_on() {
    let world = World::in_homeserver_mode().await;
    for (reply, cause) in [
        (error(404, "M_UNRECOGNIZED"), "doesn't forward requests to the service (404)"),
        (Reply::html(502), "can't reach the service"),
        (Reply::html(504), "can't reach the service"),
        (Reply::html(404), "something that isn't this service (404)"),
        (Reply::html(200), "something that isn't this service (200)"),
    ] {
        world.own.answer_always(Query::Proxied, reply);

        let report = world.examine().await;

        World::assert_problem(&report, "proxying", cause);
    }
}

#[tokio::test]
async fn a_homeserver_that_passes_requests_on_to_where_nobody_answers() {
    let world = World::in_homeserver_mode().await;
    world.own.passes_on_to("http://127.0.0.1:9", world.own.hs_token());

    let report = world.examine().await;

    World::assert_problem(&report, "proxying", "can't reach the service");
}

#[tokio::test]
async fn a_homeserver_that_passes_requests_on_with_another_hs_token() {
    let world = World::in_homeserver_mode().await;
    world.own.passes_on_to(&world.service.url(""), "SECRET-another");

    let report = world.examine().await;

    World::assert_problem(&report, "proxying", "LIVEKIT_HS_TOKEN isn't the hs_token");
}

#[tokio::test]
async fn a_homeserver_that_limits() {
    let world = World::in_homeserver_mode().await;
    world.own.answer_always(Query::Proxied, error(429, "M_LIMIT_EXCEEDED"));

    let report = world.examine().await;

    World::assert_warning(&report, "proxying", "429");
}
