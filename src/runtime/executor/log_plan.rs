//! What is kept of one stream of output, and what is dropped where: pure.
//!
//! The first lines are kept (the head), and the newest (the tail). Once the head is full, lines are
//! stored at a bounded rate: a service that talks a little is followed line by line, one that
//! floods is sampled, and its last lines are always stored at its end. Tail lines that are stored
//! roll out of the store when newer ones need their room. Whatever is not kept is a gap, and a gap
//! is a line of its own at its place: so many lines, so many bytes.
//!
//! A line costs its bytes and [`LINE_COST`], so that a million empty lines are not free.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::store::{Dropped, LogRow, LogTrim};
use crate::tasks::{LogBlock, LogStream};

/// What a line costs beside its bytes: its row in the store is at least that large.
pub const LINE_COST: usize = 64;
/// Once the head is full, this much of a stream is stored a second at most.
pub const TAIL_COST_A_SECOND: f64 = 32.0 * 1024.0;
/// A stream that paused may store this much at once.
const TAIL_COST_BURST: f64 = 64.0 * 1024.0;
/// Bytes of a stream that may wait even when all streams together hold too many.
const WAITING_BYTES_MIN: usize = 32 * 1024;

/// How much is kept of one stream; half of each for the head, half for the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepLimits {
    /// What its lines may cost.
    pub cost: usize,
    /// How many lines.
    pub lines: usize,
}

impl KeepLimits {
    const fn half_cost(self) -> usize {
        self.cost / 2
    }

    fn half_lines(self) -> i64 {
        i64::try_from(self.lines / 2).unwrap_or(i64::MAX)
    }
}

/// Lines that wait to be stored.
#[derive(Debug)]
struct Block {
    /// Number of its first line that still waits.
    first: i64,
    lines: i64,
    at: Timestamp,
    bytes: Vec<u8>,
    /// Where its first line that still waits begins.
    start: usize,
    line_limit: usize,
    is_last: bool,
}

impl Block {
    fn view(&self, stream: LogStream) -> LogBlock<'_> {
        LogBlock {
            stream,
            at: self.at,
            bytes: self.bytes.get(self.start..).unwrap_or_default(),
            line_limit: self.line_limit,
            is_last: self.is_last,
        }
    }

    fn length(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn cost(&self) -> usize {
        cost_of(self.length(), self.lines)
    }

    /// Lets go of the first lines of it.
    fn advance(&mut self, lines: i64, bytes: usize) {
        self.first += lines;
        self.lines -= lines;
        self.start += bytes;
    }
}

fn cost_of(bytes: usize, lines: i64) -> usize {
    bytes.saturating_add(usize::try_from(lines).unwrap_or(usize::MAX).saturating_mul(LINE_COST))
}

/// Lines that are not kept, from number `from` to number `to` (of which other streams have some).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    from: i64,
    to: i64,
    dropped: Dropped,
    at: Timestamp,
}

impl Gap {
    fn of(from: i64, to: i64, lines: i64, bytes: usize, at: Timestamp) -> Self {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        Self { from, to, dropped: Dropped { lines, bytes }, at }
    }

    /// Both, the other one being later.
    fn with(self, later: Self) -> Self {
        let dropped = Dropped {
            lines: self.dropped.lines.saturating_add(later.dropped.lines),
            bytes: self.dropped.bytes.saturating_add(later.dropped.bytes),
        };
        Self { from: self.from, to: later.to, dropped, at: later.at }
    }

    fn joined(first: Option<Self>, later: Self) -> Self {
        first.map_or(later, |first| first.with(later))
    }
}

/// Tail lines that were stored together.
#[derive(Debug)]
struct Stored {
    gap_before: Option<Gap>,
    first: i64,
    last: i64,
    lines: i64,
    bytes: usize,
    at: Timestamp,
}

/// A turn of the writer at a stream.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Row id of the execution.
    pub execution_id: i64,
    /// About what the lines taken may cost.
    pub most: usize,
    /// Monotonic.
    pub now: Duration,
    /// What lines past the head may cost a second.
    pub rate: f64,
    /// No more lines come: everything goes, whatever its rate.
    pub is_over: bool,
}

/// What is to be written of a stream.
#[derive(Debug, Default)]
pub struct Drained {
    /// Lines, in order.
    pub rows: Vec<LogRow>,
    /// Lines that go, before the others are written.
    pub trims: Vec<LogTrim>,
    /// What the rows cost.
    pub cost: usize,
}

/// One stream of one execution.
#[derive(Debug)]
pub struct StreamLog {
    stream: LogStream,
    limits: KeepLimits,
    /// What the head may still cost; `None` when it is full.
    head_left: Option<(usize, i64)>,
    head: VecDeque<Block>,
    /// Before the first block of `tail`.
    gap: Option<Gap>,
    tail: VecDeque<Block>,
    tail_cost: usize,
    waiting_bytes: usize,
    /// What was rolled out right after the head.
    rolled: Option<Gap>,
    stored: VecDeque<Stored>,
    stored_cost: usize,
    stored_lines: i64,
    allowance: f64,
    allowed_at: Option<Duration>,
}

impl StreamLog {
    /// Nothing yet.
    #[must_use]
    pub fn new(stream: LogStream, limits: KeepLimits) -> Self {
        Self {
            stream,
            limits,
            head_left: Some((limits.half_cost(), limits.half_lines())),
            head: VecDeque::new(),
            gap: None,
            tail: VecDeque::new(),
            tail_cost: 0,
            waiting_bytes: 0,
            rolled: None,
            stored: VecDeque::new(),
            stored_cost: 0,
            stored_lines: 0,
            allowance: TAIL_COST_BURST,
            allowed_at: None,
        }
    }

    /// Bytes that wait to be stored.
    #[must_use]
    pub const fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Something waits to be stored.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.head.is_empty() || !self.tail.is_empty() || self.gap.is_some()
    }

    /// Takes lines, the first of which has the number `first`; gives how many they are. When all
    /// streams together hold too many bytes (`is_tight`), this one keeps few of them waiting.
    pub fn push(&mut self, first: i64, block: LogBlock<'_>, is_tight: bool) -> i64 {
        let (head_lines, head_bytes, lines) = self.split(block, is_tight);
        let (bytes, rest) = block.bytes.split_at(head_bytes);
        let made = |first: i64, lines: i64, bytes: &[u8], is_last: bool| Block {
            first,
            lines,
            at: block.at,
            bytes: bytes.to_vec(),
            start: 0,
            line_limit: block.line_limit,
            is_last,
        };
        if head_lines > 0 {
            self.head.push_back(made(first, head_lines, bytes, block.is_last && rest.is_empty()));
            self.waiting_bytes += bytes.len();
        }
        if lines > head_lines {
            let tail = made(first + head_lines, lines - head_lines, rest, block.is_last);
            self.tail_cost += tail.cost();
            self.waiting_bytes += tail.length();
            self.tail.push_back(tail);
            self.drop_oldest(is_tight);
        }
        lines
    }

    /// How many lines and bytes of the block still go to the head, and how many lines it has.
    fn split(&mut self, block: LogBlock<'_>, is_tight: bool) -> (i64, usize, i64) {
        let (mut head_lines, mut head_bytes, mut lines) = (0, 0, 0);
        if is_tight && self.waiting_bytes > WAITING_BYTES_MIN {
            self.head_left = None;
        }
        if self.head_left.is_none() {
            return (0, 0, block.count());
        }
        for (_, end) in block.lines() {
            lines += 1;
            let Some((cost, count)) = self.head_left else { continue };
            if cost_of(end, lines) <= cost && lines <= count {
                (head_lines, head_bytes) = (lines, end);
            } else {
                self.head_left = None;
            }
        }
        if let Some((cost, count)) = &mut self.head_left {
            *cost -= cost_of(head_bytes, head_lines);
            *count -= head_lines;
        }
        (head_lines, head_bytes, lines)
    }

    /// Drops the oldest waiting lines of the tail while too much waits.
    fn drop_oldest(&mut self, is_tight: bool) {
        let most = if is_tight {
            self.limits.half_cost().min(WAITING_BYTES_MIN)
        } else {
            self.limits.half_cost()
        };
        while self.tail_cost > most {
            let Some(mut block) = self.tail.pop_front() else { break };
            let (cost, length) = (block.cost(), block.length());
            let over = self.tail_cost - most;
            let mut gone = (block.lines, length);
            if cost > over {
                // The newer part of it stays.
                gone = block.view(self.stream).first_lines(over, LINE_COST);
            }
            let (lines, bytes) = gone;
            let gap = Gap::of(block.first, block.first + lines - 1, lines, bytes, block.at);
            self.gap = Some(Gap::joined(self.gap, gap));
            self.tail_cost -= cost_of(bytes, lines);
            self.waiting_bytes -= bytes;
            block.advance(lines, bytes);
            if block.lines > 0 {
                self.tail.push_front(block);
            }
        }
    }

    /// Takes out what is to be stored now.
    pub fn drain(&mut self, turn: Turn) -> Drained {
        let Turn { execution_id, most, .. } = turn;
        let mut drained = Drained::default();
        while drained.cost < most {
            let Some(block) = self.head.front_mut() else { break };
            let (lines, bytes) = take_rows(block, self.stream, execution_id, most, &mut drained);
            self.waiting_bytes -= bytes;
            block.advance(lines, bytes);
            if block.lines == 0 {
                self.head.pop_front();
            }
        }
        if self.head.is_empty() && drained.cost < most {
            self.drain_tail(turn, &mut drained);
        }
        drained
    }

    fn drain_tail(&mut self, turn: Turn, drained: &mut Drained) {
        let Turn { execution_id, most, now, rate, is_over } = turn;
        let since = self.allowed_at.map_or(Duration::ZERO, |at| now.saturating_sub(at));
        self.allowed_at = Some(now);
        let earned = since.as_secs_f64() * rate;
        self.allowance = (self.allowance + earned).min(TAIL_COST_BURST);
        if self.tail.is_empty() && !(is_over && self.gap.is_some()) {
            return;
        }
        if !is_over && self.allowance <= 0.0 {
            return;
        }
        let before = drained.cost;
        #[expect(clippy::cast_possible_truncation, reason = "it is at most the burst")]
        #[expect(clippy::cast_sign_loss, reason = "it is above zero here")]
        let allowed = if is_over { most } else { most.min(before + self.allowance as usize + 1) };
        let gap_before = self.gap.take();
        if let Some(gap) = gap_before {
            drained.rows.push(self.gap_row(execution_id, gap));
        }
        let mut stored: Option<Stored> = None;
        while drained.cost < allowed {
            let Some(block) = self.tail.front_mut() else { break };
            let first = block.first;
            let (lines, bytes) = take_rows(block, self.stream, execution_id, allowed, drained);
            let entry = stored.get_or_insert(Stored {
                gap_before,
                first,
                last: first,
                lines: 0,
                bytes: 0,
                at: block.at,
            });
            entry.last = first + lines - 1;
            entry.lines += lines;
            entry.bytes += bytes;
            self.waiting_bytes -= bytes;
            self.tail_cost -= cost_of(bytes, lines);
            block.advance(lines, bytes);
            if block.lines == 0 {
                self.tail.pop_front();
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        {
            self.allowance -= (drained.cost - before) as f64;
        }
        if let Some(stored) = stored {
            self.stored_cost += cost_of(stored.bytes, stored.lines);
            self.stored_lines += stored.lines;
            self.stored.push_back(stored);
            self.roll(execution_id, drained);
        }
    }

    /// Rolls stored tail lines out while they are too many; the newest batch stays.
    fn roll(&mut self, execution_id: i64, drained: &mut Drained) {
        let mut rolled = None;
        while self.stored.len() > 1
            && (self.stored_cost > self.limits.half_cost()
                || self.stored_lines > self.limits.half_lines())
        {
            let Some(old) = self.stored.pop_front() else { break };
            self.stored_cost -= cost_of(old.bytes, old.lines);
            self.stored_lines -= old.lines;
            let lines = Gap::of(old.first, old.last, old.lines, old.bytes, old.at);
            let mut gap = match old.gap_before {
                Some(before) => before.with(lines),
                None => lines,
            };
            if let Some(next) = self.stored.front_mut().and_then(|next| next.gap_before.take()) {
                gap = gap.with(next);
            }
            rolled = Some(Gap::joined(rolled, gap));
        }
        let Some(gap) = rolled else { return };
        let gap = Gap::joined(self.rolled, gap);
        self.rolled = Some(gap);
        drained.rows.retain(|row| {
            row.stream != self.stream.name() || !(gap.from..=gap.to).contains(&row.line)
        });
        drained.trims.push(LogTrim {
            execution_id,
            stream: self.stream.name().to_owned(),
            from: gap.from,
            to: gap.to,
        });
        drained.rows.push(self.gap_row(execution_id, gap));
    }

    fn gap_row(&self, execution_id: i64, gap: Gap) -> LogRow {
        let mut row = LogRow::new((execution_id, gap.from), gap.at, self.stream.name(), "");
        row.dropped = Some(gap.dropped);
        row
    }
}

/// Turns lines of the block into rows until the cost is reached, one line at least; gives how many
/// lines and bytes of it that were.
fn take_rows(
    block: &Block,
    stream: LogStream,
    execution_id: i64,
    most: usize,
    drained: &mut Drained,
) -> (i64, usize) {
    let (mut lines, mut bytes) = (0, 0);
    for (line, end) in block.view(stream).lines() {
        let number = block.first + lines;
        let mut row = LogRow::new((execution_id, number), block.at, stream.name(), line.text());
        row.continues = line.continues;
        drained.rows.push(row);
        drained.cost += cost_of(end - bytes, 1);
        lines += 1;
        bytes = end;
        if drained.cost >= most {
            break;
        }
    }
    (lines, bytes)
}

#[cfg(test)]
#[path = "log_plan_tests.rs"]
mod tests;
