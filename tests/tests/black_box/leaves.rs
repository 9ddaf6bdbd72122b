//! Delegated leaves aren't handled yet, and nothing may look as if they were (protocol 2 and 2.2).

use black_box::{Endpoint, Lab};
use hyper::Method;
use serde_json::json;

#[tokio::test]
async fn there_is_no_endpoint_to_delegate_a_leave() {
    let lab = Lab::new().await;
    let service = lab.deployment().start();

    for path in ["/delegate_delayed_leave", "//livekit//delegate_delayed_leave/"] {
        for method in [Method::POST, Method::OPTIONS, Method::GET] {
            let answer = service.request(method, path).await;

            answer.assert_error(404, "M_UNRECOGNIZED");
            answer.assert_cors();
        }
    }
}

#[tokio::test]
async fn a_token_is_not_given_out_together_with_a_promise_to_leave() {
    let lab = Lab::new().await;
    let home = lab.homeserver("example.org").start().await;
    let service = lab.deployment().full_access("example.org").start();
    let token = home.openid_token("@alice:example.org");

    for endpoint in Endpoint::BOTH {
        for fields in [
            json!({ "delay_id": "syd_secret_delay", "delay_timeout": 8000 }),
            json!({ "delay_id": "syd_secret_delay" }),
            json!({ "delay_timeout": 8000 }),
            json!({ "delay_id": "syd_secret_delay", "delay_timeout": 8000, "delay_cs_api_url": "https://example.org" }),
            json!({ "delay_id": "syd_secret_delay", "delay_timeout": 0 }),
        ] {
            let mut body = endpoint.request(&token);
            body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());

            let answer = service.post(endpoint.path(), &body).await;

            answer.assert_error(400, "M_BAD_JSON");
            assert!(answer.error().contains("delay_"), "no field is named: {answer:?}");
        }
    }
    assert_eq!(lab.sfu.requests(), 0);
    assert!(!service.log().text().contains("syd_secret_delay"));
}
