//! Cuts a stream into lines of bounded length.
//!
//! A block is a piece of a stream that begins and ends with a line, so it can be counted, dropped
//! and stored without its neighbours. A line longer than the limit becomes several, each but the
//! last of which says that it goes on. Counting allocates nothing: a task that writes gigabytes
//! costs one pass over them.

use chrono::{DateTime, Utc};

use crate::tasks::outcome::{LogLine, LogStream};

/// How many bytes are passed over at once when lines are counted.
const STRIDE: usize = 4 * 1024;

/// Whole lines of one stream, read at the same moment.
#[derive(Clone, Copy, Debug)]
pub struct LogBlock<'a> {
    /// Where they come from.
    pub stream: LogStream,
    /// When they were read.
    pub at: DateTime<Utc>,
    /// The lines with their ends, secrets masked.
    pub bytes: &'a [u8],
    /// The longest line, in bytes.
    pub line_limit: usize,
    /// The stream ends here, so a last line without an end is whole.
    pub is_last: bool,
}

impl<'a> LogBlock<'a> {
    /// The lines, and after each how many bytes of the block it and those before it took.
    pub fn lines(&self) -> impl Iterator<Item = (RawLine<'a>, usize)> + use<'a> {
        let (bytes, limit, is_last) = (self.bytes, self.line_limit, self.is_last);
        let mut place = 0;
        std::iter::from_fn(move || {
            let rest = bytes.get(place..).filter(|rest| !rest.is_empty())?;
            let end = rest.iter().position(|byte| *byte == b'\n');
            let line = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            let (line, taken, continues) = if line.len() > limit {
                let taken = piece_length(line, limit);
                (line.get(..taken).unwrap_or_default(), taken, true)
            } else if end.is_some() {
                (line.strip_suffix(b"\r").unwrap_or(line), line.len() + 1, false)
            } else {
                (line, line.len(), !is_last)
            };
            place += taken;
            Some((RawLine { bytes: line, continues }, place))
        })
    }

    /// How many lines it has: one fast pass over its bytes where no line is too long.
    #[must_use]
    pub fn count(&self) -> i64 {
        let count = if self.has_long_line() {
            self.lines().count()
        } else {
            let is_open = self.bytes.last().is_some_and(|byte| *byte != b'\n');
            newlines(self.bytes) + usize::from(is_open)
        };
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    /// Its first lines that together cost `cost` or more, each its bytes and `line_cost`: how many
    /// lines and bytes. All of it when it costs less.
    #[must_use]
    pub fn first_lines(&self, cost: usize, line_cost: usize) -> (i64, usize) {
        let mut start = 0;
        let mut count = 0;
        if !self.has_long_line() {
            let mut counted = 0;
            for (index, stride) in self.bytes.chunks(STRIDE).enumerate() {
                let end = index * STRIDE + stride.len();
                counted += newlines(stride);
                if end.saturating_add(counted.saturating_mul(line_cost)) >= cost {
                    break;
                }
                if let Some(last) = stride.iter().rposition(|byte| *byte == b'\n') {
                    (start, count) = (index * STRIDE + last + 1, counted);
                }
            }
        }
        let rest = LogBlock { bytes: self.bytes.get(start..).unwrap_or_default(), ..*self };
        let mut end = start;
        for (_, taken) in rest.lines() {
            (end, count) = (start + taken, count + 1);
            if end.saturating_add(count.saturating_mul(line_cost)) >= cost {
                break;
            }
        }
        (i64::try_from(count).unwrap_or(i64::MAX), end)
    }

    fn has_long_line(&self) -> bool {
        let mut place = 0;
        while self.bytes.len() - place > self.line_limit {
            let window = self.bytes.get(place..=place + self.line_limit).unwrap_or_default();
            match window.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => place += end + 1,
                None => return true,
            }
        }
        false
    }

    /// The lines as a sink without a way of its own takes them.
    pub fn log_lines(&self) -> impl Iterator<Item = LogLine> + use<'a> {
        let (stream, at) = (self.stream, self.at);
        self.lines().map(move |(line, _)| LogLine {
            stream,
            at,
            text: line.text(),
            continues: line.continues,
        })
    }
}

/// How many ends of lines there are, a register at a time: at most 255 fit into a lane.
fn newlines(bytes: &[u8]) -> usize {
    let count = |part: &[u8]| part.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>();
    bytes.chunks(128).map(|part| usize::from(count(part))).sum()
}

/// A line as the task wrote it.
#[derive(Clone, Copy, Debug)]
pub struct RawLine<'a> {
    bytes: &'a [u8],
    /// Its text goes on in the next line.
    pub continues: bool,
}

impl RawLine<'_> {
    /// Its text; what is not UTF-8 and NUL (which PostgreSQL cannot keep) become U+FFFD.
    #[must_use]
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(self.bytes);
        if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.into_owned() }
    }
}

/// How much of a line of more than `limit` bytes goes into its first piece: no character of UTF-8
/// is cut.
fn piece_length(line: &[u8], limit: usize) -> usize {
    let is_inside = |place: usize| line.get(place).is_some_and(|byte| byte & 0xc0 == 0x80);
    let back = (0..4).find(|back| *back < limit && !is_inside(limit - back)).unwrap_or(0);
    (limit - back).max(1)
}

/// Makes blocks of what is read from a pipe.
pub(in crate::tasks) struct LineCutter {
    /// The beginning of a line, at most `limit` bytes.
    carry: Vec<u8>,
    limit: usize,
}

impl LineCutter {
    /// Lines of at most `limit` bytes (at least 8).
    pub(in crate::tasks) fn new(limit: usize) -> Self {
        Self { carry: Vec::new(), limit: limit.max(8) }
    }

    /// Takes bytes and hands over the lines that they complete.
    pub(in crate::tasks) fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8], usize)) {
        if self.carry.is_empty() {
            let end = self.whole(bytes);
            let (block, rest) = bytes.split_at(end);
            if !block.is_empty() {
                each(block, self.limit);
            }
            self.carry.extend_from_slice(rest);
            return;
        }
        self.carry.extend_from_slice(bytes);
        let end = self.whole(&self.carry);
        if end > 0 {
            each(self.carry.get(..end).unwrap_or_default(), self.limit);
            self.carry.drain(..end);
        }
        // One big read must not be held for ever by a stream that is silent from then on.
        if self.carry.capacity() > 4 * self.limit {
            self.carry.shrink_to(self.limit);
        }
    }

    /// Hands over a last line that has no end.
    pub(in crate::tasks) fn finish(&mut self, each: &mut dyn FnMut(&[u8], usize)) {
        if !self.carry.is_empty() {
            each(&self.carry, self.limit);
            self.carry = Vec::new();
        }
    }

    /// How many bytes make whole lines, or whole pieces of a line that is too long.
    fn whole(&self, bytes: &[u8]) -> usize {
        let mut end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
        while let Some(rest) = bytes.get(end..).filter(|rest| rest.len() > self.limit) {
            end += piece_length(rest, self.limit);
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(chunks: &[&[u8]], limit: usize) -> Vec<(String, bool)> {
        let mut lines = Vec::new();
        let mut take = |bytes: &[u8], line_limit: usize, is_last: bool| {
            let at = DateTime::UNIX_EPOCH;
            let block = LogBlock { stream: LogStream::Stdout, at, bytes, line_limit, is_last };
            lines.extend(block.lines().map(|(line, _)| (line.text(), line.continues)));
        };
        let mut cutter = LineCutter::new(limit);
        for chunk in chunks {
            cutter.push(chunk, &mut |bytes, limit| take(bytes, limit, false));
        }
        cutter.finish(&mut |bytes, limit| take(bytes, limit, true));
        lines
    }

    #[test]
    fn a_line_too_long_becomes_several_that_say_so() {
        let found = cut(&[b"abcdefghijkl\r\nxy\r\n\n\xffz\0"], 8);
        let expected = [
            ("abcdefgh", true),
            ("ijkl", false),
            ("xy", false),
            ("", false),
            ("\u{fffd}z\u{fffd}", false),
        ];
        assert_eq!(found, expected.map(|(text, continues)| (text.to_owned(), continues)));
    }

    #[test]
    fn no_character_is_cut() {
        let found = cut(&["ääääää".as_bytes()], 9);
        assert_eq!(found, [("ääää".to_owned(), true), ("ää".to_owned(), false)]);
    }

    proptest! {
        #[test]
        fn counting_lines_is_like_looking_at_each(
            parts in prop::collection::vec((0_usize..40, 0_usize..300), 0..12),
            is_last in any::<bool>(),
            limit in prop::sample::select(vec![8_usize, 16, 5_000, usize::MAX]),
            cost in 0_usize..60_000,
        ) {
            let lines = |(length, count): &(usize, usize)| {
                let line = [vec![b'x'; *length], vec![b'\n']].concat();
                line.repeat(*count)
            };
            let mut bytes: Vec<u8> = parts.iter().flat_map(lines).collect();
            if is_last {
                bytes.extend_from_slice(b"the end");
            }
            let at = DateTime::UNIX_EPOCH;
            let stream = LogStream::Stdout;
            let block = LogBlock { stream, at, bytes: &bytes, line_limit: limit, is_last };
            prop_assert_eq!(block.count(), i64::try_from(block.lines().count()).unwrap());
            let ends: Vec<usize> = block.lines().map(|(_, end)| end).collect();
            let enough = ends.iter().zip(1..).find(|(end, count)| *end + count * 64 >= cost);
            let all = (ends.last().copied().unwrap_or(0), ends.len());
            let (end, count) = enough.map_or(all, |(end, count)| (*end, count));
            let expected = (i64::try_from(count).unwrap(), end);
            prop_assert_eq!(block.first_lines(cost, 64), expected);
        }

        #[test]
        fn lines_do_not_depend_on_how_the_stream_was_read(
            text in "[a-cä\n\r]{0,200}",
            cuts in prop::collection::vec(0_usize..200, 0..10),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let read = cut(&chunks, 16);
            prop_assert_eq!(&read, &cut(&[bytes], 16));
            prop_assert!(read.iter().all(|(line, _)| line.len() <= 16));
            let joined: String = read
                .iter()
                .map(|(line, continues)| if *continues { line.clone() } else { format!("{line}\n") })
                .collect();
            let plain = text.replace("\r\n", "\n");
            prop_assert_eq!(joined.trim_end_matches('\n'), plain.trim_end_matches('\n'));
        }
    }
}
