//! Confinement of the `as_token`: it reaches the homeserver's own client-server API and nothing else
//! (`docs/protocol.md#proxied-requests`).
//!
//! Requests, redirects and delegations try to lead the worker elsewhere. The fakes of all other servers treat a token
//! as a breach, and bare listeners count connections.

use black_box::{DelayedEvents, EntryPoint, HomeserverPath, HomeserverQuery, Member, Reply};
use serde_json::json;

use super::{ALICE, LONG, ROOM, Stage};

/// `site` counts connections; every other fake fails the test when it receives the token.
#[tokio::test]
async fn no_request_leads_it_elsewhere() {
    let stage = Stage::with_members().await;
    let site = stage.setup.site("evil.example", Reply::json(200, &json!({ "joined": true }))).await;
    stage.own.join(ROOM, "@mallory:evil.example");

    for path in HomeserverPath::ALL {
        for (field, value) in [
            ("server_name", "evil.example"),
            ("server_name", "example.com@evil.example"),
            ("url", "wss://evil.example"),
            ("url", "https://evil.example"),
            ("room_id", "!room:evil.example"),
            ("room_id", "!@evil.example/x"),
            ("room_id", "!/../../../..//evil.example/x"),
            ("room_id", "!\r\nHost: evil.example"),
            ("user_id", "@mallory:evil.example"),
            ("delay_id", "@evil.example"),
            ("delay_id", "/../../../..//evil.example/x"),
        ] {
            let mut body = stage.request(path);
            body[field] = value.into();
            stage.forward(path, &body).await;
            let at = path.path();
            stage.own.forward(&stage.service, "@mallory:evil.example", &at, &body).await;
            stage.own.forward_federation(&stage.service, "evil.example", &at, &body).await;
        }
    }

    assert!(stage.own.requests() > 20);
    assert_eq!(site.connections(), 0);
}

#[tokio::test]
async fn no_redirect_leads_it_elsewhere() {
    let stage = Stage::with_members().await;
    let site = stage.setup.site("evil.example", Reply::json(200, &json!({ "joined": true }))).await;
    let redirect = |status| Reply::redirect(status, "https://evil.example/");

    for status in [301, 302, 303, 307, 308] {
        for query in [HomeserverQuery::IsUserJoined, HomeserverQuery::IsServerJoined] {
            stage.own.answer_always(query, redirect(status));
        }
        for path in [HomeserverPath::ClientGetToken, HomeserverPath::FederationGetToken] {
            stage.forward(path, &stage.request(path)).await.assert_error(502, "M_UNKNOWN");
        }
        for query in [HomeserverQuery::IsUserJoined, HomeserverQuery::IsServerJoined] {
            stage.own.answer_always(query, Reply::json(200, &json!({ "joined": true })));
        }
        stage.own.answer_always(HomeserverQuery::FedProxy, redirect(status));
        let mut body = stage.request(HomeserverPath::ClientGetToken);
        body["server_name"] = "remote.example".into();
        stage.forward(HomeserverPath::ClientGetToken, &body).await.assert_error(502, "M_UNKNOWN");

        stage.own.events.answer_look_ups(redirect(status));
        let body = stage.request(HomeserverPath::Delegate);
        stage.forward(HomeserverPath::Delegate, &body).await.assert_error(503, "M_UNKNOWN");
    }

    assert_eq!(site.connections(), 0);
}

#[tokio::test]
async fn a_restart_that_is_redirected_does_not_take_it_along() {
    let stage = Stage::new().await;
    let site = stage.setup.site("evil.example", Reply::json(200, &json!({}))).await;
    let body = stage.request(HomeserverPath::Delegate);
    let delay_id = body["delay_id"].as_str().unwrap().to_owned();
    assert_eq!(stage.forward(HomeserverPath::Delegate, &body).await.status, 200);
    let redirect = Reply::redirect(307, "https://evil.example/");
    stage.own.events.answer_next(&delay_id, black_box::Operation::Restart, [redirect]);

    let participant = stage.setup.sfu.join(super::LIVEKIT_ROOM, super::ALICE_S_IDENTITY);
    participant.joined().send(&stage.service).await;

    stage.own.events.restarted(&delay_id, 2).await;
    assert_eq!(site.connections(), 0);
}

/// The other homeserver's fake fails the test when it receives any token.
#[tokio::test]
async fn leaves_on_other_homeservers_go_without_it() {
    let stage = Stage::deployed(|deployment| deployment.full_access("*")).await;
    let remote = stage.setup.homeserver("remote.example").start().await;
    let events: DelayedEvents = stage.setup.delayed_events("cs.remote.example").await;
    remote.has_client_api(events.base_url());
    let bob = Member::of_room(ROOM, "@bob:remote.example");
    let delay_id = events.schedule(LONG);
    stage.own.join(ROOM, &bob.user_id);

    let body = bob.delegation(EntryPoint::GetToken, &remote.openid_token(&bob.user_id), &delay_id, LONG);
    assert_eq!(stage.service.post("/get_token", &body).await.status, 200);
    let participant = stage.setup.sfu.join(&bob.room(), &bob.identity(EntryPoint::GetToken));
    participant.joined().send(&stage.service).await;

    events.restarted(&delay_id, 1).await;
}

#[tokio::test]
async fn no_token_or_delay_id_is_ever_logged() {
    let stage = Stage::deployed(|deployment| deployment.set("LIVEKIT_LOG_LEVEL", "debug")).await;
    stage.own.join(ROOM, ALICE);
    stage.own.join(ROOM, super::BOB);
    for path in HomeserverPath::ALL {
        assert_eq!(stage.forward(path, &stage.request(path)).await.status, 200);
        let mut body = stage.request(path);
        body["member_id"] = json!({ "SECRET": "syd_secret" });
        assert_eq!(stage.forward(path, &body).await.status, 400);
    }
    for query in [HomeserverQuery::IsUserJoined, HomeserverQuery::IsServerJoined] {
        stage.own.answer_always(query, Reply::html(500));
    }
    stage.own.events.answer_look_ups(Reply::html(500));
    for path in HomeserverPath::ALL {
        assert!(stage.forward(path, &stage.request(path)).await.status > 500);
    }

    let log = stage.service.log().text();
    for secret in ["SECRET", "syd_secret"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}
