use proptest::prelude::*;

use super::*;

const LIMITS: KeepLimits = KeepLimits { cost: 4_000, lines: 40 };
const BATCH: usize = 1_000;

fn block(bytes: &[u8]) -> LogBlock<'_> {
    LogBlock {
        stream: LogStream::Stdout,
        at: Timestamp::UNIX_EPOCH,
        bytes,
        line_limit: 100,
        is_last: false,
    }
}

fn turn(most: usize, now: Duration, is_over: bool) -> Turn {
    Turn { execution_id: 1, most, now, rate: TAIL_COST_A_SECOND, is_over }
}

/// A store as the writer would fill it.
#[derive(Default)]
struct Kept {
    rows: Vec<LogRow>,
    /// Everything that was ever stored, by cost.
    written: usize,
}

impl Kept {
    fn write(&mut self, drained: Drained) {
        for trim in drained.trims {
            self.rows.retain(|row| !(trim.from..=trim.to).contains(&row.line));
        }
        self.written += drained.cost;
        self.rows.extend(drained.rows);
        self.rows.sort_by_key(|row| row.line);
    }

    fn drain_all(&mut self, log: &mut StreamLog, now: Duration) {
        while log.is_waiting() {
            self.write(log.drain(turn(BATCH, now, true)));
        }
    }

    fn numbers(&self) -> Vec<(i64, Option<i64>)> {
        self.rows.iter().map(|row| (row.line, row.dropped.map(|gap| gap.lines))).collect()
    }
}

fn lines(count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| format!("line {number}\n").into_bytes()).collect()
}

#[test]
fn what_fits_is_kept_whole_and_in_order() {
    let mut log = StreamLog::new(LogStream::Stdout, LIMITS);
    assert_eq!(log.push(1, block(&lines(10)), false), 10);
    assert_eq!(log.push(11, block(&lines(5)), false), 5);
    let mut kept = Kept::default();
    kept.drain_all(&mut log, Duration::ZERO);
    assert_eq!(kept.numbers(), (1..=15).map(|line| (line, None)).collect::<Vec<_>>());
    assert_eq!(kept.rows[10].text, "line 0");
    assert_eq!(log.waiting_bytes(), 0);
}

#[test]
fn a_flood_keeps_its_head_and_its_tail_and_states_the_gap_between() {
    let mut log = StreamLog::new(LogStream::Stdout, LIMITS);
    log.push(1, block(&lines(1_000)), false);
    let mut kept = Kept::default();
    kept.drain_all(&mut log, Duration::ZERO);
    let numbers = kept.numbers();
    let gap = numbers.iter().position(|(_, dropped)| dropped.is_some()).unwrap();
    let (first, dropped) = (numbers[gap].0, numbers[gap].1.unwrap());
    assert!(gap >= 15, "{numbers:?}");
    assert_eq!(numbers[gap + 1].0, first + dropped);
    assert_eq!(numbers.last(), Some(&(1_000, None)));
    assert!(numbers.len() <= 60, "{numbers:?}");
}

#[test]
fn a_flood_is_stored_at_a_bounded_rate() {
    let limits = KeepLimits { cost: 1024 * 1024, lines: 10_000 };
    let mut log = StreamLog::new(LogStream::Stdout, limits);
    let flood = lines(4_000);
    let (mut kept, mut next) = (Kept::default(), 1);
    for tenth in 0..600 {
        next += log.push(next, block(&flood), false);
        kept.write(log.drain(turn(128 * 1024, Duration::from_millis(tenth * 100), false)));
    }
    // The head, a burst, and a minute of the rate.
    assert!(kept.written < 512 * 1024 + 64 * 1024 + 61 * 33 * 1024, "{}", kept.written);
    let rows: usize = kept.rows.iter().map(|row| row.text.len() + 1 + LINE_COST).sum();
    assert!(rows <= 1024 * 1024 + 200 * 1024, "{rows}");
}

#[test]
fn a_quiet_stream_is_followed_and_rolls_its_oldest_tail_out() {
    let mut log = StreamLog::new(LogStream::Stdout, LIMITS);
    let (mut kept, mut next) = (Kept::default(), 1);
    for second in 0..300 {
        next += log.push(next, block(b"tick\n"), false);
        kept.write(log.drain(turn(BATCH, Duration::from_secs(second), false)));
        assert_eq!(kept.rows.last().unwrap().line, next - 1, "it is stored at once");
        assert!(kept.rows.len() <= 41);
    }
    let gaps: Vec<_> = kept.rows.iter().filter_map(|row| row.dropped).collect();
    assert_eq!(gaps, [Dropped { lines: 260, bytes: 260 * 5 }]);
}

proptest! {
    #[test]
    fn every_line_is_kept_or_counted_in_the_gap_at_its_place(
        steps in prop::collection::vec(
            (0_usize..60, any::<bool>(), any::<bool>(), 0_u64..4_000), 1..40
        ),
    ) {
        let mut log = StreamLog::new(LogStream::Stdout, LIMITS);
        let (mut kept, mut next, mut bytes, mut now) = (Kept::default(), 1, 0, Duration::ZERO);
        for (count, is_tight, drains, wait) in steps {
            let text = lines(count);
            if count > 0 {
                next += log.push(next, block(&text), is_tight);
                bytes += text.len();
            }
            now += Duration::from_millis(wait);
            if drains {
                kept.write(log.drain(turn(BATCH, now, false)));
            }
        }
        kept.drain_all(&mut log, now);
        prop_assert_eq!(log.waiting_bytes(), 0);
        let (mut place, mut found) = (1, 0);
        for row in &kept.rows {
            prop_assert_eq!(row.line, place, "{:?}", kept.numbers());
            place += row.dropped.map_or(1, |gap| gap.lines);
            found += row.dropped.map_or(i64::try_from(row.text.len()).unwrap() + 1, |gap| gap.bytes);
        }
        prop_assert_eq!(place, next);
        prop_assert_eq!(found, i64::try_from(bytes).unwrap());
        let cost: usize = kept
            .rows
            .iter()
            .filter(|row| row.dropped.is_none())
            .map(|row| row.text.len() + 1 + LINE_COST)
            .sum();
        prop_assert!(cost <= LIMITS.cost + 2 * BATCH, "{}", cost);
    }
}
