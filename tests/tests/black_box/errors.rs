//! Errors of the two token endpoints, and the order of the checks (`docs/protocol.md#errors`).
//!
//! Each test sends requests with one thing wrong and compares status and `errcode`. Requests with two things wrong show
//! the order, and the fakes' counters show that a rejected request has caused no other request.

use black_box::{Endpoint, Homeserver, OpenIdToken, Reply, Service, TestSetup};
use serde_json::{Value, json};

#[tokio::test]
async fn a_body_that_is_no_json_object_is_not_json() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();

    for endpoint in Endpoint::BOTH {
        for body in [
            &b""[..],
            b"not json",
            b"null",
            b"true",
            b"1",
            b"\"text\"",
            b"[]",
            b"[{}]",
            b"{",
            b"{}}",
            b"{} {}",
            b"{\"room_id\": }",
            b"{\"room\": \"\xff\xfe\"}",
            b"\xef\xbb\xbf{}",
        ] {
            let answer = service.post_bytes(endpoint.path(), body).await;

            assert_eq!(answer.status, 400, "{:?}: {answer:?}", String::from_utf8_lossy(body));
            answer.assert_error(400, "M_NOT_JSON");
        }
    }
}

#[tokio::test]
async fn json_of_any_depth_is_refused_like_any_other() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();

    for endpoint in Endpoint::BOTH {
        for body in ["[".repeat(60_000), "{\"a\":".repeat(12_000), format!("{{\"room\":{}", "[".repeat(60_000))] {
            service.post_bytes(endpoint.path(), body).await.assert_error(400, "M_NOT_JSON");
        }
    }
}

#[tokio::test]
async fn a_field_of_the_wrong_type_is_not_json() {
    let (_setup, _home, service, token) = a_service_and_a_token().await;

    for (endpoint, pointer) in fields() {
        let fitting = endpoint.request(&token).pointer(pointer).cloned().unwrap();
        for wrong in [json!(1), json!(true), json!([]), json!(["text"]), json!({}), json!("text")] {
            if wrong.is_string() == fitting.is_string() && wrong.is_object() == fitting.is_object() {
                continue;
            }
            if fitting.is_object() && wrong == json!({}) {
                continue;
            }
            let mut body = endpoint.request(&token);
            *body.pointer_mut(pointer).unwrap() = wrong.clone();

            let answer = service.post(endpoint.path(), &body).await;

            assert_eq!(answer.status, 400, "{pointer} is {wrong}: {answer:?}");
            answer.assert_error(400, "M_NOT_JSON");
        }
    }
}

#[tokio::test]
async fn fields_of_the_other_endpoint_do_not_count() {
    let (_setup, _home, service, token) = a_service_and_a_token().await;

    for (endpoint, other) in [(Endpoint::GetToken, Endpoint::SfuGet), (Endpoint::SfuGet, Endpoint::GetToken)] {
        let answer = service.post(endpoint.path(), &other.request(&token)).await;

        answer.assert_error(400, "M_BAD_JSON");
    }
}

#[tokio::test]
async fn a_missing_or_empty_field_is_bad_json_and_named() {
    let (_setup, home, service, token) = a_service_and_a_token().await;

    for (endpoint, pointer) in fields() {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let mut missing = endpoint.request(&token);
        missing.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field);
        let mut empty = endpoint.request(&token);
        let value = empty.pointer_mut(pointer).unwrap();
        *value = if value.is_object() { json!({}) } else { json!("") };

        for body in [missing, empty] {
            let answer = service.post(endpoint.path(), &body).await;

            assert_eq!(answer.status, 400, "{pointer}: {answer:?}");
            answer.assert_error(400, "M_BAD_JSON");
            // An empty object lacks all of its fields: the error may name any of them.
            if body.pointer(pointer).is_none_or(Value::is_string) {
                assert!(answer.error().contains(field), "{field} isn't named: {answer:?}");
            }
        }
    }
    assert_eq!(home.userinfo_requests(), 0);
}

#[tokio::test]
async fn a_legacy_client_may_have_no_device() {
    let (_setup, _home, service, token) = a_service_and_a_token().await;

    let mut body = Endpoint::SfuGet.request(&token);
    body["device_id"] = json!("");

    assert!(!service.post(Endpoint::SfuGet.path(), &body).await.jwt().is_empty());
}

#[tokio::test]
async fn expires_in_is_any_number() {
    let (_setup, _home, service, token) = a_service_and_a_token().await;

    for endpoint in Endpoint::BOTH {
        for number in ["0", "3600", "3600.5", "-1", "18446744073709551615", "1e300"] {
            let body = endpoint
                .request(&token)
                .to_string()
                .replace("\"expires_in\":3600", &format!("\"expires_in\":{number}"));
            assert!(body.contains(number));

            let answer = service.post_bytes(endpoint.path(), body).await;

            assert_eq!(answer.status, 200, "expires_in is {number}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_token_that_the_homeserver_does_not_know_is_unauthorized() {
    let (setup, home, service, mut token) = a_service_and_a_token().await;
    token.access_token = String::from("forged");

    for endpoint in Endpoint::BOTH {
        service.request_token(endpoint, &token).await.assert_error(401, "M_UNAUTHORIZED");
    }
    assert_eq!(home.userinfo_requests(), 2);
    assert_eq!(setup.sfu.requests(), 0);
}

#[tokio::test]
async fn a_claimed_user_other_than_the_token_s_is_unauthorized() {
    let (setup, _home, service, token) = a_service_and_a_token().await;

    for claimed in ["@bob:example.org", "@Alice:example.org", "@alice:example.org ", "alice", "@alice:example.com"] {
        let mut body = Endpoint::GetToken.request(&token);
        body["member"]["claimed_user_id"] = json!(claimed);

        let answer = service.post(Endpoint::GetToken.path(), &body).await;

        answer.assert_error(401, "M_UNAUTHORIZED");
    }
    assert_eq!(setup.sfu.requests(), 0);
}

#[tokio::test]
async fn form_is_checked_before_content_and_content_before_the_homeserver_is_queried() {
    let (setup, home, service, mut token) = a_service_and_a_token().await;
    setup.sfu.fail(Reply::html(502));
    token.access_token = String::from("forged");

    for endpoint in Endpoint::BOTH {
        let mut everything_wrong = endpoint.request(&token);
        everything_wrong["openid_token"]["matrix_server_name"] = json!("");
        everything_wrong["delay_id"] = json!(1);
        service.post(endpoint.path(), &everything_wrong).await.assert_error(400, "M_NOT_JSON");

        let mut incomplete = endpoint.request(&token);
        incomplete["openid_token"]["matrix_server_name"] = json!("");
        service.post(endpoint.path(), &incomplete).await.assert_error(400, "M_BAD_JSON");
    }
    assert_eq!((home.connections(), setup.sfu.requests()), (0, 0));

    for endpoint in Endpoint::BOTH {
        service.request_token(endpoint, &token).await.assert_error(401, "M_UNAUTHORIZED");
    }
    assert_eq!(setup.sfu.requests(), 0, "a room is created only for a verified user");
}

#[tokio::test]
async fn an_sfu_that_refuses_is_an_unknown_error() {
    let (setup, _home, service, token) = a_service_and_a_token().await;
    setup.sfu.fail(Reply::json(503, &json!({ "code": "unavailable", "msg": "MARKER-OF-UPSTREAM" })));

    for endpoint in Endpoint::BOTH {
        let answer = service.request_token(endpoint, &token).await;

        answer.assert_error(500, "M_UNKNOWN");
        assert!(!answer.error().contains("MARKER-OF-UPSTREAM"), "{answer:?}");
    }
}

#[tokio::test]
async fn an_error_never_repeats_what_the_homeserver_said() {
    let (_setup, home, service, token) = a_service_and_a_token().await;

    for reply in [
        Reply::json(401, &json!({ "errcode": "M_MARKER", "error": "MARKER-OF-UPSTREAM" })),
        Reply::json(200, &json!({ "sub": "@MARKER-OF-UPSTREAM:elsewhere.example" })),
        Reply::json(200, &json!({ "MARKER-OF-UPSTREAM": 1 })),
        Reply::new(500, "text/plain", "MARKER-OF-UPSTREAM"),
        Reply::new(200, "application/json", "{MARKER-OF-UPSTREAM"),
    ] {
        home.set_userinfo(reply);
        for endpoint in Endpoint::BOTH {
            let answer = service.request_token(endpoint, &token).await;

            answer.assert_error(401, "M_UNAUTHORIZED");
            assert!(!String::from_utf8_lossy(&answer.body).contains("MARKER"), "{answer:?}");
        }
    }
}

/// All required fields of both endpoints, as JSON pointers.
fn fields() -> Vec<(Endpoint, &'static str)> {
    let get_token = [
        "/room_id",
        "/slot_id",
        "/openid_token",
        "/openid_token/access_token",
        "/openid_token/matrix_server_name",
        "/member",
        "/member/id",
        "/member/claimed_user_id",
        "/member/claimed_device_id",
    ];
    let sfu_get = ["/room", "/openid_token", "/openid_token/access_token", "/openid_token/matrix_server_name"];
    let get_token = get_token.map(|field| (Endpoint::GetToken, field));
    get_token.into_iter().chain(sfu_get.map(|field| (Endpoint::SfuGet, field))).collect()
}

async fn a_service_and_a_token() -> (TestSetup, Homeserver, Service, OpenIdToken) {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().full_access("example.org").start();
    let token = home.openid_token("@alice:example.org");
    (setup, home, service, token)
}
