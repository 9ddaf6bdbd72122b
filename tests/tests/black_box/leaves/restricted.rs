//! Leaves of restricted users (`docs/protocol.md#access`): taken over for rooms that exist on the SFU, unless that is
//! switched off.
//!
//! Bob is a user of another homeserver than the one with full access. Alice's request for a token creates the room.

use black_box::{Deployment, EntryPoint, Homeserver, Member, Reply};

use super::{LONG, Stage, alice};

#[tokio::test]
async fn a_leave_is_taken_over_once_the_room_exists() {
    for entry_point in EntryPoint::ALL {
        let (stage, other) = with_another_homeserver(|deployment| deployment).await;
        stage.create_room().await;
        let delay_id = stage.events.schedule(LONG);

        let answer = delegate(&stage, &other, entry_point, &delay_id).await;

        assert_eq!(answer.status, 200, "{entry_point:?}: {answer:?}");
        let participant = stage.join(entry_point, &bob()).await;
        stage.leave(&participant).await;
        stage.events.sent(&delay_id).await;
    }
}

#[tokio::test]
async fn without_a_room_there_is_no_leave() {
    let (stage, other) = with_another_homeserver(|deployment| deployment).await;

    assert_refused(&stage, &other).await;

    // Another slot's room is another room.
    stage.create_room().await;
    let elsewhere = Member { slot_id: String::from("m.call#OTHER"), ..bob() };
    let token = other.openid_token(&elsewhere.user_id);
    let body = elsewhere.delegation(EntryPoint::GetToken, &token, &stage.events.schedule(LONG), LONG);
    stage.service.post("/get_token", &body).await.assert_error(400, "M_BAD_JSON");
    assert!(stage.events.calls().is_empty());
}

#[tokio::test]
async fn where_it_is_switched_off_the_sfu_is_not_even_queried() {
    let off = |deployment: Deployment| deployment.set("LIVEKIT_RESTRICTED_CAN_DELEGATE", "false");
    let (stage, other) = with_another_homeserver(off).await;
    stage.create_room().await;

    assert_refused(&stage, &other).await;

    assert_eq!(stage.setup.sfu.requests_to("ListRooms"), 0);
}

#[tokio::test]
async fn an_sfu_that_does_not_say_is_an_unknown_error() {
    let (stage, other) = with_another_homeserver(|deployment| deployment).await;
    stage.setup.sfu.fail_at("ListRooms", Reply::html(502));

    for entry_point in EntryPoint::ALL {
        let delay_id = stage.events.schedule(LONG);
        delegate(&stage, &other, entry_point, &delay_id).await.assert_error(500, "M_UNKNOWN");
    }
}

#[tokio::test]
async fn the_log_says_why_no_room_was_created() {
    for (full_access, why) in [
        ("example.org", "restricted.example isn't in LIVEKIT_FULL_ACCESS_HOMESERVERS"),
        ("example.org Restricted.Example", "which differs from restricted.example by capitals only"),
    ] {
        let (stage, other) = with_another_homeserver(|deployment| deployment.full_access(full_access)).await;
        let token = other.openid_token(&bob().user_id);

        let answer = stage.service.post("/sfu/get", &bob().request(EntryPoint::SfuGet, &token)).await;

        assert!(!answer.jwt().is_empty());
        stage.service.log().line_with(&["token issued", "restricted", why]).await;
        assert_eq!(stage.setup.sfu.requests(), 0);
    }
}

/// Checks that Bob's leaves are refused, and that he receives a token without one.
async fn assert_refused(stage: &Stage, other: &Homeserver) {
    for (entry_point, status, errcode) in [
        (EntryPoint::GetToken, 400, "M_BAD_JSON"),
        (EntryPoint::SfuGet, 400, "M_BAD_JSON"),
        (EntryPoint::Delegate, 403, "M_FORBIDDEN"),
    ] {
        let answer = delegate(stage, other, entry_point, &stage.events.schedule(LONG)).await;

        answer.assert_error(status, errcode);
        answer.assert_cors();
        // The worker doesn't look for the homeserver's client-server API.
        assert_eq!(other.client_well_known_requests(), 0);
    }
    let token = other.openid_token(&bob().user_id);
    let answer = stage.service.post("/sfu/get", &bob().request(EntryPoint::SfuGet, &token)).await;
    assert!(!answer.jwt().is_empty());
    assert!(stage.service.storage().alarms().is_empty());
}

async fn delegate(stage: &Stage, other: &Homeserver, entry_point: EntryPoint, delay_id: &str) -> black_box::Answer {
    let token = other.openid_token(&bob().user_id);
    stage.service.post(entry_point.path(), &bob().delegation(entry_point, &token, delay_id, LONG)).await
}

async fn with_another_homeserver(configure: impl FnOnce(Deployment) -> Deployment) -> (Stage, Homeserver) {
    let stage = Stage::deployed(configure).await;
    let other = stage.setup.homeserver("restricted.example").start().await;
    other.has_client_api(stage.events.base_url());
    (stage, other)
}

impl Stage {
    /// Creates the room, by a token for Alice.
    async fn create_room(&self) {
        let token = self.home.openid_token(&alice().user_id);
        let answer = self.service.post("/sfu/get", &alice().request(EntryPoint::SfuGet, &token)).await;
        assert!(!answer.jwt().is_empty());
    }
}

fn bob() -> Member {
    Member::of_room("!room:example.org", "@bob:restricted.example")
}
