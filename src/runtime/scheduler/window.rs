//! The near future in memory: schedules that are due soon, ordered by instant.
//!
//! A copy of what the store says, never the truth: it is filled anew from the store every second
//! and on every change, and a firing made from a stale copy changes nothing (the store compares
//! before it sets).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::domain::cadence::Cadence;
use crate::domain::calendar::{Calendar, Coverage};
use crate::domain::schedule::Schedule;

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
    /// Replaces the content with what was read; parsed cadences of unchanged versions are kept.
    /// A schedule that cannot be parsed any more is left out and told of in the log.
    pub(super) fn refill(
        &mut self,
        schedules: Vec<Schedule>,
        default_zone: &str,
        calendars: &[Calendar],
    ) {
        let covered: HashMap<&str, Arc<Coverage>> = calendars
            .iter()
            .map(|calendar| &calendar.definition)
            .map(|definition| (definition.name.as_str(), Arc::new(Coverage::of(definition))))
            .collect();
        let mut old = std::mem::take(&mut self.entries);
        self.order.clear();
        for schedule in schedules {
            let known = old
                .remove(&schedule.id)
                .filter(|entry| entry.schedule.version == schedule.version)
                .map(|entry| entry.cadence);
            let Some(cadence) = known.or_else(|| parse(&schedule, default_zone, &covered)) else {
                continue;
            };
            self.put(Entry { schedule, cadence });
        }
    }

    /// The calendars that are needed to read those of the schedules that are not known yet. An edit
    /// of a calendar gives its schedules a new version, so that what is known is current.
    pub(super) fn calendars_of(&self, schedules: &[Schedule]) -> Vec<String> {
        let is_new = |schedule: &&Schedule| {
            let known = self.entries.get(&schedule.id);
            known.is_none_or(|entry| entry.schedule.version != schedule.version)
        };
        let used = |schedule: &Schedule| {
            let calendars = schedule.definition.options.cadence.calendars.iter();
            calendars.map(|used| used.name.clone()).collect::<Vec<String>>()
        };
        let mut names: Vec<String> = schedules.iter().filter(is_new).flat_map(used).collect();
        names.sort_unstable();
        names.dedup();
        names
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

    /// The next instant at which something is due.
    #[must_use]
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
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
