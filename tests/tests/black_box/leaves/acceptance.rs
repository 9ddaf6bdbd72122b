//! Acceptance and rejection of leaves (`docs/protocol.md#request-bodies`, `docs/protocol.md#errors`,
//! `docs/protocol.md#access`).
//!
//! Leaves come through all three endpoints, with fields missing or wrong, and while the object's storage fails. A
//! rejected leave must leave nothing behind.

use black_box::{EntryPoint, Member, Reply, TestSetup};
use hyper::Method;
use serde_json::{Value, json};

use super::{LONG, Stage, alice};

#[tokio::test]
async fn a_leave_is_handed_over_with_a_token_or_on_its_own() {
    let stage = Stage::new().await;
    for entry_point in EntryPoint::ALL {
        let delay_id = stage.events.schedule(LONG);

        let answer = stage.hand_over(entry_point, &alice(), &delay_id, LONG).await;

        assert_eq!(answer.status, 200, "{entry_point:?}: {answer:?}");
        answer.assert_cors();
        match entry_point {
            EntryPoint::Delegate => assert_eq!(answer.json(), json!({})),
            _ => assert!(!answer.jwt().is_empty()),
        }
    }
    // Two of the three endpoints create the room: a client that only delegates is in the call already.
    assert_eq!(stage.setup.sfu.created().len(), 2);
}

#[tokio::test]
async fn the_client_s_own_idea_of_the_client_server_api_is_ignored() {
    let stage = Stage::new().await;
    let tripwire = stage.setup.tripwire("elsewhere.example", 443).await;
    for entry_point in EntryPoint::ALL {
        let delay_id = stage.events.schedule(LONG);
        let token = stage.home.openid_token(&alice().user_id);
        let mut body = alice().delegation(entry_point, &token, &delay_id, LONG);
        body["delay_cs_api_url"] = "https://elsewhere.example".into();

        let answer = stage.service.post(entry_point.path(), &body).await;

        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(tripwire.connections(), 0);
}

#[tokio::test]
async fn a_leave_that_cannot_be_one_is_refused_and_its_field_named() {
    let stage = Stage::new().await;
    let token = stage.home.openid_token(&alice().user_id);
    let longest = "x".repeat(255);
    stage.events.schedule_as(&longest, LONG);
    for entry_point in EntryPoint::ALL {
        for (delay_id, delay_timeout, field) in [
            (json!("."), json!(8000), "delay_id"),
            (json!(".."), json!(8000), "delay_id"),
            (json!(""), json!(8000), "delay_id"),
            (json!("x".repeat(256)), json!(8000), "delay_id"),
            (json!("é".repeat(128)), json!(8000), "delay_id"),
            (Value::Null, json!(8000), "delay_id"),
            (json!("syd_secret"), Value::Null, "delay_timeout"),
            (json!("syd_secret"), json!(0), "delay_timeout"),
            (json!("syd_secret"), json!(-1), "delay_timeout"),
        ] {
            let mut body = alice().request(entry_point, &token);
            body["delay_id"] = delay_id.clone();
            body["delay_timeout"] = delay_timeout.clone();
            // `null` counts like an absent field.
            let absent = |body: &mut Value| body.as_object_mut().unwrap().retain(|_, value| !value.is_null());

            for leave_out in [false, true] {
                if leave_out {
                    absent(&mut body);
                }
                let answer = stage.service.post(entry_point.path(), &body).await;

                answer.assert_error(400, "M_BAD_JSON");
                answer.assert_cors();
                assert!(answer.error().contains(field), "{entry_point:?} {delay_id} {delay_timeout}: {answer:?}");
            }
        }
        for (field, value) in [("delay_id", json!(5)), ("delay_timeout", json!("8000")), ("delay_timeout", json!(1.5))]
        {
            let mut body = alice().delegation(entry_point, &token, "syd_secret", LONG);
            body[field] = value;

            stage.service.post(entry_point.path(), &body).await.assert_error(400, "M_NOT_JSON");
        }
        let answer = stage.hand_over(entry_point, &alice(), &longest, LONG).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert!(!stage.service.log().text().contains("syd_secret"));
}

#[tokio::test]
async fn who_cannot_be_verified_is_refused_before_anything_else() {
    let stage = Stage::new().await;
    let mallory = Member { user_id: String::from("@mallory:example.org"), ..alice() };
    let token = stage.home.openid_token(&alice().user_id);
    stage.home.set_client_well_known(Reply::html(404));
    for entry_point in [EntryPoint::GetToken, EntryPoint::Delegate] {
        let body = mallory.delegation(entry_point, &token, "syd_secret", LONG);

        stage.service.post(entry_point.path(), &body).await.assert_error(401, "M_UNAUTHORIZED");
    }
    assert_eq!(stage.home.client_well_known_requests(), 0);
}

#[tokio::test]
async fn the_endpoint_exists_for_clients_that_probe_it() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();
    for path in ["/delegate_delayed_leave", "//livekit//delegate_delayed_leave/"] {
        for (body, errcode) in [("", "M_NOT_JSON"), ("[]", "M_NOT_JSON"), ("{}", "M_BAD_JSON")] {
            let answer = service.post_bytes(path, body).await;

            answer.assert_error(400, errcode);
            answer.assert_cors();
        }
        let preflight = service.request(Method::OPTIONS, path).await;
        assert_eq!(preflight.status, 200);
        preflight.assert_cors();
        let answer = service.request(Method::GET, path).await;
        assert_eq!(answer.status, 405, "{answer:?}");
        assert!(answer.header("allow").contains("POST"));
        answer.assert_cors();
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_promised() {
    let stage = Stage::new().await;
    stage.service.storage().fill_up();
    for entry_point in EntryPoint::ALL {
        let delay_id = stage.events.schedule(LONG);

        let answer = stage.hand_over(entry_point, &alice(), &delay_id, LONG).await;

        answer.assert_error(500, "M_UNKNOWN");
        answer.assert_cors();
        assert!(!stage.service.log().text().contains(&delay_id));
    }
}
