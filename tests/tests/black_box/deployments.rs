//! Deployments (`docs/architecture.md#when-something-fails`): the platform resets all objects, so that requests under way
//! fail, and for a while worker and object are of different versions.
//!
//! How it works:
//! - [`FailingObjects`] is a binding in place of `ROOMS` whose stubs throw the platform's errors, before or after the
//!   real object has handled the command;
//! - [`ResetAfter`] is a class in place of `Room` that resets itself for real, with all requests in flight;
//! - [`ObjectsOfOtherVersion`] changes commands and answers on their way;
//! - what is stored is read from the objects' databases.

use std::time::Duration;

use black_box::{
    Answer, DelayedEvents, EntryPoint, FailingObjects, Homeserver, Member, ObjectsOfOtherVersion, ResetAfter, Service,
    TestSetup,
};
use futures_util::future::join_all;

#[tokio::test]
async fn a_deployment_amid_a_hundred_delegations_loses_none() {
    let stage = Stage::new(|deployment| deployment.behind(ResetAfter(50))).await;
    let members: Vec<_> = (0..100)
        .map(|number| {
            Member::of_room(&format!("!room{}:example.org", number % 10), &format!("@user{number}:example.org"))
        })
        .collect();

    let delegated = join_all(members.iter().map(async |member| {
        let delay_id = stage.events.schedule(LONG);
        (stage.hand_over(member, &delay_id).await, delay_id)
    }))
    .await;

    for (answer, _) in &delegated {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let mut expected: Vec<_> = delegated.into_iter().map(|(_, delay_id)| delay_id).collect();
    expected.sort();
    assert_eq!(stage.service.storage().delegations(), expected);
    assert!(ResetAfter::resets(&stage.service) >= 5, "hardly any object was reset");
    stage.service.log().line_with(&["room command repeated", "code was updated"]).await;
    let lines = stage.service.log().lines();
    assert!(lines.iter().all(|line| line.0["msg"] != "delegation replaced"), "a leave was stored twice");
}

#[tokio::test]
async fn a_command_that_failed_goes_to_a_new_stub() {
    let stage = Stage::new(|deployment| deployment.bind("ROOMS", FailingObjects::reset(3))).await;
    let delay_id = stage.events.schedule(LONG);

    let answer = stage.hand_over(&alice(), &delay_id).await;

    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(FailingObjects::requests(&stage.service, "delegate"), 4);
    assert_eq!(stage.service.storage().delegations(), [delay_id]);
}

#[tokio::test]
async fn a_webhook_that_failed_is_sent_again_too() {
    let stage = Stage::new(|deployment| deployment.bind("ROOMS", FailingObjects::reset(1))).await;
    let delay_id = stage.events.schedule(LONG);
    assert_eq!(stage.hand_over(&alice(), &delay_id).await.status, 200);

    let participant = stage.setup.sfu.join(&alice().room(), &alice().identity(EntryPoint::GetToken));
    let answer = participant.joined().send(&stage.service).await;

    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(FailingObjects::requests(&stage.service, "webhook"), 2);
    stage.events.restarted(&delay_id, 1).await;
}

#[tokio::test]
async fn an_object_that_keeps_failing_is_an_error_in_the_end() {
    let stage = Stage::new(|deployment| deployment.bind("ROOMS", FailingObjects::reset(u32::MAX))).await;
    let delay_id = stage.events.schedule(LONG);

    let answer = stage.hand_over(&alice(), &delay_id).await;

    answer.assert_error(500, "M_UNKNOWN");
    answer.assert_cors();
    assert_eq!(FailingObjects::requests(&stage.service, "delegate"), 4);
    let line = stage.service.log().line_with(&["room object unavailable", "code was updated"]).await;
    assert_eq!(line.level(), "error", "{line:?}");
}

#[tokio::test]
async fn a_command_whose_answer_was_lost_is_not_stored_twice() {
    let stage = Stage::new(|deployment| deployment.bind("ROOMS", FailingObjects::losing_answers(2))).await;
    let delay_id = stage.events.schedule(LONG);

    let answer = stage.hand_over(&alice(), &delay_id).await;

    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(FailingObjects::requests(&stage.service, "delegate"), 3);
    assert_eq!(stage.service.storage().delegations(), [delay_id]);
    let log = stage.service.log().lines();
    let count = |msg: &str| log.iter().filter(|line| line.0["msg"] == msg).count();
    assert_eq!((count("delayed leave delegated"), count("delegation replaced")), (1, 0), "{log:?}");
}

#[tokio::test]
async fn an_overloaded_object_gets_no_further_request() {
    let stage = Stage::new(|deployment| deployment.bind("ROOMS", FailingObjects::overloaded())).await;
    let delay_id = stage.events.schedule(LONG);

    let answer = stage.hand_over(&alice(), &delay_id).await;

    answer.assert_error(500, "M_UNKNOWN");
    assert_eq!(FailingObjects::requests(&stage.service, "delegate"), 1);
    stage.service.log().line_with(&["room object unavailable", "overloaded"]).await;
}

#[tokio::test]
async fn an_object_that_stalls_after_a_failure_is_not_waited_for() {
    let stage = Stage::new(|deployment| deployment.bind("ROOMS", FailingObjects::stalled())).await;
    let delay_id = stage.events.schedule(LONG);

    let answer = stage.hand_over(&alice(), &delay_id).await;

    answer.assert_error(500, "M_UNKNOWN");
    assert_eq!(FailingObjects::requests(&stage.service, "delegate"), 2);
    stage.service.log().line_with(&["room object unavailable", "in time"]).await;
}

#[tokio::test]
async fn an_object_that_never_answers_is_not_waited_for() {
    let stage = Stage::new(|deployment| deployment.bind("ROOMS", FailingObjects::silent())).await;
    let delay_id = stage.events.schedule(LONG);

    let answer = stage.hand_over(&alice(), &delay_id).await;

    answer.assert_error(500, "M_UNKNOWN");
    answer.assert_cors();
    assert_eq!(FailingObjects::requests(&stage.service, "delegate"), 1);
    stage.service.log().line_with(&["room object unavailable", "in time"]).await;
}

#[tokio::test]
async fn a_command_that_the_object_does_not_know_is_an_error_with_its_cause() {
    let stage = Stage::new(|deployment| deployment.bind("ROOMS", ObjectsOfOtherVersion::Earlier)).await;
    let delay_id = stage.events.schedule(LONG);

    let answer = stage.hand_over(&alice(), &delay_id).await;

    answer.assert_error(500, "M_UNKNOWN");
    answer.assert_cors();
    assert_eq!(FailingObjects::requests(&stage.service, "delegate"), 1);
    let line = stage.service.log().line_with(&["room object unavailable", "version", "command"]).await;
    assert_eq!(line.level(), "error", "{line:?}");
    assert!(!stage.service.log().text().contains(&delay_id));
}

#[tokio::test]
async fn an_answer_that_the_worker_does_not_know_is_an_error_with_its_cause() {
    let stage = Stage::new(|deployment| deployment.bind("ROOMS", ObjectsOfOtherVersion::Later)).await;
    let delay_id = stage.events.schedule(LONG);

    let answer = stage.hand_over(&alice(), &delay_id).await;

    answer.assert_error(500, "M_UNKNOWN");
    assert_eq!(FailingObjects::requests(&stage.service, "delegate"), 1);
    stage.service.log().line_with(&["room object unavailable", "version", "answer"]).await;
}

#[tokio::test]
async fn fields_that_the_object_does_not_know_are_skipped() {
    let stage = Stage::new(|deployment| deployment.bind("ROOMS", ObjectsOfOtherVersion::WithoutSomeFields)).await;
    let delay_id = stage.events.schedule(LONG);

    let answer = stage.hand_over(&alice(), &delay_id).await;

    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(stage.service.storage().delegations(), [delay_id]);
}

/// A homeserver with delayed events, an SFU, and a worker whose objects fail.
struct Stage {
    service: Service,
    events: DelayedEvents,
    home: Homeserver,
    setup: TestSetup,
}

impl Stage {
    async fn new(configure: impl FnOnce(black_box::Deployment) -> black_box::Deployment) -> Self {
        let setup = TestSetup::new().await;
        let home = setup.homeserver("example.org").start().await;
        let events = setup.delayed_events("cs.example.org").await;
        home.has_client_api(events.base_url());
        let deployment = setup.deployment().full_access("example.org").set("LIVEKIT_LOG_LEVEL", "debug");
        let service = configure(deployment).start();
        Self { service, events, home, setup }
    }

    async fn hand_over(&self, member: &Member, delay_id: &str) -> Answer {
        let token = self.home.openid_token(&member.user_id);
        let body = member.delegation(EntryPoint::GetToken, &token, delay_id, LONG);
        self.service.post(EntryPoint::GetToken.path(), &body).await
    }
}

fn alice() -> Member {
    Member::of_room("!room:example.org", "@alice:example.org")
}

const LONG: Duration = Duration::from_secs(600);
