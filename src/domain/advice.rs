//! Advice from what runs really used: better reservations, a better timeout, the best hour to run.

use serde::Serialize;

use crate::domain::Timestamp;
use crate::domain::execution::ExecutionUsage;
use crate::domain::sla::percentile;

/// With fewer runs than these nothing is advised.
pub const RUNS_MIN: usize = 5;
/// What is kept free above what was used.
const MARGIN: f64 = 1.2;
/// A timeout is this many times what nearly all runs took.
const TIMEOUT_FACTOR: i64 = 3;
const TIMEOUT_MIN_MS: i64 = 1_000;
const MEBIBYTE: f64 = 1_048_576.0;

/// A run that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastRun {
    /// How long it took, milliseconds.
    pub duration_ms: i64,
    /// What it used; only commands know.
    pub usage: Option<ExecutionUsage>,
}

/// What would fit a schedule.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    /// Runs that it is made from.
    pub runs: usize,
    /// Memory to declare, MiB.
    pub memory_mb: Option<i64>,
    /// Processors to declare.
    pub cpu: Option<f64>,
    /// A timeout, milliseconds.
    pub timeout_ms: Option<i64>,
    /// 95 of 100 runs took no longer, milliseconds.
    pub p95_ms: Option<i64>,
    /// Hour of the day (UTC) in which the least ran, with the runs of this schedule left out.
    pub best_hour: Option<usize>,
    /// Milliseconds that executions ran, by the hour of the day (UTC) in which they started.
    pub load_ms_by_hour: Vec<i64>,
    /// Why nothing is advised, where nothing is.
    pub note: Option<String>,
}

/// What another execution of the past adds to the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastLoad {
    /// When it started.
    pub started_at: Timestamp,
    /// How long it ran, milliseconds.
    pub duration_ms: i64,
}

/// Advice from past runs of a schedule and the load beside it.
#[must_use]
pub fn advise(runs: &[PastRun], load: &[PastLoad]) -> Advice {
    let by_hour = load_by_hour(load);
    let mut advice = Advice {
        runs: runs.len(),
        best_hour: (!load.is_empty()).then(|| quietest(&by_hour)).flatten(),
        load_ms_by_hour: by_hour,
        ..Advice::default()
    };
    if runs.len() < RUNS_MIN {
        advice.note =
            Some(format!("{} of the {RUNS_MIN} runs that advice is made from", runs.len()));
        return advice;
    }
    let durations: Vec<i64> = runs.iter().map(|run| run.duration_ms).collect();
    advice.p95_ms = percentile(&durations, 95);
    advice.timeout_ms =
        advice.p95_ms.map(|p95| rounded_up(p95 * TIMEOUT_FACTOR, 1_000).max(TIMEOUT_MIN_MS));
    let used: Vec<(i64, ExecutionUsage)> =
        runs.iter().filter_map(|run| run.usage.map(|usage| (run.duration_ms, usage))).collect();
    if used.len() < RUNS_MIN {
        advice.note = Some("what runs use is measured of shell commands only".to_owned());
        return advice;
    }
    let peaks: Vec<i64> = used
        .iter()
        .map(|(_, usage)| i64::try_from(usage.peak_memory_bytes).unwrap_or(i64::MAX))
        .collect();
    advice.memory_mb = percentile(&peaks, 95).map(memory_mb);
    // Thousandths of a processor, as a run of an hour and one of a second count the same.
    let shares: Vec<i64> = used
        .iter()
        .map(|(ms, usage)| {
            i64::try_from(usage.cpu_ms).unwrap_or(i64::MAX).saturating_mul(1_000) / (*ms).max(1)
        })
        .collect();
    advice.cpu = percentile(&shares, 95).map(cpus);
    advice
}

fn rounded_up(value: i64, step: i64) -> i64 {
    (value + step - 1) / step * step
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "memory to a MiB, far below 2^52"
)]
fn memory_mb(bytes: i64) -> i64 {
    ((bytes as f64 * MARGIN / MEBIBYTE).ceil() as i64).max(1)
}

#[expect(clippy::cast_precision_loss, reason = "thousandths of a processor are few")]
fn cpus(thousandths: i64) -> f64 {
    ((thousandths as f64 / 1_000.0 * MARGIN * 10.0).ceil() / 10.0).max(0.1)
}

fn load_by_hour(load: &[PastLoad]) -> Vec<i64> {
    use chrono::Timelike;
    let mut hours = vec![0_i64; 24];
    for past in load {
        let hour = usize::try_from(past.started_at.hour()).unwrap_or(0);
        if let Some(sum) = hours.get_mut(hour) {
            *sum = sum.saturating_add(past.duration_ms);
        }
    }
    hours
}

fn quietest(hours: &[i64]) -> Option<usize> {
    hours.iter().enumerate().min_by_key(|(_, sum)| **sum).map(|(hour, _)| hour)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(duration_ms: i64, mebibytes: u64, cpu_ms: u64) -> PastRun {
        let usage = ExecutionUsage {
            processes_killed: 0,
            peak_memory_bytes: mebibytes * 1_048_576,
            cpu_ms,
        };
        PastRun { duration_ms, usage: Some(usage) }
    }

    #[test]
    fn reservations_cover_what_nearly_all_runs_used_with_a_margin() {
        let mut runs = vec![run(10_000, 100, 5_000); 99];
        runs.push(run(90_000, 900, 90_000));
        let advice = advise(&runs, &[]);
        assert_eq!((advice.memory_mb, advice.cpu), (Some(120), Some(0.6)));
        assert_eq!((advice.p95_ms, advice.timeout_ms), (Some(10_000), Some(30_000)));
        assert_eq!(advice.note, None);
    }

    #[test]
    fn little_is_known_of_few_runs_and_of_those_that_are_not_measured() {
        let advice = advise(&[run(1, 1, 1); 4], &[]);
        assert_eq!((advice.memory_mb, advice.timeout_ms, advice.best_hour), (None, None, None));
        assert!(advice.note.is_some());
        let unmeasured = [PastRun { duration_ms: 10, usage: None }; 9];
        let advice = advise(&unmeasured, &[]);
        assert_eq!((advice.cpu, advice.timeout_ms), (None, Some(1_000)));
        assert!(advice.note.is_some());
    }

    #[test]
    fn the_best_hour_is_the_one_in_which_the_least_ran() {
        let at = |hour: i64| {
            Timestamp::from_timestamp(1_800_000_000 / 86_400 * 86_400 + hour * 3_600, 0).unwrap()
        };
        let load: Vec<PastLoad> = (0..24)
            .map(|hour| PastLoad {
                started_at: at(hour),
                duration_ms: if hour == 4 { 1 } else { 9 },
            })
            .collect();
        assert_eq!(advise(&[], &load).best_hour, Some(4));
    }
}
