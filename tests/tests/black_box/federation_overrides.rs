//! `LIVEKIT_FEDERATION_URL_OVERRIDES`: federation APIs that aren't looked up (`docs/protocol.md#finding-homeservers`).
//!
//! The fakes listen at the override's address only; the resolver and the well-known file must not be requested.

use black_box::{Endpoint, TestSetup};

#[tokio::test]
async fn an_override_replaces_discovery_and_may_be_private() {
    for (name, host, port, url) in [
        ("example.org", "10.1.2.3", 8449, "https://10.1.2.3:8449/"),
        ("example.org", "inside.example", 443, "inside.example"),
        ("example.org:8448", "inside.example", 8449, "https://inside.example:8449"),
        ("10.9.9.9", "10.1.2.3", 8449, "https://10.1.2.3:8449"),
    ] {
        let setup = TestSetup::new().await;
        let home = setup.homeserver(name).without_website().federation_at(host, port).start().await;
        let overrides = format!("other.example=https://other.example, {name}={url}");
        let service = setup.deployment().full_access(name).set(OVERRIDES, &overrides).start();

        for endpoint in Endpoint::BOTH {
            let answer = service.request_token(endpoint, &home.openid_token(&format!("@alice:{name}"))).await;

            assert_eq!(answer.status, 200, "{name} at {url}: {answer:?}");
        }
        assert_eq!(home.userinfo_requests(), 2);
        assert!(setup.resolver.queried().is_empty());
    }
}

#[tokio::test]
async fn other_names_are_found_as_before_and_only_at_public_addresses() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().set(OVERRIDES, "example.net=https://10.1.2.3:8449").start();

    let answer = service.request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.org")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut token = home.openid_token("@alice:10.1.2.3:8449");
    token.matrix_server_name = "10.1.2.3:8449".to_owned();
    service.request_token(Endpoint::SfuGet, &token).await.assert_error(401, "M_UNAUTHORIZED");
}

#[tokio::test]
async fn an_override_where_nobody_listens_is_named_in_the_log() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().set(OVERRIDES, "example.org=https://10.1.2.3:8449").start();

    let answer = service.request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.org")).await;

    answer.assert_error(401, "M_UNAUTHORIZED");
    service.log().line_with(&["OpenID token verification failed", OVERRIDES, "10.1.2.3:8449"]).await;
    assert_eq!(home.connections(), 0);
}

/// The path of each request follows, and a password would be in the log.
#[tokio::test]
async fn an_override_is_scheme_host_port_and_path() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    for url in ["https://user:hush@10.1.2.3:8449", "https://10.1.2.3/?hush", "https://10.1.2.3/#hush"] {
        let service = setup.deployment().set(OVERRIDES, &format!("example.org={url}")).start();

        let answer = service.request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.org")).await;

        answer.assert_error(503, "M_UNKNOWN");
        service.log().line_with(&["misconfigured", OVERRIDES, "more than scheme, host, port and path"]).await;
        assert!(!service.log().text().contains("hush"));
    }
}

const OVERRIDES: &str = "LIVEKIT_FEDERATION_URL_OVERRIDES";
