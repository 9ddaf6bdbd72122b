//! Log lines about delegations: one for each change of state (`docs/operations.md#the-log`).
//!
//! A delegation goes through a sequence of states, and the tests compare levels and messages of the lines that name its
//! identity, in order.

use black_box::{Departure, EntryPoint, Member, Operation, Reply};
use serde_json::json;

use super::{LONG, SHORT, Stage, alice, bob};

#[tokio::test]
async fn a_life_is_logged_from_its_beginning_to_its_end() {
    let stage = Stage::new().await;
    let member = alice();
    let (delay_id, first) = stage.connected(&member, LONG).await;
    // The second connection, without a webhook.
    let second = stage.setup.sfu.join(&member.room(), &member.identity(EntryPoint::GetToken));
    stage.deliver(&first.left(Departure::DuplicateIdentity)).await;
    logged(&stage, &member, 4).await;
    stage.leave(&second).await;
    stage.events.sent(&delay_id).await;
    stage.forgotten(&member, "leave sent").await;

    let lines = [
        ("info", "delayed leave delegated"),
        ("info", "participant connected"),
        ("info", "participant suspected to have left, polling the SFU"),
        ("info", "participant connected"),
        ("info", "participant gone, sending its leave"),
        ("info", "leave sent"),
    ];
    assert_eq!(logged(&stage, &member, lines.len()).await, lines.map(owned));
}

#[tokio::test]
async fn a_delegation_that_takes_another_s_place_is_logged() {
    let stage = Stage::new().await;
    stage.delegate(EntryPoint::GetToken, &alice(), LONG).await;

    stage.delegate(EntryPoint::GetToken, &alice(), LONG).await;

    let lines =
        [("info", "delayed leave delegated"), ("info", "delegation replaced"), ("info", "delayed leave delegated")];
    assert_eq!(logged(&stage, &alice(), lines.len()).await, lines.map(owned));
}

#[tokio::test]
async fn what_goes_wrong_with_the_homeserver_is_logged_as_a_warning() {
    let stage = Stage::new().await;
    let restarted = stage.delegate(EntryPoint::GetToken, &alice(), LONG).await;
    stage.events.answer_next(&restarted, Operation::Restart, [Reply::html(502)]);
    stage.join(EntryPoint::GetToken, &alice()).await;
    stage.events.restarted(&restarted, 2).await;
    let (sent, participant) = stage.connected(&bob(), SHORT).await;
    stage.events.answer_always(&sent, Operation::Send, Reply::html(502));
    stage.leave(&participant).await;
    stage.forgotten(&bob(), "expired at the homeserver").await;

    let lines = logged(&stage, &alice(), 3).await;
    assert_eq!(lines[2], owned(("warn", "delayed leave restart failed, retrying")));
    let lines = logged(&stage, &bob(), 5).await;
    assert_eq!(lines[3], owned(("warn", "delayed leave send failed, retrying")));
    let last = lines.last().unwrap();
    assert_eq!(*last, owned(("warn", "delayed leave expired at the homeserver")));
}

#[tokio::test]
async fn an_event_that_the_homeserver_does_not_have_any_more_is_logged() {
    let stage = Stage::new().await;
    let delay_id = stage.delegate(EntryPoint::GetToken, &alice(), LONG).await;
    stage.events.answer_always(&delay_id, Operation::Restart, Reply::json(404, &json!({ "errcode": "M_NOT_FOUND" })));

    stage.join(EntryPoint::GetToken, &alice()).await;

    let lines = logged(&stage, &alice(), 3).await;
    assert_eq!(lines[2], owned(("info", "delayed leave not found at the homeserver")));
}

/// Waits for `at_least` lines about the member's delegation, and returns level and message of each. Checks that all
/// of them name room and homeserver.
async fn logged(stage: &Stage, member: &Member, at_least: usize) -> Vec<(String, String)> {
    let lines = || {
        let lines = stage.service.log().lines().into_iter();
        lines.filter(|line| line.0["identity"] == member.identity(EntryPoint::GetToken).as_str()).collect::<Vec<_>>()
    };
    stage.events.until("lines of the delegation", lines, |lines| lines.len() >= at_least).await;
    lines()
        .iter()
        .map(|line| {
            assert_eq!((&line.0["room"], &line.0["homeserver"]), (&member.room().into(), &"example.org".into()));
            (line.level().to_owned(), line.0["msg"].as_str().unwrap().to_owned())
        })
        .collect()
}

fn owned((level, msg): (&str, &str)) -> (String, String) {
    (level.to_owned(), msg.to_owned())
}
