//! The near future in memory: schedules that are due soon, ordered by instant.
//!
//! A copy of what the store says, never the truth: it is filled anew from the store every second
//! and on every change, and a firing made from a stale copy changes nothing (the store compares
//! before it sets).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::domain::cadence::Cadence;
use crate::domain::calendar::{Calendar, Coverage};
use crate::domain::schedule::Schedule;
use crate::store::DueSchedules;

/// A schedule and its parsed cadence.
pub(super) struct Entry {
    /// The schedule as last read or fired.
    pub schedule: Schedule,
    /// Its cadence.
    pub cadence: Cadence,
}

/// Schedules that are due soon.
#[derive(Default)]
pub(super) struct Window {
    entries: HashMap<i64, Entry>,
    order: BTreeSet<(Timestamp, i64)>,
}

impl Window {
    /// The versions of the schedules that it holds, by id.
    pub(super) fn known(&self) -> HashMap<i64, i64> {
        self.entries.iter().map(|(id, entry)| (*id, entry.schedule.version)).collect()
    }

    /// Makes the content what was read. What it knew in that version keeps its parsed cadence and
    /// takes over where the schedule stands; what fired since the reading began (`fired`) is newer
    /// here and stays as it is. A schedule that cannot be parsed any more is left out and told of
    /// in the log.
    pub(super) fn refill(
        &mut self,
        due: DueSchedules,
        calendars: &[Calendar],
        default_zone: &str,
        fired: &HashSet<i64>,
    ) {
        let covered: HashMap<&str, Arc<Coverage>> = calendars
            .iter()
            .map(|calendar| &calendar.definition)
            .map(|definition| (definition.name.as_str(), Arc::new(Coverage::of(definition))))
            .collect();
        let mut old = std::mem::take(&mut self.entries);
        self.order.clear();
        for id in fired {
            if let Some(entry) = old.remove(id) {
                self.put(entry);
            }
        }
        for progress in due.progress.iter().filter(|progress| !fired.contains(&progress.id)) {
            if let Some(mut entry) = old.remove(&progress.id)
                && entry.schedule.version == progress.version
            {
                progress.put_into(&mut entry.schedule);
                self.put(entry);
            }
        }
        for schedule in due.unknown {
            if !fired.contains(&schedule.id)
                && let Some(cadence) = parse(&schedule, default_zone, &covered)
            {
                self.put(Entry { schedule, cadence });
            }
        }
    }

    /// Enters one schedule; one without a next instant is left out.
    pub(super) fn put(&mut self, entry: Entry) {
        let Some(next) = entry.schedule.next_run_at else { return };
        let id = entry.schedule.id;
        self.order.insert((next, id));
        self.entries.insert(id, entry);
    }

    /// Takes out up to `limit` schedules that are due at `now`, oldest instant first.
    pub(super) fn take_due(&mut self, now: Timestamp, limit: usize) -> Vec<Entry> {
        let mut due = Vec::new();
        while due.len() < limit {
            let Some((at, id)) = self.order.first().copied() else { break };
            if at > now {
                break;
            }
            self.order.pop_first();
            due.extend(self.entries.remove(&id));
        }
        due
    }

    /// The schedule that is due next and its instant.
    #[must_use]
    pub(super) fn next(&self) -> Option<(i64, Timestamp)> {
        self.order.first().map(|(at, id)| (*id, *at))
    }
}

fn parse(
    schedule: &Schedule,
    default_zone: &str,
    covered: &HashMap<&str, Arc<Coverage>>,
) -> Option<Cadence> {
    let found = |name: &str| covered.get(name).cloned();
    match schedule.grid(default_zone) {
        Ok(grid) => match schedule.definition.ruled(grid, found) {
            Ok(cadence) => return Some(cadence),
            Err(missing) => {
                tracing::error!(
                    schedule.id = schedule.id,
                    ?missing,
                    "a schedule's calendar is gone and it does not run; edit it"
                );
            }
        },
        Err(faults) => {
            tracing::error!(
                schedule.id = schedule.id,
                ?faults,
                "a stored schedule cannot be read and does not run; edit it"
            );
        }
    }
    None
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
