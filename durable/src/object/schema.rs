//! The tables of a room's object, and the steps of their migrations.
//!
//! A step is never changed once it is released: there are objects that were stored by it. A change is a new step.
//!
//! An earlier version of this program leaves tables of a later one alone: it can't know what their columns mean.

/// Version of the tables that this program reads and writes. It brings tables of earlier versions up to date.
pub const SCHEMA_VERSION: usize = STEPS.len() + 1;

/// Returns the steps that tables of `version` still need. Where there are none (0), they are made in their newest
/// form: each step would cost rows written.
pub(crate) fn steps_from(version: usize) -> &'static [&'static str] {
    match version.checked_sub(1) {
        None => &[NEWEST],
        Some(taken) => STEPS.get(taken..).unwrap_or_default(),
    }
}

/// Columns of [`DelegationRow`](crate::DelegationRow), by their names there.
pub(crate) const COLUMNS: [&str; 24] = [
    "id",
    "room",
    "identity",
    "legacy_identity",
    "server_name",
    "delay_id",
    "delay_timeout",
    "accepted_at",
    "state",
    "since",
    "believed_from",
    "due",
    "failures",
    "armed_at",
    "connected_as",
    "participant_sid",
    "joined_at",
    "ended_sids",
    "delayed_events_url",
    "contested",
    "owner",
    "user_id",
    "restricted",
    "issued_at",
];

/// Columns of [`TrackedRow`](crate::TrackedRow), by their names there.
pub(crate) const TRACKED_COLUMNS: [&str; 11] = [
    "id",
    "room",
    "matrix_room_id",
    "user_id",
    "identity",
    "expires_at",
    "connected",
    "gone_at",
    "participant_sid",
    "joined_at",
    "ended_sids",
];

/// Statement that inserts a delegation, or replaces it, with [`COLUMNS`] bound in their order.
pub(crate) fn put() -> String {
    upsert("delegations", &COLUMNS)
}

/// Statement that inserts a tracked participant, or replaces it, with [`TRACKED_COLUMNS`] bound in their order.
pub(crate) fn track() -> String {
    upsert("tracked", &TRACKED_COLUMNS)
}

/// Upsert: one row written, where REPLACE would be two.
fn upsert(table: &str, columns: &[&str]) -> String {
    let places = vec!["?"; columns.len()].join(", ");
    let updates: Vec<_> = columns.iter().skip(1).map(|column| format!("{column} = excluded.{column}")).collect();
    format!(
        "INSERT INTO {table} ({}) VALUES ({places}) ON CONFLICT (id) DO UPDATE SET {}",
        columns.join(", "),
        updates.join(", ")
    )
}

pub(crate) const DELETE: &str = "DELETE FROM delegations WHERE id = ?";
pub(crate) const FORGET: &str = "DELETE FROM tracked WHERE id = ?";
pub(crate) const PUT_ROOM: &str = "UPDATE room SET sanity_check_due = ?, handled_until = ?";
pub(crate) const ROOM: &str = "SELECT sanity_check_due, handled_until FROM room";
/// A later version keeps these two queries working, so that an earlier one finds out that it is later.
pub(crate) const HAS_TABLES: &str = "SELECT count(*) AS n FROM sqlite_master WHERE name = 'room'";
pub(crate) const VERSION: &str = "SELECT schema_version AS n FROM room";

/// The newest tables: those of the first version after all steps.
const NEWEST: &str =
    "CREATE TABLE room (schema_version INTEGER NOT NULL, sanity_check_due INTEGER, handled_until INTEGER);
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
        ended_sids TEXT NOT NULL,
        delayed_events_url TEXT NOT NULL DEFAULT '',
        contested INTEGER NOT NULL DEFAULT 0,
        owner TEXT,
        user_id TEXT,
        restricted INTEGER NOT NULL DEFAULT 0,
        issued_at INTEGER
    );
    CREATE TABLE tracked (
        id INTEGER PRIMARY KEY,
        room TEXT NOT NULL,
        matrix_room_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        identity TEXT NOT NULL,
        expires_at INTEGER NOT NULL,
        connected INTEGER NOT NULL,
        gone_at INTEGER,
        participant_sid TEXT,
        joined_at INTEGER,
        ended_sids TEXT NOT NULL
    );
    INSERT INTO room VALUES (5, NULL, NULL)";

/// Query for a column that tables of the newest version may lack. Earlier programs of that version go on with tables that
/// have it, and leave it alone: it is no reason to refuse them the way back.
pub(crate) const HAS_ISSUED_AT: &str =
    "SELECT count(*) AS n FROM sqlite_master WHERE name = 'delegations' AND sql LIKE '% issued_at %'";
pub(crate) const ADD_ISSUED_AT: &str = "ALTER TABLE delegations ADD COLUMN issued_at INTEGER";

/// Steps from the first version to the second, and so on.
const STEPS: [&str; 4] = [
    "ALTER TABLE delegations ADD COLUMN delayed_events_url TEXT NOT NULL DEFAULT '';
    ALTER TABLE delegations ADD COLUMN contested INTEGER NOT NULL DEFAULT 0;
    UPDATE room SET schema_version = 2",
    "ALTER TABLE delegations ADD COLUMN owner TEXT;
    UPDATE room SET schema_version = 3",
    "CREATE TABLE tracked (
        id INTEGER PRIMARY KEY,
        room TEXT NOT NULL,
        matrix_room_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        identity TEXT NOT NULL,
        expires_at INTEGER NOT NULL,
        connected INTEGER NOT NULL,
        gone_at INTEGER,
        participant_sid TEXT,
        joined_at INTEGER,
        ended_sids TEXT NOT NULL
    );
    UPDATE room SET schema_version = 4",
    "ALTER TABLE delegations ADD COLUMN user_id TEXT;
    ALTER TABLE delegations ADD COLUMN restricted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE room ADD COLUMN handled_until INTEGER;
    UPDATE room SET schema_version = 5",
];

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::{Connection, params};

    fn version(db: &Connection) -> usize {
        let tables: usize = db.query_row(HAS_TABLES, [], |row| row.get("n")).unwrap();
        if tables == 0 { 0 } else { db.query_row(VERSION, [], |row| row.get("n")).unwrap() }
    }

    fn migrate(db: &Connection, steps: &[&str]) {
        steps.iter().for_each(|step| db.execute_batch(step).unwrap());
    }

    fn add_issued_at(db: &Connection) {
        let found: usize = db.query_row(HAS_ISSUED_AT, [], |row| row.get("n")).unwrap();
        if found == 0 {
            db.execute_batch(ADD_ISSUED_AT).unwrap();
        }
    }

    /// Returns name, type, nullability, default and key of every column.
    fn columns(db: &Connection) -> Vec<(String, String, bool, Option<String>, bool)> {
        let mut columns = Vec::new();
        for table in ["room", "delegations", "tracked"] {
            let mut statement = db.prepare(&format!("PRAGMA table_info({table})")).unwrap();
            let of = |row: &rusqlite::Row<'_>| Ok((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?));
            columns.extend(statement.query_map([], of).unwrap().map(Result::unwrap));
        }
        columns
    }

    #[test]
    fn every_step_leads_to_the_next_version_and_the_last_to_the_tables_of_now() {
        let (db, now) = (Connection::open_in_memory().unwrap(), Connection::open_in_memory().unwrap());
        migrate(&db, &[FIRST]);
        for (n, step) in STEPS.iter().enumerate() {
            assert_eq!(version(&db), n + 1);
            assert_eq!(steps_from(n + 1), &STEPS[n..]);
            migrate(&db, &[step]);
        }
        assert_eq!(version(&now), 0);
        migrate(&now, steps_from(0));
        for db in [&db, &now, &db] {
            add_issued_at(db);
        }
        assert_eq!(version(&db), version(&now));
        assert_eq!(columns(&db), columns(&now));
        assert_eq!(steps_from(version(&now)), [""; 0]);
        assert_eq!(version(&now), SCHEMA_VERSION);
    }

    #[test]
    fn the_columns_are_those_of_the_newest_version() {
        let db = Connection::open_in_memory().unwrap();
        migrate(&db, steps_from(0));
        let statement = db.prepare("SELECT * FROM delegations").unwrap();
        assert_eq!(statement.column_names(), COLUMNS);
        let statement = db.prepare("SELECT * FROM tracked").unwrap();
        assert_eq!(statement.column_names(), TRACKED_COLUMNS);
    }

    #[test]
    fn a_delegation_of_the_first_version_is_kept() {
        let db = Connection::open_in_memory().unwrap();
        migrate(&db, &[FIRST]);
        db.execute(
            "INSERT INTO delegations VALUES (7, 'room', 'who', NULL, 'example.com', 'secret', 8000, 1, 'leaving', 2, NULL, 3, 0,
             4, 'member', 'PA_1', 5, '')",
            [],
        )
        .unwrap();
        migrate(&db, steps_from(version(&db)));
        let kept = |column: &str| -> Option<String> {
            db.query_row(&format!("SELECT CAST({column} AS TEXT) FROM delegations WHERE id = 7"), [], |row| row.get(0))
                .unwrap()
        };
        assert_eq!(kept("delay_id").unwrap(), "secret");
        assert_eq!(kept("state").unwrap(), "leaving");
        assert_eq!(kept("delayed_events_url").unwrap(), "");
        assert_eq!(kept("owner"), None);
    }

    #[test]
    fn a_delegation_of_the_second_version_has_no_owner() {
        let db = Connection::open_in_memory().unwrap();
        migrate(&db, &[FIRST, STEPS[0]]);
        db.execute(
            "INSERT INTO delegations VALUES (7, 'room', 'who', NULL, 'example.com', 'secret', 8000, 1, 'waiting', NULL, NULL, 3,
             0, 4, NULL, NULL, NULL, '', 'https://example.com', 0)",
            [],
        )
        .unwrap();
        migrate(&db, steps_from(version(&db)));
        let (id, owner): (String, Option<String>) =
            db.query_row("SELECT delay_id, owner FROM delegations", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!((id.as_str(), owner), ("secret", None));
        let (user_id, restricted): (Option<String>, u64) = db
            .query_row("SELECT user_id, restricted FROM delegations", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!((user_id, restricted), (None, 0));
    }

    #[test]
    fn a_room_of_the_third_version_can_track_participants() {
        let db = Connection::open_in_memory().unwrap();
        migrate(&db, &[FIRST, STEPS[0], STEPS[1]]);
        db.execute("UPDATE room SET sanity_check_due = 7", []).unwrap();
        migrate(&db, steps_from(version(&db)));
        let due: u64 = db.query_row("SELECT sanity_check_due FROM room", [], |row| row.get(0)).unwrap();
        assert_eq!(due, 7);
        for connected in [0, 1] {
            let row = params![
                7,
                "room",
                "!room:example.com",
                "@a:example.com",
                "who",
                9000,
                connected,
                None::<u64>,
                None::<&str>,
                None::<u64>,
                ""
            ];
            assert_eq!(db.execute(&track(), row).unwrap(), 1);
        }
        let connected: u64 = db.query_row("SELECT connected FROM tracked", [], |row| row.get(0)).unwrap();
        assert_eq!(connected, 1);
        assert_eq!(db.execute(FORGET, [7]).unwrap(), 1);
    }

    #[test]
    fn putting_a_row_twice_replaces_it() {
        let db = Connection::open_in_memory().unwrap();
        migrate(&db, steps_from(0));
        for due in [3, 9] {
            let row = params![
                7,
                "room",
                "who",
                None::<&str>,
                "example.com",
                "secret",
                8000,
                1,
                "waiting",
                None::<u64>,
                None::<u64>,
                due,
                0,
                4,
                None::<&str>,
                None::<&str>,
                None::<u64>,
                "",
                "https://example.com",
                0,
                "@who:example.com",
                "@who:example.com",
                1,
                Some(2)
            ];
            assert_eq!(db.execute(&put(), row).unwrap(), 1);
        }
        let due: u64 = db.query_row("SELECT due FROM delegations", [], |row| row.get(0)).unwrap();
        assert_eq!(due, 9);
        assert_eq!(db.execute(DELETE, [7]).unwrap(), 1);
    }

    #[test]
    fn the_sanity_check_is_set_and_cleared() {
        let db = Connection::open_in_memory().unwrap();
        migrate(&db, steps_from(0));
        for due in [Some(7_u64), None] {
            assert_eq!(db.execute(PUT_ROOM, [due, Some(3)]).unwrap(), 1);
            let stored: Option<u64> = db.query_row("SELECT sanity_check_due FROM room", [], |row| row.get(0)).unwrap();
            assert_eq!(stored, due);
        }
    }

    #[test]
    fn the_columns_are_the_fields_of_a_row() {
        let row = r#"{"id":1,"room":"r","identity":"i","legacy_identity":null,"server_name":"s","delayed_events_url":"u",
            "owner":"@i:s","user_id":"@i:s","restricted":0,"delay_id":"d","delay_timeout":8000,"accepted_at":1,"issued_at":0,"state":"leaving","since":2,"believed_from":null,"due":3,
            "failures":0,"armed_at":4,"connected_as":"member","participant_sid":"PA_1","joined_at":5,"contested":0,
            "ended_sids":"PA_0"}"#;
        let row: crate::DelegationRow = serde_json::from_str(row).unwrap();
        assert_eq!(fields(&row), sorted(COLUMNS));

        let row = r#"{"id":1,"room":"r","matrix_room_id":"!r:s","user_id":"@u:s","identity":"i","expires_at":1,"connected":1,
            "gone_at":null,"participant_sid":"PA_1","joined_at":5,"ended_sids":"PA_0"}"#;
        let row: crate::TrackedRow = serde_json::from_str(row).unwrap();
        assert_eq!(fields(&row), sorted(TRACKED_COLUMNS));
    }

    fn fields(row: &impl serde::Serialize) -> Vec<String> {
        let row = serde_json::to_value(row).unwrap();
        let mut fields: Vec<_> = row.as_object().unwrap().keys().cloned().collect();
        fields.sort_unstable();
        fields
    }

    fn sorted<const N: usize>(mut columns: [&str; N]) -> [&str; N] {
        columns.sort_unstable();
        columns
    }

    /// A failure to store leaves what was made before it: more than the truth is harmless, less is a lost leave.
    #[test]
    fn a_failure_in_the_middle_leaves_more_than_the_truth() {
        use crate::{
            Change, DelayId, DelayTimeout, DelayedEventsUrl, Delegate, EngineConfig, Identity, Input, RoomCommand,
            RoomEngine, RoomName, Rows, ServerName, Timestamp, UserId,
        };

        let delegate = |delay_id: &str| {
            Input::Command(RoomCommand::Delegate(Delegate {
                room: RoomName::new("room"),
                identity: Identity::new("alice"),
                legacy_identity: None,
                server_name: ServerName::new("example.com"),
                delayed_events_url: DelayedEventsUrl::new("https://example.com"),
                owner: None,
                user_id: UserId::new("@alice:example.com"),
                restricted: false,
                delay_id: DelayId::new(delay_id).unwrap(),
                delay_timeout: DelayTimeout::from_millis(8_000).unwrap(),
                restarted_at: None,
                issued_at: None,
            }))
        };
        let now = Timestamp::from_secs(1_790_000_000);
        let mut engine = RoomEngine::load(EngineConfig::default(), now, Rows::default(), None);
        let db = Connection::open_in_memory().unwrap();
        migrate(&db, steps_from(0));
        engine.handle(now, delegate("old"));
        engine.take_changes().iter().for_each(|change| apply(&db, change).unwrap());
        db.execute_batch("CREATE TRIGGER failure BEFORE DELETE ON delegations BEGIN SELECT RAISE(ABORT, 'full'); END")
            .unwrap();
        engine.handle(now, delegate("new"));
        let failed = engine.take_changes().iter().try_for_each(|change| apply(&db, change));
        assert!(failed.is_err());
        let mut statement = db.prepare("SELECT delay_id FROM delegations ORDER BY id").unwrap();
        let kept: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(kept, ["old", "new"]);

        fn apply(db: &Connection, change: &Change) -> rusqlite::Result<()> {
            match change {
                Change::Put(row) => {
                    let row = serde_json::to_value(row).unwrap();
                    let values = COLUMNS.map(|column| match &row[column] {
                        serde_json::Value::String(text) => rusqlite::types::Value::Text(text.clone()),
                        value => value.as_i64().map_or(rusqlite::types::Value::Null, Into::into),
                    });
                    db.execute(&put(), rusqlite::params_from_iter(values)).map(drop)
                }
                Change::Delete(id) => db.execute(DELETE, [id.as_u64()]).map(drop),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The tables of the first version, by which objects were stored.
    const FIRST: &str = "CREATE TABLE room (schema_version INTEGER NOT NULL, sanity_check_due INTEGER);
    INSERT INTO room VALUES (1, NULL);
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
    )";
}
