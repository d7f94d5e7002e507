//! The exclusive lock beside the file: two processes never share a store.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::store::{StoreError, StoreResult};

/// Held as long as it lives; the kernel lets go of it when the process ends, however it ends.
pub(super) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes the lock of the database file at `path`, or says who has it.
    pub(super) fn take(path: &Path) -> StoreResult<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock_path = PathBuf::from(name);
        let failed = |error: &dyn std::fmt::Display| {
            StoreError::Internal(format!("cannot lock {}: {error}", lock_path.display()))
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
        }
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|error| failed(&error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Internal(format!(
                "{} is in use by another process; stop it, or give this one a data directory of \
                 its own",
                path.display()
            ))),
            Err(error) => Err(failed(&error)),
        }
    }
}
