//! Deadlines: when a chain is to have succeeded, and when that is in doubt.
//!
//! What runs of a schedule took before says when the next must run at the latest: a run that has
//! not started by then will probably be late, and is told of while something can still be done.

use chrono::TimeDelta;

use crate::domain::Timestamp;

/// How many of the last runs say how long the next will take.
pub const SAMPLES_MAX: usize = 50;
/// With fewer than these nothing is predicted.
pub const SAMPLES_MIN: usize = 5;

/// The smallest of `values` that `percent` of them do not exceed; none when there are none.
#[must_use]
pub fn percentile(values: &[i64], percent: usize) -> Option<i64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let place = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(place).copied()
}

/// How long the next run will take at most, probably, in milliseconds.
#[must_use]
pub fn expected_ms(durations: &[i64]) -> Option<i64> {
    if durations.len() < SAMPLES_MIN { None } else { percentile(durations, 95) }
}

/// When it must run at the latest to end by `deadline`.
#[must_use]
pub fn latest_start(deadline: Timestamp, expected_ms: i64) -> Timestamp {
    deadline - TimeDelta::milliseconds(expected_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let hundred: Vec<i64> = (1..=100).rev().collect();
        let cases = [(95, Some(95)), (100, Some(100)), (50, Some(50)), (1, Some(1))];
        for (percent, expected) in cases {
            assert_eq!(percentile(&hundred, percent), expected);
        }
        assert_eq!(percentile(&[7], 95), Some(7));
        assert_eq!(percentile(&[], 95), None);
    }

    #[test]
    fn few_runs_predict_nothing() {
        assert_eq!(expected_ms(&[10; 4]), None);
        assert_eq!(expected_ms(&[10, 20, 30, 40, 50]), Some(50));
    }
}
