//! Server discovery: from a server name to the homeserver's federation API (`docs/protocol.md#finding-homeservers`).
//!
//! Each test sets up well-known files and SRV records for one step of the algorithm. A fake homeserver listens at the
//! expected address only, and a verified token shows that the worker has found it there.

use black_box::{Endpoint, Homeserver, PUBLIC_V6, Reply, TestSetup};
use serde_json::json;

#[tokio::test]
async fn an_ipv4_literal_with_a_port_is_queried_there() {
    let setup = TestSetup::new().await;
    let address = setup.network.unused_address().to_string();
    let name = format!("{address}:8449");

    let home = setup.homeserver(&name).federation_at(&address, 8449).start().await;

    assert_verified(&setup, &home, &name).await;
    assert_eq!(home.well_known_requests(), 0);
}

#[tokio::test]
async fn an_ipv4_literal_is_queried_at_port_8448() {
    let setup = TestSetup::new().await;
    let address = setup.network.unused_address().to_string();

    let home = setup.homeserver(&address).federation_at(&address, 8448).start().await;

    assert_verified(&setup, &home, &address).await;
    assert_eq!(home.well_known_requests(), 0);
}

#[tokio::test]
async fn an_ipv6_literal_is_queried_at_its_port_or_8448() {
    let literal = format!("[{PUBLIC_V6}]");

    for (name, port) in [(format!("{literal}:8449"), 8449), (literal.clone(), 8448)] {
        let setup = TestSetup::new().await;
        let home = setup.homeserver(&name).federation_at(&literal, port).start().await;

        assert_verified(&setup, &home, &name).await;
        assert_eq!(home.well_known_requests(), 0);
    }
}

#[tokio::test]
async fn a_name_with_a_port_is_queried_there_without_any_look_up() {
    let setup = TestSetup::new().await;

    let home = setup.homeserver("example.org:8449").federation_at("example.org", 8449).start().await;

    assert_verified(&setup, &home, "example.org:8449").await;
    assert_eq!(home.well_known_requests(), 0);
    assert!(setup.resolver.queried().is_empty());
}

#[tokio::test]
async fn well_known_delegates_to_a_name_with_a_port() {
    let setup = TestSetup::new().await;

    let home = setup
        .homeserver("example.org")
        .delegates_to("hs.example.net:8449")
        .federation_at("hs.example.net", 8449)
        .start()
        .await;

    assert_verified(&setup, &home, "example.org").await;
    assert!(setup.resolver.queried().is_empty());
}

#[tokio::test]
async fn well_known_delegates_to_port_443_of_the_name_itself() {
    let setup = TestSetup::new().await;

    let home =
        setup.homeserver("example.org").delegates_to("example.org:443").federation_at("example.org", 443).start().await;

    assert_verified(&setup, &home, "example.org").await;
}

#[tokio::test]
async fn well_known_delegates_to_an_address() {
    let setup = TestSetup::new().await;
    let v4 = setup.network.unused_address().to_string();
    let v6 = format!("[{PUBLIC_V6}]");

    for (number, (host, port, server)) in [
        (&v4, 8448, v4.clone()),
        (&v4, 8449, format!("{v4}:8449")),
        (&v6, 8448, v6.clone()),
        (&v6, 8449, format!("{v6}:8449")),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("example{number}.org");
        let home = setup.homeserver(&name).delegates_to(&server).federation_at(host, port).start().await;

        assert_verified(&setup, &home, &name).await;
    }
    assert!(setup.resolver.queried().is_empty());
}

#[tokio::test]
async fn a_delegated_name_is_found_by_its_srv_record() {
    const RECORDS: [&str; 2] = ["_matrix-fed._tcp.hs.example.net", "_matrix._tcp.hs.example.net"];
    // The deprecated record is queried only if the other one doesn't exist.
    for queried in [&RECORDS[..1], &RECORDS] {
        let setup = TestSetup::new().await;
        setup.resolver.add_srv(queried[queried.len() - 1], 10, 5, 8449, "node1.example.com");

        let home = setup
            .homeserver("example.org")
            .delegates_to("hs.example.net")
            .federation_behind_srv("hs.example.net", "node1.example.com", 8449)
            .start()
            .await;

        assert_verified(&setup, &home, "example.org").await;
        assert_eq!(setup.resolver.queried(), queried);
    }
}

#[tokio::test]
async fn a_delegated_name_without_srv_records_is_queried_at_port_8448() {
    let setup = TestSetup::new().await;

    let home = setup
        .homeserver("example.org")
        .delegates_to("hs.example.net")
        .federation_at("hs.example.net", 8448)
        .start()
        .await;

    assert_verified(&setup, &home, "example.org").await;
    assert_eq!(setup.resolver.queried(), ["_matrix-fed._tcp.hs.example.net", "_matrix._tcp.hs.example.net"]);
}

#[tokio::test]
async fn without_well_known_the_name_is_found_by_its_srv_record() {
    for record in ["_matrix-fed._tcp.example.org", "_matrix._tcp.example.org"] {
        let setup = TestSetup::new().await;
        setup.resolver.add_srv(record, 10, 5, 8449, "node1.example.com");

        let home = setup
            .homeserver("example.org")
            .without_well_known()
            .federation_behind_srv("example.org", "node1.example.com", 8449)
            .start()
            .await;

        assert_verified(&setup, &home, "example.org").await;
    }
}

#[tokio::test]
async fn an_srv_record_that_points_to_the_name_itself_is_followed() {
    let setup = TestSetup::new().await;
    setup.resolver.add_srv("_matrix-fed._tcp.example.org", 10, 5, 8449, "example.org");

    let home = setup.homeserver("example.org").without_well_known().federation_at("example.org", 8449).start().await;

    assert_verified(&setup, &home, "example.org").await;
}

#[tokio::test]
async fn without_well_known_and_srv_records_the_name_is_queried_at_port_8448() {
    let setup = TestSetup::new().await;

    let home = setup.homeserver("example.org").without_well_known().federation_at("example.org", 8448).start().await;

    assert_verified(&setup, &home, "example.org").await;
    assert_eq!(setup.resolver.queried(), ["_matrix-fed._tcp.example.org", "_matrix._tcp.example.org"]);
}

#[tokio::test]
async fn a_well_known_that_says_nothing_is_no_well_known() {
    let setup = TestSetup::new().await;
    let with = |body: serde_json::Value| Reply::json(200, &body);

    for (number, reply) in [
        Reply::html(200),
        Reply::html(500),
        Reply::html(403),
        Reply::new(200, "application/json", ""),
        Reply::new(200, "application/json", "{\"m.server\": \"elsewhere.example:443\""),
        with(json!({})),
        with(json!({ "m.server": "" })),
        with(json!({ "m.server": 5 })),
        with(json!({ "m.server": null })),
        with(json!([])),
        with(json!("elsewhere.example:443")),
        with(json!({ "m.server": "https://elsewhere.example" })),
        with(json!({ "m.server": "elsewhere.example/path" })),
        with(json!({ "m.server": "elsewhere.example:port" })),
        with(json!({ "m.server": "user@elsewhere.example:443" })),
        Reply::json(404, &json!({ "m.server": "elsewhere.example:443" })),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("example{number}.org");
        let home = setup.homeserver(&name).well_known(reply).federation_at(&name, 8448).start().await;

        assert_verified(&setup, &home, &name).await;
    }
}

/// workerd behaves so with all its autogates, too, which are what it may do one day.
#[tokio::test]
async fn where_the_platform_refuses_srv_the_log_has_the_remedy() {
    let setup = TestSetup::new().await;
    setup.resolver.add_srv("_matrix-fed._tcp.example.org", 10, 5, 8449, "node1.example.com");
    let home = setup
        .homeserver("example.org")
        .without_well_known()
        .federation_behind_srv("example.org", "node1.example.com", 8449)
        .start()
        .await;
    let service = setup.deployment().set("WORKERD_ALL_AUTOGATES", "1").start();

    let answer = service.request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.org")).await;

    answer.assert_error(401, "M_UNAUTHORIZED");
    assert_eq!(home.userinfo_requests(), 0);
    let remedies = ["must serve /.well-known/matrix/server", "LIVEKIT_FEDERATION_URL_OVERRIDES"];
    service.log().line_with(&remedies).await;
}

#[tokio::test]
async fn a_well_known_of_another_content_type_counts() {
    let setup = TestSetup::new().await;

    let home = setup
        .homeserver("example.org")
        .well_known(Reply::new(200, "text/plain", r#"{"m.server": "hs.example.net:443", "x": 1}"#))
        .federation_at("hs.example.net", 443)
        .start()
        .await;

    assert_verified(&setup, &home, "example.org").await;
}

#[tokio::test]
async fn a_website_that_is_down_is_no_well_known() {
    let setup = TestSetup::new().await;

    let home = setup.homeserver("example.org").without_website().federation_at("example.org", 8448).start().await;

    assert_verified(&setup, &home, "example.org").await;
}

#[tokio::test]
async fn a_resolver_that_fails_means_port_8448() {
    for reply in [
        Reply::html(502),
        Reply::html(200),
        Reply::new(200, "application/dns-json", r#"{"Status": 2}"#),
        Reply::new(200, "application/dns-json", r#"{"Status": 0, "Answer": [{"type": 33, "data": "x"}]}"#),
    ] {
        let setup = TestSetup::new().await;
        setup.resolver.set_reply(reply);

        let home =
            setup.homeserver("example.org").without_well_known().federation_at("example.org", 8448).start().await;

        assert_verified(&setup, &home, "example.org").await;
    }
}

async fn assert_verified(setup: &TestSetup, home: &Homeserver, server_name: &str) {
    let service = setup.deployment().start();

    let answer = service.request_token(Endpoint::SfuGet, &home.openid_token(&format!("@alice:{server_name}"))).await;

    assert_eq!(answer.status, 200, "{server_name}: {answer:?}");
    assert_eq!(home.userinfo_requests(), 1, "{server_name}");
}
