//! Which running tasks make room for urgent ones: pure.
//!
//! A task of high priority that has waited for a slot for [`PATIENCE`] takes that of one here that
//! said it may be interrupted. Guarantees:
//! - Nobody who did not say so, and nobody of high priority, is interrupted.
//! - No more are interrupted than wait, counting those that are on their way out.
//! - The least urgent go first, of these the latest begun: the least work is lost.
//! - A chain makes room [`TIMES_MAX`] times at most, and then runs to its end.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::execution::Priority;
use crate::domain::options::AdmissionOptions;

/// How long an urgent one waits for a slot to become free by itself.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// How often a chain makes room.
pub const TIMES_MAX: i32 = 3;

/// A running task that may be interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preemptible {
    /// Row id.
    pub id: i64,
    /// How urgent it is.
    pub priority: Priority,
    /// When it began here.
    pub begun_at: Instant,
}

impl Preemptible {
    /// A row that begins now, if it may be interrupted.
    #[must_use]
    pub fn of(id: i64, priority: Priority, options: &AdmissionOptions) -> Option<Self> {
        let may =
            options.preemptible && options.preempted < TIMES_MAX && priority != Priority::High;
        may.then(|| Self { id, priority, begun_at: Instant::now() })
    }
}

/// Who makes room for `urgent` that wait while `leaving` are on their way out.
#[must_use]
pub fn plan_preemption(mut running: Vec<Preemptible>, urgent: usize, leaving: usize) -> Vec<i64> {
    running.sort_by_key(|one| {
        (std::cmp::Reverse((one.priority.rank(), one.begun_at)), std::cmp::Reverse(one.id))
    });
    running.into_iter().take(urgent.saturating_sub(leaving)).map(|one| one.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_said_so_makes_room_and_no_chain_more_than_three_times() {
        for (preemptible, preempted, priority, expected) in [
            (true, 0, Priority::Low, true),
            (true, TIMES_MAX - 1, Priority::Medium, true),
            (true, TIMES_MAX, Priority::Low, false),
            (true, 0, Priority::High, false),
            (false, 0, Priority::Low, false),
        ] {
            let options =
                AdmissionOptions { preemptible, preempted, ..AdmissionOptions::default() };
            let found = Preemptible::of(7, priority, &options);
            assert_eq!(found.map(|one| one.id), expected.then_some(7), "{options:?} {priority}");
        }
    }

    #[test]
    fn the_least_urgent_and_latest_begun_make_room_and_no_more_than_wait() {
        let start = Instant::now();
        let one = |id, priority, after| Preemptible {
            id,
            priority,
            begun_at: start + Duration::from_secs(after),
        };
        let running = || {
            vec![
                one(1, Priority::Medium, 9),
                one(2, Priority::Low, 1),
                one(3, Priority::Low, 5),
                one(4, Priority::Low, 3),
            ]
        };
        for (urgent, leaving, expected) in [
            (0, 0, vec![]),
            (1, 0, vec![3]),
            (2, 1, vec![3]),
            (1, 1, vec![]),
            (1, 5, vec![]),
            (9, 0, vec![3, 4, 2, 1]),
        ] {
            assert_eq!(plan_preemption(running(), urgent, leaving), expected, "{urgent} {leaving}");
        }
    }
}
