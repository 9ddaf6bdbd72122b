//! Creation of rooms on the SFU: by full-access users only (`docs/protocol.md#access`), through LiveKit's server API
//! (`docs/protocol.md#livekits-server-api`).
//!
//! The fake SFU records created rooms. In the second half it fails in the ways that SFUs and proxies do, and the log
//! must give the operator the cause.

use black_box::{Endpoint, Homeserver, Reply, Service, Sfu, TestSetup};
use livekit_protocol::CreateRoomRequest;
use serde_json::json;

#[tokio::test]
async fn a_room_is_created_for_a_full_access_user() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().full_access("example.org").start();

    for endpoint in Endpoint::BOTH {
        let answer = service.request_token(endpoint, &home.openid_token("@alice:example.org")).await;

        assert_eq!(answer.status, 200, "{answer:?}");
        let expected = CreateRoomRequest {
            name: endpoint.room_alias().to_owned(),
            empty_timeout: 300,
            max_participants: 0,
            departure_timeout: 20,
            ..CreateRoomRequest::default()
        };
        assert_eq!(setup.sfu.created().last(), Some(&expected));
    }
    assert_eq!(setup.sfu.requests(), 2);
}

#[tokio::test]
async fn no_room_is_created_for_a_restricted_user() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("restricted.example").start().await;
    let service = setup.deployment().full_access("example.org").start();

    for endpoint in Endpoint::BOTH {
        let answer = service.request_token(endpoint, &home.openid_token("@bob:restricted.example")).await;

        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(setup.sfu.requests(), 0);
}

#[tokio::test]
async fn full_access_is_a_matter_of_the_exact_server_name() {
    for (list, has_access) in [
        ("example.org", true),
        ("other.example,example.org", true),
        (" other.example \n example.org\t", true),
        ("other.example, example.org,", true),
        ("*", true),
        (" * ", true),
        ("other.example", false),
        ("Example.org", false),
        ("sub.example.org", false),
        ("org", false),
        ("example.org:8448", false),
        ("matrix.example.org", false),
        ("example.orgs notexample.org", false),
    ] {
        let setup = TestSetup::new().await;
        let home = setup.homeserver("example.org").start().await;
        let service = setup.deployment().full_access(list).start();

        let answer = service.request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.org")).await;

        assert_eq!(answer.status, 200, "{list:?}: {answer:?}");
        assert_eq!(setup.sfu.created().len() == 1, has_access, "{list:?}");
    }
}

#[tokio::test]
async fn the_api_is_behind_the_same_proxy_and_prefix_as_the_web_socket() {
    for prefix in ["", "/livekit/sfu"] {
        for (scheme, slash) in [("wss", ""), ("https", ""), ("wss", "/")] {
            let setup = TestSetup::new().await;
            let sfu = setup.sfu_behind_proxy("sfu.example", 8443, prefix).await;
            let home = setup.homeserver("example.org").start().await;
            let url = format!("{scheme}://sfu.example:8443{prefix}{slash}");
            let service = setup.deployment().set("LIVEKIT_URL", &url).full_access("example.org").start();

            let answer = service.request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.org")).await;

            assert_eq!(answer.json()["url"], url, "{answer:?}");
            assert_eq!(sfu.created().len(), 1, "{url}");
            assert_eq!(setup.sfu.requests(), 0);
        }
    }
}

#[tokio::test]
async fn a_refused_connection_to_the_sfu_is_named_in_the_log() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().set("LIVEKIT_URL", "ws://127.0.0.1:9").full_access("example.org").start();

    assert_failure_is_logged(&service, &home, &["reach", "LIVEKIT_URL"]).await;
}

#[tokio::test]
async fn a_name_of_the_sfu_that_does_not_resolve_is_named_in_the_log() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().set("LIVEKIT_URL", "wss://nowhere.example").full_access("example.org").start();

    assert_failure_is_logged(&service, &home, &["reach", "LIVEKIT_URL"]).await;
}

#[tokio::test]
async fn an_sfu_that_does_not_know_the_key_is_named_in_the_log() {
    let (setup, home, service) = a_service().await;
    setup.sfu.set_keys(&[("otherkey", "other-secret")]);

    assert_failure_is_logged(&service, &home, &["401", "LIVEKIT_KEY", "LIVEKIT_SECRET"]).await;
}

#[tokio::test]
async fn an_sfu_with_another_secret_is_named_in_the_log() {
    let (setup, home, service) = a_service().await;
    setup.sfu.set_keys(&[(Sfu::credentials().0, "other-secret")]);

    assert_failure_is_logged(&service, &home, &["401", "LIVEKIT_KEY", "LIVEKIT_SECRET"]).await;
}

#[tokio::test]
async fn a_wrong_path_before_the_sfu_is_named_in_the_log() {
    let (setup, home, service) = a_service().await;
    for reply in [
        Reply::html(404),
        Reply::json(404, &json!({ "code": "bad_route", "msg": "no handler for path \"/x\"" })),
        Reply::new(404, "text/plain", "404 page not found"),
    ] {
        setup.sfu.fail(reply);

        assert_failure_is_logged(&service, &home, &["404", "LIVEKIT_URL"]).await;
        service.log().clear();
    }
}

#[tokio::test]
async fn a_failure_of_the_sfu_or_a_proxy_is_named_in_the_log() {
    let (setup, home, service) = a_service().await;
    for (reply, words) in [
        (Reply::html(502), vec!["502", "proxy"]),
        (Reply::html(500), vec!["500"]),
        (
            Reply::json(503, &json!({ "code": "unavailable", "msg": "no nodes are available" })),
            vec!["503", "unavailable", "no nodes are available"],
        ),
        (
            Reply::json(403, &json!({ "code": "permission_denied", "msg": "permissions denied" })),
            vec!["403", "permission"],
        ),
        (Reply::redirect(301, "https://elsewhere.example/"), vec!["301", "redirect"]),
    ] {
        setup.sfu.fail(reply);

        assert_failure_is_logged(&service, &home, &words).await;
        service.log().clear();
    }
}

#[tokio::test]
async fn a_200_that_is_no_room_is_a_failure() {
    let (setup, home, service) = a_service().await;
    setup.sfu.fail(Reply::html(200));

    assert_failure_is_logged(&service, &home, &["LIVEKIT_URL"]).await;
}

#[tokio::test]
async fn a_restricted_user_needs_no_sfu() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("restricted.example").start().await;
    let service = setup.deployment().set("LIVEKIT_URL", "ws://127.0.0.1:9").full_access("example.org").start();

    let answer = service.request_token(Endpoint::SfuGet, &home.openid_token("@bob:restricted.example")).await;

    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Checks that the client receives a 500 and that the log states the cause in these words.
async fn assert_failure_is_logged(service: &Service, home: &Homeserver, words: &[&str]) {
    for endpoint in Endpoint::BOTH {
        let answer = service.request_token(endpoint, &home.openid_token("@alice:example.org")).await;

        assert_eq!(answer.status, 500, "{words:?}: {answer:?}");
        answer.assert_error(500, "M_UNKNOWN");
    }
    let line = service.log().line_with(words).await;
    assert_eq!(line.level(), "error", "{line:?}");
    assert!(!service.log().text().contains(Sfu::credentials().1));
}

async fn a_service() -> (TestSetup, Homeserver, Service) {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().full_access("example.org").start();
    (setup, home, service)
}
