//! The one site where PostgreSQL's errors become the contract's.

use diesel::result::{DatabaseErrorKind, Error};
use diesel_async::pooled_connection::deadpool::PoolError;

use crate::store::StoreError;
use crate::store::op::OpError;

/// True when the transaction met another one and may succeed when it is run again.
pub(super) fn may_run_again(error: &OpError) -> bool {
    match error {
        OpError::Database(Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _)) => true,
        OpError::Database(error) => error.to_string().contains("deadlock detected"),
        OpError::Rule(_) => false,
    }
}

/// What `name` tells its caller.
pub(super) fn store_error(name: &'static str, error: OpError) -> StoreError {
    match error {
        OpError::Rule(error) => error,
        OpError::Database(error) => database_error(name, &error),
    }
}

/// Words of the server for a state that passes: a restart, a lost connection, a server that is
/// full, a statement that took too long or was cancelled.
///
/// The query layer keeps eight kinds of error apart and throws the rest of the SQLSTATE away, so
/// for these the message is all there is. It is in English because every connection asks for
/// that (`PLAIN_MESSAGES`), and a start warns where it may not.
const PASSING: [&str; 15] = [
    "connection closed",
    "error communicating with the server",
    "terminating connection",
    "the database system is",
    "too many clients",
    "remaining connection slots",
    "statement timeout",
    "canceling statement",
    "idle-in-transaction timeout",
    "read-only transaction",
    "No space left on device",
    "could not extend file",
    "Broken pipe",
    "unexpected EOF",
    "server closed the connection",
];

fn database_error(name: &'static str, error: &Error) -> StoreError {
    let text = error.to_string();
    match error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => {
            StoreError::Duplicate { what: "row", value: text }
        }
        Error::DatabaseError(
            DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::SerializationFailure
            | DatabaseErrorKind::ReadOnlyTransaction,
            _,
        )
        | Error::BrokenTransactionManager => StoreError::Unavailable(text),
        _ if text.contains("deadlock detected")
            || PASSING.iter().any(|words| text.contains(words)) =>
        {
            StoreError::Unavailable(text)
        }
        _ => StoreError::Internal(format!("{name}: {text}")),
    }
}

/// No connection to be had.
pub(super) fn pool_error(error: &PoolError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
