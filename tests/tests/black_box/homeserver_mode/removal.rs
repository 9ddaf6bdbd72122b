//! Removal from the call: participants whose users have left the Matrix room, and no others
//! (`docs/protocol.md#removing-participants`).
//!
//! Most tests poll the homeserver every second. They change the fake homeserver's rooms, or make it fail, and check the
//! removals that have reached the fake SFU.

use black_box::{Departure, Deployment, HomeserverPath, HomeserverQuery, Participant, Removal, Reply};
use serde_json::json;

use super::{ALICE, ALICE_S_IDENTITY, BOB, LIVEKIT_ROOM, LONG, ROOM, Stage};

#[tokio::test]
async fn who_leaves_the_matrix_room_is_removed_within_one_interval() {
    let stage = Stage::in_a_call(every_second).await;
    stage.rounds(2).await;
    assert_eq!(stage.setup.sfu.removals(), []);

    stage.own.leave(ROOM, ALICE);

    stage.removed(1).await;
    assert_eq!(stage.setup.sfu.removals(), [alice_is_removed(true)]);
    stage.service.log().line_with(&["participant removed", ALICE, ROOM]).await;
}

#[tokio::test]
async fn a_kept_token_does_not_let_them_stay() {
    // The next sweep is an hour away: only the webhook can cause these removals.
    let stage = Stage::in_a_call(|deployment| deployment.set(INTERVAL, "3600")).await;
    stage.own.leave(ROOM, ALICE);

    for times in 1..4 {
        let participant = stage.setup.sfu.join(LIVEKIT_ROOM, ALICE_S_IDENTITY);
        assert_eq!(participant.joined().send(&stage.service).await.status, 200);

        stage.removed(times).await;
        assert_eq!(participant.left(Departure::ParticipantRemoved).send(&stage.service).await.status, 200);
    }
    assert_eq!(stage.setup.sfu.removals(), [alice_is_removed(true), alice_is_removed(true), alice_is_removed(true)]);
}

#[tokio::test]
async fn a_round_is_one_query_whatever_the_number_of_participants() {
    let stage = Stage::in_a_call(every_second).await;
    stage.token(HomeserverPath::FederationGetToken).await;
    let bob = stage.setup.sfu.join(LIVEKIT_ROOM, &identity_of(BOB));
    assert_eq!(bob.joined().send(&stage.service).await.status, 200);
    let before = stage.queries().len();

    stage.rounds(before + 3).await;

    // The last sweep may still be in progress when it is counted.
    let log = stage.service.log().text();
    assert!(!log.contains("membership unknown"), "{log}");
    assert_eq!(stage.setup.sfu.removals(), []);
    assert_eq!(stage.own.queried().iter().filter(|(query, _)| *query == HomeserverQuery::IsServerJoined).count(), 1);
}

#[tokio::test]
async fn another_token_of_the_same_minute_writes_nothing() {
    let hourly = |deployment: Deployment| deployment.set(INTERVAL, "3600").set("LIVEKIT_LOG_LEVEL", "debug");
    let stage = Stage::in_a_call(hourly).await;
    stage.service.log().clear();

    for _ in 0..5 {
        stage.token(HomeserverPath::ClientGetToken).await;
    }

    // The minute may turn once.
    let writes = stage.service.log().lines().iter().filter(|line| line.0["msg"] == "rows written").count();
    assert!(writes <= 2, "{writes} times");
}

#[tokio::test]
async fn a_homeserver_that_is_down_removes_nobody() {
    let mut stage = Stage::in_a_call(every_second).await;
    stage.own.events.go_away();
    stage.own.leave(ROOM, ALICE);
    stage.service.log().line_with(&["membership unknown", ROOM]).await;
    assert_eq!(stage.setup.sfu.removals(), []);

    stage.own.events.come_back().await;

    stage.removed(1).await;
}

#[tokio::test]
async fn what_says_nothing_removes_nobody() {
    for reply in [
        Reply::json(500, &json!({ "errcode": "M_UNKNOWN" })),
        Reply::json(401, &json!({ "errcode": "M_UNKNOWN_TOKEN" })),
        Reply::html(200),
        Reply::json(200, &json!({ "joined": {} })),
        Reply::redirect(302, "https://elsewhere.example/"),
    ] {
        let stage = Stage::in_a_call(every_second).await;
        stage.own.answer_always(HomeserverQuery::JoinedMembers, reply);
        let before = stage.queries().len();

        stage.rounds(before + 2).await;

        stage.service.log().line_with(&["homeserver membership query failed", "cause"]).await;
        assert_eq!(stage.setup.sfu.removals(), []);
    }
}

#[tokio::test]
async fn a_room_that_our_homeserver_has_left_is_deleted() {
    let stage = Stage::in_a_call(every_second).await;
    stage.own.leave(ROOM, ALICE);
    stage.own.leave(ROOM, CAROL);

    stage.removed(1).await;

    assert_eq!(stage.setup.sfu.removals(), [Removal::Room(LIVEKIT_ROOM.to_owned())]);
    stage.service.log().line_with(&["room deleted", ROOM]).await;
}

#[tokio::test]
async fn a_namespace_that_hides_the_members_is_reported_and_removes_nobody() {
    let stage = Stage::in_a_call(every_second).await;
    stage.own.answer_always(HomeserverQuery::JoinedMembers, Reply::json(403, &json!({ "errcode": "M_FORBIDDEN" })));
    stage.own.leave(ROOM, ALICE);
    let before = stage.queries().len();

    stage.rounds(before + 2).await;

    stage.service.log().line_with(&["error", "joined_members forbidden although the homeserver is joined", ROOM]).await;
    assert_eq!(stage.setup.sfu.removals(), []);
}

#[tokio::test]
async fn a_removal_is_tried_until_the_sfu_does_it() {
    let stage = Stage::in_a_call(every_second).await;
    stage.setup.sfu.fail(Reply::json(503, &json!({ "code": "unavailable", "msg": "" })));
    stage.own.leave(ROOM, ALICE);
    stage.service.log().line_with(&["participant removal failed", ALICE]).await;
    assert_eq!(stage.setup.sfu.removals(), []);

    stage.setup.sfu.recover();

    stage.removed(1).await;
}

#[tokio::test]
async fn a_crash_forgets_nobody() {
    let stage = Stage::in_a_call(every_second).await;
    stage.service.kill();
    stage.own.leave(ROOM, ALICE);

    stage.service.start_again();

    stage.removed(1).await;
}

#[tokio::test]
async fn the_leave_of_who_is_removed_is_sent() {
    let stage = Stage::in_a_call(every_second).await;
    let delay_id = stage.own.events.schedule_for(ALICE, ROOM, LONG);
    let mut body = stage.request(HomeserverPath::ClientGetToken);
    body["delay_id"] = delay_id.clone().into();
    assert_eq!(stage.forward(HomeserverPath::Delegate, &body).await.status, 200);
    stage.own.events.restarted(&delay_id, 1).await;

    stage.own.leave(ROOM, ALICE);

    // The removal alone causes the `send`: there is no webhook.
    stage.removed(1).await;
    stage.own.events.sent(&delay_id).await;
}

/// The token of a participant who has left still lets it in, and the webhook of that may be lost.
#[tokio::test]
async fn the_holder_of_a_valid_token_is_looked_for_although_the_call_is_over() {
    let without_sanity_checks = |it| every_second(it).set("LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS", "0");
    let stage = Stage::in_a_call(without_sanity_checks).await;
    let alice = stage.setup.sfu.join(LIVEKIT_ROOM, ALICE_S_IDENTITY);
    assert_eq!(alice.joined().send(&stage.service).await.status, 200);
    stage.rounds(2).await;
    stage.setup.sfu.leave(&alice);
    assert_eq!(alice.left(Departure::ClientInitiated).send(&stage.service).await.status, 200);

    let polls = || stage.setup.sfu.queries().len();
    let polled = async |times| stage.own.events.until("polls of the SFU", polls, |polls| *polls >= times).await;
    let before = polls();
    polled(before + 2).await;
    // As long as none is connected, the members don't matter.
    let members_polls = stage.queries().len();
    polled(before + 4).await;
    assert_eq!(stage.queries().len(), members_polls);

    // Without a webhook:
    stage.own.leave(ROOM, ALICE);
    stage.setup.sfu.join(LIVEKIT_ROOM, ALICE_S_IDENTITY);
    stage.removed(1).await;
    assert_eq!(stage.setup.sfu.removals(), [alice_is_removed(true)]);
}

/// Rows are counted after the first sweeps, which create the tables. An alarm is a row too.
#[tokio::test]
async fn a_round_writes_nothing_but_its_alarm() {
    let stage = Stage::in_a_call(|deployment| every_second(deployment).set("LIVEKIT_LOG_LEVEL", "debug")).await;
    stage.rounds(2).await;
    stage.service.log().clear();
    let before = stage.queries().len();

    stage.rounds(before + 3).await;

    let lines = stage.service.log().lines();
    let written: Vec<_> = lines.iter().filter_map(|line| line.0["rows"].as_u64()).collect();
    assert!(written.iter().all(|rows| *rows == 1) && written.len() <= 5, "{written:?}");
}

impl Stage {
    /// Starts a stage with Alice, Carol and Bob in the Matrix room, and Alice in its call.
    async fn in_a_call(configure: impl FnOnce(Deployment) -> Deployment) -> Self {
        let stage = Self::deployed(configure).await;
        for user in [ALICE, CAROL, BOB] {
            stage.own.join(ROOM, user);
        }
        stage.token(HomeserverPath::ClientGetToken).await;
        let alice: Participant = stage.setup.sfu.join(LIVEKIT_ROOM, ALICE_S_IDENTITY);
        assert_eq!(alice.joined().send(&stage.service).await.status, 200);
        stage.rounds(1).await;
        stage
    }

    async fn token(&self, path: HomeserverPath) {
        let answer = self.forward(path, &self.request(path)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Paths of the `joined_members` requests so far.
    fn queries(&self) -> Vec<String> {
        let queried = self.own.queried().into_iter();
        queried.filter(|(query, _)| *query == HomeserverQuery::JoinedMembers).map(|(_, path)| path).collect()
    }

    /// Waits until the homeserver has received this many `joined_members` requests in all.
    async fn rounds(&self, times: usize) {
        self.own.events.until("polls of the members", || self.queries().len(), |queried| *queried >= times).await;
    }

    async fn removed(&self, times: usize) {
        let removals = || self.setup.sfu.removals();
        let is_there = |removals: &Vec<Removal>| removals.len() >= times;
        self.own.events.until("removals", removals, is_there).await;
    }
}

fn every_second(deployment: Deployment) -> Deployment {
    deployment.set(INTERVAL, "1")
}

fn alice_is_removed(there: bool) -> Removal {
    Removal::Participant { room: LIVEKIT_ROOM.to_owned(), identity: ALICE_S_IDENTITY.to_owned(), there }
}

/// Identity on the SFU of the member in [`Stage::request`], computed independently of the worker
/// (`docs/protocol.md#names-on-the-sfu`).
fn identity_of(user_id: &str) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    let array = json!([user_id, "memberABC"]).to_string();
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(sha2::Sha256::digest(array))
}

const CAROL: &str = "@carol:example.com";
const INTERVAL: &str = "LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS";
