//! What is kept of a stream of output: its head, its tail, and how much was between them; and the
//! lines it is made of, for those who watch.

use std::collections::VecDeque;

/// Keeps the first and the last bytes of a stream, within a limit.
pub(in crate::tasks) struct HeadAndTail {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    half: usize,
    total: u64,
}

impl HeadAndTail {
    /// Keeps at most `limit` bytes.
    pub(super) const fn new(limit: usize) -> Self {
        Self { head: Vec::new(), tail: VecDeque::new(), half: limit / 2, total: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total = self.total.saturating_add(bytes.len() as u64);
        let room = self.half.saturating_sub(self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        let kept = rest.get(rest.len().saturating_sub(self.half)..).unwrap_or_default();
        let over = (self.tail.len() + kept.len()).saturating_sub(self.half);
        self.tail.drain(..over);
        self.tail.extend(kept);
    }

    /// How many bytes were not kept.
    pub(super) fn missing(&self) -> u64 {
        self.total.saturating_sub((self.head.len() + self.tail.len()) as u64)
    }

    /// The text, with a line that states the cut if there is one. Invalid UTF-8 is replaced.
    pub(super) fn text(&self) -> String {
        let missing = self.missing();
        let (first, second) = self.tail.as_slices();
        if missing == 0 {
            return String::from_utf8_lossy(&[&self.head, first, second].concat()).into_owned();
        }
        let head = String::from_utf8_lossy(&self.head);
        let tail = [first, second].concat();
        let tail = String::from_utf8_lossy(&tail);
        format!("{head}\n[... {missing} bytes not kept ...]\n{tail}")
    }
}

/// Cuts a stream into lines of bounded length, up to a bounded amount altogether.
pub(super) struct Lines {
    partial: Vec<u8>,
    /// Bytes of the current line that were over the limit.
    over: u64,
    line_limit: usize,
    budget: usize,
}

impl Lines {
    /// Lines of at most `line_limit` bytes, at most `budget` bytes in all.
    pub(super) const fn new(line_limit: usize, budget: usize) -> Self {
        Self { partial: Vec::new(), over: 0, line_limit, budget }
    }

    /// Takes bytes and hands every line that they complete to `each`. Returns true at the moment
    /// when the budget is spent, once.
    pub(super) fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(String)) -> bool {
        if self.budget == 0 {
            return false;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (content, ended) =
                piece.strip_suffix(b"\n").map_or((piece, false), |content| (content, true));
            let room = self.line_limit.saturating_sub(self.partial.len()).min(content.len());
            let (kept, over) = content.split_at(room);
            self.partial.extend_from_slice(kept);
            self.over = self.over.saturating_add(over.len() as u64);
            if ended {
                self.emit(each);
                if self.budget == 0 {
                    self.partial = Vec::new();
                    return true;
                }
            }
        }
        false
    }

    /// Hands over a last line that has no end.
    pub(super) fn finish(&mut self, each: &mut dyn FnMut(String)) {
        if !self.partial.is_empty() || self.over > 0 {
            self.emit(each);
        }
    }

    fn emit(&mut self, each: &mut dyn FnMut(String)) {
        let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        let mut text = String::from_utf8_lossy(line).into_owned();
        if self.over > 0 {
            text.push_str(&format!(" [... {} bytes not kept]", self.over));
        }
        // An empty line costs something too.
        self.budget = self.budget.saturating_sub(self.partial.len() + 1);
        self.partial.clear();
        self.over = 0;
        each(text);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_fits_is_kept_whole() {
        let mut kept = HeadAndTail::new(10);
        kept.push(b"01234");
        kept.push(b"56789");
        assert_eq!((kept.text().as_str(), kept.missing()), ("0123456789", 0));
    }

    #[test]
    fn a_cut_is_stated_between_head_and_tail() {
        let mut kept = HeadAndTail::new(8);
        kept.push(b"abcdefghijklmnop");
        assert_eq!(kept.text(), "abcd\n[... 8 bytes not kept ...]\nmnop");
    }

    #[test]
    fn a_line_too_long_says_how_much_of_it_is_missing() {
        let mut lines = Lines::new(4, 1000);
        let mut seen = Vec::new();
        lines.push(b"abcdefgh\r\nxy\r\n\n\xffz", &mut |line| seen.push(line));
        lines.finish(&mut |line| seen.push(line));
        assert_eq!(
            seen,
            ["abcd [... 4 bytes not kept]", "xy", "", "\u{fffd}z"]
                .map(|line| line.replace("4 bytes", "5 bytes"))
        );
    }

    #[test]
    fn the_budget_ends_the_lines_and_is_told_once() {
        let mut lines = Lines::new(100, 6);
        let mut seen = Vec::new();
        assert!(!lines.push(b"abc\n", &mut |line| seen.push(line)));
        assert!(lines.push(b"def\nghi\n", &mut |line| seen.push(line)));
        assert!(!lines.push(b"jkl\n", &mut |line| seen.push(line)));
        assert_eq!(seen, ["abc", "def"]);
    }

    proptest! {
        #[test]
        fn head_and_tail_are_those_of_the_stream(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
            half in 1_usize..20,
        ) {
            let mut kept = HeadAndTail::new(half * 2);
            let mut all = Vec::new();
            for chunk in &chunks {
                kept.push(chunk);
                all.extend_from_slice(chunk);
            }
            let head = &all[..all.len().min(half)];
            let tail = &all[head.len().max(all.len().saturating_sub(half))..];
            prop_assert_eq!(&kept.head, head);
            prop_assert_eq!(kept.tail.iter().copied().collect::<Vec<_>>(), tail);
            prop_assert_eq!(kept.missing(), (all.len() - head.len() - tail.len()) as u64);
        }
    }
}
