//! The schema, step by step, on a connection of its own and without libpq.
//!
//! Nodes that start together take turns by an advisory lock; it ends with the connection.

use diesel::connection::SimpleConnection;
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::connect::Target;
use crate::store::{StoreError, StoreResult};

/// The steps.
pub(crate) const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// A number of ours among the advisory locks of the database: "carillon" in a few bits.
const LOCK: i64 = 0x6361_7269_6c6c;

/// Brings the schema up to date.
pub(super) async fn run(target: Target) -> StoreResult<()> {
    let connection =
        target.connect().await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let migrating = tokio::task::spawn_blocking(move || {
        let mut connection: AsyncConnectionWrapper<AsyncPgConnection> = connection.into();
        let failed = |error: &dyn std::fmt::Display| {
            StoreError::Internal(format!("cannot migrate: {error}"))
        };
        // A migration may take longer than a statement of ours ever should.
        connection
            .batch_execute(&format!(
                "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
                 SET client_min_messages = warning; SELECT pg_advisory_lock({LOCK})"
            ))
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        connection.run_pending_migrations(MIGRATIONS).map_err(|error| failed(&error))?;
        Ok(())
    });
    migrating.await.map_err(|error| StoreError::Internal(error.to_string()))?
}
