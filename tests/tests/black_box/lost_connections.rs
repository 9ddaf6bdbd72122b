//! Connections that a server closes just as they are used again (`docs/protocol.md#requests-that-are-repeated`).
//!
//! The fakes close an idle connection as the next request arrives on it, without an answer. The request is sent once
//! more, and the client notices nothing; counters show that connections were closed so.

use std::time::Duration;

use black_box::{Endpoint, EntryPoint, HomeserverPath, HomeserverQuery, Member, Reply, Step, TestSetup};
use serde_json::json;

#[tokio::test]
async fn a_token_is_issued_all_the_same() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().full_access("example.org").start();
    assert_eq!(service.request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.org")).await.status, 200);

    home.cut_idle_connections();
    setup.sfu.cut_idle_connections();
    let answer = service.request_token(Endpoint::GetToken, &home.openid_token("@alice:example.org")).await;

    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!((home.cut(), setup.sfu.cut()), (1, 1));
    assert_eq!((home.userinfo_requests(), setup.sfu.created().len()), (2, 2));
}

#[tokio::test]
async fn a_leave_is_restarted_and_sent_at_the_first_attempt() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let events = setup.delayed_events("cs.example.org").await;
    home.has_client_api(events.base_url());
    let service = setup.deployment().full_access("example.org").start();
    let alice = Member::of_room("!room:example.org", "@alice:example.org");
    let delay = Duration::from_secs(4);
    let delay_id = events.schedule(delay);

    // The file that names the client-server API comes over the connection of the one that names the federation API.
    home.cut_idle_connections();
    let request = alice.delegation(EntryPoint::GetToken, &home.openid_token(&alice.user_id), &delay_id, delay);
    assert_eq!(service.post("/get_token", &request).await.status, 200);
    assert!(home.cut() > 0);
    setup.sfu.cut_idle_connections();
    let participant = setup.sfu.join(&alice.room(), &alice.identity(EntryPoint::GetToken));
    participant.joined().send(&service).await;
    events.restarted(&delay_id, 1).await;
    events.cut_idle_connections();
    events.until("closed connection", || events.cut(), |cut| *cut > 0).await;
    events.restarted(&delay_id, 2).await;
    setup.sfu.leave(&participant);
    participant.left(black_box::Departure::ClientInitiated).send(&service).await;
    events.sent(&delay_id).await;

    let log = service.log().text();
    assert!(!log.contains("delayed event request failed") && !log.contains("SFU query failed"), "{log}");
}

#[tokio::test]
async fn a_request_is_sent_twice_at_most() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().start();

    for (host, script, connections) in [
        ("reset.example", vec![Step::Reset], 2),
        ("closed.example", vec![], 2),
        // An answer has begun.
        ("broken.example", vec![Step::text("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{")], 1),
        ("refusing.example", vec![Step::text("HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n")], 1),
        ("silent.example", vec![Step::Silence], 1),
    ] {
        let peer = setup.hostile_peer(host, 8449, script).await;
        let mut token = home.openid_token("@alice:example.org");
        token.matrix_server_name = format!("{host}:8449");

        service.request_token(Endpoint::SfuGet, &token).await.assert_error(401, "M_UNAUTHORIZED");

        assert_eq!(peer.connections(), connections, "{host}");
    }
}

#[tokio::test]
async fn queries_to_the_homeserver_are_repeated_and_a_relayed_request_is_not() {
    let setup = TestSetup::new().await;
    let own = setup.own_homeserver("example.com").await;
    let service = setup.deployment().homeserver_mode(&own).start();
    let (room, alice, path) = ("!room:example.com", "@alice:example.com", HomeserverPath::ClientGetToken.path());
    own.join(room, alice);
    own.join(room, "@bob:remote.example");
    let relayed = json!({ "status": 200, "content": { "jwt": "a.b.c" } });
    own.answer_always(HomeserverQuery::FedProxy, Reply::json(200, &relayed));
    let mut body =
        json!({ "url": setup.sfu.url(), "room_id": room, "slot_id": "m.call#ROOM", "member_id": "memberABC" });
    let answer = own.forward(&service, alice, &path, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");

    own.events.cut_idle_connections();
    let answer = own.forward(&service, alice, &path, &body).await;
    assert_eq!((answer.status, own.events.cut()), (200, 1), "{answer:?}");

    body["server_name"] = "remote.example".into();
    body["url"] = "wss://sfu.remote.example".into();
    own.forward(&service, alice, &path, &body).await.assert_error(502, "M_UNKNOWN");
    assert_eq!(own.relayed().len(), 0);
}
