//! Sanity checks: polls of the SFU for the participants that are thought connected (`docs/protocol.md#sanity-checks`).
//!
//! Participants disconnect from the fake SFU without a webhook. The SFU's record of polls shows their number and kind
//! (`GetParticipant` or `ListParticipants`).

use std::time::{Duration, Instant};

use black_box::{Deployment, EntryPoint, Fate, Member, Query, Reply};

use super::{LONG, SHORT, Stage, alice};

#[tokio::test]
async fn who_is_gone_without_a_word_leaves() {
    let stage = Stage::deployed(checking).await;
    let (alone, participant) = stage.connected(&alice(), LONG).await;
    let mut together = Vec::new();
    for user in ["@bob:example.org", "@carol:example.org"] {
        together.push(stage.connected(&Member::of_room("!other:example.org", user), LONG).await);
    }

    stage.setup.sfu.leave(&participant);
    stage.setup.sfu.leave(&together[0].1);

    stage.events.sent(&alone).await;
    stage.events.sent(&together[0].0).await;
    assert_eq!(stage.events.sends(&together[1].0), 0);
    assert_eq!(stage.events.fate(&together[1].0), Fate::Scheduled);
}

#[tokio::test]
async fn a_legacy_client_that_is_gone_without_a_word_leaves() {
    let stage = Stage::deployed(checking).await;
    let delay_id = stage.delegate(EntryPoint::Delegate, &alice(), LONG).await;
    let participant = stage.join(EntryPoint::SfuGet, &alice()).await;
    stage.events.restarted(&delay_id, 1).await;

    stage.setup.sfu.leave(&participant);

    stage.events.sent(&delay_id).await;
}

#[tokio::test]
async fn one_query_a_room_is_enough() {
    let stage = Stage::deployed(checking).await;
    let mut delegations = Vec::new();
    for members in 1..=3 {
        for number in 0..members {
            let member = member(members, number);
            delegations.push(stage.connected(&member, LONG).await.0);
        }
    }
    let rooms: Vec<_> = (1..=3).map(|members| member(members, 0).room()).collect();
    let (started, before) = (Instant::now(), stage.setup.sfu.queries().len());
    let since = || stage.setup.sfu.queries().split_off(before);
    let of_room = |room: &String| since().iter().filter(|query| query.room() == room).count();
    let rounds = || rooms.iter().map(of_room).min().unwrap_or_default();

    stage.events.until("three rounds in every room", rounds, |rounds| *rounds >= 3).await;

    // One poll for each room and interval, whatever the number of participants.
    let most = usize::try_from(started.elapsed().as_secs() / INTERVAL.as_secs()).unwrap() + 2;
    for room in &rooms {
        assert!(of_room(room) <= most, "{} polls in {:?}: {:?}", of_room(room), started.elapsed(), since());
    }
    let alone = member(1, 0);
    let get = Query::Get { room: alone.room(), identity: alone.identity(EntryPoint::GetToken) };
    for query in since() {
        match &query {
            Query::Get { .. } => assert_eq!(query, get),
            Query::List { room } => assert!(rooms[1..].contains(room)),
        }
    }
    for delay_id in delegations {
        assert_eq!((stage.events.restarts(&delay_id), stage.events.sends(&delay_id)), (1, 0));
    }
}

#[tokio::test]
async fn a_failure_to_query_changes_nothing() {
    for reply in [
        Reply::html(502),
        Reply::html(404),
        Reply::html(200),
        Reply::json(401, &serde_json::json!({ "code": "unauthenticated", "msg": "invalid token" })),
        Reply::json(404, &serde_json::json!({ "code": "bad_route", "msg": "no handler for path" })),
    ] {
        let stage = Stage::deployed(checking).await;
        let (delay_id, participant) = stage.connected(&alice(), SHORT).await;

        stage.setup.sfu.fail(reply);
        let queried = stage.setup.sfu.requests();
        stage.events.until("two polls", || stage.setup.sfu.requests(), |requests| *requests >= queried + 2).await;
        stage.restarted_again(&delay_id).await;

        assert_eq!(stage.events.sends(&delay_id), 0);
        stage.setup.sfu.recover();
        stage.setup.sfu.leave(&participant);
        stage.events.sent(&delay_id).await;
    }
}

#[tokio::test]
async fn nobody_queries_unless_it_is_configured() {
    let stage = Stage::new().await;
    let (delay_id, _) = stage.connected(&alice(), SHORT).await;
    let queried = stage.setup.sfu.requests();

    stage.events.restarted(&delay_id, 4).await;

    assert_eq!(stage.setup.sfu.requests(), queried);
}

#[tokio::test]
async fn participants_that_no_webhook_reports_are_a_warning_once() {
    let stage = Stage::deployed(checking).await;
    let mut delegations = Vec::new();
    for number in 0..2 {
        let member = member(1 + number, 0);
        delegations.push(stage.delegate(EntryPoint::GetToken, &member, SHORT * 10).await);
        stage.setup.sfu.join(&member.room(), &member.identity(EntryPoint::GetToken));
    }

    let warning = stage.service.log().line_with(&[NO_WEBHOOK]).await;

    assert_eq!(warning.level(), "warn", "{warning:?}");
    // The polls of the other room have had the time to find the same.
    let polls = |number: usize| {
        let room = member(1 + number, 0).room();
        stage.setup.sfu.queries().iter().filter(|query| query.room() == room).count()
    };
    let before = [polls(0), polls(1)];
    stage
        .events
        .until(
            "three more polls of both rooms",
            || [polls(0) - before[0], polls(1) - before[1]],
            |more| more.iter().all(|more| *more >= 3),
        )
        .await;
    let lines = stage.service.log().lines();
    assert_eq!(lines.iter().filter(|line| line.0["msg"] == NO_WEBHOOK).count(), 1, "{lines:?}");
}

#[tokio::test]
async fn a_participant_that_a_webhook_reports_is_no_warning() {
    let stage = Stage::deployed(checking).await;
    stage.connected(&alice(), LONG).await;
    let queries = || stage.setup.sfu.queries().len();
    let before = queries();

    // More than the time after which a webhook is overdue.
    let polls = 12 / usize::try_from(INTERVAL.as_secs()).unwrap() + 1;
    stage.events.until("that many sanity checks", || queries() - before, |more| *more >= polls).await;

    assert!(!stage.service.log().text().contains(NO_WEBHOOK));
}

fn checking(deployment: Deployment) -> Deployment {
    deployment.set("LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS", &INTERVAL.as_secs().to_string())
}

fn member(room: usize, number: usize) -> Member {
    Member::of_room(&format!("!room{room}:example.org"), &format!("@user{number}:example.org"))
}

const INTERVAL: Duration = Duration::from_secs(1);
const NO_WEBHOOK: &str = "participant found on the SFU without a webhook";
