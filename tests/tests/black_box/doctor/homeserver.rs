use black_box::{Operation, PUBLIC_V6, Reply, TestSetup};
use operator::doctor::Status;
use serde_json::json;

use super::{MADE_UP, SERVICE_URL, World, announcement, error, well_known};

#[tokio::test]
async fn no_announcement() {
    let world = World::new().await;
    world.own.home.set_client_well_known(Reply::html(404));

    let report = world.examine().await;

    World::assert_finding(
        &report,
        "announcement",
        Status::Problem,
        "https://example.org/.well-known/matrix/client doesn't exist (the response is 404)",
    );
    World::assert_finding(&report, "client-api", Status::Problem, "no client-server API at https://example.org");
    World::assert_skipped(&report, &["delayed-events", "rtc-transports"]);
}

#[tokio::test]
async fn a_web_server_that_is_away() {
    let world = World::new().await;
    world.setup.network.point("example.org", world.setup.network.unused_address());

    let report = world.examine().await;

    World::assert_finding(&report, "announcement", Status::Problem, "connection refused");
}

#[tokio::test]
async fn an_announcement_that_pages_may_not_read() {
    let world = World::new().await;
    world.own.home.set_client_well_known(Reply::json(200, &announcement(SERVICE_URL)));
    let report = world.examine().await;
    World::assert_problem(&report, "announcement", "there is no Access-Control-Allow-Origin");

    let doubled = well_known(&announcement(SERVICE_URL)).header("access-control-allow-origin", "*");
    world.own.home.set_client_well_known(doubled);
    let report = world.examine().await;
    World::assert_problem(&report, "announcement", "there are 2 Access-Control-Allow-Origin headers");
}

#[tokio::test]
async fn an_announcement_of_something_else() {
    let homeserver = json!({ "m.homeserver": { "base_url": "https://cs.example.org" } });
    let mut other_kind = announcement(SERVICE_URL);
    other_kind["org.matrix.msc4143.rtc_foci"][0]["type"] = json!("mesh");
    let world = World::new().await;
    for (file, cause) in [
        (homeserver, "lacks org.matrix.msc4143.rtc_foci"),
        (other_kind, "has no entry of the type livekit"),
        (announcement("wss://sfu.example.org/livekit/sfu"), "an SFU's URL"),
        (announcement("https://rtc.example.org"), "the right host with another path"),
        (announcement("https://rtc.example.net/livekit/jwt"), "another service"),
    ] {
        world.own.home.set_client_well_known(well_known(&file));

        let report = world.examine().await;

        World::assert_problem(&report, "announcement", cause);
    }
}

#[tokio::test]
async fn an_announcement_with_a_slash_at_its_end() {
    let world = World::new().await;
    world.own.home.set_client_well_known(well_known(&announcement("https://rtc.example.org/livekit/jwt/")));

    let report = world.examine().await;

    World::assert_warning(&report, "announcement", "ends with a slash");
}

#[tokio::test]
async fn an_announcement_that_is_not_json() {
    let world = World::new().await;
    world.own.home.set_client_well_known(Reply::html(200));

    let report = world.examine().await;

    World::assert_finding(&report, "announcement", Status::Problem, "isn't JSON");
    World::assert_finding(&report, "client-api", Status::Problem, "no m.homeserver.base_url");
}

#[tokio::test]
async fn a_base_url_that_the_service_does_not_take() {
    let world = World::new().await;
    let mut announced = announcement(SERVICE_URL);
    announced["m.homeserver"] = json!({ "base_url": "http://cs.example.org" });
    world.own.home.set_client_well_known(well_known(&announced));

    let report = world.examine().await;

    World::assert_problem(&report, "client-api", "no https URL");
}

#[tokio::test]
async fn a_delegation_that_cannot_be_read() {
    let world = World::new().await;
    for (reply, cause) in [
        (Reply::html(200), "isn't JSON with a valid m.server"),
        (Reply::json(200, &json!({ "m.server": "https://matrix.example.org" })), "isn't JSON with a valid m.server"),
        (Reply::html(500), "returned 500"),
    ] {
        world.own.home.set_well_known(reply);

        let report = world.examine().await;

        World::assert_finding(&report, "federation-discovery", Status::Problem, cause);
        World::assert_finding(&report, "federation-discovery", Status::Problem, "example.org:8448");
    }
}

#[tokio::test]
async fn a_delegation_to_a_private_address() {
    let world = World::new().await;
    world.own.home.set_well_known(Reply::json(200, &json!({ "m.server": "10.1.2.3:8448" })));

    let report = world.examine().await;

    World::assert_problem(&report, "federation-discovery", "10.1.2.3 is a private address");
    World::assert_skipped(&report, &["open-id"]);
}

#[tokio::test]
async fn a_delegation_to_an_address_in_place_of_a_name() {
    let world = World::new().await;
    let address = world.setup.network.address_of("example.org");
    world.own.home.set_well_known(Reply::json(200, &json!({ "m.server": format!("{address}:443") })));

    let report = world.examine().await;

    World::assert_finding(&report, "federation-discovery", Status::Warning, "works at home, not on Cloudflare");
    let change = World::finding(&report, "federation-discovery").outcome.change.as_ref().unwrap();
    assert!(change.contains("LIVEKIT_FEDERATION_URL_OVERRIDES=example.org="), "{change}");
}

#[tokio::test]
async fn a_name_with_a_private_address() {
    let world = World::new().await;
    world.own.home.set_well_known(Reply::json(200, &json!({ "m.server": "inside.example.org:443" })));
    let _inside = world.setup.tripwire("inside.example.org", 443).await;
    world.setup.network.point("inside.example.org", [10, 1, 2, 3].into());
    let _there = world.setup.tripwire("inside.example.org", 443).await;

    let report = world.examine().await;

    let seen = World::finding(&report, "federation-discovery");
    assert!(seen.outcome.seen.contains("10.1.2.3, a private address"), "{seen:?}");
}

#[tokio::test]
async fn a_federation_port_that_is_closed() {
    let world = World::new().await;
    world.own.home.set_well_known(Reply::html(404));

    let report = world.examine().await;

    World::assert_problem(&report, "federation-discovery", ":8448: connection refused");
    World::assert_finding(&report, "federation-discovery", Status::Problem, "no valid well-known and no SRV record");
    World::assert_skipped(&report, &["open-id"]);
}

#[tokio::test]
async fn a_resolver_that_does_not_say() {
    let world = World::new().await;
    world.own.home.set_well_known(Reply::html(404));
    world.setup.resolver.set_reply(Reply::html(500));

    let report = world.examine().await;

    World::assert_problem(&report, "federation-discovery", "returned no result for SRV records");
}

#[tokio::test]
async fn a_federation_api_whose_ipv6_address_does_not_answer() {
    let world = World::new().await;
    let v4 = world.setup.network.address_of("matrix.example.org");
    world.setup.network.point_to_all("matrix.example.org", &[v4, PUBLIC_V6.into()]);

    let report = world.examine().await;

    World::assert_problem(&report, "federation-discovery", "has the IPv6 address");
}

#[tokio::test]
async fn a_federation_api_with_an_untrusted_certificate() {
    let setup = TestSetup::new().await;
    let certificate = setup.authority.expired_certificate("matrix.example.net");
    let _home = setup.homeserver("example.net").certificate(certificate).browsed().start().await;
    let mut world = World::with(setup, |deployment| deployment).await;
    world.set("--server-name", "example.net");

    let report = world.examine().await;

    World::assert_finding(&report, "open-id", Status::Problem, "the certificate of matrix.example.net has expired");
    World::assert_finding(&report, "open-id", Status::Problem, "OPEN_ID_ERROR");
}

#[tokio::test]
async fn a_federation_api_that_does_not_answer_about_openid_tokens() {
    let world = World::new().await;
    for (reply, cause) in [
        (error(404, "M_UNRECOGNIZED"), "no OpenID endpoint"),
        (Reply::html(404), "isn't that of a homeserver's federation API (404)"),
        (Reply::html(502), "isn't that of a homeserver's federation API (502)"),
        (error(403, "M_FORBIDDEN"), "refuses requests without authentication"),
        (error(500, "M_UNKNOWN"), "returned 500 for an unknown token"),
    ] {
        world.own.home.set_userinfo(reply);

        let report = world.examine().await;

        World::assert_problem(&report, "open-id", cause);
    }
}

#[tokio::test]
async fn a_federation_api_that_limits() {
    let world = World::new().await;
    world.own.home.set_userinfo(error(429, "M_LIMIT_EXCEEDED"));

    let report = world.examine().await;

    World::assert_warning(&report, "open-id", "429");
}

#[tokio::test]
async fn a_client_api_that_is_not_there() {
    let mut world = World::new().await;
    world.own.events.go_away();

    let report = world.examine().await;

    World::assert_problem(&report, "client-api", "connection refused");
    World::assert_skipped(&report, &["delayed-events", "rtc-transports"]);
}

#[tokio::test]
async fn something_else_in_place_of_the_client_api() {
    let world = World::new().await;
    world.own.events.set_versions(Reply::html(200));

    let report = world.examine().await;

    World::assert_problem(&report, "client-api", "isn't a homeserver's (200)");
}

#[tokio::test]
async fn a_client_api_at_the_server_name_itself() {
    let world = World::new().await;
    world.own.home.set_client_well_known(Reply::html(404));
    let versions = json!({ "versions": ["v1.11"], "unstable_features": {} });
    world.own.home.set_client_versions(Reply::json(200, &versions));

    let report = world.examine().await;

    let found = World::finding(&report, "client-api");
    assert!(found.outcome.status == Status::Ok && found.outcome.seen.contains("the server name itself"), "{found:?}");
    World::assert_finding(&report, "rtc-transports", Status::Warning, "has no list of transports");
}

#[tokio::test]
async fn a_homeserver_without_delayed_events() {
    let world = World::new().await;
    world.own.events.set_versions(Reply::json(200, &json!({ "versions": ["v1.11"], "unstable_features": {} })));
    let report = world.examine().await;
    World::assert_warning(&report, "delayed-events", "doesn't announce delayed events");

    for (software, status) in [("Dendrite", Status::Warning), ("Synapse", Status::Problem)] {
        world.own.events.has_software(software);

        let report = world.examine().await;

        World::assert_finding(&report, "delayed-events", status, "doesn't announce delayed events");
        let change = World::finding(&report, "delayed-events").outcome.change.as_deref().unwrap();
        assert!(change.contains(software) && change.contains("max_event_delay_duration"), "{change}");
    }
}

#[tokio::test]
async fn workers_that_restart_but_do_not_send() {
    let world = World::new().await;
    world.own.events.answer_always(MADE_UP, Operation::Send, error(404, "M_UNRECOGNIZED"));

    let report = world.examine().await;

    World::assert_problem(&report, "delayed-events", "but no `send`");
}

#[tokio::test]
async fn every_refusal_of_an_unknown_token_is_one() {
    let world = World::new().await;
    for code in ["M_UNKNOWN_TOKEN", "M_UNAUTHORIZED", "M_MISSING_TOKEN"] {
        world.own.home.set_userinfo(error(401, code));

        World::assert_well(&world.examine().await);
    }
}

#[tokio::test]
async fn a_homeserver_whose_federation_is_disabled() {
    let world = World::new().await;
    let reply = json!({ "errcode": "M_FORBIDDEN", "error": "Federation is disabled." });
    world.own.home.set_userinfo(Reply::json(403, &reply));

    let report = world.examine().await;

    World::assert_problem(&report, "open-id", "federation is disabled (403)");
    let change = World::finding(&report, "open-id").outcome.change.as_deref().unwrap();
    assert!(change.contains("disable_federation") && change.contains("allow_federation"), "{change}");
}

#[tokio::test]
async fn delayed_events_that_are_not_as_they_should_be() {
    let world = World::new().await;
    for (reply, cause) in [
        (error(404, "M_UNRECOGNIZED"), "has no `restart` without a login"),
        (error(401, "M_MISSING_TOKEN"), "requires a login"),
        (Reply::html(404), "restart is 404; 404 M_NOT_FOUND is expected"),
        (Reply::html(502), "restart is 502"),
    ] {
        world.own.events.answer_always(MADE_UP, Operation::Restart, reply);

        let report = world.examine().await;

        World::assert_problem(&report, "delayed-events", cause);
    }
}

#[tokio::test]
async fn delayed_events_that_are_limited() {
    let world = World::new().await;
    world.own.events.answer_always(MADE_UP, Operation::Restart, error(429, "M_LIMIT_EXCEEDED"));

    let report = world.examine().await;

    World::assert_warning(&report, "delayed-events", "429");
}
