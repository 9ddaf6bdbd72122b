//! Stable and unstable forms of the homeserver's API, and its base URL (`docs/protocol.md#calls-to-the-homeserver`).
//!
//! The fake homeserver announces some stable features in `/versions`; the paths that it has received show the forms.

use black_box::{HomeserverPath, HomeserverQuery, Reply, TestSetup};
use serde_json::json;

use super::{ALICE, BOB, ROOM, Stage};

#[tokio::test]
async fn what_is_stable_is_used_in_its_stable_form() {
    let unstable = [
        ("unstable/io.element.msc4502/rooms", "unstable/io.element.msc4512"),
        ("v3/rooms", "unstable/io.element.msc4512"),
        ("unstable/io.element.msc4502/rooms", "v1"),
        ("v3/rooms", "v1"),
    ];
    for (number, (rooms, fed_proxy)) in unstable.into_iter().enumerate() {
        let stage = Stage::with_members().await;
        let features =
            json!({ "io.element.msc4502.stable": number % 2 == 1, "io.element.msc4512.stable": number >= 2 });
        stage
            .own
            .events
            .set_versions(Reply::json(200, &json!({ "versions": ["v1.1"], "unstable_features": features })));

        query_everything(&stage).await;

        assert_eq!(paths(&stage), expected(rooms, fed_proxy), "{features}");
    }
}

#[tokio::test]
async fn what_the_homeserver_does_not_say_is_unstable() {
    for reply in [Reply::html(500), Reply::json(200, &json!({ "versions": ["v1.1"] })), Reply::html(200)] {
        let stage = Stage::with_members().await;
        stage.own.events.set_versions(reply);

        query_everything(&stage).await;

        assert_eq!(paths(&stage), expected("unstable/io.element.msc4502/rooms", "unstable/io.element.msc4512"));
    }
}

#[tokio::test]
async fn an_override_leads_to_the_homeserver_too() {
    let setup = TestSetup::new().await;
    let own = setup.own_homeserver("example.com").await;
    let overrides = format!("example.com={}", own.events.base_url());
    let service = setup.deployment().homeserver_mode(&own).set("LIVEKIT_CS_API_URL_OVERRIDES", &overrides).start();
    own.join(ROOM, ALICE);
    let stage = Stage { service, own, setup };

    let path = HomeserverPath::ClientGetToken;
    assert_eq!(stage.forward(path, &stage.request(path)).await.status, 200);

    assert_eq!(stage.own.home.client_well_known_requests(), 0);
}

#[tokio::test]
async fn any_room_is_one_segment_of_the_path() {
    let stage = Stage::new().await;
    for room in ["!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM", "!a/../../b:example.com", "!a?b=c#d&e+f g%2F:x", "!ü€"]
    {
        stage.own.join(room, ALICE);
        let mut body = stage.request(HomeserverPath::ClientGetToken);
        body["room_id"] = room.into();

        let answer = stage.forward(HomeserverPath::ClientGetToken, &body).await;

        assert_eq!(answer.status, 200, "{room}: {answer:?}");
    }
}

/// Sends a request of each kind, one after the other.
async fn query_everything(stage: &Stage) {
    let answer = Reply::json(200, &json!({ "status": 200, "content": { "jwt": "a.b.c" } }));
    stage.own.answer_always(HomeserverQuery::FedProxy, answer);
    for path in HomeserverPath::ALL {
        assert_eq!(stage.forward(path, &stage.request(path)).await.status, 200);
    }
    let mut body = stage.request(HomeserverPath::ClientGetToken);
    body["server_name"] = "remote.example".into();
    stage.forward(HomeserverPath::ClientGetToken, &body).await.jwt();
}

/// Paths that the homeserver has received, sorted: some requests run side by side.
fn paths(stage: &Stage) -> Vec<String> {
    let mut paths: Vec<_> = stage.own.queried().into_iter().map(|(_, path)| path).collect();
    paths.sort_unstable();
    paths
}

fn expected(rooms: &str, fed_proxy: &str) -> Vec<String> {
    let is_joined = |query: String| {
        let encoded = query.replace('@', "%40").replace(':', "%3A");
        format!("/_matrix/client/{rooms}/%21room%3Aexample.com/is_joined?{encoded}")
    };
    let mut paths = vec![
        is_joined(format!("mxid={ALICE}")),
        is_joined(format!("mxid={ALICE}")),
        is_joined(format!("mxid={BOB}")),
        is_joined(String::from("server_name=example.com")),
        is_joined(String::from("server_name=remote.example")),
        format!("/_matrix/client/{fed_proxy}/appservice/fed_proxy"),
    ];
    paths.sort_unstable();
    paths
}
