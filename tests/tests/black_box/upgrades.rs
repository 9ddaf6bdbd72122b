//! The way to a newer version and back (`docs/guides/own-machine.md#upgrading-and-going-back`).
//!
//! How it works:
//! - the packaged service takes over a leave, and ends;
//! - statements turn what it has stored into that of an earlier version, or of a later one;
//! - the same executable is started on it. An earlier version's state is carried on; a later one's is left as it is, by
//!   the executable and by the objects themselves, until that version is back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use black_box::{Departure, Endpoint, EntryPoint, Member, Package, TestSetup};

use crate::leaves::{Stage, alice};

#[tokio::test]
async fn the_state_of_an_earlier_version_is_carried_on() {
    for statements in [EARLIER_VERSION_5, VERSION_4, VERSION_1] {
        let stage = Stage::packaged().await;
        let (delay_id, participant) = stage.connected(&alice(), DELAY).await;
        stop(&stage).await;
        stage.service.storage().rewrite(statements);
        let before = stage.events.restarts(&delay_id);

        stage.service.start_again();

        stage.events.restarted(&delay_id, before + 1).await;
        assert_eq!(stage.service.storage().query(TABLES), ["5"]);
        stage.leave(&participant).await;
        stage.events.sent(&delay_id).await;
    }
}

#[tokio::test]
async fn an_earlier_executable_refuses_the_state_of_a_later_one_and_changes_nothing() {
    let stage = Stage::packaged().await;
    stage.connected(&alice(), DELAY).await;
    stop(&stage).await;
    stage.service.storage().rewrite(LATER);
    let state = &stage.service.launch().state;
    fs::write(state.join("version.json"), "{\"tables\":6,\"release\":\"9.8.7\"}\n").unwrap();
    let before = content(state);

    let outcome = start_to_completion(&stage);

    assert_eq!(outcome.status.code(), Some(2), "{outcome:?}");
    let error = String::from_utf8_lossy(&outcome.stderr);
    for text in ["last used by matrixrtc-edge 9.8.7", "install 9.8.7 or newer", state.to_str().unwrap()] {
        assert!(error.contains(text), "{error}");
    }
    assert!(content(state) == before, "something has been changed");
}

/// As on Cloudflare, where nothing but the objects themselves can recognise their tables.
#[tokio::test]
async fn a_room_of_a_later_version_is_left_as_it_is_until_that_version_is_back() {
    let stage = Stage::packaged().await;
    let (delay_id, participant) = stage.connected(&alice(), DELAY).await;
    stop(&stage).await;
    stage.service.storage().rewrite(LATER);
    let before = stage.events.restarts(&delay_id);

    stage.service.start_again();
    let answer = participant.left(Departure::ClientInitiated).send(&stage.service).await;

    assert_eq!(answer.status, 500, "{answer:?}");
    let bob = Member::of_room("!room:example.org", "@bob:example.org");
    let token = stage.home.openid_token(&bob.user_id);
    let answer = stage.service.request_token(Endpoint::GetToken, &token).await;
    assert!(!answer.jwt().is_empty(), "{answer:?}");
    let request = bob.delegation(EntryPoint::GetToken, &token, &stage.events.schedule(DELAY), DELAY);
    let answer = stage.service.post(EntryPoint::GetToken.path(), &request).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    stage.service.log().line_with(&["room object unavailable", "stored by a newer version of this service"]).await;
    // The alarm that was there has gone off, and another one is there.
    stage.service.log().line_with(&["room storage failed", "stored by a newer version of this service"]).await;
    assert_eq!(stage.service.storage().alarms().len(), 1);
    assert_eq!(stage.service.storage().query(TABLES), ["6"]);
    assert_eq!(
        stage.service.storage().query("SELECT delay_id || new FROM delegations"),
        [format!("{delay_id}of-version-6")]
    );
    assert_eq!(stage.events.restarts(&delay_id), before);
    assert_eq!(stage.events.sends(&delay_id), 0);

    stop(&stage).await;
    stage.service.storage().rewrite(BACK_FROM_LATER);
    stage.service.start_again();
    stage.leave(&participant).await;
    stage.events.sent(&delay_id).await;
}

#[tokio::test]
async fn without_stored_leaves_any_version_starts() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start_package(&Package::made());
    service.terminate();
    assert!(service.ended().await.success());
    let version = service.launch().state.join("version.json");
    fs::write(&version, "{\"tables\":6,\"release\":\"9.8.7\"}\n").unwrap();

    service.start_again();

    assert!(!fs::read_to_string(version).unwrap().contains("9.8.7"));
}

async fn stop(stage: &Stage) {
    stage.service.terminate();
    assert!(stage.service.ended().await.success());
}

/// Starts the executable on the same state; it is expected to fail.
fn start_to_completion(stage: &Stage) -> Output {
    let launch = stage.service.launch();
    let mut command = Command::new(Package::made().path());
    command.args(["--addr", "127.0.0.1:0", "--state"]).arg(&launch.state).env_clear().envs(&launch.env);
    command.output().unwrap()
}

/// Content of all files below a directory.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(content(&path));
        } else {
            files.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    files
}

/// A delay with a restart every few seconds, long enough for a start of the service between two of them.
const DELAY: Duration = Duration::from_secs(20);
const TABLES: &str = "SELECT CAST(schema_version AS TEXT) FROM room";
/// The statement that turns tables into those of an earlier release with the same version.
const EARLIER_VERSION_5: &str = "ALTER TABLE delegations DROP COLUMN issued_at";
/// Statements that turn tables into those of version 4.
const VERSION_4: &str = "
ALTER TABLE room RENAME TO newest_room;
CREATE TABLE room (schema_version INTEGER NOT NULL, sanity_check_due INTEGER);
INSERT INTO room SELECT 4, sanity_check_due FROM newest_room;
DROP TABLE newest_room;
ALTER TABLE delegations DROP COLUMN user_id;
ALTER TABLE delegations DROP COLUMN restricted;
ALTER TABLE delegations DROP COLUMN issued_at;
";
/// Statements that turn tables into those of version 1: without the URL of the delayed events, which is looked up again
/// then.
const VERSION_1: &str = "
ALTER TABLE room RENAME TO newest_room;
CREATE TABLE room (schema_version INTEGER NOT NULL, sanity_check_due INTEGER);
INSERT INTO room SELECT 1, sanity_check_due FROM newest_room;
DROP TABLE newest_room;
ALTER TABLE delegations RENAME TO newest;
CREATE TABLE delegations (
    id INTEGER PRIMARY KEY,
    room TEXT NOT NULL,
    identity TEXT NOT NULL,
    legacy_identity TEXT,
    server_name TEXT NOT NULL,
    delay_id TEXT NOT NULL,
    delay_timeout INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    state TEXT NOT NULL,
    since INTEGER,
    believed_from INTEGER,
    due INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    armed_at INTEGER NOT NULL,
    connected_as TEXT,
    participant_sid TEXT,
    joined_at INTEGER,
    ended_sids TEXT NOT NULL
);
INSERT INTO delegations SELECT id, room, identity, legacy_identity, server_name, delay_id, delay_timeout, accepted_at,
    state, since, believed_from, due, failures, armed_at, connected_as, participant_sid, joined_at, ended_sids FROM newest;
DROP TABLE newest;
DROP TABLE tracked;
";
/// Statements that turn tables into those of a later version.
const LATER: &str = "
ALTER TABLE delegations ADD COLUMN new TEXT NOT NULL DEFAULT 'of-version-6';
UPDATE room SET schema_version = 6;
";
/// The same as this version stores it: it plays the later one that is back.
const BACK_FROM_LATER: &str = "
ALTER TABLE delegations DROP COLUMN new;
UPDATE room SET schema_version = 5;
";
