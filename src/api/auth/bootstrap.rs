//! The first admin key: made when there is no key, and written where only the owner can read it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::domain::key::{ApiKey, RANDOM_BYTES, Role};
use crate::store::{NewApiKey, Store, StoreError};

/// Name of the file in the data directory.
const FILE_NAME: &str = "admin.token";

/// Name of the first key.
const KEY_NAME: &str = "first admin";

/// Why there is no first key.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file could not be written.
    #[error("cannot write {}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The system has no randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

/// Makes an admin key when there is none and writes it to `<data_dir>/admin.token` (mode 0600).
/// The file is whole before the key exists, so a crash in between costs a key nobody knows of and
/// the next start makes another.
///
/// # Errors
/// [`BootstrapError`]; nothing was stored unless the file was written.
pub async fn ensure_admin_key(
    store: &Store,
    data_dir: &Path,
) -> Result<Option<PathBuf>, BootstrapError> {
    if store.key_count().await? > 0 {
        return Ok(None);
    }
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| BootstrapError::Random(error.to_string()))?;
    let key = ApiKey::from_random(&bytes);
    let path = data_dir.join(FILE_NAME);
    write_secret(&path, key.reveal())
        .map_err(|cause| BootstrapError::File { path: path.clone(), cause })?;
    let row = NewApiKey {
        prefix: key.prefix().to_owned(),
        secret_hash: key.secret_hash(),
        name: KEY_NAME.to_owned(),
        role: Role::Admin.as_str().to_owned(),
        expires_at: None,
    };
    store.key_create(row).await?;
    Ok(Some(path))
}

/// Writes beside the target, syncs, renames: a reader sees the old file or the new one, whole.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension(format!("token.{}", std::process::id()));
    // A leftover of a crash may belong to anybody and have any mode; it is never written into.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_new(&beside, text).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        drop(fs::remove_file(&beside));
        return written;
    }
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_token_file_is_for_its_owner_alone_and_replaces_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        fs::write(&path, "old").unwrap();
        write_secret(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
