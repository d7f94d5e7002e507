//! What can go wrong in the store, as its callers need to tell it apart.

/// Why a store operation did nothing.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The row does not exist.
    #[error("{what} {id} does not exist")]
    NotFound {
        /// `schedule`, `execution`, `error`, `dead letter`, `key`.
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// Another row has the unique value already.
    #[error("{what} `{value}` exists already")]
    Duplicate {
        /// The field, such as `name`.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// The row changed since it was read.
    #[error("version {expected} was expected, but {actual} is current")]
    VersionConflict {
        /// What the caller had read.
        expected: i64,
        /// What is stored.
        actual: i64,
    },
    /// The row's state does not allow the operation.
    #[error("{detail}")]
    WrongState {
        /// Stable code for the API: `already_running`, `already_finished`, `wrong_state`, ...
        code: &'static str,
        /// A sentence for a person.
        detail: String,
    },
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used with another body")]
    IdempotencyMismatch,
    /// The database cannot be reached or is too busy; try again.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// Reading works, but nothing can be written: the disk is full, or refuses. Passes by itself
    /// once there is room. Only of a SQLite file, which this process has for itself.
    #[error("nothing can be stored: {0}")]
    Unwritable(String),
    /// A bug or a broken database; the message is for the log, never for a client.
    #[error("the database refused an operation: {0}")]
    Internal(String),
}

impl StoreError {
    /// The same error for one more caller of what failed for several at once.
    #[must_use]
    pub fn repeated(&self) -> Self {
        match self {
            Self::Unavailable(text) => Self::Unavailable(text.clone()),
            Self::Unwritable(text) => Self::Unwritable(text.clone()),
            other => Self::Internal(other.to_string()),
        }
    }
}

/// What store operations give back.
pub type StoreResult<T> = Result<T, StoreError>;
