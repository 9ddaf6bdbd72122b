//! MSC4195 as it was merged, and clients and homeservers before and after
//! (`docs/protocol.md#endpoints-of-homeserver-mode`, `docs/protocol.md#calls-to-the-homeserver`).
//!
//! The fakes answer as newer and as older homeservers do; requests have the fields of newer and of older clients.

use std::time::{Duration, Instant};

use black_box::{Deployment, Gate, HomeserverPath, HomeserverQuery, Reply};
use futures_util::future::join;
use serde_json::{Value, json};

use super::{ALICE, ALICE_S_IDENTITY, BOB, ROOM, Stage, claims};

const CLIENT: HomeserverPath = HomeserverPath::ClientGetToken;
const FEDERATION: HomeserverPath = HomeserverPath::FederationGetToken;

#[tokio::test]
async fn a_member_may_be_an_object() {
    let stage = Stage::with_members().await;
    for path in HomeserverPath::ALL {
        let mut body = stage.request(path);
        let member_id = body.as_object_mut().unwrap().remove("member_id");
        body["member"] = json!({ "id": member_id, "claimed_user_id": ALICE, "claimed_device_id": "DEVICE" });

        let answer = stage.forward(path, &body).await;

        assert_eq!(answer.status, 200, "{path:?}: {answer:?}");
        if path == CLIENT {
            assert_eq!(claims(&answer.jwt()).sub, ALICE_S_IDENTITY);
        }
        body["member"] = json!({ "claimed_user_id": ALICE });
        stage.forward(path, &body).await.assert_error(400, "M_BAD_JSON");
    }
}

#[tokio::test]
async fn a_leave_needs_no_url() {
    let stage = Stage::new().await;
    for url in [None, Some(Value::Null), Some(json!("")), Some(json!(stage.setup.sfu.url()))] {
        let mut body = stage.request(HomeserverPath::Delegate);
        match url {
            None => drop(body.as_object_mut().unwrap().remove("url")),
            Some(url) => body["url"] = url,
        }
        assert_eq!(stage.forward(HomeserverPath::Delegate, &body).await.status, 200, "{body}");
    }
    let mut body = stage.request(HomeserverPath::Delegate);
    body["url"] = "wss://elsewhere.example".into();
    stage.forward(HomeserverPath::Delegate, &body).await.assert_error(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn a_leave_is_read_in_both_forms_and_none_that_is_over() {
    let stage = Stage::new().await;
    for (event, status) in [
        (json!({ "room_id": ROOM, "delay_ms": 8000, "delayed_since_ts": 1_700_000_000_000_u64 }), 200),
        (json!({ "room_id": ROOM, "delay": 8000, "running_since": 1_700_000_000_000_u64 }), 200),
        (json!({ "room_id": ROOM, "delay_ms": 8000, "finalised": { "outcome": "send" } }), 400),
        (json!({ "room_id": ROOM, "delay": 8000, "finalised": true }), 400),
    ] {
        stage.own.events.answer_look_ups(Reply::json(200, &event));

        let answer = stage.forward(HomeserverPath::Delegate, &stage.request(HomeserverPath::Delegate)).await;

        assert_eq!(answer.status, status, "{event}: {answer:?}");
        if status == 400 {
            answer.assert_error(400, "M_INVALID_PARAM");
        }
    }
    // The fake's own events are over once they are sent.
    let mut body = stage.request(HomeserverPath::Delegate);
    body["delay_id"] = stage.own.events.schedule_for(ALICE, ROOM, Duration::ZERO).into();
    stage.forward(HomeserverPath::Delegate, &body).await.assert_error(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn a_homeserver_may_want_the_user_under_another_name() {
    let stage = Stage::with_members().await;
    stage.own.takes_user_id();

    for path in [CLIENT, FEDERATION] {
        assert!(!stage.forward(path, &stage.request(path)).await.jwt().is_empty());
    }

    let queried: Vec<_> = stage.own.queried().into_iter().map(|(_, path)| path).collect();
    let of = |name: &str| queried.iter().filter(|path| path.contains(&format!("is_joined?{name}="))).count();
    assert_eq!((of("mxid"), of("user_id"), of("server_name")), (2, 2, 1), "{queried:?}");
    stage.own.leave(ROOM, ALICE);
    stage.forward(CLIENT, &stage.request(CLIENT)).await.assert_error(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn any_other_400_is_no_membership() {
    let stage = Stage::with_members().await;
    let reply = Reply::json(400, &json!({ "errcode": "M_INVALID_PARAM" }));
    stage.own.answer_always(HomeserverQuery::IsUserJoined, reply);

    stage.forward(CLIENT, &stage.request(CLIENT)).await.assert_error(502, "M_UNKNOWN");

    assert_eq!(stage.own.requests(), 1);
}

#[tokio::test]
async fn remote_users_publish_where_they_may() {
    for (listed, may) in [("*", true), ("remote.example, other.example", true), ("other.example", false)] {
        let configure = |it: Deployment| it.set("LIVEKIT_REMOTE_CAN_PUBLISH_HOMESERVERS", listed);
        let stage = Stage::deployed(configure).await;
        stage.own.join(ROOM, ALICE);
        stage.own.join(ROOM, BOB);

        let theirs = claims(&stage.forward(FEDERATION, &stage.request(FEDERATION)).await.jwt());
        let ours = claims(&stage.forward(CLIENT, &stage.request(CLIENT)).await.jwt());

        assert_eq!((theirs.video.can_publish, ours.video.can_publish), (Some(may), Some(true)), "{listed}");
        assert_eq!((theirs.video.can_subscribe, theirs.video.room_create), (Some(true), false));
    }
}

#[tokio::test]
async fn a_user_id_that_is_none_is_malformed() {
    let stage = Stage::with_members().await;
    for user_id in ["bob", "@bob", "@bob:", "https://remote.example"] {
        let mut body = stage.request(FEDERATION);
        body["user_id"] = user_id.into();

        stage.forward(FEDERATION, &body).await.assert_error(400, "M_INVALID_PARAM");
    }
    assert_eq!(stage.own.requests(), 0);
}

#[tokio::test]
async fn the_stable_path_of_the_other_side_comes_second() {
    let setup = black_box::TestSetup::new().await;
    let own = setup.own_homeserver("example.com").await;
    let theirs = setup.own_homeserver("remote.example").await;
    let service = setup.deployment().homeserver_mode(&own).start();
    let their_service = setup.deployment().homeserver_mode(&theirs).start();
    own.federates_with(&theirs, &their_service);
    for homeserver in [&own, &theirs] {
        homeserver.join(ROOM, ALICE);
        homeserver.join(ROOM, BOB);
    }
    let stage = Stage { service, own, setup };
    let mut body = stage.request(CLIENT);
    body["server_name"] = "remote.example".into();
    let paths = || stage.own.relayed().iter().map(|it| it["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let [stable, _, unstable] = FEDERATION.forms();

    assert!(!stage.forward(CLIENT, &body).await.jwt().is_empty());
    assert_eq!(paths(), std::slice::from_ref(&unstable));

    stage.own.others_lack("unstable");
    assert!(!stage.forward(CLIENT, &body).await.jwt().is_empty());
    assert_eq!(paths()[1..], [unstable.clone(), stable.clone()]);

    stage.own.others_lack("rtc/livekit");
    stage.forward(CLIENT, &body).await.assert_error(502, "M_UNKNOWN");
    assert_eq!(paths()[3..], [unstable, stable]);
}

#[tokio::test]
async fn every_response_comes_before_the_homeserver_gives_up() {
    let stage = Stage::with_members().await;
    let slow = Gate::closed();
    let joined = Reply::json(200, &json!({ "joined": true }));
    stage.own.answer_always(HomeserverQuery::IsServerJoined, joined.behind(&slow));
    let never = Reply::json(200, &json!({})).behind(&Gate::closed());
    stage.own.answer_always(HomeserverQuery::FedProxy, never);
    let mut body = stage.request(CLIENT);
    body["server_name"] = "remote.example".into();
    let started = Instant::now();

    let open_late = async {
        tokio::time::sleep(Duration::from_secs(8)).await;
        slow.open();
    };
    let (answer, ()) = join(stage.forward(CLIENT, &body), open_late).await;

    answer.assert_error(502, "M_UNKNOWN");
    let elapsed = started.elapsed();
    assert!(Duration::from_secs(8) < elapsed && elapsed < Duration::from_secs(25), "{elapsed:?}");
}
