//! Hostile callers: requests of strangers cost other callers nothing (`SECURITY.md`).
//!
//! Encoded paths, unsigned webhooks and extreme times arrive on bare connections. The tests check the responses, the
//! moment at which they come, and the peak of workerd's memory.

use black_box::{Service, TestSetup, Webhook};
use futures_util::future::join_all;
use serde_json::json;

#[tokio::test]
async fn a_path_is_the_same_to_the_service_as_to_a_proxy_that_decodes_it() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();

    // A proxy that passes only `/_matrix/` decodes these paths to match them, and forwards them as it received them.
    for path in ["/%5Fmatrix/sfu/get", "/_matri%78/get_token", "/_matrix%2Fsfu%2Fget", "/_matrix/..%2Fsfu/get"] {
        service.post(path, &json!({})).await.assert_error(404, "M_UNRECOGNIZED");
    }
    for path in ["/%67et_token", "/livekit%2Fjwt/sfu%2Fget"] {
        service.post(path, &json!({})).await.assert_error(400, "M_BAD_JSON");
    }
}

#[tokio::test]
async fn a_stranger_s_webhook_is_refused_before_its_body_arrives() {
    let (_setup, service) = a_service().await;
    let unsigned = "POST /sfu_webhook HTTP/1.1\r\nHost: edge\r\nContent-Length: 1048576\r\n\r\n";
    let forged = unsigned.replace(
        "\r\n\r\n",
        &format!(
            "\r\nAuthorization: {}\r\n\r\n",
            Webhook::new(&json!({})).signed_with("devkey", "wrong").authorization()
        ),
    );
    for head in [unsigned, &forged] {
        let mut connection = service.connect().await;
        connection.send(head.as_bytes()).await;

        let answer = connection.receive(|received| received.windows(4).any(|end| end == b"\r\n\r\n")).await;

        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}

#[tokio::test]
async fn bodies_of_strangers_webhooks_are_not_kept() {
    let (_setup, service) = a_service().await;
    let before = service.peak_resident_kib();
    let head = "POST /sfu_webhook HTTP/1.1\r\nHost: edge\r\nContent-Length: 1048576\r\n\r\n";
    let body = vec![b' '; 1024 * 1024 - 1];

    // All but the last byte: a service that read the body first would wait with all of it in memory.
    let connections = join_all((0..150).map(async |_| {
        let mut connection = service.connect().await;
        connection.send(head.as_bytes()).await;
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), connection.send(&body)).await;
        connection
    }))
    .await;

    let after = service.peak_resident_kib();
    assert!(after < before + MAX_GROWTH_KIB, "{before} KiB before, {after} KiB at most");
    drop(connections);
}

#[tokio::test]
async fn a_signed_webhook_with_any_times_panics_nowhere() {
    let (_setup, service) = a_service().await;
    let extremes = [i64::MIN, i64::MIN + 1, -8_334_601_228_800, -1, 0, 8_210_266_876_799, i64::MAX];
    for time in extremes {
        for claim in ["nbf", "exp", "iat"] {
            let answer = Webhook::new(&json!({})).claim(claim, json!(time)).send(&service).await;

            assert!([200, 401].contains(&answer.status), "{claim} {time}: {answer:?}");
        }
        for event in [
            json!({ "event": "participant_joined", "room": { "name": "x" }, "createdAt": time,
                "participant": { "identity": "a", "sid": "PA_1", "joinedAt": time, "joinedAtMs": time.to_string() } }),
            json!({ "event": "room_finished", "room": { "name": "x" }, "createdAt": time.to_string() }),
        ] {
            assert_eq!(Webhook::new(&event).send(&service).await.status, 200, "{event}");
        }
    }
    assert!(!service.log().text().contains("panicked"));
}

#[tokio::test]
async fn rooms_that_store_nothing_leave_no_files_behind() {
    let (_setup, service) = a_service().await;
    for number in 0..20 {
        let event = json!({ "event": "participant_joined", "room": { "name": format!("room-{number}") },
            "participant": { "identity": "a", "sid": "PA_1" } });
        assert_eq!(Webhook::new(&event).send(&service).await.status, 200);
    }
    assert_eq!(service.storage().databases(), 20);

    service.kill();
    service.start_again();

    assert_eq!(service.storage().databases(), 0);
}

async fn a_service() -> (TestSetup, Service) {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();
    (setup, service)
}

const MAX_GROWTH_KIB: u64 = 60 * 1024;
