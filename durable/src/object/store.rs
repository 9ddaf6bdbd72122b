//! A room's delegations and tracked participants on disk: SQLite, one row for each, and one for the room.
//!
//! A row is deleted with the end of its delegation or participant; with the last one the object drops everything.

use std::cell::Cell;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use worker::{SqlStorage, SqlStorageValue};

use crate::engine::storage::{Change, RoomRow, Rows};
use crate::object::schema::{self, SCHEMA_VERSION};
use crate::time::Timestamp;

/// The tables of one object.
pub struct Store {
    sql: SqlStorage,
    /// Whether the tables are known to be there, and of this version: two queries less for each change.
    is_ready: Cell<bool>,
}

impl Store {
    /// Opens the tables of an object's storage.
    pub fn new(sql: SqlStorage) -> Self {
        Self { sql, is_ready: Cell::new(false) }
    }

    /// Forgets about the tables: the storage has been emptied, or has failed.
    pub fn forget(&self) {
        self.is_ready.set(false);
    }

    /// Loads all rows. Writes nothing where there is nothing; brings tables of an earlier version up to date. Tables of
    /// a later version are left as they are.
    pub fn load(&self) -> Result<Rows, StoreError> {
        if self.version()? == 0 {
            return Ok(Rows::default());
        }
        self.migrate()?;
        let delegations = self.sql.exec("SELECT * FROM delegations", None)?.to_array()?;
        let tracked = self.sql.exec("SELECT * FROM tracked", None)?.to_array()?;
        let room: Vec<RoomRow> = self.sql.exec(schema::ROOM, None)?.to_array()?;
        Ok(Rows { delegations, tracked, room: room.into_iter().next().unwrap_or_default() })
    }

    /// Stores `changes` in their order, and returns the number of rows written. They are made in one turn, which the
    /// platform commits as one; where one of them fails, those before it may be stored.
    pub fn apply(&self, changes: &[Change]) -> Result<usize, StoreError> {
        if changes.is_empty() {
            return Ok(0);
        }
        let mut written = if self.is_ready.get() { 0 } else { self.migrate()? };
        for change in changes {
            let (statement, bindings) = match change {
                Change::Delete(id) => (schema::DELETE.to_owned(), vec![integer(id.as_u64())]),
                Change::Put(row) => (schema::put(), values(row, &schema::COLUMNS)?),
                Change::Forget(id) => (schema::FORGET.to_owned(), vec![integer(id.as_u64())]),
                Change::Track(row) => (schema::track(), values(row, &schema::TRACKED_COLUMNS)?),
                Change::PutRoom(room) => {
                    let times = [room.sanity_check_due, room.handled_until];
                    let bind =
                        |time: Option<Timestamp>| time.map_or(SqlStorageValue::Null, |time| integer(time.as_millis()));
                    (schema::PUT_ROOM.to_owned(), times.map(bind).into())
                }
            };
            written += self.sql.exec(&statement, bindings)?.rows_written();
        }
        Ok(written)
    }

    fn migrate(&self) -> Result<usize, StoreError> {
        let mut written = 0;
        for step in schema::steps_from(self.version()?) {
            written += self.sql.exec(step, None)?.rows_written();
        }
        if self.count(schema::HAS_ISSUED_AT)? == 0 {
            written += self.sql.exec(schema::ADD_ISSUED_AT, None)?.rows_written();
        }
        self.is_ready.set(true);
        Ok(written)
    }

    /// Version of the tables; 0 where there are none yet.
    fn version(&self) -> Result<usize, StoreError> {
        if self.count(schema::HAS_TABLES)? == 0 {
            return Ok(0);
        }
        match self.count(schema::VERSION)? {
            newer if newer > SCHEMA_VERSION => Err(StoreError::Newer(newer)),
            version => Ok(version),
        }
    }

    /// Returns the number that a query finds, and 0 where it finds none.
    fn count(&self, query: &str) -> Result<usize, StoreError> {
        #[derive(Deserialize)]
        struct Found {
            n: usize,
        }
        let found: Vec<Found> = self.sql.exec(query, None)?.to_array()?;
        Ok(found.first().map_or(0, |found| found.n))
    }
}

/// Reason for which nothing was loaded or stored.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The tables are of this version, which is later than this program's.
    #[error(
        "the room was stored by a newer version of this service (tables of version {0}, this one reads {SCHEMA_VERSION}): \
         deploy that version again"
    )]
    Newer(usize),
    /// The storage has failed.
    #[error(transparent)]
    Storage(#[from] worker::Error),
}

impl From<StoreError> for worker::Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Storage(error) => error,
            error => Self::from(error.to_string()),
        }
    }
}

/// Returns the row's values in the order of `columns`.
fn values(row: &impl Serialize, columns: &[&str]) -> worker::Result<Vec<SqlStorageValue>> {
    let row = serde_json::to_value(row)?;
    columns
        .iter()
        .map(|column| match &row[column] {
            Value::Null => Ok(SqlStorageValue::Null),
            Value::String(text) => Ok(SqlStorageValue::from(text.as_str())),
            value => match value.as_u64() {
                Some(number) => Ok(integer(number)),
                None => Err(worker::Error::from(format!("the column {column} has no type"))),
            },
        })
        .collect()
}

/// Converts a number of the engine, all of which stay below 2⁵³.
fn integer(number: u64) -> SqlStorageValue {
    SqlStorageValue::Integer(number.cast_signed())
}
