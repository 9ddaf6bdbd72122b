//! Delegated leaves that come through the homeserver (`docs/protocol.md#endpoints-of-homeserver-mode`).
//!
//! The worker looks up owner, room and delay of the event at the homeserver, and then restarts and sends it in the
//! owner's name. The fake records the requests together with the user that each of them impersonates.

use black_box::{Answer, Departure, HomeserverPath, Operation, Participant, Reply};
use serde_json::{Value, json};

use super::{ALICE, ALICE_S_IDENTITY, LIVEKIT_ROOM, LONG, ROOM, SHORT, Stage};

#[tokio::test]
async fn a_leave_is_restarted_and_sent_as_its_owner() {
    let stage = Stage::new().await;
    let delay_id = stage.own.events.schedule_for(ALICE, ROOM, SHORT);

    let answer = stage.delegate(&delay_id).await;
    assert_eq!((answer.status, answer.json()), (200, json!({})), "{answer:?}");
    let participant = stage.join().await;
    // Three restarts in this time need the short delay, which only the look-up reveals.
    stage.own.events.restarted(&delay_id, 3).await;
    stage.leave(&participant).await;

    stage.own.events.sent(&delay_id).await;
    let calls = stage.own.events.calls();
    assert!(calls.iter().all(|call| call.user_id.as_deref() == Some(ALICE)), "{calls:?}");
    assert!(calls.iter().all(|call| call.status == 200), "{calls:?}");
}

#[tokio::test]
async fn the_delay_is_read_as_synapse_says_it() {
    let stage = Stage::new().await;
    let delay_id = stage.own.events.schedule_for(ALICE, ROOM, SHORT);
    stage.own.events.answer_look_ups(Reply::json(
        200,
        &json!({
            "delay_id": delay_id,
            "room_id": ROOM,
            "type": "org.matrix.msc3401.call.member",
            "state_key": ALICE,
            "delay_ms": SHORT.as_millis() as u64,
            "delayed_since_ts": 1_700_000_000_000_u64,
            "content": {},
        }),
    ));

    assert_eq!(stage.delegate(&delay_id).await.status, 200);

    stage.join().await;
    stage.own.events.restarted(&delay_id, 3).await;
}

#[tokio::test]
async fn the_owner_is_known_after_a_crash() {
    let stage = Stage::new().await;
    let delay_id = stage.own.events.schedule_for(ALICE, ROOM, LONG);
    stage.delegate(&delay_id).await;
    let participant = stage.join().await;
    stage.own.events.restarted(&delay_id, 1).await;

    stage.service.kill();
    stage.service.start_again();
    stage.leave(&participant).await;

    stage.own.events.sent(&delay_id).await;
    let sends = stage.own.events.calls_of(&delay_id, Operation::Send);
    assert_eq!(sends[0].user_id.as_deref(), Some(ALICE));
}

#[tokio::test]
async fn a_leave_outlives_the_mode_it_came_through() {
    let mut stage = Stage::new().await;
    let delay_id = stage.own.events.schedule_for(ALICE, ROOM, SHORT);
    stage.delegate(&delay_id).await;
    let participant = stage.join().await;
    stage.own.events.restarted(&delay_id, 1).await;

    let variables = ["LIVEKIT_AS_TOKEN", "LIVEKIT_HS_TOKEN", "LIVEKIT_HS_SERVER_NAME"];
    stage.service.deploy_again(&variables.map(|variable| (variable, None)));
    let before = stage.own.events.restarts(&delay_id);
    stage.own.events.restarted(&delay_id, before + 1).await;
    stage.leave(&participant).await;

    // Without the `as_token`, the id alone has to suffice.
    stage.own.events.sent(&delay_id).await;
    let sends = stage.own.events.calls_of(&delay_id, Operation::Send);
    assert_eq!(sends[0].user_id, None);
}

#[tokio::test]
async fn a_leave_that_is_not_the_user_s_in_this_room_is_refused() {
    let stage = Stage::new().await;
    let others = [
        String::from("unknown"),
        String::from(".."),
        "x".repeat(256),
        stage.own.events.schedule_for("@carol:example.com", ROOM, LONG),
        stage.own.events.schedule_for(ALICE, "!other:example.com", LONG),
        // An event whose id suffices to manage it, but whose owner the homeserver doesn't report.
        stage.own.events.schedule(LONG),
    ];
    for delay_id in others {
        stage.delegate(&delay_id).await.assert_error(400, "M_INVALID_PARAM");
    }
    assert!(stage.service.storage().alarms().is_empty());
    assert!(!stage.service.log().text().contains("syd_secret"));
}

#[tokio::test]
async fn a_leave_of_another_sfu_is_refused_unseen() {
    let stage = Stage::new().await;
    let mut body = stage.request(HomeserverPath::Delegate);
    body["url"] = "wss://elsewhere.example".into();

    stage.forward(HomeserverPath::Delegate, &body).await.assert_error(400, "M_INVALID_PARAM");

    assert_eq!(stage.own.requests(), 0);
}

#[tokio::test]
async fn a_leave_that_cannot_be_looked_up_is_not_taken_over_yet() {
    let stage = Stage::new().await;
    for reply in [
        Reply::json(500, &json!({ "errcode": "M_UNKNOWN" })),
        Reply::json(403, &json!({ "errcode": "M_FORBIDDEN" })),
        Reply::json(404, &json!({ "errcode": "M_UNRECOGNIZED" })),
        Reply::json(429, &json!({ "errcode": "M_LIMIT_EXCEEDED" })),
        Reply::html(200),
        Reply::json(200, &json!({ "room_id": ROOM })),
        Reply::json(200, &json!({ "room_id": ROOM, "delay": 0 })),
        Reply::json(200, &json!({ "room_id": ROOM, "delay": "8000" })),
        Reply::json(200, &json!({ "delay": 8000 })),
        Reply::redirect(302, "/elsewhere"),
    ] {
        stage.own.events.answer_look_ups(reply);
        let delay_id = stage.own.events.schedule_for(ALICE, ROOM, LONG);

        stage.delegate(&delay_id).await.assert_error(503, "M_UNKNOWN");
    }
    stage.service.log().line_with(&["delayed event lookup failed"]).await;
    assert!(stage.service.storage().alarms().is_empty());
}

#[tokio::test]
async fn an_as_token_that_the_homeserver_does_not_know_is_named_in_the_log() {
    let stage = Stage::deployed(|deployment| deployment.set("LIVEKIT_AS_TOKEN", "SECRET-but-wrong")).await;

    stage
        .forward(HomeserverPath::Delegate, &stage.request(HomeserverPath::Delegate))
        .await
        .assert_error(503, "M_UNKNOWN");
    let path = HomeserverPath::ClientGetToken;
    stage.forward(path, &stage.request(path)).await.assert_error(502, "M_UNKNOWN");

    for msg in ["delayed event lookup failed", "membership check failed"] {
        stage.service.log().line_with(&[msg, "LIVEKIT_AS_TOKEN"]).await;
    }
}

impl Stage {
    async fn delegate(&self, delay_id: &str) -> Answer {
        let mut body: Value = self.request(HomeserverPath::ClientGetToken);
        body["delay_id"] = delay_id.into();
        self.forward(HomeserverPath::Delegate, &body).await
    }

    /// Connects Alice to the SFU, whose webhook reaches the worker.
    async fn join(&self) -> Participant {
        let participant = self.setup.sfu.join(LIVEKIT_ROOM, ALICE_S_IDENTITY);
        assert_eq!(participant.joined().send(&self.service).await.status, 200);
        participant
    }

    async fn leave(&self, participant: &Participant) {
        self.setup.sfu.leave(participant);
        assert_eq!(participant.left(Departure::ClientInitiated).send(&self.service).await.status, 200);
    }
}
