//! The outcomes of planned instants as the API tells them, with a sentence for a person.

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::domain::event::instant_text;
use crate::domain::execution::ExecutionStatus;
use crate::domain::schedule::{LedgerRange, LedgerReason, MisfirePolicy};
use crate::store::{InstantOutcome, OutcomeRow};

/// A range of instants that did not run, or will not.
pub(crate) fn range(range: &LedgerRange) -> Value {
    json!({
        "from": instant_text(range.from),
        "to": instant_text(range.to),
        "count": range.count,
        "reason": range.reason,
    })
}

/// One outcome. An execution that started more than `grace_ms` after its instant ran late.
pub(crate) fn outcome(row: &OutcomeRow, grace_ms: i64) -> Value {
    let mut view = json!({
        "from": instant_text(row.from),
        "to": instant_text(row.to),
        "count": row.count,
        "outcome": "missed",
        "reason": null,
        "id": null,
        "executionId": null,
        "status": null,
        "startedAt": null,
        "latenessMs": null,
    });
    let more = match &row.outcome {
        InstantOutcome::Missed(reason) => {
            json!({ "reason": reason, "explanation": explain_miss(*reason, row.count) })
        }
        InstantOutcome::Execution { id, execution_id, status, started_at, lateness_ms } => {
            let (word, explanation) = explain_run(*status, *started_at, *lateness_ms, grace_ms);
            json!({
                "outcome": word,
                "id": id,
                "executionId": execution_id,
                "status": status,
                "startedAt": started_at.map(instant_text),
                "latenessMs": lateness_ms,
                "explanation": explanation,
            })
        }
    };
    if let (Value::Object(view), Value::Object(more)) = (&mut view, more) {
        view.extend(more);
    }
    view
}

/// Why instants did not run.
fn explain_miss(reason: LedgerReason, count: i64) -> String {
    let subject = match count {
        1 => "It did not run".to_owned(),
        _ => format!("{count} planned instants did not run"),
    };
    let why = match reason {
        LedgerReason::Overlap => {
            "as many earlier runs as `maxConcurrent` (under `queue` and `queueLimit`) allow still \
             waited or ran, or a newer instant took their place under `cancel_running`"
        }
        LedgerReason::Paused => {
            "the schedule was paused, and `misfirePolicy` did not run them at its resume"
        }
        LedgerReason::Stopped => {
            "the scheduler was stopped, and `misfirePolicy` did not run them at its start"
        }
        LedgerReason::Misfire => {
            "no server fired them in time (none ran, or the database was away, or an edit or a \
             deletion came first), and `misfirePolicy` did not run them later"
        }
        LedgerReason::Window => {
            "they were missed, and lay outside `catchupWindowMs` or past `catchupMax` when the \
             schedule caught up"
        }
        LedgerReason::Calendar => "a calendar excludes them",
        LedgerReason::ClockChange => "the zone's clock change left them out",
        LedgerReason::Skipped => "somebody asked to skip them",
        LedgerReason::NoCapacity => "there was no capacity to run them",
    };
    format!("{subject}: {why}.")
}

/// What became of an execution that was made of an instant.
fn explain_run(
    status: ExecutionStatus,
    started_at: Option<Timestamp>,
    lateness_ms: Option<i64>,
    grace_ms: i64,
) -> (&'static str, String) {
    if started_at.is_none() {
        return match status {
            ExecutionStatus::Pending => {
                ("waiting", "Its execution waits for a free slot.".to_owned())
            }
            _ => ("withdrawn", format!("Its execution was {status} before it started.")),
        };
    }
    let late = lateness_ms.unwrap_or(0);
    if late > grace_ms {
        ("ran_late", format!("It ran {} late; its status is {status}.", duration(late)))
    } else {
        ("ran", format!("It ran, {late} ms after its instant; its status is {status}."))
    }
}

/// Milliseconds for a person.
fn duration(ms: i64) -> String {
    match ms {
        ..10_000 => format!("{ms} ms"),
        10_000..600_000 => format!("{} s", ms / 1_000),
        600_000..36_000_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// Instants that have come and have no outcome yet.
pub(crate) struct Open {
    /// First instant.
    pub(crate) from: Timestamp,
    /// Last instant.
    pub(crate) to: Timestamp,
    /// How many.
    pub(crate) count: i64,
    /// The schedule is paused.
    pub(crate) is_paused: bool,
    /// The scheduler is stopped.
    pub(crate) is_stopped: bool,
    /// What decides about them.
    pub(crate) policy: MisfirePolicy,
}

impl Open {
    /// As the API tells it.
    pub(crate) fn view(&self) -> Value {
        let (reason, because) = match (self.is_paused, self.is_stopped) {
            (true, _) => (Some(LedgerReason::Paused), "the schedule is paused"),
            (false, true) => (Some(LedgerReason::Stopped), "the scheduler is stopped"),
            (false, false) => (None, "they are about to fire, or wait for earlier runs to end"),
        };
        let explanation = format!(
            "{} planned and not decided yet: {because}. `misfirePolicy` `{}` decides when the \
             schedule fires again.",
            if self.count == 1 {
                "1 instant is".to_owned()
            } else {
                format!("{} instants are", self.count)
            },
            self.policy.as_str(),
        );
        json!({
            "from": instant_text(self.from),
            "to": instant_text(self.to),
            "count": self.count,
            "reason": reason,
            "explanation": explanation,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_is_later_than_the_grace() {
        let started = Some(Timestamp::UNIX_EPOCH);
        let word = |late| explain_run(ExecutionStatus::Completed, started, Some(late), 5_000).0;
        assert_eq!((word(5_000), word(5_001)), ("ran", "ran_late"));
        assert_eq!(explain_run(ExecutionStatus::Pending, None, None, 0).0, "waiting");
        assert_eq!(explain_run(ExecutionStatus::Cancelled, None, None, 0).0, "withdrawn");
    }

    #[test]
    fn every_reason_has_its_sentence() {
        for reason in LedgerReason::ALL {
            let sentence = explain_miss(*reason, 3);
            assert!(sentence.starts_with("3 planned instants did not run: "), "{sentence}");
        }
    }
}
