//! The way of a user: from the login to a leave that the service has sent.

use black_box::{Operation, Reply, TestSetup};
use operator::doctor::{Report, Status};
use serde_json::json;

use super::{SERVICE_URL, SFU_URL, World, entry, error};

/// Correct deployment, and the access token of its user.
async fn with_user() -> World {
    of_user(World::new().await)
}

fn of_user(mut world: World) -> World {
    world.environment.push((String::from("MATRIX_ACCESS_TOKEN"), world.own.access_token().to_owned()));
    world
}

/// Without delayed events, no check has to wait for one.
async fn without_delayed_events() -> World {
    let world = with_user().await;
    world.own.events.set_versions(Reply::json(200, &json!({ "versions": ["v1.11"], "unstable_features": {} })));
    world
}

fn seen<'a>(report: &'a Report, check: &str) -> &'a str {
    &World::finding(report, check).outcome.seen
}

#[tokio::test]
async fn a_user_s_way_is_well_from_the_login_to_a_sent_leave() {
    let world = with_user().await;

    let report = world.examine().await;

    World::assert_well(&report);
    World::assert_no_secret(&report);
    for (check, text) in [
        ("user", "@alice:example.org"),
        ("user-transports", SERVICE_URL),
        ("user-sfu", "has the room"),
        ("user-access", "full"),
        ("user-leave", "restarted at once, and sent after"),
        ("user-room-left", "left and forgotten"),
        ("user-logout", "the given access token stays"),
    ] {
        assert!(seen(&report, check).contains(text), "{report:#?}");
    }
    assert!(seen(&report, "user-homeserver-leave").contains("for homeserver mode only"));
    assert_eq!((world.own.user_s_rooms().len(), world.own.user_s_sessions()), (0, 1));
    assert!(world.own.user_s_requests().iter().any(|request| request.ends_with("/cancel")));
}

#[tokio::test]
async fn in_homeserver_mode_the_same_is_tried_through_the_homeserver() {
    let world = of_user(World::in_homeserver_mode().await);

    let report = world.examine().await;

    let problems = report.findings.iter().filter(|finding| finding.outcome.status != Status::Ok);
    assert_eq!(problems.count(), 0, "{:#?}", report.findings);
    World::assert_no_secret(&report);
    for (check, text) in [
        ("user-transports", SFU_URL),
        ("user-leave", "restarted at once, and sent after"),
        ("user-homeserver-token", SFU_URL),
        ("user-homeserver-sfu", "has the room"),
        ("user-homeserver-leave", "restarted when a webhook had the participant join, and sent"),
    ] {
        assert!(seen(&report, check).contains(text), "{report:#?}");
    }
}

#[tokio::test]
async fn without_the_service_s_key_pair_a_leave_through_the_homeserver_is_only_seen_sent() {
    let mut world = of_user(World::in_homeserver_mode().await);
    world.set("--sfu-secret", "another-secret-than-the-one-that-the-service-has");
    assert!(seen(&world.examine().await, "user-homeserver-leave").contains("taken over, and sent after"));

    for option in ["--sfu-key", "--sfu-secret"] {
        world.unset(option);
    }
    assert!(seen(&world.examine().await, "user-homeserver-leave").contains("taken over, and sent after"));
}

#[tokio::test]
async fn a_leave_through_the_homeserver_that_is_not_restarted_or_sent_has_its_cause() {
    let world = of_user(World::in_homeserver_mode().await);
    // Of two leaves each time, the second is delegated through the homeserver.
    for (delay_id, operation, status, cause) in [
        ("syd_secret_1", Operation::Restart, Status::Warning, "but not restarted before"),
        ("syd_secret_3", Operation::Send, Status::Problem, "although a webhook has had the participant leave"),
    ] {
        world.own.events.answer_always(delay_id, operation, error(500, "M_UNKNOWN"));

        let report = world.examine().await;

        World::assert_finding(&report, "user-homeserver-leave", status, cause);
        assert!(seen(&report, "user-leave").contains("restarted at once, and sent after"));
    }
}

#[tokio::test]
async fn a_slash_at_the_end_of_the_given_url_makes_no_other_sfu() {
    let mut world = of_user(World::in_homeserver_mode().await);
    world.own.events.set_versions(Reply::json(200, &json!({ "versions": ["v1.11"], "unstable_features": {} })));
    world.own.announces_nothing();
    for sfu in ["wss://other.example.org", SFU_URL] {
        world.own.announces(&entry(Some(sfu)));
    }
    world.set("--sfu-url", &format!("{SFU_URL}/"));

    let report = world.examine().await;

    for check in ["user-get-token", "user-sfu-get", "user-homeserver-token"] {
        let outcome = &World::finding(&report, check).outcome;
        assert!(outcome.status == Status::Ok && outcome.seen.contains(SFU_URL), "{report:#?}");
    }
}

#[tokio::test]
async fn a_session_of_the_doctor_s_own_is_ended_after_a_failure_too() {
    let mut world = without_delayed_events().await;
    world.environment.clear();
    for user in ["alice", "@alice:example.org"] {
        world.set("--login", user);
        for reply in [Reply::json(200, &json!({ "room_id": "!test:example.org" })), error(500, "M_UNKNOWN")] {
            world.own.answer_user("createRoom", reply);

            let report = world.examine().await;

            assert!(seen(&report, "user").contains("in a session of the doctor's own"), "{report:#?}");
            assert!(seen(&report, "user-logout").contains("is ended"), "{report:#?}");
            assert_eq!(world.own.user_s_sessions(), 1);
            World::assert_no_secret(&report);
        }
    }
}

#[tokio::test]
async fn a_login_that_fails_has_its_cause() {
    let mut world = with_user().await;
    for (path, reply, cause) in [
        ("whoami", error(401, "M_UNKNOWN_TOKEN"), "refuses the access token (401)"),
        ("whoami", Reply::html(502), "returned 502"),
        ("whoami", Reply::json(200, &json!({ "user_id": "@alice:example.net" })), "who isn't of example.org"),
    ] {
        world.own.answer_user(path, reply);
        World::assert_problem(&world.examine().await, "user", cause);
    }
    world.set("--login", "bob");
    World::assert_problem(&world.examine().await, "user", "refuses the user, or the password");
    for (reply, cause) in [
        (error(403, "M_UNKNOWN"), "no login with a password (403)"),
        (error(404, "M_UNRECOGNIZED"), "no login with a password (404)"),
        (error(429, "M_LIMIT_EXCEEDED"), "no more logins"),
    ] {
        world.own.answer_user("v3/login", reply);
        World::assert_problem(&world.examine().await, "user", cause);
    }
}

#[tokio::test]
async fn a_request_of_the_user_s_that_fails_has_its_cause() {
    let world = without_delayed_events().await;
    for (path, reply, check, cause) in [
        ("rtc/transports", Reply::json(200, &json!({})), "user-transports", "it is empty"),
        ("openid", error(404, "M_UNRECOGNIZED"), "user-open-id", "issues no OpenID tokens (404)"),
        (
            "openid",
            Reply::json(200, &json!({ "access_token": "SECRET-x", "matrix_server_name": "example.net" })),
            "user-open-id",
            "names \"example.net\" as its homeserver",
        ),
        ("createRoom", error(400, "M_BAD_JSON"), "user-room", "returned 400"),
    ] {
        world.own.answer_user(path, reply);

        let report = world.examine().await;

        World::assert_finding(&report, check, Status::Problem, cause);
        world.own.answer_user_as_usual();
    }
}

#[tokio::test]
async fn a_token_that_the_service_refuses_has_its_cause() {
    let world = without_delayed_events().await;
    world.own.home.set_userinfo(error(401, "M_UNKNOWN_TOKEN"));
    let report = world.examine().await;
    for check in ["user-get-token", "user-sfu-get"] {
        World::assert_finding(&report, check, Status::Problem, "can't verify the user's OpenID token (401)");
    }
}

#[tokio::test]
async fn a_token_that_the_service_fails_to_issue_has_its_cause() {
    let world = without_delayed_events().await;
    for (status, cause) in [(403, "gives this user no token (403)"), (500, "fails to make the room"), (502, "(502)")] {
        world.proxy.meddle(move |request, reply| match request.path.ends_with("/get_token") && reply.status() == 200 {
            true if request.method == "POST" => error(status, "M_UNKNOWN"),
            _ => reply,
        });

        World::assert_problem(&world.examine().await, "user-get-token", cause);
    }
}

#[tokio::test]
async fn restricted_access_has_its_cause() {
    let setup = TestSetup::new().await;
    let list = "example.net Example.org cs.example.org";
    let mut world = of_user(World::with(setup, |deployment| deployment.full_access(list)).await);
    let report = world.examine().await;
    World::assert_finding(&report, "user-access", Status::Warning, "example.org isn't in LIVEKIT_FULL_ACCESS");
    World::assert_finding(&report, "user-leave", Status::Warning, "takes no leaves over");

    for (list, status, cause) in [
        ("example.net", Status::Warning, "example.org isn't in LIVEKIT_FULL_ACCESS_HOMESERVERS"),
        ("example.net, Example.org", Status::Problem, "has Example.org, in other capitals"),
        ("example.net cs.example.org", Status::Problem, "has cs.example.org, which is a host"),
        ("example.org", Status::Problem, "although the doctor's LIVEKIT_FULL_ACCESS_HOMESERVERS includes"),
    ] {
        world.environment.truncate(1);
        world.environment.push((String::from("LIVEKIT_FULL_ACCESS_HOMESERVERS"), list.to_owned()));

        let report = world.examine().await;

        World::assert_finding(&report, "user-access", status, cause);
    }
}

#[tokio::test]
async fn an_sfu_that_makes_every_room_shows_no_full_access() {
    let mut world =
        of_user(World::with(TestSetup::new().await, |deployment| deployment.full_access("example.net")).await);
    world.sfu.set_auto_create();
    let report = world.examine().await;
    assert!(seen(&report, "user-access").starts_with("full in effect"), "{report:#?}");

    world.environment.push((String::from("LIVEKIT_FULL_ACCESS_HOMESERVERS"), String::from("example.net")));
    let report = world.examine().await;
    World::assert_finding(&report, "user-access", Status::Warning, "restricted, because example.org isn't in");

    world.environment.truncate(1);
    for option in ["--sfu-key", "--sfu-secret"] {
        world.unset(option);
    }
    let report = world.examine().await;
    assert!(seen(&report, "user-access").starts_with("full, or the SFU has auto_create on"), "{report:#?}");
}

#[tokio::test]
async fn an_sfu_that_is_old_is_a_warning() {
    let world = without_delayed_events().await;
    world.sfu.be_old();

    let report = world.examine().await;

    World::assert_warning(&report, "user-sfu", "has no /rtc/v1 (404)");
}

#[tokio::test]
async fn an_sfu_with_another_key_refuses_the_user() {
    let world = without_delayed_events().await;
    world.sfu.fail_at("/rtc/validate", Reply::new(401, "text/plain", "invalid API key: devkey"));

    let report = world.examine().await;

    World::assert_finding(&report, "user-sfu", Status::Problem, "refuses the token that the service has issued (401)");
}

#[tokio::test]
async fn a_leave_that_is_not_sent_is_a_problem() {
    let world = with_user().await;
    world.own.events.answer_always("syd_secret_0", Operation::Send, error(502, "M_UNKNOWN"));

    let report = world.examine().await;

    World::assert_problem(&report, "user-leave", "hasn't sent it after");
    assert!(seen(&report, "user-room-left").contains("left"));
}

#[tokio::test]
async fn a_leave_that_is_not_restarted_is_a_warning() {
    let world = with_user().await;
    world.own.events.answer_always("syd_secret_0", Operation::Restart, error(429, "M_LIMIT_EXCEEDED"));

    let report = world.examine().await;

    World::assert_warning(&report, "user-leave", "but not restarted before");
}

#[tokio::test]
async fn a_leave_that_the_service_refuses_has_its_cause() {
    let world = with_user().await;
    world.own.events.answer_always("syd_secret_0", Operation::Restart, error(401, "M_MISSING_TOKEN"));

    let report = world.examine().await;

    World::assert_problem(&report, "user-leave", "refuses to take the user's leave over (400)");
}

#[tokio::test]
async fn a_homeserver_that_delays_nothing_has_its_cause() {
    let world = with_user().await;
    for (reply, cause) in [
        (Reply::json(200, &json!({ "event_id": "$event" })), "sends an event at once"),
        (error(400, "M_UNKNOWN"), "doesn't schedule a delayed event (400)"),
    ] {
        world.own.answer_user("/state/", reply);

        World::assert_problem(&world.examine().await, "user-leave", cause);
    }
}

#[tokio::test]
async fn a_homeserver_that_does_not_forward_has_its_cause() {
    let world = without_delayed_events().await;
    world.own.announces_nothing();
    world.own.announces(&entry(Some(SFU_URL)));
    let report = world.examine().await;
    World::assert_problem(&report, "user-homeserver-token", "doesn't forward get_token to the service (404)");

    for (status, code, cause) in [
        (400, "M_INVALID_PARAM", "issues no token for"),
        (401, "M_UNKNOWN_TOKEN", "the service refuses its token (401)"),
        (403, "M_FORBIDDEN", "isn't in the test room (403)"),
        (500, "M_UNKNOWN", "get_token by the homeserver returned 500"),
    ] {
        world.own.answer_user("rtc/livekit/get_token", error(status, code));

        World::assert_problem(&world.examine().await, "user-homeserver-token", cause);
    }
}
