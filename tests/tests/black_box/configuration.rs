//! Misconfiguration: all requests are answered with 503, and the wrong variables are named
//! (`docs/protocol.md#configuration`, `docs/protocol.md#errors`).
//!
//! Each case starts the worker with some variables missing or wrong, and compares the names in `/healthz` and in the
//! log. The log shows the values that are no secrets; `/healthz` shows none.

use black_box::{Deployment, Endpoint, Service, TestSetup};
use hyper::Method;
use serde_json::json;

#[tokio::test]
async fn a_missing_variable_is_named() {
    for variable in ["LIVEKIT_URL", "LIVEKIT_KEY", "LIVEKIT_SECRET", "LIVEKIT_FULL_ACCESS_HOMESERVERS"] {
        let setup = TestSetup::new().await;

        assert_misconfigured(setup.deployment().unset(variable), &[variable]).await;
        assert_misconfigured(setup.deployment().set(variable, ""), &[variable]).await;
        assert_misconfigured(setup.deployment().set(variable, " \n"), &[variable]).await;
    }
}

#[tokio::test]
async fn a_wrong_value_is_named_and_shown_in_the_log() {
    for (variable, values) in [
        (
            "LIVEKIT_URL",
            &["WRONG", "ftp://WRONG.example", "//WRONG.example", "wss://", "wss://user:WRONG@sfu.example"][..],
        ),
        ("LIVEKIT_FULL_ACCESS_HOMESERVERS", &["https://WRONG.example", "example.org, WRONG/path", ","]),
        ("LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS", &["WRONG", "-1", "1.5WRONG", "99999999999WRONG"]),
        ("LIVEKIT_LOG_LEVEL", &["WRONG"]),
        ("LIVEKIT_CS_API_URL_OVERRIDES", &["WRONG", "example.org=https://ok.example,WRONG", "=https://WRONG.example"]),
        ("LIVEKIT_CAN_UPDATE_OWN_METADATA", &["WRONG", "maybe"]),
        ("LIVEKIT_RESTRICTED_CAN_PUBLISH", &["WRONG"]),
        ("LIVEKIT_ALLOW_PRIVATE_ADDRESSES", &["WRONG"]),
        ("LIVEKIT_DNS_OVER_HTTPS_URL", &["WRONG", "ftp://WRONG.example/"]),
        ("LIVEKIT_LOCATION_HINT", &["WRONG", "weur,WRONG", "fra"]),
        ("LIVEKIT_JURISDICTION", &["WRONG", "eu,WRONG", "de"]),
        ("LIVEKIT_TOKEN_TTL_SECONDS", &["WRONG", "0", "3601", "-1", "60.5"]),
        ("LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS", &["WRONG", "-1"]),
        ("LIVEKIT_FEDERATION_URL_OVERRIDES", &["WRONG", "example.org=ftp://WRONG.example"]),
        ("LIVEKIT_ALLOWED_HOMESERVERS", &["https://WRONG.example", "*, WRONG.example"]),
        ("LIVEKIT_RESTRICTED_CAN_DELEGATE", &["WRONG"]),
        ("LIVEKIT_ROOM_EMPTY_TIMEOUT_SECONDS", &["WRONG", "-1"]),
        ("LIVEKIT_ROOM_DEPARTURE_TIMEOUT_SECONDS", &["1.5WRONG"]),
        ("LIVEKIT_ROOM_MAX_PARTICIPANTS", &["4294967296"]),
        ("LIVEKIT_REMOTE_CAN_PUBLISH_HOMESERVERS", &["WRONG/path"]),
        // Without homeserver mode no member is known.
        ("LIVEKIT_REQUIRE_MEMBERSHIP", &["WRONG", "true"]),
    ] {
        let setup = TestSetup::new().await;
        for value in values {
            let log = assert_misconfigured(setup.deployment().set(variable, value), &[variable]).await;
            // A URL that has a password is no exception: it isn't shown.
            if value.contains("WRONG") {
                assert_eq!(log.contains("WRONG"), !value.contains('@'), "{variable}={value}: {log}");
            }
        }
    }
}

#[tokio::test]
async fn a_part_of_homeserver_mode_is_too_little_and_what_is_missing_is_named() {
    let all = [
        ("LIVEKIT_AS_TOKEN", "WRONG-if-it-is-shown"),
        ("LIVEKIT_HS_TOKEN", "WRONG-too"),
        ("LIVEKIT_HS_SERVER_NAME", "example.org"),
    ];
    let setup = TestSetup::new().await;
    for (missing, _) in all {
        let (mut all_but_one, mut only) = (setup.deployment(), setup.deployment());
        for (variable, value) in all {
            if variable == missing {
                only = only.set(variable, value);
            } else {
                all_but_one = all_but_one.set(variable, value);
            }
        }
        let others: Vec<_> = all.iter().map(|(variable, _)| *variable).filter(|name| *name != missing).collect();
        for (deployment, missing) in [(all_but_one, &[missing][..]), (only, &others)] {
            let log = assert_misconfigured(deployment, missing).await;
            assert!(!log.contains("WRONG"), "a token is in the log");
        }
    }
    for (variable, value) in [
        ("LIVEKIT_HS_SERVER_NAME", "https://WRONG.example"),
        ("LIVEKIT_AS_TOKEN", "two WRONG"),
        ("LIVEKIT_HS_TOKEN", "WRÖNG WRONG"),
    ] {
        let whole = all.into_iter().fold(setup.deployment(), |deployment, (name, value)| deployment.set(name, value));
        let log = assert_misconfigured(whole.set(variable, value), &[variable]).await;
        assert_eq!(log.contains("WRONG"), variable == "LIVEKIT_HS_SERVER_NAME", "{log}");
    }
}

#[tokio::test]
async fn broken_key_lines_are_named() {
    let setup = TestSetup::new().await;
    for value in ["WRONG", "key:", ": WRONG", "key: secret\nWRONG", "key: \"WRONG\""] {
        let deployment = setup.deployment().unset("LIVEKIT_KEY").unset("LIVEKIT_SECRET").set("LIVEKIT_KEYS", value);
        let log = assert_misconfigured(deployment, &["LIVEKIT_KEYS"]).await;
        assert!(!log.contains("WRONG"), "a secret is in the log");
    }
}

#[tokio::test]
async fn a_key_or_a_secret_with_quotation_marks_or_a_line_break_is_named_and_not_shown() {
    let setup = TestSetup::new().await;
    for variable in ["LIVEKIT_KEY", "LIVEKIT_SECRET"] {
        for value in ["\"WRONG\"", "'WRONG", "two\nlines of WRONG", "<WRONG>"] {
            let log = assert_misconfigured(setup.deployment().set(variable, value), &[variable]).await;
            assert!(!log.contains("WRONG"), "a secret is in the log");
        }
    }
}

#[tokio::test]
async fn all_wrong_variables_are_named_at_once() {
    let setup = TestSetup::new().await;
    let deployment = setup
        .deployment()
        .unset("LIVEKIT_URL")
        .unset("LIVEKIT_SECRET")
        .set("LIVEKIT_LOG_LEVEL", "WRONG")
        .set("LIVEKIT_ALLOW_PRIVATE_ADDRESSES", "WRONG");

    let wrong = ["LIVEKIT_URL", "LIVEKIT_SECRET", "LIVEKIT_LOG_LEVEL", "LIVEKIT_ALLOW_PRIVATE_ADDRESSES"];
    assert_misconfigured(deployment, &wrong).await;
}

#[tokio::test]
async fn every_right_value_is_accepted() {
    let setup = TestSetup::new().await;
    for (variable, value) in [
        ("LIVEKIT_URL", "wss://sfu.example/livekit/"),
        ("LIVEKIT_URL", "https://sfu.example:443"),
        ("LIVEKIT_URL", " ws://[::1]:7880\n"),
        ("LIVEKIT_FULL_ACCESS_HOMESERVERS", "*"),
        ("LIVEKIT_FULL_ACCESS_HOMESERVERS", "a.example,b.example:8448\n[::1]:8448 127.0.0.1"),
        ("LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS", "0"),
        ("LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS", "30"),
        ("LIVEKIT_LOG_LEVEL", "warning"),
        ("LIVEKIT_CS_API_URL_OVERRIDES", "example.org=https://cs.example.org,b.example=http://10.0.0.1:8008/x"),
        ("LIVEKIT_CAN_UPDATE_OWN_METADATA", "false"),
        ("LIVEKIT_DNS_OVER_HTTPS_URL", "https://dns.example/dns-query"),
        ("LIVEKIT_LOCATION_HINT", "weur"),
        ("LIVEKIT_LOCATION_HINT", "apac-ne"),
        ("LIVEKIT_JURISDICTION", "eu"),
        ("LIVEKIT_TOKEN_TTL_SECONDS", "1"),
        ("LIVEKIT_TOKEN_TTL_SECONDS", "3600"),
        ("LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS", "0"),
        ("LIVEKIT_FEDERATION_URL_OVERRIDES", "example.org=matrix.example.org,b.example=http://10.0.0.1:8448"),
        ("LIVEKIT_ALLOWED_HOMESERVERS", "*"),
        ("LIVEKIT_ALLOWED_HOMESERVERS", "a.example b.example:8448"),
        ("LIVEKIT_RESTRICTED_CAN_DELEGATE", "false"),
        ("LIVEKIT_ROOM_EMPTY_TIMEOUT_SECONDS", "0"),
        ("LIVEKIT_ROOM_DEPARTURE_TIMEOUT_SECONDS", "60"),
        ("LIVEKIT_ROOM_MAX_PARTICIPANTS", "50"),
        ("LIVEKIT_REMOTE_CAN_PUBLISH_HOMESERVERS", "a.example"),
        ("LIVEKIT_REQUIRE_MEMBERSHIP", "false"),
    ] {
        let service = setup.deployment().set(variable, value).start();

        let answer = service.request(Method::GET, "/healthz").await;

        assert_eq!(answer.status, 200, "{variable}={value:?}: {answer:?}");
    }
}

/// Checks that the service answers 503 and names these variables, and returns its log.
async fn assert_misconfigured(deployment: Deployment, variables: &[&str]) -> String {
    let service = deployment.start();
    for endpoint in Endpoint::BOTH {
        let answer = service.post(endpoint.path(), &json!({})).await;
        answer.assert_error(503, "M_UNKNOWN");
        answer.assert_cors();
    }
    service.post("/sfu_webhook", &json!({})).await.assert_error(503, "M_UNKNOWN");
    assert_names(&service, variables).await;
    service.log().text()
}

/// Checks that `/healthz` and the log name these variables and no others.
async fn assert_names(service: &Service, variables: &[&str]) {
    let health = service.request(Method::GET, "/healthz").await;
    assert_eq!(health.status, 503, "{variables:?}: {health:?}");
    assert_eq!(service.request(Method::HEAD, "/healthz").await.status, 503);
    let body = health.json().to_string();
    assert!(!body.contains("WRONG"), "a value is in {body}");
    let line = service.log().line_with(variables).await;
    assert_eq!(line.level(), "error", "{line:?}");
    for variable in ALL {
        let is_wrong = variables.contains(&variable);
        assert_eq!(body.contains(&format!("\"{variable}\"")), is_wrong, "{variable} in {body}");
        if is_wrong {
            assert!(line.has(&[variable]), "{variable} isn't in {line:?}");
        }
    }
}

const ALL: [&str; 27] = [
    "LIVEKIT_URL",
    "LIVEKIT_KEY",
    "LIVEKIT_SECRET",
    "LIVEKIT_KEYS",
    "LIVEKIT_FULL_ACCESS_HOMESERVERS",
    "LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS",
    "LIVEKIT_LOG_LEVEL",
    "LIVEKIT_CS_API_URL_OVERRIDES",
    "LIVEKIT_CAN_UPDATE_OWN_METADATA",
    "LIVEKIT_RESTRICTED_CAN_PUBLISH",
    "LIVEKIT_ALLOW_PRIVATE_ADDRESSES",
    "LIVEKIT_DNS_OVER_HTTPS_URL",
    "LIVEKIT_LOCATION_HINT",
    "LIVEKIT_JURISDICTION",
    "LIVEKIT_AS_TOKEN",
    "LIVEKIT_HS_TOKEN",
    "LIVEKIT_HS_SERVER_NAME",
    "LIVEKIT_TOKEN_TTL_SECONDS",
    "LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS",
    "LIVEKIT_FEDERATION_URL_OVERRIDES",
    "LIVEKIT_ALLOWED_HOMESERVERS",
    "LIVEKIT_RESTRICTED_CAN_DELEGATE",
    "LIVEKIT_ROOM_EMPTY_TIMEOUT_SECONDS",
    "LIVEKIT_ROOM_DEPARTURE_TIMEOUT_SECONDS",
    "LIVEKIT_ROOM_MAX_PARTICIPANTS",
    "LIVEKIT_REMOTE_CAN_PUBLISH_HOMESERVERS",
    "LIVEKIT_REQUIRE_MEMBERSHIP",
];
