use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::types::FromSql;
use rusqlite::{Connection, OpenFlags};

/// Durable Objects' storage of workerd, on disk.
pub struct Storage {
    objects: PathBuf,
}

/// Holds the objects' databases.
pub struct StorageLock {
    _databases: Vec<Connection>,
}

impl Storage {
    pub(crate) fn new(state: &Path) -> Self {
        Self { objects: state.join("objects") }
    }

    /// Makes storing fail from now on.
    pub fn fill_up(&self) {
        // A file takes the place of the databases' directory.
        let directory = self.objects.join(NAMESPACE);
        let _ = fs::remove_dir_all(&directory);
        fs::write(&directory, "").expect("my own directory");
    }

    /// Locks the databases against writing, until the result is dropped.
    pub fn lock(&self) -> StorageLock {
        let locked = |file: PathBuf| {
            let database = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            database.busy_timeout(PATIENCE)?;
            database.execute_batch("BEGIN IMMEDIATE")?;
            Ok(database)
        };
        let databases: rusqlite::Result<_> = self.files_of_objects().into_iter().map(locked).collect();
        StorageLock { _databases: databases.expect("databases that can be locked") }
    }

    /// Runs statements on every object's database, which nothing has open.
    pub fn rewrite(&self, statements: &str) {
        for file in self.files_of_objects() {
            let run = Connection::open(&file).and_then(|database| database.execute_batch(statements));
            run.unwrap_or_else(|error| panic!("can't rewrite {}: {error}", file.display()));
        }
    }

    /// Returns the results of a query that has one column of text, in the databases of all objects that store something.
    pub fn query(&self, statement: &str) -> Vec<String> {
        let stores_something = |file: &PathBuf| {
            !query::<String>(file, "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'room'").is_empty()
        };
        let files = self.files_of_objects().into_iter().filter(stores_something);
        files.flat_map(|file| query::<String>(&file, statement)).collect()
    }

    /// Returns the number of objects that have a database, with or without content.
    pub fn databases(&self) -> usize {
        self.files_of_objects().len()
    }

    /// Returns the tables of all objects, including workerd's own.
    pub fn tables(&self) -> Vec<String> {
        self.files_of_objects()
            .into_iter()
            .flat_map(|file| query::<String>(&file, "SELECT name FROM sqlite_master WHERE type = 'table'"))
            .collect()
    }

    /// Returns the `delay_id`s of all delegations, in order.
    pub fn delegations(&self) -> Vec<String> {
        let mut stored = self.query("SELECT delay_id FROM delegations");
        stored.sort();
        stored
    }

    /// Returns the times of all alarms, from now.
    pub fn alarms(&self) -> Vec<Duration> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        let Some(directory) = self.directory() else { return Vec::new() };
        let file = directory.join(format!("{METADATA}.sqlite"));
        let nanoseconds = query::<i64>(&file, "SELECT scheduled_time FROM _cf_ALARM");
        let times = nanoseconds.into_iter().map(|time| u64::try_from(time).expect("a time after 1970"));
        times.map(|time| Duration::from_nanos(time).saturating_sub(now)).collect()
    }

    /// Returns the databases of the objects, one each.
    fn files_of_objects(&self) -> Vec<PathBuf> {
        let is_of_object = |file: &PathBuf| {
            file.extension().is_some_and(|suffix| suffix == "sqlite")
                && file.file_stem().is_some_and(|stem| stem != METADATA)
        };
        self.files().into_iter().filter(is_of_object).collect()
    }

    fn files(&self) -> Vec<PathBuf> {
        let Some(directory) = self.directory() else { return Vec::new() };
        fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()).collect()
    }

    /// Directory of the databases, which workerd makes with the first object.
    fn directory(&self) -> Option<PathBuf> {
        Some(self.objects.join(NAMESPACE)).filter(|directory| directory.is_dir())
    }
}

/// Queries the only column of a result, in a database that workerd has open.
fn query<T: FromSql>(file: &Path, query: &str) -> Vec<T> {
    let read = || -> rusqlite::Result<Vec<T>> {
        let database = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        database.busy_timeout(PATIENCE)?;
        let mut statement = database.prepare(query)?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    read().unwrap_or_else(|error| panic!("can't read {}: {error}", file.display()))
}

/// Unique key of the rooms' objects.
const NAMESPACE: &str = "ROOMS";
const METADATA: &str = "metadata";
const PATIENCE: Duration = Duration::from_secs(10);
