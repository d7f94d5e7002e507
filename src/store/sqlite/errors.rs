//! The one site where SQLite's errors become the contract's.

use diesel::result::{DatabaseErrorKind, Error};

use crate::store::StoreError;
use crate::store::op::OpError;

/// Words of SQLite for a state that may pass: another holder of the file, a full disk.
const PASSING: [&str; 3] = ["database is locked", "database table is locked", "disk is full"];

/// What `name` tells its caller.
pub(super) fn store_error(name: &'static str, error: OpError) -> StoreError {
    match error {
        OpError::Rule(error) => error,
        OpError::Database(error) => database_error(name, &error),
    }
}

pub(super) fn database_error(name: &'static str, error: &Error) -> StoreError {
    let text = error.to_string();
    if let Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) = error {
        return StoreError::Duplicate { what: "row", value: text };
    }
    if PASSING.iter().any(|words| text.contains(words)) {
        StoreError::Unavailable(text)
    } else {
        StoreError::Internal(format!("{name}: {text}"))
    }
}
