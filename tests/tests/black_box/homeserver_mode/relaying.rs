//! Tokens for the SFU of another homeserver, relayed over federation
//! (`docs/protocol.md#endpoints-of-homeserver-mode`).
//!
//! Two homeservers with a worker each are connected by the fakes' `fed_proxy`. Some tests replace the other side's
//! response; then only the status matters that the client receives.

use black_box::{HomeserverPath, HomeserverQuery, OwnHomeserver, Reply, Service, Sfu, TestSetup};
use serde_json::{Value, json};

use super::{ALICE, ALICE_S_IDENTITY, LIVEKIT_ROOM, ROOM, Stage, claims};

/// Two federating homeservers, each with a worker and an SFU of its own.
struct Federation {
    ours: Stage,
    theirs: OwnHomeserver,
    their_service: Service,
    their_sfu: Sfu,
}

impl Federation {
    async fn new() -> Self {
        let setup = TestSetup::new().await;
        let own = setup.own_homeserver("example.com").await;
        let theirs = setup.own_homeserver("remote.example").await;
        let their_sfu = setup.sfu_behind_proxy("sfu.remote.example", 443, "/livekit").await;
        let service = setup.deployment().homeserver_mode(&own).start();
        let their_service = setup.deployment().set("LIVEKIT_URL", THEIR_SFU).homeserver_mode(&theirs).start();
        own.federates_with(&theirs, &their_service);
        for homeserver in [&own, &theirs] {
            homeserver.join(ROOM, ALICE);
            homeserver.join(ROOM, "@bob:remote.example");
        }
        Self { ours: Stage { service, own, setup }, theirs, their_service, their_sfu }
    }

    fn request(&self) -> Value {
        let mut body = self.ours.request(HomeserverPath::ClientGetToken);
        body["server_name"] = "remote.example".into();
        body["url"] = THEIR_SFU.into();
        body
    }
}

#[tokio::test]
async fn another_homeserver_s_worker_gives_a_token_for_its_sfu() {
    let federation = Federation::new().await;
    let Federation { ours, theirs, their_service, their_sfu } = &federation;

    let answer = ours.forward(HomeserverPath::ClientGetToken, &federation.request()).await;

    let claims = claims(&answer.jwt());
    assert_eq!(answer.json().as_object().unwrap().len(), 1);
    assert_eq!((claims.sub.as_str(), claims.video.room.as_str()), (ALICE_S_IDENTITY, LIVEKIT_ROOM));
    assert_eq!(claims.video.can_publish, Some(true));
    assert_eq!((ours.setup.sfu.requests(), their_sfu.created().len()), (0, 1));
    assert_eq!(theirs.queried().len(), 2);
    ours.service.log().line_with(&["token relayed", ALICE, "remote.example"]).await;
    their_service.log().line_with(&["token issued", "\"federated\"", ALICE]).await;
}

#[tokio::test]
async fn the_relay_is_at_the_path_that_the_homeserver_has() {
    let (unstable, stable) = ("unstable/io.element.msc4512/appservice/fed_proxy", "v1/appservice/fed_proxy");
    for (missing, queried, status) in [
        (vec![stable], vec![unstable], 200),
        (vec![unstable], vec![unstable, stable], 200),
        (vec![unstable, stable], vec![unstable, stable], 502),
    ] {
        let federation = Federation::new().await;
        let own = &federation.ours.own;
        missing.iter().for_each(|part| own.lacks(part));

        let answer = federation.ours.forward(HomeserverPath::ClientGetToken, &federation.request()).await;

        assert_eq!(answer.status, status, "without {missing:?}: {answer:?}");
        let relays = own.queried().into_iter().filter(|(query, _)| *query == HomeserverQuery::FedProxy);
        let paths: Vec<_> = relays.map(|(_, path)| path).collect();
        let expected: Vec<_> = queried.iter().map(|path| format!("/_matrix/client/{path}")).collect();
        assert_eq!(paths, expected, "without {missing:?}");
    }
}

#[tokio::test]
async fn no_more_is_relayed_than_the_other_side_needs() {
    let federation = Federation::new().await;
    let mut body = federation.request();
    body["surprise"] = "not for them".into();

    federation.ours.forward(HomeserverPath::ClientGetToken, &body).await.jwt();

    let expected = json!({
        "destination": "remote.example",
        "method": "POST",
        "path": "/_matrix/federation/unstable/io.element.msc4195/rtc/livekit/get_token",
        "body": {
            "user_id": ALICE,
            "url": THEIR_SFU,
            "room_id": ROOM,
            "slot_id": "m.call#ROOM",
            "member_id": "memberABC",
        },
    });
    assert_eq!(federation.ours.own.relayed(), [expected]);
}

#[tokio::test]
async fn what_the_other_side_refuses_is_passed_on() {
    let federation = Federation::new().await;
    let mut elsewhere = federation.request();
    elsewhere["url"] = "wss://elsewhere.example".into();
    let answer = federation.ours.forward(HomeserverPath::ClientGetToken, &elsewhere).await;
    answer.assert_error(400, "M_INVALID_PARAM");

    federation.theirs.leave(ROOM, ALICE);
    let answer = federation.ours.forward(HomeserverPath::ClientGetToken, &federation.request()).await;
    answer.assert_error(403, "M_FORBIDDEN");

    for (status, errcode) in [(403, "M_FORBIDDEN"), (400, "M_INVALID_PARAM")] {
        let content = json!({ "errcode": errcode, "error": "in its own words", "more": [1] });
        relayed(&federation.ours.own, status, content.clone());
        let answer = federation.ours.forward(HomeserverPath::ClientGetToken, &federation.request()).await;
        assert_eq!((answer.status, answer.json()), (status, content));
    }
}

#[tokio::test]
async fn anything_else_of_the_other_side_is_a_502() {
    let federation = Federation::new().await;
    let jwt = json!({ "jwt": "a.b.c" });
    for (status, content) in [
        (200, json!({})),
        (200, json!({ "jwt": 5 })),
        (200, json!("text")),
        (302, jwt.clone()),
        (400, json!({ "errcode": "M_BAD_JSON" })),
        (401, json!({ "errcode": "M_UNKNOWN_TOKEN" })),
        (403, json!({ "errcode": "M_UNKNOWN" })),
        (404, json!({ "errcode": "M_UNRECOGNIZED" })),
        (500, jwt.clone()),
        (502, json!({ "errcode": "M_UNKNOWN" })),
    ] {
        relayed(&federation.ours.own, status, content.clone());
        let answer = federation.ours.forward(HomeserverPath::ClientGetToken, &federation.request()).await;
        assert_eq!(answer.status, 502, "{status} {content}: {answer:?}");
        answer.assert_error(502, "M_UNKNOWN");
    }
    for reply in [
        Reply::json(502, &json!({ "errcode": "M_UNKNOWN" })),
        Reply::json(403, &json!({ "errcode": "M_FORBIDDEN" })),
        Reply::html(200),
        Reply::json(200, &jwt),
        Reply::json(200, &json!({ "status": "200", "content": jwt })),
        Reply::json(200, &json!({ "status": 200, "content": jwt })).padded_to(100_000),
        Reply::redirect(307, "/elsewhere"),
    ] {
        federation.ours.own.answer_always(HomeserverQuery::FedProxy, reply);
        let answer = federation.ours.forward(HomeserverPath::ClientGetToken, &federation.request()).await;
        answer.assert_error(502, "M_UNKNOWN");
    }
    federation.ours.service.log().line_with(&["token relay failed"]).await;
    assert_eq!(federation.their_sfu.requests(), 0);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_a_502() {
    let federation = Federation::new().await;
    federation.ours.own.join(ROOM, "@carol:lost.example");
    let mut body = federation.request();
    body["server_name"] = "lost.example".into();

    federation.ours.forward(HomeserverPath::ClientGetToken, &body).await.assert_error(502, "M_UNKNOWN");
}

#[tokio::test]
async fn nothing_is_relayed_for_or_to_who_is_not_in_the_room() {
    let federation = Federation::new().await;
    let own = &federation.ours.own;
    let request_token = async || federation.ours.forward(HomeserverPath::ClientGetToken, &federation.request()).await;

    own.leave(ROOM, ALICE);
    request_token().await.assert_error(403, "M_FORBIDDEN");

    own.join(ROOM, ALICE);
    own.leave(ROOM, "@bob:remote.example");
    request_token().await.assert_error(403, "M_FORBIDDEN");

    own.answer_always(HomeserverQuery::IsServerJoined, Reply::html(500));
    request_token().await.assert_error(502, "M_UNKNOWN");

    assert_eq!(own.relayed(), [Value::Null; 0]);
}

fn relayed(own: &OwnHomeserver, status: u16, content: Value) {
    let reply = Reply::json(200, &json!({ "status": status, "content": content }));
    own.answer_always(HomeserverQuery::FedProxy, reply);
}

const THEIR_SFU: &str = "wss://sfu.remote.example/livekit";
