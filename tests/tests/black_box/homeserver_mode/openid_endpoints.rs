//! The endpoints with an OpenID token in homeserver mode
//! (`docs/protocol.md#the-openid-endpoints-in-homeserver-mode`): they are no way around the membership of the Matrix
//! room, and leaves of the homeserver's own users are managed as their owner.
//!
//! Alice's and Bob's OpenID tokens are from their own homeservers; the worker's homeserver reports the memberships.

use black_box::{
    Answer, Departure, Deployment, EntryPoint, Homeserver, HomeserverQuery, Member, Operation, Participant, Removal,
    Reply,
};
use serde_json::json;

use super::{ALICE, BOB, LONG, ROOM, SHORT, Stage};

#[tokio::test]
async fn only_members_of_the_matrix_room_are_served() {
    let stage = Stage::deployed(open_to_everybody).await;
    let remote = stage.setup.homeserver("remote.example").start().await;
    for (user, home) in [(ALICE, &stage.own.home), (BOB, &remote)] {
        for entry_point in EntryPoint::ALL {
            stage.request_token(entry_point, user, home).await.assert_error(403, "M_FORBIDDEN");
        }
    }
    // A room's name that can't be one has no members.
    let nowhere = Member::of_room("nowhere", ALICE);
    let body = nowhere.request(EntryPoint::SfuGet, &stage.own.home.openid_token(ALICE));
    stage.service.post("/sfu/get", &body).await.assert_error(403, "M_FORBIDDEN");
    assert_eq!(stage.setup.sfu.requests(), 0);

    stage.own.join(ROOM, ALICE);
    stage.own.join(ROOM, BOB);
    for (user, home) in [(ALICE, &stage.own.home), (BOB, &remote)] {
        for entry_point in [EntryPoint::GetToken, EntryPoint::SfuGet] {
            let before = stage.own.queried().len();

            let answer = stage.request_token(entry_point, user, home).await;

            assert!(!answer.jwt().is_empty());
            answer.assert_cors();
            assert_eq!(stage.own.queried().len(), before + 1, "one question: is the user joined");
        }
    }
}

#[tokio::test]
async fn nobody_learns_who_is_joined_before_the_token_is_verified() {
    let stage = Stage::deployed(open_to_everybody).await;
    stage.own.join(ROOM, ALICE);
    stage.own.home.set_userinfo(Reply::json(401, &json!({ "errcode": "M_UNKNOWN_TOKEN" })));

    for entry_point in EntryPoint::ALL {
        stage.request_token(entry_point, ALICE, &stage.own.home).await.assert_error(401, "M_UNAUTHORIZED");
    }
    assert_eq!(stage.own.requests(), 0);
}

#[tokio::test]
async fn a_membership_that_is_not_known_is_none_yet() {
    let stage = Stage::deployed(open_to_everybody).await;
    stage.own.join(ROOM, ALICE);
    stage.own.answer_always(HomeserverQuery::IsUserJoined, Reply::html(502));

    for entry_point in EntryPoint::ALL {
        stage.request_token(entry_point, ALICE, &stage.own.home).await.assert_error(502, "M_UNKNOWN");
    }
    stage.service.log().line_with(&["membership check failed"]).await;
    assert_eq!(stage.setup.sfu.requests(), 0);
}

#[tokio::test]
async fn where_membership_is_not_required_nobody_is_queried() {
    let off = |it: Deployment| open_to_everybody(it).set("LIVEKIT_REQUIRE_MEMBERSHIP", "false");
    let stage = Stage::deployed(off).await;

    for entry_point in [EntryPoint::GetToken, EntryPoint::SfuGet] {
        assert!(!stage.request_token(entry_point, ALICE, &stage.own.home).await.jwt().is_empty());
    }

    assert_eq!(stage.own.requests(), 0);
}

#[tokio::test]
async fn who_leaves_the_matrix_room_leaves_the_call() {
    for entry_point in [EntryPoint::GetToken, EntryPoint::SfuGet] {
        let every_second = |it: Deployment| open_to_everybody(it).set("LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS", "1");
        let stage = Stage::deployed(every_second).await;
        stage.own.join(ROOM, ALICE);
        stage.own.join(ROOM, "@carol:example.com");
        assert!(!stage.request_token(entry_point, ALICE, &stage.own.home).await.jwt().is_empty());
        let participant = stage.joins(entry_point).await;

        stage.own.leave(ROOM, ALICE);

        let removals = || stage.setup.sfu.removals();
        stage.own.events.until("removal", removals, |removals| !removals.is_empty()).await;
        let (room, identity) = (participant.room, participant.identity);
        assert_eq!(removals()[0], Removal::Participant { room, identity, there: true });
    }
}

#[tokio::test]
async fn leaves_are_managed_as_their_owner() {
    for entry_point in EntryPoint::ALL {
        let stage = Stage::deployed(open_to_everybody).await;
        stage.own.join(ROOM, ALICE);
        stage.own.events.want_login();
        let delay_id = stage.own.events.schedule_for(ALICE, ROOM, SHORT);

        // The client claims another delay than the event has.
        let answer = stage.hand_over(entry_point, &delay_id).await;

        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(stage.own.events.look_ups(), 1);
        let participant = stage.joins(entry_point).await;
        // Three restarts in this time need the event's own, short delay.
        stage.own.events.restarted(&delay_id, 4).await;
        stage.setup.sfu.leave(&participant);
        let webhook = participant.left(Departure::ClientInitiated);
        assert_eq!(webhook.send(&stage.service).await.status, 200);
        stage.own.events.sent(&delay_id).await;
        let calls = stage.own.events.calls();
        assert!(calls.iter().all(|call| call.user_id.as_deref() == Some(ALICE)), "{calls:?}");
        assert!(calls.iter().all(|call| call.status == 200), "{calls:?}");
    }
}

#[tokio::test]
async fn leaves_are_managed_as_their_owner_where_the_api_is_not_found_again() {
    let stage = Stage::deployed(open_to_everybody).await;
    stage.own.join(ROOM, ALICE);
    stage.own.events.want_login();
    let delay_id = stage.own.events.schedule_for(ALICE, ROOM, SHORT);
    assert_eq!(stage.hand_over(EntryPoint::SfuGet, &delay_id).await.status, 200);
    stage.joins(EntryPoint::SfuGet).await;
    stage.own.events.restarted(&delay_id, 2).await;

    stage.own.home.set_client_well_known(Reply::html(404));
    // A restart clears all caches.
    stage.service.kill();
    stage.service.start_again();

    stage.own.events.restarted(&delay_id, stage.own.events.restarts(&delay_id) + 2).await;
    assert!(stage.own.home.client_well_known_requests() > 1);
    let calls = stage.own.events.calls();
    assert!(calls.iter().all(|call| call.status == 200), "{calls:?}");
}

#[tokio::test]
async fn a_request_that_fails_leaves_no_leave_behind() {
    let stage = Stage::deployed(open_to_everybody).await;
    stage.own.join(ROOM, ALICE);
    let token = || stage.own.home.openid_token(ALICE);
    for device in 0..TRACKED_OF_ONE_USER {
        let member = Member { device_id: format!("DEVICE{device}"), ..Member::of_room(ROOM, ALICE) };
        let body = member.request(EntryPoint::SfuGet, &token());
        assert!(!stage.service.post("/sfu/get", &body).await.jwt().is_empty());
    }

    let delay_id = stage.own.events.schedule_for(ALICE, ROOM, LONG);
    stage.hand_over(EntryPoint::SfuGet, &delay_id).await.assert_error(429, "M_LIMIT_EXCEEDED");

    assert!(stage.service.storage().delegations().is_empty());
}

#[tokio::test]
async fn a_leave_that_is_not_the_user_s_in_this_room_is_not_taken_over() {
    let stage = Stage::deployed(open_to_everybody).await;
    stage.own.join(ROOM, ALICE);
    let elsewhere = stage.own.events.schedule_for(ALICE, "!other:example.com", LONG);
    let sent = stage.own.events.schedule_for(ALICE, ROOM, std::time::Duration::ZERO);
    for delay_id in [elsewhere, sent] {
        for entry_point in EntryPoint::ALL {
            let answer = stage.hand_over(entry_point, &delay_id).await;

            match entry_point {
                EntryPoint::GetToken => assert!(!answer.jwt().is_empty(), "{answer:?}"),
                _ => answer.assert_error(400, "M_BAD_JSON"),
            }
            stage.service.log().line_with(&["delayed leave not taken over", ALICE]).await;
        }
    }
    assert!(!stage.service.log().text().contains("delayed leave delegated"));
}

#[tokio::test]
async fn a_look_up_that_fails_says_nothing_about_the_leave() {
    let stage = Stage::deployed(open_to_everybody).await;
    stage.own.join(ROOM, ALICE);
    for reply in [Reply::html(502), Reply::html(404), Reply::json(404, &json!({ "errcode": "M_UNRECOGNIZED" }))] {
        stage.own.events.answer_look_ups(reply);
        for entry_point in EntryPoint::ALL {
            let delay_id = stage.own.events.schedule_for(ALICE, ROOM, LONG);

            assert_eq!(stage.hand_over(entry_point, &delay_id).await.status, 200);

            let restarts = stage.own.events.calls_of(&delay_id, Operation::Restart);
            assert_eq!(restarts[0].user_id.as_deref(), Some(ALICE));
        }
    }
}

impl Stage {
    async fn request_token(&self, entry_point: EntryPoint, user: &str, home: &Homeserver) -> Answer {
        let member = Member::of_room(ROOM, user);
        let token = home.openid_token(user);
        let body = match entry_point {
            EntryPoint::Delegate => member.delegation(entry_point, &token, "syd_secret", LONG),
            _ => member.request(entry_point, &token),
        };
        self.service.post(entry_point.path(), &body).await
    }

    /// Delegates Alice's leave with an OpenID token.
    async fn hand_over(&self, entry_point: EntryPoint, delay_id: &str) -> Answer {
        let token = self.own.home.openid_token(ALICE);
        let body = Member::of_room(ROOM, ALICE).delegation(entry_point, &token, delay_id, LONG);
        self.service.post(entry_point.path(), &body).await
    }

    /// Connects Alice under the identity of this entry point.
    async fn joins(&self, entry_point: EntryPoint) -> Participant {
        let member = Member::of_room(ROOM, ALICE);
        let participant = self.setup.sfu.join(&member.room(), &member.identity(entry_point));
        assert_eq!(participant.joined().send(&self.service).await.status, 200);
        participant
    }
}

fn open_to_everybody(deployment: Deployment) -> Deployment {
    deployment.full_access("*")
}

/// See `docs/protocol.md#limits-of-one-room`.
const TRACKED_OF_ONE_USER: usize = 20;
