//! Tokens for the own SFU: the conditions and the claims (`docs/protocol.md#endpoints-of-homeserver-mode`).
//!
//! Alice's requests come through the worker's own homeserver, Bob's through his homeserver over federation. The fake
//! homeserver decides on memberships, fails, or responds with something else; LiveKit's own code verifies the tokens.

use black_box::{Endpoint, HomeserverPath, HomeserverQuery, Reply, Sfu};
use serde_json::{Value, json};

use super::{ALICE, ALICE_S_IDENTITY, BOB, LIVEKIT_ROOM, ROOM, Stage, claims};

const CLIENT: HomeserverPath = HomeserverPath::ClientGetToken;
const FEDERATION: HomeserverPath = HomeserverPath::FederationGetToken;

#[tokio::test]
async fn a_member_of_ours_may_publish() {
    let stage = Stage::with_members().await;
    let with = |field: &str, value: Value| {
        let mut body = stage.request(CLIENT);
        body[field] = value;
        body
    };

    for body in [
        stage.request(CLIENT),
        with("server_name", Value::Null),
        with("server_name", json!("example.com")),
        with("url", json!(format!("{}/", stage.setup.sfu.url()))),
    ] {
        let claims = claims(&stage.forward(CLIENT, &body).await.jwt());

        assert_eq!((claims.iss.as_str(), claims.sub.as_str()), (Sfu::credentials().0, ALICE_S_IDENTITY));
        assert_eq!(claims.exp, claims.nbf + 3600);
        assert_eq!(claims.video.room, LIVEKIT_ROOM);
        assert!(claims.video.room_join && !claims.video.room_create && !claims.video.room_admin);
        assert_eq!(claims.video.can_publish, Some(true));
        assert_eq!(claims.video.can_subscribe, Some(true));
        assert_eq!(claims.video.can_update_own_metadata, Some(false));
    }
    let created: Vec<_> = stage.setup.sfu.created().into_iter().map(|room| room.name).collect();
    assert_eq!(created, [LIVEKIT_ROOM; 4]);
}

#[tokio::test]
async fn a_member_of_another_homeserver_may_publish_here() {
    let stage = Stage::with_members().await;

    let claims = claims(&stage.forward(FEDERATION, &stage.request(FEDERATION)).await.jwt());

    assert_eq!(claims.exp, claims.nbf + 3600);
    assert_eq!(claims.video.room, LIVEKIT_ROOM);
    assert!(claims.video.room_join && !claims.video.room_create);
    assert_eq!(claims.video.can_publish, Some(true));
    assert_eq!(claims.video.can_subscribe, Some(true));
    assert_eq!(stage.setup.sfu.created()[0].name, LIVEKIT_ROOM);
}

#[tokio::test]
async fn tokens_live_as_long_as_it_is_configured() {
    let stage = Stage::deployed(|deployment| {
        let deployment = deployment.full_access("example.com").set("LIVEKIT_CAN_UPDATE_OWN_METADATA", "true");
        deployment.set("LIVEKIT_TOKEN_TTL_SECONDS", "90").set("LIVEKIT_RESTRICTED_CAN_PUBLISH", "false")
    })
    .await;
    stage.own.join(ROOM, ALICE);
    stage.own.join(ROOM, BOB);

    for path in [CLIENT, FEDERATION] {
        let claims = claims(&stage.forward(path, &stage.request(path)).await.jwt());

        assert_eq!(claims.exp, claims.nbf + 90);
        assert_eq!(claims.video.can_update_own_metadata, Some(true));
        assert_eq!(claims.video.can_publish, Some(true));
    }
    for endpoint in Endpoint::BOTH {
        let request = endpoint.request(&stage.own.home.openid_token(ALICE));
        let room = request.get("room_id").or(request.get("room")).and_then(Value::as_str).unwrap();
        stage.own.join(room, ALICE);
        let claims = claims(&stage.service.post(endpoint.path(), &request).await.jwt());
        assert_eq!(claims.exp, claims.nbf + 90);
    }
}

#[tokio::test]
async fn whoever_is_not_in_the_room_gets_nothing() {
    let stage = Stage::new().await;
    let members: [(HomeserverPath, &[&str]); 5] = [
        (CLIENT, &[]),
        (CLIENT, &["@carol:example.com", BOB]),
        (FEDERATION, &[ALICE]),
        // Without a user in the room, the own homeserver knows only an old state of Bob's membership.
        (FEDERATION, &[BOB]),
        (FEDERATION, &[ALICE, "@dave:remote.example"]),
    ];
    for (number, (path, members)) in members.into_iter().enumerate() {
        let room = format!("!room{number}:example.com");
        members.iter().for_each(|member| stage.own.join(&room, member));
        let mut body = stage.request(path);
        body["room_id"] = room.into();

        stage.forward(path, &body).await.assert_error(403, "M_FORBIDDEN");
        // Membership is checked before the URL.
        body["url"] = "wss://elsewhere.example".into();
        stage.forward(path, &body).await.assert_error(403, "M_FORBIDDEN");
    }
    assert_eq!(stage.setup.sfu.requests(), 0);
}

#[tokio::test]
async fn a_membership_that_ends_is_seen_at_once() {
    let stage = Stage::with_members().await;
    assert_eq!(stage.forward(CLIENT, &stage.request(CLIENT)).await.status, 200);

    stage.own.leave(ROOM, ALICE);

    stage.forward(CLIENT, &stage.request(CLIENT)).await.assert_error(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_homeserver_speaks_for_its_own_users_only() {
    let stage = Stage::with_members().await;
    for user_id in [ALICE, "@bob:remote.example:8448", "@bob:sub.remote.example", "@bob:Remote.example"] {
        let mut body = stage.request(FEDERATION);
        body["user_id"] = user_id.into();

        stage.forward(FEDERATION, &body).await.assert_error(403, "M_FORBIDDEN");
    }
    assert_eq!((stage.own.requests(), stage.setup.sfu.requests()), (0, 0));
}

#[tokio::test]
async fn a_token_for_another_sfu_is_not_ours_to_give() {
    let stage = Stage::with_members().await;
    for path in [CLIENT, FEDERATION] {
        for url in ["wss://elsewhere.example", &format!("{}/path", stage.setup.sfu.url()), "nonsense"] {
            let mut body = stage.request(path);
            body["url"] = url.into();

            stage.forward(path, &body).await.assert_error(400, "M_INVALID_PARAM");
        }
    }
    assert_eq!(stage.setup.sfu.requests(), 0);
}

#[tokio::test]
async fn what_can_be_no_room_or_server_is_refused_unasked() {
    let stage = Stage::new().await;
    for (field, value) in [
        ("room_id", ".."),
        ("room_id", "room"),
        ("room_id", "#room:example.com"),
        ("server_name", "https://remote.example"),
        ("server_name", "remote.example/path"),
        ("server_name", ""),
    ] {
        let mut body = stage.request(CLIENT);
        body[field] = value.into();

        let answer = stage.forward(CLIENT, &body).await;

        answer.assert_error(400, "M_INVALID_PARAM");
        assert!(answer.error().contains(field), "{answer:?}");
    }
    assert_eq!(stage.own.requests(), 0);
}

#[tokio::test]
async fn a_membership_that_cannot_be_checked_is_none_yet() {
    for (what, reply) in [
        ("an error", Reply::json(500, &json!({ "errcode": "M_UNKNOWN" }))),
        ("a scope that is missing", Reply::json(403, &json!({ "errcode": "M_FORBIDDEN" }))),
        ("no such path", Reply::json(404, &json!({ "errcode": "M_UNRECOGNIZED" }))),
        ("a page", Reply::html(200)),
        ("nothing", Reply::json(200, &json!({}))),
        ("a text", Reply::json(200, &json!({ "joined": "true" }))),
        ("a list", Reply::json(200, &json!([true]))),
        ("too much", Reply::json(200, &json!({ "joined": true })).padded_to(100_000)),
        ("a redirect", Reply::redirect(302, "/elsewhere")),
    ] {
        let stage = Stage::with_members().await;
        for (path, query) in [
            (CLIENT, HomeserverQuery::IsUserJoined),
            (FEDERATION, HomeserverQuery::IsServerJoined),
            (FEDERATION, HomeserverQuery::IsUserJoined),
        ] {
            stage.own.answer_always(query, reply.clone());

            let answer = stage.forward(path, &stage.request(path)).await;

            assert_eq!(answer.status, 502, "{what}: {answer:?}");
            answer.assert_error(502, "M_UNKNOWN");
        }
        stage.service.log().line_with(&["membership check failed"]).await;
        assert_eq!(stage.setup.sfu.requests(), 0, "{what}");
    }
}

#[tokio::test]
async fn without_a_client_server_api_nothing_can_be_checked() {
    let mut stage = Stage::with_members().await;
    stage.own.events.go_away();
    for path in [CLIENT, FEDERATION] {
        stage.forward(path, &stage.request(path)).await.assert_error(502, "M_UNKNOWN");
    }

    let stage = Stage::with_members().await;
    stage.own.home.set_client_well_known(Reply::html(404));
    for path in [CLIENT, FEDERATION] {
        stage.forward(path, &stage.request(path)).await.assert_error(502, "M_UNKNOWN");
    }
    stage
        .forward(HomeserverPath::Delegate, &stage.request(HomeserverPath::Delegate))
        .await
        .assert_error(503, "M_UNKNOWN");
}

#[tokio::test]
async fn a_room_that_is_not_created_gives_no_token() {
    let stage = Stage::with_members().await;
    stage.setup.sfu.fail(Reply::html(502));

    for path in [CLIENT, FEDERATION] {
        stage.forward(path, &stage.request(path)).await.assert_error(500, "M_UNKNOWN");
    }
}

#[tokio::test]
async fn an_issued_token_is_in_the_log() {
    let stage = Stage::with_members().await;
    for (path, access, user) in [(CLIENT, "\"local\"", ALICE), (FEDERATION, "\"federated\"", BOB)] {
        stage.forward(path, &stage.request(path)).await.jwt();

        let line = stage.service.log().line_with(&["token issued", access, user, LIVEKIT_ROOM]).await;
        assert!(line.0["membership_ms"].is_number() && line.0["create_room_ms"].is_number(), "{line:?}");
        assert!(line.0["openid_ms"].is_null(), "{line:?}");
    }
}
