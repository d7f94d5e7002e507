//! The schema, step by step, on a connection of its own and without libpq.
//!
//! Nodes that start together take turns by an advisory lock; it ends with the connection.

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::sql_types::Text;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::connect::Target;
use crate::store::{StoreError, StoreResult};

/// The steps.
pub(crate) const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// A number of ours among the advisory locks of the database: "carillon" in a few bits.
const LOCK: i64 = 0x6361_7269_6c6c;

/// Brings the schema up to date.
pub(super) async fn run(target: Target) -> StoreResult<()> {
    let mut connection =
        target.connect().await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    warn_of_language(&mut connection).await;
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

/// Says when the server answers in a language in which not every state is recognised.
async fn warn_of_language(connection: &mut AsyncPgConnection) {
    let language = diesel::select(sql::<Text>("current_setting('lc_messages')"));
    let Ok(language) = language.get_result::<String>(connection).await else { return };
    if !is_plain(&language) {
        tracing::warn!(
            lc_messages = language,
            "this role may not choose the language of messages, so deadlocks and cancelled \
             statements are not recognised; as a superuser: ALTER ROLE ... SET lc_messages = 'C'"
        );
    }
}

/// True for locales in which messages are not translated.
fn is_plain(locale: &str) -> bool {
    let name = locale.split(['.', '_', '@']).next().unwrap_or_default();
    matches!(name, "" | "C" | "POSIX" | "en")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_and_no_locale_need_no_warning() {
        for locale in ["C", "POSIX", "C.UTF-8", "en_US.utf8", "en_GB", ""] {
            assert!(is_plain(locale), "{locale}");
        }
        assert!(!is_plain("de_DE.utf8") && !is_plain("ca_ES"));
    }
}
