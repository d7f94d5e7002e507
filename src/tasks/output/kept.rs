//! What is kept of a stream of output for its result: its head, its tail, and how much was between
//! them.
//!
//! A little output stays in memory; more goes into a file without a name, so that a hundred noisy
//! tasks cost the server no memory. The file is never larger than the limit: its first half holds
//! the head, its second half is a ring with the tail. When the disk is full less is kept, which is
//! stated like any cut; the task is not disturbed.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Output above this goes into a file, in bytes.
pub(in crate::tasks) const SPILL_BYTES: usize = 64 * 1024;

/// Keeps the first and the last bytes of a stream, within a limit.
pub(in crate::tasks) struct HeadAndTail {
    place: Place,
    half: usize,
    total: u64,
    /// Where a file may be made; `None` keeps everything in memory.
    spool: Option<PathBuf>,
}

enum Place {
    Memory { head: Vec<u8>, tail: VecDeque<u8>, half: usize },
    File(File),
}

impl Place {
    const fn memory(half: usize) -> Self {
        Self::Memory { head: Vec::new(), tail: VecDeque::new(), half }
    }
}

impl HeadAndTail {
    /// Keeps at most `limit` bytes, in a file in the folder `spool` when they are many.
    pub(in crate::tasks) fn new(limit: usize, spool: Option<&Path>) -> Self {
        let half = limit / 2;
        // The file takes over before anything was cut.
        let spool = spool.filter(|_| half >= SPILL_BYTES).map(Path::to_owned);
        Self { place: Place::memory(half), half, total: 0, spool }
    }

    pub(in crate::tasks) fn push(&mut self, bytes: &[u8]) {
        self.spill(bytes.len());
        match &mut self.place {
            Place::Memory { head, tail, half } => push_memory(head, tail, *half, bytes),
            Place::File(file) => {
                if let Err(error) = push_file(file, self.half as u64, self.total, bytes) {
                    tracing::warn!(%error, "output of a task could not be kept");
                    // What comes from here on is kept in memory, and little of it.
                    self.place = Place::memory(SPILL_BYTES / 2);
                    self.spool = None;
                }
            }
        }
        self.total = self.total.saturating_add(bytes.len() as u64);
    }

    /// Moves from memory into a file when more comes than memory is to hold.
    fn spill(&mut self, more: usize) {
        let Place::Memory { head, tail, .. } = &self.place else { return };
        if self.total.saturating_add(more as u64) <= SPILL_BYTES as u64 {
            return;
        }
        let Some(spool) = self.spool.take() else { return };
        let (first, second) = tail.as_slices();
        let kept = [head.as_slice(), first, second].concat();
        let made = nameless_file(&spool).and_then(|file| {
            push_file(&file, self.half as u64, 0, &kept)?;
            Ok(file)
        });
        match made {
            Ok(file) => self.place = Place::File(file),
            Err(error) => tracing::warn!(%error, "no file for the output of a task"),
        }
    }

    /// Whether there is so much of it that reading it back should wait its turn.
    pub(in crate::tasks) const fn is_large(&self) -> bool {
        matches!(self.place, Place::File(_))
    }

    /// How many bytes were not kept.
    pub(in crate::tasks) fn missing(&self) -> u64 {
        let kept = match &self.place {
            Place::Memory { head, tail, .. } => (head.len() + tail.len()) as u64,
            Place::File(_) => self.total.min(2 * self.half as u64),
        };
        self.total.saturating_sub(kept)
    }

    /// The text, with a line that states the cut if there is one. Invalid UTF-8 is replaced.
    pub(in crate::tasks) fn text(&self) -> String {
        let (head, tail) = match &self.place {
            Place::Memory { head, tail, .. } => {
                let (first, second) = tail.as_slices();
                (head.clone(), [first, second].concat())
            }
            Place::File(file) => match read_file(file, self.half as u64, self.total) {
                Ok(parts) => parts,
                Err(error) => return format!("[... could not be read back: {error} ...]"),
            },
        };
        let missing = self.missing();
        if missing == 0 {
            let whole = [head, tail].concat();
            return String::from_utf8(whole)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        }
        let (head, tail) = (String::from_utf8_lossy(&head), String::from_utf8_lossy(&tail));
        format!("{head}\n[... {missing} bytes not kept ...]\n{tail}")
    }
}

fn push_memory(head: &mut Vec<u8>, tail: &mut VecDeque<u8>, half: usize, bytes: &[u8]) {
    let room = half.saturating_sub(head.len()).min(bytes.len());
    let (first, rest) = bytes.split_at(room);
    head.extend_from_slice(first);
    let kept = rest.get(rest.len().saturating_sub(half)..).unwrap_or_default();
    let over = (tail.len() + kept.len()).saturating_sub(half);
    tail.drain(..over);
    tail.extend(kept);
}

/// Writes the bytes that come after the first `total` of the stream where they belong.
fn push_file(file: &File, half: u64, total: u64, bytes: &[u8]) -> io::Result<()> {
    // Of more than a ring only the end stays, but the head must be filled first.
    let mut at = total;
    let mut rest = bytes;
    while !rest.is_empty() {
        let (place, room) = if at < half {
            (at, half - at)
        } else {
            let turn = (at - half) % half;
            (half + turn, half - turn)
        };
        let length = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
        let (now, later) = rest.split_at(length);
        // A turn of the ring that a later one writes over is left out.
        if at < half || (later.len() as u64) < half {
            file.write_all_at(now, place)?;
        }
        at += length as u64;
        rest = later;
    }
    Ok(())
}

fn read_file(file: &File, half: u64, total: u64) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let read = |from: u64, length: u64| -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, from)?;
        Ok(bytes)
    };
    let head = read(0, total.min(half))?;
    let after = total.saturating_sub(half);
    if after <= half {
        return Ok((head, read(half, after)?));
    }
    let turn = after % half;
    Ok((head, [read(half + turn, half - turn)?, read(half, turn)?].concat()))
}

/// A file that nobody else can open and that is gone with its last handle.
fn nameless_file(folder: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = folder.join(uuid::Uuid::new_v4().to_string());
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_fits_is_kept_whole() {
        let mut kept = HeadAndTail::new(10, None);
        kept.push(b"01234");
        kept.push(b"56789");
        assert_eq!((kept.text().as_str(), kept.missing()), ("0123456789", 0));
    }

    #[test]
    fn a_cut_is_stated_between_head_and_tail() {
        let mut kept = HeadAndTail::new(8, None);
        kept.push(b"abcdefghijklmnop");
        assert_eq!(kept.text(), "abcd\n[... 8 bytes not kept ...]\nmnop");
    }

    #[test]
    fn a_file_that_cannot_be_made_keeps_less_and_says_so() {
        let mut kept = HeadAndTail::new(1024 * 1024, Some(Path::new("/nowhere")));
        kept.push(&[b'x'; 300_000]);
        assert!(!kept.is_large());
        assert_eq!(kept.missing(), 0, "memory has to do");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn head_and_tail_are_those_of_the_stream(
            lengths in prop::collection::vec(0_usize..300_000, 0..8),
            half in prop::sample::select(vec![5_usize, 70_000, 131_072]),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut kept = HeadAndTail::new(half * 2, Some(folder.path()));
            let mut all: Vec<u8> = Vec::new();
            for length in lengths {
                let begin = all.len();
                all.extend((begin..begin + length).map(|place| b'a' + u8::try_from(place % 23).unwrap()));
                kept.push(&all[begin..]);
            }
            let head = &all[..all.len().min(half)];
            let tail = &all[head.len().max(all.len().saturating_sub(half))..];
            let missing = all.len() - head.len() - tail.len();
            prop_assert_eq!(kept.missing(), missing as u64);
            let (head, tail) = (String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
            let expected = if missing == 0 {
                format!("{head}{tail}")
            } else {
                format!("{head}\n[... {missing} bytes not kept ...]\n{tail}")
            };
            prop_assert!(kept.text() == expected);
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}
