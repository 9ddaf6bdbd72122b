//! Unknown fields in bodies of the client endpoints, and values that count as absent (`docs/protocol.md#request-bodies`).
//!
//! Clients pass on what the widget API, or the homeserver, gave them. The tests add fields to complete requests, and
//! delay fields that mean none.

use black_box::{Endpoint, EntryPoint, Member, TestSetup};
use serde_json::{Value, json};

#[tokio::test]
async fn unknown_fields_are_ignored_at_every_depth() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().full_access("*").start();

    for endpoint in Endpoint::BOTH {
        for (object, unknown) in [
            ("", json!({ "anything": "x", "deeper": { "still": [1, { "more": null }] } })),
            ("/openid_token", json!({ "state": "allowed", "original_request_id": 5 })),
            ("/member", json!({ "device_id": "DEVICE", "focus": {} })),
        ] {
            let mut body = endpoint.request(&home.openid_token("@alice:example.org"));
            let Some(object) = body.pointer_mut(object).and_then(Value::as_object_mut) else { continue };
            object.extend(unknown.as_object().unwrap().clone());

            let answer = service.post(endpoint.path(), &body).await;

            assert!(!answer.jwt().is_empty(), "{body}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn an_empty_pair_of_delay_fields_delegates_nothing() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().full_access("*").start();
    let alice = Member::of_room("!room:example.org", "@alice:example.org");

    for entry_point in EntryPoint::ALL {
        for (delay_id, delay_timeout) in [(json!(""), json!(0)), (Value::Null, Value::Null)] {
            let mut body = alice.request(entry_point, &home.openid_token(&alice.user_id));
            body["delay_id"] = delay_id;
            body["delay_timeout"] = delay_timeout;

            let answer = service.post(entry_point.path(), &body).await;

            match entry_point {
                EntryPoint::Delegate => answer.assert_error(400, "M_BAD_JSON"),
                _ => assert!(!answer.jwt().is_empty(), "{body}: {answer:?}"),
            }
        }
    }
    assert_eq!(home.client_well_known_requests(), 0);
    assert!(service.storage().alarms().is_empty());
}
