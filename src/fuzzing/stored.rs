//! JSON that crosses to a room's object, and its stored rows.

use std::fmt::Debug;
use std::time::Duration;

use delegated_leaves::{
    DelegationRow, EngineConfig, RoomAnswer, RoomCommand, RoomEngine, RoomRow, Rows, Timestamp, TrackedRow,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads the input as a command to a room's object, as its answer, and as rows: `{"delegations": [], "tracked": [],
/// "room": {}}`. An engine is loaded from the rows, and has to find its next step.
pub fn stored(data: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Value>(data) else { return };
    check_round_trip::<RoomCommand>(&json);
    check_round_trip::<RoomAnswer>(&json);
    let rows = Rows {
        delegations: each::<DelegationRow>(&json["delegations"]),
        tracked: each::<TrackedRow>(&json["tracked"]),
        room: check_round_trip::<RoomRow>(&json["room"]).unwrap_or_default(),
    };
    let interval = Some(Duration::from_secs(60));
    let config = EngineConfig { sanity_check_interval: interval, membership_check_interval: interval };
    for now in [Timestamp::from_millis(0), Timestamp::from_secs(1_700_000_000), Timestamp::from_millis(u64::MAX)] {
        let mut engine = RoomEngine::load(config, now, rows.clone(), None);
        let _ = engine.take_due(now, 6);
        let _ = (engine.take_changes(), engine.take_log_events());
        assert!(engine.is_empty() || engine.next_due().is_some(), "the room waits for nothing");
    }
}

/// Rows of at most 16 entries, as SQLite can store them: integers are below 2⁵³.
fn each<T: Serialize + DeserializeOwned + PartialEq + Debug>(rows: &Value) -> Vec<T> {
    let rows = rows.as_array().into_iter().flatten().take(16);
    let storable = rows.filter(|row| row["id"].as_u64().is_some_and(|id| id < 1 << 53));
    storable.filter_map(check_round_trip).collect()
}

fn check_round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(json: &Value) -> Option<T> {
    let value: T = serde_json::from_value(json.clone()).ok()?;
    let again = serde_json::to_value(&value).ok().and_then(|json| serde_json::from_value(json).ok());
    assert!(again.as_ref() == Some(&value), "what is stored reads back as something else");
    Some(value)
}
