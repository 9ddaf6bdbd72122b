//! Entry points of homeserver mode: paths, authorization and required fields
//! (`docs/protocol.md#endpoints-of-homeserver-mode`, `docs/protocol.md#proxied-requests`).
//!
//! Requests arrive under all forms and prefixes of the paths, with and without the `hs_token`, with and without each
//! header and field. A rejected request must have caused no request to the homeserver or the SFU.

use black_box::{Answer, Endpoint, HomeserverPath, TestSetup};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::{Value, json};

use super::{ALICE, BOB, Stage};

#[tokio::test]
async fn without_homeserver_mode_there_is_nothing() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();

    for path in all_paths() {
        for method in [Method::POST, Method::GET, Method::OPTIONS] {
            let request = Request::builder()
                .method(method.clone())
                .uri(service.url(&path))
                .header("authorization", "Bearer anything")
                .header("x-matrix-user-identifier", ALICE)
                .body(Full::new(Bytes::from("{}")));
            let answer = service.send(request.unwrap()).await;

            assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
            answer.assert_error(404, "M_UNRECOGNIZED");
            answer.assert_cors();
        }
    }
}

#[tokio::test]
async fn every_path_answers_in_all_forms_behind_any_prefix() {
    let stage = Stage::with_members().await;

    for path in HomeserverPath::ALL {
        for form in path.forms() {
            for prefix in ["", "/", "/of/a//proxy"] {
                let body = stage.request(path);
                let answer = stage.forward_to(path, &format!("{prefix}{form}"), &body).await;

                assert_eq!(answer.status, 200, "{prefix}{form}: {answer:?}");
                assert_eq!(answer.header("access-control-allow-origin"), "");
                match path {
                    HomeserverPath::Delegate => assert_eq!(answer.json(), json!({})),
                    _ => {
                        assert_eq!(answer.json().as_object().unwrap().len(), 1, "{answer:?}");
                        assert!(!answer.jwt().is_empty());
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_ping_is_answered() {
    let stage = Stage::new().await;
    for path in ["/_matrix/app/v1/ping", "/prefix//_matrix/app/v1/ping/"] {
        for body in [json!({}), json!({ "transaction_id": "mami-1" }), json!({ "surprise": 5 })] {
            let answer = stage.own.forward(&stage.service, ALICE, path, &body).await;

            assert_eq!((answer.status, answer.json()), (200, json!({})), "{answer:?}");
        }
    }
    assert_eq!(stage.own.requests(), 0);
}

#[tokio::test]
async fn another_method_is_a_405() {
    let stage = Stage::new().await;

    for path in all_paths() {
        for method in [Method::GET, Method::OPTIONS, Method::PUT] {
            let answer = stage.service.request(method, &path).await;

            assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{path}: {answer:?}");
            assert_no_cors(&answer);
        }
    }
}

#[tokio::test]
async fn other_paths_of_matrix_are_none_of_ours() {
    let stage = Stage::new().await;

    for path in [
        "/_matrix/client/v1/rtc/livekit/sfu/get",
        "/_matrix/client/v3/rtc/livekit/get_token",
        "/_matrix/client/v1/get_token",
        "/_matrix/federation/v1/rtc/livekit/delegate_delayed_leave",
        "/_matrix/app/v1/transactions/1",
        "/_matrix/get_token",
    ] {
        stage.own.forward(&stage.service, ALICE, path, &json!({})).await.assert_error(404, "M_UNRECOGNIZED");
    }
}

#[tokio::test]
async fn nobody_but_the_homeserver_is_served() {
    let stage = Stage::with_members().await;

    for path in all_paths() {
        for (authorization, errcode) in [
            (None, "M_MISSING_TOKEN"),
            (Some(String::new()), "M_MISSING_TOKEN"),
            (Some(String::from("Bearer")), "M_MISSING_TOKEN"),
            (Some(stage.own.hs_token().to_owned()), "M_MISSING_TOKEN"),
            (Some(format!("Bearer {}", stage.own.as_token())), "M_UNKNOWN_TOKEN"),
            (Some(format!("Bearer {}x", stage.own.hs_token())), "M_UNKNOWN_TOKEN"),
            (Some(format!("Bearer {}", &stage.own.hs_token()[1..])), "M_UNKNOWN_TOKEN"),
        ] {
            // The token is checked before the body: malformed JSON makes no difference.
            for body in ["{}", "no JSON"] {
                let mut request = Request::post(stage.service.url(&path))
                    .header("x-matrix-user-identifier", ALICE)
                    .header("x-matrix-origin", "remote.example");
                if let Some(authorization) = &authorization {
                    request = request.header("authorization", authorization);
                }
                let answer = stage.service.send(request.body(Full::new(Bytes::from(body))).unwrap()).await;

                answer.assert_error(401, errcode);
                assert_no_cors(&answer);
            }
        }
    }
    assert_eq!((stage.own.requests(), stage.setup.sfu.requests()), (0, 0));
}

#[tokio::test]
async fn the_homeserver_says_who_queries() {
    let stage = Stage::with_members().await;

    for path in HomeserverPath::ALL {
        let (right, wrong) = match path {
            HomeserverPath::FederationGetToken => ("x-matrix-origin", "x-matrix-user-identifier"),
            _ => ("x-matrix-user-identifier", "x-matrix-origin"),
        };
        let request_token = async |headers: &[(&str, &str)]| {
            let authorization = format!("Bearer {}", stage.own.hs_token());
            let mut request = Request::post(stage.service.url(&path.path())).header("authorization", authorization);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let body = stage.request(path).to_string();
            stage.service.send(request.body(Full::new(Bytes::from(body))).unwrap()).await
        };

        request_token(&[]).await.assert_error(401, "M_UNAUTHORIZED");
        request_token(&[(wrong, ALICE)]).await.assert_error(401, "M_UNAUTHORIZED");
        request_token(&[(right, "")]).await.assert_error(401, "M_UNAUTHORIZED");
        for malformed in ["https://remote.example", "@alice", "a b", "127.1", "@alice:"] {
            request_token(&[(right, malformed)]).await.assert_error(400, "M_INVALID_PARAM");
        }
        request_token(&[(right, "remote.example"), (right, "@bob:remote.example")])
            .await
            .assert_error(400, "M_INVALID_PARAM");
    }
    assert_eq!((stage.own.requests(), stage.setup.sfu.requests()), (0, 0));
}

#[tokio::test]
async fn every_missing_field_is_named() {
    let stage = Stage::with_members().await;

    for path in HomeserverPath::ALL {
        let whole = stage.request(path);
        for field in whole.as_object().unwrap().keys() {
            let is_optional = path == HomeserverPath::Delegate && field == "url";
            let mut without = whole.clone();
            without.as_object_mut().unwrap().remove(field);
            let (mut null, mut empty) = (whole.clone(), whole.clone());
            null[field] = Value::Null;
            empty[field] = "".into();
            for body in [without, null, empty] {
                if is_optional {
                    continue;
                }
                let answer = stage.forward(path, &body).await;

                answer.assert_error(400, "M_BAD_JSON");
                assert!(answer.error().contains(field.as_str()), "{answer:?}");
                assert_no_cors(&answer);
            }
            let mut wrong = whole.clone();
            wrong[field] = json!(["WRONG"]);
            let answer = stage.forward(path, &wrong).await;
            answer.assert_error(400, "M_NOT_JSON");
            assert!(answer.error().contains(field.as_str()) && !answer.error().contains("WRONG"), "{answer:?}");
        }
    }
    assert_eq!((stage.own.requests(), stage.setup.sfu.requests()), (0, 0));
}

#[tokio::test]
async fn fields_that_are_not_known_are_ignored() {
    let stage = Stage::with_members().await;

    for path in HomeserverPath::ALL {
        let mut body = stage.request(path);
        body["surprise"] = json!({ "nested": [1, 2] });
        body["openid_token"] = json!(5);

        let answer = stage.forward(path, &body).await;

        assert_eq!(answer.status, 200, "{path:?}: {answer:?}");
    }
}

#[tokio::test]
async fn what_is_no_object_or_too_large_is_refused() {
    let stage = Stage::new().await;

    for path in all_paths() {
        for (body, status, errcode) in [
            (String::from("no JSON"), 400, "M_NOT_JSON"),
            (String::new(), 400, "M_NOT_JSON"),
            (String::from("[]"), 400, "M_NOT_JSON"),
            (String::from("\"text\""), 400, "M_NOT_JSON"),
            (format!("{{{}}}", " ".repeat(64 * 1024 - 1)), 413, "M_TOO_LARGE"),
        ] {
            let request = Request::post(stage.service.url(&path))
                .header("authorization", format!("Bearer {}", stage.own.hs_token()))
                .header("x-matrix-user-identifier", ALICE)
                .header("x-matrix-origin", "remote.example");
            let answer = stage.service.send(request.body(Full::new(Bytes::from(body))).unwrap()).await;

            answer.assert_error(status, errcode);
        }
    }
}

#[tokio::test]
async fn both_modes_answer_at_once() {
    let stage = Stage::deployed(|deployment| deployment.full_access("example.com")).await;
    stage.own.join(super::ROOM, ALICE);
    stage.own.join(super::ROOM, BOB);
    for path in HomeserverPath::ALL {
        assert_eq!(stage.forward(path, &stage.request(path)).await.status, 200);
    }

    stage.own.join("!roomid:example.com", ALICE);
    for endpoint in Endpoint::BOTH {
        let answer = stage.service.request_token(endpoint, &stage.own.home.openid_token(ALICE)).await;

        assert_eq!(answer.status, 200, "{answer:?}");
        answer.assert_cors();
        assert_eq!(answer.json()["url"], stage.setup.sfu.url());
    }
}

fn all_paths() -> Vec<String> {
    let forms = HomeserverPath::ALL.into_iter().flat_map(HomeserverPath::forms);
    forms.chain([String::from("/_matrix/app/v1/ping")]).collect()
}

/// Checks that the response has no CORS headers: the homeserver, which passes it to the browser, adds its own.
#[track_caller]
fn assert_no_cors(answer: &Answer) {
    let cors = answer.headers.keys().filter(|name| name.as_str().starts_with("access-control-"));
    assert_eq!(cors.count(), 0, "{answer:?}");
}
