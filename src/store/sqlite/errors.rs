//! The one site where SQLite's errors become the contract's.

use diesel::result::{DatabaseErrorKind, Error};

use crate::store::StoreError;
use crate::store::op::OpError;

/// Words of SQLite for a state that may pass: another holder of the file.
const PASSING: [&str; 2] = ["database is locked", "database table is locked"];
/// Words of SQLite for a disk that takes nothing: it is full, a quota or a limit is reached, or it
/// was made read-only. It calls all but the first an input/output error.
const UNWRITABLE: [&str; 3] = ["disk is full", "disk I/O error", "readonly database"];

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
    if UNWRITABLE.iter().any(|words| text.contains(words)) {
        StoreError::Unwritable(text)
    } else if PASSING.iter().any(|words| text.contains(words)) {
        StoreError::Unavailable(text)
    } else {
        StoreError::Internal(format!("{name}: {text}"))
    }
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;
    use diesel::{Connection, SqliteConnection};

    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_from_a_bug() {
        let mut file = SqliteConnection::establish(":memory:").unwrap();
        file.batch_execute("CREATE TABLE t (x); PRAGMA max_page_count = 4").unwrap();
        let full = file.batch_execute("INSERT INTO t VALUES (zeroblob(100000))").unwrap_err();
        assert!(matches!(database_error("op", &full), StoreError::Unwritable(_)), "{full}");
        let bug = file.batch_execute("INSERT INTO u VALUES (1)").unwrap_err();
        assert!(matches!(database_error("op", &bug), StoreError::Internal(_)), "{bug}");
    }
}
