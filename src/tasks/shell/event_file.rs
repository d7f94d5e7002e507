//! The file from which a command reads the event that set it off, as JSON.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A task's event file, removed when this is dropped.
pub(in crate::tasks) struct EventFile {
    path: PathBuf,
}

impl EventFile {
    /// Writes `event` to the file `name` in `directory`, readable by this user only.
    pub(in crate::tasks) fn create(
        directory: &Path,
        name: &str,
        event: &Value,
    ) -> io::Result<Self> {
        let path = directory.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let made = Self { path };
        file.write_all(event.to_string().as_bytes())?;
        Ok(made)
    }

    pub(super) fn path(&self) -> String {
        self.path.display().to_string()
    }
}

impl Drop for EventFile {
    fn drop(&mut self) {
        // The task may have removed it already.
        drop(std::fs::remove_file(&self.path));
    }
}
