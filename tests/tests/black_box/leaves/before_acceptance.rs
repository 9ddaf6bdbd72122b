//! The restart before a delegation is accepted (`docs/protocol.md#acceptance`): a leave that can't be kept isn't taken
//! over.
//!
//! The fake homeserver answers that one restart in every way. What is accepted shows in the log, and in the answer of
//! the endpoint; the fakes count.

use black_box::{EntryPoint, Gate, Member, Operation, Reply};
use hyper::body::Bytes;
use serde_json::json;

use super::{LONG, Stage, alice};

#[tokio::test]
async fn a_leave_that_may_be_kept_is_taken_over() {
    let stage = Stage::new().await;
    for (number, (what, reply)) in [
        ("done", Reply::json(200, &json!({}))),
        ("429", Reply::json(429, &json!({ "errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 60_000 }))),
        ("500", Reply::json(500, &json!({ "errcode": "M_UNKNOWN" }))),
        ("502 of a proxy", Reply::html(502)),
        ("a proxy's 404 in HTML", Reply::html(404)),
        ("a proxy's 404 in plain text", Reply::new(404, "text/plain", "404 page not found")),
        ("a proxy's 409", Reply::html(409)),
        ("a proxy's 200", Reply::html(200)),
        ("a redirect", Reply::redirect(302, "https://cs.example.org/login")),
        ("no answer", Reply::json(401, &json!({})).behind(&Gate::closed())),
    ]
    .into_iter()
    .enumerate()
    {
        for entry_point in EntryPoint::ALL {
            let member = in_room(&format!("{number}-{entry_point:?}"));
            let delay_id = stage.event_restarted_with(reply.clone());

            let answer = stage.request_delegation(entry_point, &member, &delay_id).await;

            assert_eq!(answer.status, 200, "{what} at {entry_point:?}: {answer:?}");
            assert_eq!(stage.events.restarts(&delay_id), 1, "{what}");
            stage.service.log().line_with(&["delayed leave delegated", &member.room()]).await;
        }
    }
}

#[tokio::test]
async fn a_leave_that_cannot_be_kept_is_not() {
    let stage = Stage::new().await;
    for (number, (what, reply)) in [
        ("a login is wanted", Reply::json(401, &json!({ "errcode": "M_MISSING_TOKEN" }))),
        ("a proxy wants a login", Reply::html(401)),
        ("it is forbidden", Reply::json(403, &json!({ "errcode": "M_FORBIDDEN" }))),
        ("no such method", Reply::html(405)),
        ("no such path", Reply::json(404, &json!({ "errcode": "M_UNRECOGNIZED" }))),
        ("the event is gone", Reply::json(404, &json!({ "errcode": "M_NOT_FOUND" }))),
        ("the event is finalised", Reply::json(409, &json!({ "errcode": "M_UNKNOWN" }))),
    ]
    .into_iter()
    .enumerate()
    {
        for entry_point in EntryPoint::ALL {
            let member = in_room(&format!("{number}-{entry_point:?}"));
            let delay_id = stage.event_restarted_with(reply.clone());
            stage.service.log().clear();

            let answer = stage.request_delegation(entry_point, &member, &delay_id).await;

            match entry_point {
                // Clients take a failure here for the end of the call.
                EntryPoint::GetToken => assert!(!answer.jwt().is_empty(), "{what}"),
                _ => {
                    assert_eq!(answer.status, 400, "{what} at {entry_point:?}: {answer:?}");
                    answer.assert_error(400, "M_BAD_JSON");
                    assert!(answer.error().contains("delay_id"), "{answer:?}");
                }
            }
            answer.assert_cors();
            stage.service.log().line_with(&["warn", "delayed leave not taken over", "the homeserver"]).await;
            let log = stage.service.log().text();
            assert!(!log.contains("delayed leave delegated") && !log.contains(&delay_id), "{what}: {log}");
            assert_eq!(stage.events.restarts(&delay_id), 1, "{what}");
        }
    }
    assert!(stage.service.storage().alarms().is_empty());
}

#[tokio::test]
async fn a_homeserver_that_lists_no_delayed_events_is_not_queried() {
    for features in [json!({}), json!({ "org.matrix.msc4140": false, "org.matrix.msc3440": true })] {
        let stage = Stage::new().await;
        stage.events.set_versions(Reply::json(200, &json!({ "versions": ["v1.1"], "unstable_features": features })));
        for entry_point in EntryPoint::ALL {
            let delay_id = stage.events.schedule(LONG);

            let answer = stage.request_delegation(entry_point, &alice(), &delay_id).await;

            match entry_point {
                EntryPoint::GetToken => assert!(!answer.jwt().is_empty()),
                _ => answer.assert_error(400, "M_BAD_JSON"),
            }
        }
        stage.service.log().line_with(&["delayed leave not taken over", "no delayed events"]).await;
        assert!(stage.events.calls().is_empty());
    }
}

#[tokio::test]
async fn a_leave_costs_its_token_one_request_more() {
    let stage = Stage::new().await;
    for entry_point in [EntryPoint::GetToken, EntryPoint::SfuGet] {
        // The first request has to find the homeserver.
        stage.request_delegation(entry_point, &alice(), &stage.events.schedule(LONG)).await;
        let before = stage.upstream_requests();

        let token = stage.home.openid_token(&alice().user_id);
        let answer = stage.service.post(entry_point.path(), &alice().request(entry_point, &token)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let without = stage.upstream_requests() - before;
        let answer = stage.request_delegation(entry_point, &alice(), &stage.events.schedule(LONG)).await;
        assert_eq!(answer.status, 200, "{answer:?}");

        let with = stage.upstream_requests() - before - without;
        assert_eq!((without, with), (2, 3), "{entry_point:?}: userinfo, CreateRoom, and the restart");
    }
}

#[tokio::test]
async fn the_restart_and_the_room_do_not_wait_for_each_other() {
    let stage = Stage::new().await;
    stage.request_delegation(EntryPoint::SfuGet, &alice(), &stage.events.schedule(LONG)).await;

    let member = alice();
    let gate = Gate::closed();
    let created = Reply::new(200, "application/protobuf", Bytes::new());
    stage.setup.sfu.fail_at("CreateRoom", created.clone().behind(&gate));
    let delay_id = stage.events.schedule(LONG);
    let room_comes_last = async {
        stage.events.restarted(&delay_id, 1).await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(stage.request_delegation(EntryPoint::SfuGet, &member, &delay_id), room_comes_last);
    assert_eq!(answer.status, 200, "{answer:?}");

    let gate = Gate::closed();
    let delay_id = stage.event_restarted_with(Reply::json(200, &json!({})).behind(&gate));
    let before = stage.setup.sfu.requests_to("CreateRoom");
    let restart_comes_last = async {
        let rooms = || stage.setup.sfu.requests_to("CreateRoom");
        stage.events.until("the room", rooms, |rooms| *rooms > before).await;
        gate.open();
    };
    let (answer, ()) =
        tokio::join!(stage.request_delegation(EntryPoint::SfuGet, &member, &delay_id), restart_comes_last);
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_leave_without_a_room_is_not_taken_over() {
    let stage = Stage::new().await;
    stage.setup.sfu.fail(Reply::html(502));

    for entry_point in [EntryPoint::GetToken, EntryPoint::SfuGet] {
        let delay_id = stage.events.schedule(LONG);
        stage.request_delegation(entry_point, &alice(), &delay_id).await.assert_error(500, "M_UNKNOWN");
    }
    assert!(stage.service.storage().alarms().is_empty());
}

impl Stage {
    /// Schedules an event whose first restart has this answer, and returns its id.
    fn event_restarted_with(&self, reply: Reply) -> String {
        let delay_id = self.events.schedule(LONG);
        self.events.answer_next(&delay_id, Operation::Restart, [reply]);
        delay_id
    }

    /// Requests a delegation; the restart before the acceptance is counted.
    async fn request_delegation(&self, entry_point: EntryPoint, member: &Member, delay_id: &str) -> black_box::Answer {
        let token = self.home.openid_token(&member.user_id);
        self.service.post(entry_point.path(), &member.delegation(entry_point, &token, delay_id, LONG)).await
    }

    /// Number of requests to homeserver and SFU for tokens. The polls of the rooms' objects aren't among them.
    fn upstream_requests(&self) -> usize {
        let found = self.home.well_known_requests() + self.home.client_well_known_requests();
        let events = self.events.calls().len() + self.events.versions_requests();
        found + events + self.home.userinfo_requests() + self.setup.sfu.requests_to("CreateRoom")
    }
}

fn in_room(room: &str) -> Member {
    Member::of_room(&format!("!{room}:example.org"), "@alice:example.org")
}
