//! Connections to the file: opened, checked, migrated.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::deserialize::QueryableByName;
use diesel::{Connection, RunQueryDsl, SqliteConnection};
use diesel_async::sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Conn;
use crate::store::{StoreError, StoreResult};

/// The schema, step by step.
pub(crate) const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// Runs statements in place: each connection lives on a thread of its own, so there is nothing to
/// hand over and nothing that a dropped future could leave half done.
pub(crate) struct Inline;

impl SpawnBlocking for Inline {
    fn spawn_blocking<'a, R>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn std::error::Error + Send + Sync + 'static>>>
    where
        R: Send + 'static,
    {
        std::future::ready(Ok(task())).boxed()
    }

    fn get_runtime() -> Self {
        Self
    }
}

/// What both kinds of connection need. A checkpoint by another connection may make one wait.
const COMMON: &str = "PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON; \
    PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;";
/// Write-ahead log, and a commit that is on the disk before it is answered. The log is brought in
/// by a thread of its own; the writer does it only for a log so long that this thread must have
/// ended.
const WRITER: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
    PRAGMA journal_size_limit = 67108864; PRAGMA wal_autocheckpoint = 48000; \
    PRAGMA cache_size = -32768;";
const READER: &str = "PRAGMA query_only = ON;";

#[derive(QueryableByName)]
struct CheckRow {
    #[diesel(sql_type = diesel::sql_types::Text)]
    quick_check: String,
}

fn broken(path: &Path, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Internal(format!(
        "{} is damaged or no database of ours ({reason}); keep a copy of it with its -wal file, \
         then restore a backup, or save what can be read with `sqlite3 FILE .recover`",
        path.display()
    ))
}

fn establish(path: &Path) -> StoreResult<SqliteConnection> {
    let text = path
        .to_str()
        .ok_or_else(|| StoreError::Internal(format!("the path {} is not UTF-8", path.display())))?;
    let mut connection = SqliteConnection::establish(text).map_err(|error| {
        StoreError::Internal(format!("cannot open {}: {error}", path.display()))
    })?;
    connection.batch_execute(COMMON).map_err(|error| broken(path, &error))?;
    Ok(connection)
}

fn wrap(connection: SqliteConnection) -> Conn {
    SyncConnectionWrapper::with_runtime(connection, Inline)
}

/// Opens the writing connection: makes the file, refuses a damaged one, migrates.
pub(super) fn open_writer(path: &Path) -> StoreResult<Conn> {
    let mut connection = establish(path)?;
    connection.batch_execute(WRITER).map_err(|error| broken(path, &error))?;
    let checks: Vec<CheckRow> = diesel::sql_query("PRAGMA quick_check(1)")
        .load(&mut connection)
        .map_err(|error| broken(path, &error))?;
    if let Some(check) = checks.into_iter().find(|row| row.quick_check != "ok") {
        return Err(broken(path, &check.quick_check));
    }
    connection
        .run_pending_migrations(MIGRATIONS)
        .map_err(|error| StoreError::Internal(format!("cannot migrate: {error}")))?;
    Ok(wrap(connection))
}

/// Opens the connection that brings the log into the file; for a file that is open already.
pub(super) fn open_checkpointer(path: &Path) -> StoreResult<SqliteConnection> {
    establish(path)
}

/// Opens a connection that cannot write.
pub(super) fn open_reader(path: &Path) -> StoreResult<Conn> {
    let mut connection = establish(path)?;
    connection.batch_execute(READER).map_err(|error| broken(path, &error))?;
    Ok(wrap(connection))
}
