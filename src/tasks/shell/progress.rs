//! The file into which a task writes how far it is.
//!
//! A line of JSON each: `{"percent", "etaMs", "message"}`. The server keeps the file it made open,
//! so a task that puts another file or a link in its place is not followed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::tasks::Progress;

/// How much is read at once; a task that writes faster is read behind.
const CHUNK: usize = 16 * 1024;
/// The longest line that is understood; longer ones are passed over.
const LINE_LIMIT: usize = 4 * 1024;
/// The longest message that is passed on, in bytes.
const MESSAGE_LIMIT: usize = 512;

/// A line of the file. Unknown fields are the task's own affair.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    percent: Option<f64>,
    eta_ms: Option<u64>,
    message: Option<String>,
}

/// A task's progress file, removed when this is dropped.
pub(in crate::tasks) struct ProgressFile {
    file: File,
    path: PathBuf,
    offset: u64,
    partial: Vec<u8>,
}

impl ProgressFile {
    /// Makes the file `name` in `directory`, readable by this user only.
    pub(in crate::tasks) fn create(directory: &Path, name: &str) -> io::Result<Self> {
        let path = directory.join(name);
        let file =
            OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { file, path, offset: 0, partial: Vec::new() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what was appended; the newest sound line, if there is any, is the answer.
    pub(super) fn read(&mut self) -> Option<Progress> {
        let length = self.file.metadata().ok()?.len();
        if length < self.offset {
            // Written over instead of appended: start again.
            self.offset = 0;
            self.partial.clear();
        }
        if length == self.offset {
            return None;
        }
        let mut chunk = vec![0; CHUNK];
        let count = self.file.read_at(&mut chunk, self.offset).ok()?;
        self.offset += count as u64;
        self.partial.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let end = self.partial.iter().rposition(|byte| *byte == b'\n');
        let newest = end.and_then(|end| {
            let whole: Vec<u8> = self.partial.drain(..=end).collect();
            whole.split(|byte| *byte == b'\n').rev().find_map(parse)
        });
        if self.partial.len() > LINE_LIMIT {
            self.partial.clear();
        }
        newest
    }
}

impl Drop for ProgressFile {
    fn drop(&mut self) {
        // The task may have removed it already.
        drop(std::fs::remove_file(&self.path));
    }
}

fn parse(line: &[u8]) -> Option<Progress> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let message = line.message.map(|mut message| {
        message.truncate(message.floor_char_boundary(MESSAGE_LIMIT));
        message
    });
    Some(Progress {
        percent: line.percent.map(|percent| percent.clamp(0.0, 100.0)),
        eta_ms: line.eta_ms,
        message,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_newest_sound_line_counts_and_a_half_line_waits() {
        let directory = tempfile::tempdir().unwrap();
        let mut progress = ProgressFile::create(directory.path(), "p").unwrap();
        let mut task = OpenOptions::new().append(true).open(progress.path()).unwrap();
        assert_eq!(progress.read(), None);
        task.write_all(b"{\"percent\": 10}\n{\"percent\": 250, \"x\": 1}\nnonsense\n{\"perc")
            .unwrap();
        assert_eq!(progress.read().unwrap().percent, Some(100.0));
        assert_eq!(progress.read(), None);
        task.write_all(b"ent\": 42.5, \"etaMs\": 7, \"message\": \"m\"}\n").unwrap();
        let expected =
            Progress { percent: Some(42.5), eta_ms: Some(7), message: Some("m".to_owned()) };
        assert_eq!(progress.read(), Some(expected));
        let path = progress.path().to_owned();
        drop(progress);
        assert!(!path.exists());
    }
}
