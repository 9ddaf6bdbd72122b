//! `LIVEKIT_ALLOWED_HOMESERVERS`: the homeservers whose users receive tokens at all (`docs/protocol.md#access`).
//!
//! A homeserver that isn't allowed must not even learn of the request: its fake counts connections.

use std::time::Duration;

use black_box::{Endpoint, EntryPoint, HomeserverPath, Member, TestSetup};
use serde_json::json;

#[tokio::test]
async fn users_of_other_homeservers_are_refused_before_any_request_to_them() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("other.example").start().await;
    let service = setup.deployment().full_access("example.org").set(ALLOWED, "friends.example").start();
    let token = home.openid_token("@mallory:other.example");
    let mallory = Member::of_room("!room:other.example", "@mallory:other.example");

    for entry_point in EntryPoint::ALL {
        let body = mallory.delegation(entry_point, &token, "syd_1", Duration::from_secs(60));
        let answer = service.post(entry_point.path(), &body).await;

        answer.assert_error(403, "M_FORBIDDEN");
        answer.assert_cors();
    }
    assert_eq!(home.connections(), 0);
    assert_eq!(setup.sfu.requests(), 0);
    let line = service.log().line_with(&["homeserver not allowed"]).await;
    assert!(line.has(&["other.example", ALLOWED]), "{line:?}");
}

#[tokio::test]
async fn listed_homeservers_and_those_with_full_access_are_served() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().full_access("full.example").set(ALLOWED, "friends.example, b.example").start();

    for name in ["full.example", "friends.example", "b.example"] {
        let home = setup.homeserver(name).start().await;

        let answer = service.request_token(Endpoint::SfuGet, &home.openid_token(&format!("@alice:{name}"))).await;

        assert_eq!(answer.status, 200, "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn a_name_is_compared_exactly() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("friends.example").start().await;
    for (list, status) in
        [("friends.example:8448", 403), ("Friends.example", 403), ("*", 200), (" friends.example\n", 200)]
    {
        let service = setup.deployment().set(ALLOWED, list).start();

        let answer = service.request_token(Endpoint::GetToken, &home.openid_token("@alice:friends.example")).await;

        assert_eq!(answer.status, status, "{list:?}: {answer:?}");
    }
}

#[tokio::test]
async fn in_homeserver_mode_the_list_counts_for_other_homeservers() {
    let setup = TestSetup::new().await;
    let own = setup.own_homeserver("example.com").await;
    let service = setup.deployment().homeserver_mode(&own).set(ALLOWED, "friends.example").start();
    let room = "!room:example.com";
    let users = ["@alice:example.com", "@bob:friends.example", "@mallory:other.example"];
    for user in users {
        own.join(room, user);
    }
    let [alice, bob, mallory] = users;
    let mut body =
        json!({ "url": setup.sfu.url(), "room_id": room, "slot_id": "m.call#ROOM", "member_id": "memberABC" });

    let answer = own.forward(&service, alice, &HomeserverPath::ClientGetToken.path(), &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let path = HomeserverPath::FederationGetToken.path();
    body["user_id"] = bob.into();
    let answer = own.forward_federation(&service, "friends.example", &path, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let requests = own.requests();
    body["user_id"] = mallory.into();
    own.forward_federation(&service, "other.example", &path, &body).await.assert_error(403, "M_FORBIDDEN");
    assert_eq!(own.requests(), requests);
}

const ALLOWED: &str = "LIVEKIT_ALLOWED_HOMESERVERS";
