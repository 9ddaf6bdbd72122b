//! Values in the Secrets Store: they count like variables, and one that can't be read is named as misconfigured
//! (`docs/protocol.md#configuration`).
//!
//! The binding is a fake of the Secrets Store in the same workerd, which can fail a few times before it answers.

use std::time::Duration;

use black_box::{Endpoint, Service, Sfu, StoredSecret, TestSetup, Webhook};
use hyper::Method;
use livekit_token::TokenVerifier;
use serde_json::{Value, json};

#[tokio::test]
async fn a_value_may_be_a_variable_or_in_the_secrets_store() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let (key, secret) = Sfu::credentials();
    // White space around a stored value is removed, as it is for a variable.
    let service = setup
        .deployment()
        .bind("LIVEKIT_FULL_ACCESS_HOMESERVERS", StoredSecret::new("example.org"))
        .bind("LIVEKIT_SECRET", StoredSecret::new(&format!("{secret}\n")))
        .start();

    let jwt = service.request_token(Endpoint::GetToken, &home.openid_token("@alice:example.org")).await.jwt();

    assert_eq!(TokenVerifier::with_api_key(key, secret).verify(&jwt).unwrap().iss, key);
    assert_eq!(setup.sfu.created().len(), 1);
    assert_eq!(Webhook::new(&json!({})).send(&service).await.status, 200);
    assert!(!service.log().text().contains(secret));
}

#[tokio::test]
async fn a_value_that_is_wrong_or_empty_is_named_there_too() {
    for (variable, value) in [("LIVEKIT_LOG_LEVEL", "loud"), ("LIVEKIT_SECRET", " "), ("LIVEKIT_SECRET", "\"WRONG\"")] {
        let setup = TestSetup::new().await;
        let service = setup.deployment().bind(variable, StoredSecret::new(value)).start();

        let health = service.request(Method::GET, "/healthz").await;

        health.assert_error(503, "M_UNKNOWN");
        assert_eq!(health.json()["variables"], json!([variable]));
        assert!(!service.log().text().contains("WRONG"));
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_read_is_named_until_it_can() {
    // A required variable, and one with a default, which mustn't replace a value that can't be read.
    for variable in ["LIVEKIT_SECRET", "LIVEKIT_RESTRICTED_CAN_PUBLISH"] {
        let setup = TestSetup::new().await;
        let home = setup.homeserver("example.org").start().await;
        let value = if variable == "LIVEKIT_SECRET" { Sfu::credentials().1 } else { "false" };
        let secret = StoredSecret::new(value).failing_at_first(2);
        let service = setup.deployment().full_access("example.org").bind(variable, secret).start();

        let answer = service.request_token(Endpoint::GetToken, &home.openid_token("@alice:example.org")).await;

        answer.assert_error(503, "M_UNKNOWN");
        answer.assert_cors();
        let health = service.request(Method::GET, "/healthz").await;
        assert_eq!((health.status, &health.json()["variables"]), (503, &json!([variable])));
        let line = service.log().line_with(&["misconfigured", variable, "Secrets Store"]).await;
        assert_eq!(line.level(), "error", "{line:?}");
        assert_eq!(setup.sfu.requests(), 0);

        healthy(&service).await;

        let answer = service.request_token(Endpoint::GetToken, &home.openid_token("@alice:example.org")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(!service.log().text().contains(Sfu::credentials().1));
    }
}

/// Waits until `/healthz` reports no problem.
async fn healthy(service: &Service) {
    let asking = async {
        loop {
            let answer = service.request(Method::GET, "/healthz").await;
            if answer.status == 200 {
                return assert_eq!(answer.json(), json!({ "status": "ok" }) as Value);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asking).await.expect("healthy once the value can be read");
}
