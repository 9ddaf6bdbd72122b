//! Cost of a delegation: rows written, requests to the object, and invocations of the object
//! (`docs/operations.md#costs`).
//!
//! At the level `debug` the object logs the rows that each invocation writes; a wrapper around the binding `ROOMS`
//! counts the requests. The limits asserted here are those in the table of costs.

use std::collections::BTreeSet;
use std::time::Duration;

use black_box::{Departure, Deployment, EntryPoint, Service, TalkativeNamespace};

use super::{LONG, SHORT, Stage, alice, bob};

#[tokio::test]
async fn a_whole_life_writes_few_rows() {
    for entry_point in EntryPoint::ALL {
        let stage = Stage::deployed(verbose).await;
        let delay_id = stage.delegate(entry_point, &alice(), LONG).await;
        let participant = stage.join(entry_point, &alice()).await;
        stage.events.restarted(&delay_id, 1).await;

        stage.leave(&participant).await;
        stage.events.sent(&delay_id).await;
        stage.forgotten(&alice(), "leave sent").await;

        let rows = rows_written(&stage.service);
        println!("{entry_point:?}: rows written by invocation: {rows:?}");
        assert!(rows.iter().sum::<u64>() <= 10, "{entry_point:?}: {rows:?}");
    }
}

#[tokio::test]
async fn a_whole_life_wakes_its_object_a_few_times() {
    for (entry_point, requests) in [(EntryPoint::GetToken, 4), (EntryPoint::SfuGet, 4), (EntryPoint::Delegate, 3)] {
        let stage = Stage::deployed(|deployment| verbose(deployment).bind("ROOMS", TalkativeNamespace)).await;
        let delay_id = stage.delegate(entry_point, &alice(), LONG).await;
        let participant = stage.join(entry_point, &alice()).await;
        stage.events.restarted(&delay_id, 1).await;

        stage.leave(&participant).await;
        stage.events.sent(&delay_id).await;
        stage.forgotten(&alice(), "leave sent").await;

        // With a token there are two requests for the delegation, of which the first only wakes the object; without,
        // one. Two webhooks follow.
        assert_eq!(TalkativeNamespace::options(&stage.service).len(), requests, "{entry_point:?}");
        // The request that only wakes the object writes nothing. The other invocations are alarms: poll, restart, send.
        let writing = invocations_that_write(&stage.service);
        println!("{entry_point:?}: {writing} invocations write, of which 3 are requests");
        assert!(writing <= 3 + 4, "{entry_point:?}: {writing}");
    }
}

#[tokio::test]
async fn a_sanity_check_wakes_the_object_once_and_writes_two_rows() {
    let stage = Stage::deployed(|it| verbose(it).set("LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS", "1")).await;
    stage.connected(&alice(), LONG).await;
    stage.connected(&bob(), LONG).await;
    let queries = || stage.setup.sfu.queries().len();
    let at_rest = queries();
    stage.events.until("sanity check", queries, |queries| *queries > at_rest).await;
    stage.service.log().clear();
    let before = queries();

    stage.events.until("four sanity checks", queries, |queries| *queries >= before + 4).await;

    // Each check writes the time of the next one, and the alarm. The last check may not have written them yet.
    let (rows, checks) = (rows_written(&stage.service), queries() - before);
    let woken = invocations_that_write(&stage.service);
    println!("{checks} checks: rows written by invocation: {rows:?}, {woken} invocations");
    assert!(rows.iter().sum::<u64>() <= 2 * (checks as u64 + 1), "{checks} checks: {rows:?}");
    assert!(woken <= checks + 1, "{checks} checks: {woken} invocations");
}

#[tokio::test]
async fn an_idle_connected_delegation_wakes_its_object_at_most_twice_an_hour() {
    let stage = Stage::deployed(|it| verbose(it).set("LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS", "0")).await;
    let hour = Duration::from_secs(3600);
    stage.connected(&alice(), hour).await;

    // The alarm is for the next restart, which takes one invocation, as the next test shows.
    let alarms = || stage.service.storage().alarms();
    let is_far_off = |alarms: &Vec<Duration>| alarms.len() == 1 && alarms[0] > hour / 2;
    stage.events.until("alarm in more than half an hour", alarms, is_far_off).await;
}

#[tokio::test]
async fn a_restart_wakes_the_object_once() {
    let stage = Stage::deployed(verbose).await;
    let (delay_id, _) = stage.connected(&alice(), SHORT).await;
    stage.restarted_again(&delay_id).await;
    stage.service.log().clear();
    let before = stage.events.restarts(&delay_id);

    stage.events.restarted(&delay_id, before + 4).await;

    // Each restart writes one alarm. The last one may not have written it yet.
    let rows = rows_written(&stage.service);
    let restarts = stage.events.restarts(&delay_id) - before;
    assert!(rows.iter().all(|rows| *rows == 1), "{rows:?}");
    assert!(rows.len() <= restarts + 1, "{restarts} restarts: {rows:?}");
}

#[tokio::test]
async fn a_webhook_for_a_room_without_delegations_writes_nothing() {
    let stage = Stage::deployed(verbose).await;
    let participant = stage.setup.sfu.join(&alice().room(), &alice().identity(EntryPoint::GetToken));

    stage.deliver(&participant.joined()).await;
    stage.deliver(&participant.left(Departure::ClientInitiated)).await;
    stage.deliver(&stage.setup.sfu.room_finished(&alice().room())).await;

    assert_eq!(rows_written(&stage.service), [0; 0]);
    // workerd creates an empty file for each object that receives a request.
    assert_eq!(stage.service.storage().tables(), [""; 0]);
    assert!(stage.service.storage().alarms().is_empty());
}

#[tokio::test]
async fn a_room_that_is_empty_again_keeps_nothing() {
    let stage = Stage::deployed(verbose).await;
    let (delay_id, participant) = stage.connected(&alice(), LONG).await;

    stage.leave(&participant).await;
    stage.events.sent(&delay_id).await;

    stage.forgotten(&alice(), "leave sent").await;
    stage.events.until("storage without alarms", || stage.service.storage().alarms(), Vec::is_empty).await;
    stage.events.until("storage without tables", || stage.service.storage().tables(), Vec::is_empty).await;
}

fn verbose(deployment: Deployment) -> Deployment {
    deployment.set("LIVEKIT_LOG_LEVEL", "debug")
}

/// Number of invocations, requests and alarms, in which an object has written rows.
fn invocations_that_write(service: &Service) -> usize {
    let lines = service.log().lines();
    let stored = lines.iter().filter(|line| line.0["msg"] == "rows written");
    stored.map(|line| line.0["request_id"].to_string()).collect::<BTreeSet<_>>().len()
}

/// Numbers of rows written, one for each write; an alarm counts as a row.
fn rows_written(service: &Service) -> Vec<u64> {
    let lines = service.log().lines();
    let stored = lines.iter().filter(|line| line.0["msg"] == "rows written");
    stored.map(|line| line.0["rows"].as_u64().expect("a number of rows")).collect()
}
