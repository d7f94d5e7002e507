//! The judge of every crash test: a pure function from what should have been, what the store says
//! and what the tasks themselves wrote down, to what was lost, doubled, cannot be explained, or
//! was alive twice.
//!
//! It knows nothing of the product: the instants come from an oracle of the test's own, the rows
//! and the missed-run ledger through the API or by SQL, the lines from files that the tasks append
//! to. It is for histories in which every task succeeds when it is let: a chain that did not
//! complete is lost.

use std::collections::{BTreeMap, BTreeSet};

/// A planned instant, in milliseconds since the epoch.
pub(crate) type Instant = i64;

/// One row of the store: an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) execution: String,
    pub(crate) chain: String,
    pub(crate) attempt: i64,
    pub(crate) status: String,
    /// The schedule and the instant that it was planned for, when its schedule made it.
    pub(crate) planned: Option<(i64, Instant)>,
    /// The schedule of its chain.
    pub(crate) scheduled: Option<i64>,
    /// What it ran.
    pub(crate) command: String,
}

/// Planned instants that the missed-run ledger accounts for.
#[derive(Clone, Debug)]
pub(crate) struct Missed {
    pub(crate) schedule: i64,
    pub(crate) from: Instant,
    pub(crate) to: Instant,
    pub(crate) count: i64,
}

/// What a task wrote down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Began,
    Ended,
    /// Another tree of its chain held the chain's lock.
    Overlapped,
}

/// A line of the ledger outside the product, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) word: Word,
    pub(crate) execution: String,
    pub(crate) chain: String,
}

/// All that is known after a test.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// By schedule, every instant that has come.
    pub(crate) due: BTreeMap<i64, BTreeSet<Instant>>,
    pub(crate) rows: Vec<Row>,
    pub(crate) missed: Vec<Missed>,
    /// Executions whose creation was answered with success.
    pub(crate) acknowledged: Vec<String>,
    pub(crate) lines: Vec<Line>,
    /// Whether tasks write a line when they end, too: then overlaps show in the order of lines.
    pub(crate) has_ends: bool,
}

/// What is wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Finding {
    /// Should be there and is not.
    Lost(String),
    /// Is there more than once.
    Doubled(String),
    /// Is there and should not be, or contradicts itself.
    Unexplained(String),
    /// Two process trees of one chain were alive at the same time.
    Overlapping(String),
}

/// Everything that is wrong, sorted; nothing when all is well.
pub(crate) fn check(history: &History) -> Vec<Finding> {
    let mut findings = instants(history);
    findings.extend(chains(history));
    findings.extend(begins(history));
    findings.extend(trees(history));
    findings.extend(acknowledged(history));
    findings.sort();
    findings
}

/// Fails with every finding.
pub(crate) fn expect_sound(history: &History) {
    let findings = check(history);
    assert!(
        findings.is_empty(),
        "{} findings:\n{}",
        findings.len(),
        findings.iter().take(40).map(|one| format!("  {one:?}")).collect::<Vec<_>>().join("\n")
    );
}

/// Every instant that has come has one outcome, and nothing else has one.
fn instants(history: &History) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut outcomes: BTreeMap<(i64, Instant), usize> = BTreeMap::new();
    for planned in history.rows.iter().filter(|row| row.attempt == 1).filter_map(|row| row.planned)
    {
        *outcomes.entry(planned).or_default() += 1;
    }
    let none = BTreeSet::new();
    for range in &history.missed {
        let due = history.due.get(&range.schedule).unwrap_or(&none);
        let covered: Vec<Instant> = due.range(range.from..=range.to).copied().collect();
        if i64::try_from(covered.len()) != Ok(range.count) {
            findings.push(Finding::Unexplained(format!(
                "{range:?} counts {} instants, {} were planned",
                range.count,
                covered.len()
            )));
        }
        for at in covered {
            *outcomes.entry((range.schedule, at)).or_default() += 1;
        }
    }
    for (schedule, due) in &history.due {
        for at in due {
            match outcomes.remove(&(*schedule, *at)).unwrap_or(0) {
                0 => findings.push(Finding::Lost(format!("schedule {schedule} at {at}"))),
                1 => {}
                more => findings.push(Finding::Doubled(format!(
                    "schedule {schedule} at {at} has {more} outcomes"
                ))),
            }
        }
    }
    let never = outcomes.into_keys();
    findings.extend(never.map(|(schedule, at)| {
        Finding::Unexplained(format!("schedule {schedule} never planned {at}"))
    }));
    findings
}

/// Every chain has its attempts from 1 on, each once, and one of them completed: the last.
fn chains(history: &History) -> Vec<Finding> {
    let mut chains: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in &history.rows {
        chains.entry(&row.chain).or_default().push(row);
    }
    let mut findings = Vec::new();
    for (chain, mut rows) in chains {
        rows.sort_by_key(|row| row.attempt);
        let told: Vec<String> =
            rows.iter().map(|row| format!("{} {}", row.attempt, row.status)).collect();
        let told = format!("chain {chain}: {}", told.join(", "));
        for (place, row) in (1..).zip(&rows) {
            if row.attempt < place {
                findings.push(Finding::Doubled(told.clone()));
            } else if row.attempt > place {
                findings.push(Finding::Unexplained(told.clone()));
            }
        }
        match rows.iter().filter(|row| row.status == "completed").count() {
            0 => findings.push(Finding::Lost(told)),
            1 if rows.last().is_some_and(|row| row.status == "completed") => {}
            1 => findings.push(Finding::Unexplained(told)),
            _ => findings.push(Finding::Doubled(told)),
        }
    }
    findings
}

/// An execution began at most once; what completed began; what began is known.
fn begins(history: &History) -> Vec<Finding> {
    let mut begun: BTreeMap<&str, usize> = BTreeMap::new();
    for line in history.lines.iter().filter(|line| line.word == Word::Began) {
        *begun.entry(&line.execution).or_default() += 1;
    }
    let mut findings = Vec::new();
    let known: BTreeSet<&str> = history.rows.iter().map(|row| row.execution.as_str()).collect();
    for (execution, count) in &begun {
        if *count > 1 {
            findings.push(Finding::Doubled(format!("execution {execution} began {count} times")));
        }
        if !known.contains(execution) {
            findings.push(Finding::Unexplained(format!("{execution} began and has no row")));
        }
    }
    let silent = history
        .rows
        .iter()
        .filter(|row| row.status == "completed" && !begun.contains_key(row.execution.as_str()));
    findings.extend(
        silent.map(|row| Finding::Lost(format!("{} completed and never began", row.execution))),
    );
    findings
}

/// No tree of a chain began while another was alive: by their locks, and by the order of lines for
/// trees that told their end.
fn trees(history: &History) -> Vec<Finding> {
    let mut findings = Vec::new();
    let tell = |one: &Line| Finding::Overlapping(format!("{} of {}", one.execution, one.chain));
    let ended: BTreeSet<&str> = history
        .lines
        .iter()
        .filter(|line| line.word == Word::Ended)
        .map(|line| line.execution.as_str())
        .collect();
    let mut alive: BTreeMap<&str, &str> = BTreeMap::new();
    for line in &history.lines {
        match line.word {
            Word::Overlapped => findings.push(tell(line)),
            Word::Began if history.has_ends => {
                if alive.contains_key(line.chain.as_str()) {
                    findings.push(tell(line));
                }
                // One that was killed told no end: its lock alone can say how long it lived.
                if ended.contains(line.execution.as_str()) {
                    alive.insert(&line.chain, &line.execution);
                }
            }
            Word::Ended if alive.get(line.chain.as_str()) == Some(&line.execution.as_str()) => {
                alive.remove(line.chain.as_str());
            }
            Word::Began | Word::Ended => {}
        }
    }
    findings
}

/// What was acknowledged is there.
fn acknowledged(history: &History) -> Vec<Finding> {
    let known: BTreeSet<&str> = history.rows.iter().map(|row| row.execution.as_str()).collect();
    let absent = history.acknowledged.iter().filter(|id| !known.contains(id.as_str()));
    absent.map(|id| Finding::Lost(format!("{id} was acknowledged and has no row"))).collect()
}

mod tests {
    use super::*;

    fn row(execution: &str, chain: &str, attempt: i64, status: &str) -> Row {
        let planned = (chain != "adhoc").then(|| (1, chain.parse().unwrap()));
        let (execution, chain, status) =
            (execution.to_owned(), chain.to_owned(), status.to_owned());
        let (scheduled, command) = (planned.map(|(schedule, _)| schedule), String::new());
        Row { execution, chain, attempt, status, planned, scheduled, command }
    }

    fn line(word: Word, execution: &str, chain: &str) -> Line {
        Line { word, execution: execution.to_owned(), chain: chain.to_owned() }
    }

    /// Instants 10 to 40: one ran, one was retried after its node died, two were missed; one run
    /// was asked for.
    fn sound() -> History {
        let began = |execution: &str, chain: &str| line(Word::Began, execution, chain);
        let ended = |execution: &str, chain: &str| line(Word::Ended, execution, chain);
        History {
            due: BTreeMap::from([(1, BTreeSet::from([10, 20, 30, 40]))]),
            rows: vec![
                row("a", "10", 1, "completed"),
                row("b", "20", 1, "failed"),
                row("c", "20", 2, "completed"),
                row("d", "adhoc", 1, "completed"),
            ],
            missed: vec![Missed { schedule: 1, from: 30, to: 40, count: 2 }],
            acknowledged: vec!["d".to_owned()],
            lines: vec![
                began("a", "10"),
                ended("a", "10"),
                began("b", "20"),
                began("c", "20"),
                began("d", "adhoc"),
                ended("c", "20"),
                ended("d", "adhoc"),
            ],
            has_ends: true,
        }
    }

    type Plant = fn(&mut History);
    type IsIt = fn(&Finding) -> bool;

    const LOST: IsIt = |one| matches!(one, Finding::Lost(_));
    const DOUBLED: IsIt = |one| matches!(one, Finding::Doubled(_));
    const UNEXPLAINED: IsIt = |one| matches!(one, Finding::Unexplained(_));
    const OVERLAPPING: IsIt = |one| matches!(one, Finding::Overlapping(_));

    #[test]
    fn a_sound_history_has_no_findings() {
        assert_eq!(check(&sound()), []);
        assert_eq!(check(&History::default()), []);
    }

    #[test]
    fn every_planted_fault_is_found_and_called_by_its_name() {
        let faults: [(&str, IsIt, Plant); 18] = [
            ("an instant without outcome", LOST, |h| {
                h.due.entry(1).or_default().insert(50);
            }),
            ("a row that vanished", LOST, |h| drop(h.rows.remove(0))),
            ("a range that vanished", LOST, |h| h.missed.clear()),
            ("an acknowledged run that vanished", LOST, |h| {
                h.acknowledged.push("e".to_owned());
            }),
            ("a chain that never completed", LOST, |h| h.rows[2].status = "failed".to_owned()),
            ("a retry that vanished", LOST, |h| drop(h.rows.remove(2))),
            ("an attempt that still waits", LOST, |h| h.rows[0].status = "pending".to_owned()),
            ("a completion of nothing", LOST, |h| drop(h.lines.remove(0))),
            ("an instant fired twice", DOUBLED, |h| {
                let mut again = row("x", "10", 1, "completed");
                again.chain = "another".to_owned();
                h.rows.push(again);
                h.lines.push(line(Word::Began, "x", "another"));
            }),
            ("an instant that ran and was missed", DOUBLED, |h| {
                h.missed.push(Missed { schedule: 1, from: 10, to: 10, count: 1 });
            }),
            ("an instant missed twice", DOUBLED, |h| {
                h.missed.push(Missed { schedule: 1, from: 40, to: 40, count: 1 });
            }),
            ("a chain that completed twice", DOUBLED, |h| {
                h.rows[1].status = "completed".to_owned();
            }),
            ("two second attempts", DOUBLED, |h| h.rows.push(row("y", "20", 2, "failed"))),
            ("an execution that began twice", DOUBLED, |h| {
                h.lines.push(line(Word::Began, "a", "10"));
            }),
            ("an instant nobody planned", UNEXPLAINED, |h| {
                h.rows[0].planned = Some((1, 15));
            }),
            ("a range that counts wrong", UNEXPLAINED, |h| h.missed[0].count = 3),
            ("a start without a row", UNEXPLAINED, |h| {
                h.lines.push(line(Word::Began, "z", "99"));
            }),
            ("an attempt number left out", UNEXPLAINED, |h| h.rows[2].attempt = 3),
        ];
        for (name, is_it, plant) in faults {
            let mut history = sound();
            plant(&mut history);
            let findings = check(&history);
            assert!(findings.iter().any(is_it), "{name}: {findings:?}");
        }
    }

    #[test]
    fn trees_of_one_chain_that_lived_together_are_found() {
        let overlaps: [(&str, Plant); 2] = [
            ("a lock that was held", |h| h.lines.push(line(Word::Overlapped, "c", "20"))),
            ("lines that cross", |h| h.lines.insert(4, line(Word::Ended, "b", "20"))),
        ];
        for (name, plant) in overlaps {
            let mut history = sound();
            plant(&mut history);
            let findings = check(&history);
            assert!(findings.iter().any(OVERLAPPING), "{name}: {findings:?}");
        }
    }
}
