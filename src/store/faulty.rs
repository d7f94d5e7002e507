//! Planned failures, for tests: at the nth call of a named operation, before or after its commit,
//! the operation fails or the whole process is killed.
//!
//! Every operation that writes is a commit boundary with a name in [`BOUNDARIES`]; one that is not
//! listed does not compile, so that the tests, which go through the list, leave none out. A store
//! without a plan pays one relaxed load an operation.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::process::Signal;

use crate::store::StoreError;

/// Where a planned failure strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPoint {
    /// Before the commit: nothing is written.
    BeforeCommit,
    /// After the commit: everything is written, but the caller is told otherwise.
    AfterCommit,
}

/// The operations that write, each of which commits in one place a back end.
pub const BOUNDARIES: [&str; 76] = [
    "execution_create",
    "execution_create_batch",
    "execution_claim",
    "execution_cancel",
    "execution_finish",
    "execution_delete_ended",
    "log_roll",
    "event_append",
    "node_register",
    "node_beat",
    "node_stop",
    "state_set",
    "key_create",
    "key_revoke",
    "key_touch",
    "session_open",
    "session_subscribe",
    "session_close",
    "session_close_stale",
    "retention_sweep",
    "error_start_retries",
    "error_retry",
    "error_decide",
    "dead_letter_resubmit",
    "dead_letter_discard",
    "schedule_create",
    "schedule_update",
    "schedule_set_enabled",
    "schedule_delete",
    "schedule_fire",
    "clock_set_back",
    "execution_claim_gated",
    "execution_rerank",
    "deadline_sweep",
    "queue_put",
    "queue_delete",
    "breaker_act",
    "error_group_resolve",
    "dead_letters_resubmit",
    "dead_letters_discard",
    "dead_letters_alert",
    "calendar_create",
    "calendar_update",
    "calendar_delete",
    "schedule_pause",
    "schedule_resume_due",
    "schedule_skip",
    "backfill_create",
    "backfill_advance",
    "backfill_stop",
    "audit_append",
    "execution_skip",
    "execution_pause",
    "execution_resume",
    "execution_override",
    "error_assign",
    "error_escalate",
    "alert_channel_create",
    "alert_channel_update",
    "alert_channel_delete",
    "alert_channel_test",
    "alert_rule_create",
    "alert_rule_update",
    "alert_rule_delete",
    "alert_advance",
    "alert_tick",
    "alert_acknowledge",
    "alert_message_claim",
    "alert_message_end",
    "event_post",
    "inbox_dispatch",
    "event_replay",
    "webhook_create",
    "webhook_change",
    "webhook_delete",
    "webhook_receive",
];

/// What a planned failure does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strike {
    /// The operation is `Unavailable`.
    Fail,
    /// `kill -9` of this process.
    Kill,
}

struct PlannedFault {
    operation: &'static str,
    calls_left: u32,
    point: FaultPoint,
    strike: Strike,
}

/// Whether an operation that writes is listed.
pub(crate) const fn is_boundary(operation: &str) -> bool {
    let mut index = 0;
    while index < BOUNDARIES.len() {
        #[expect(clippy::indexing_slicing, reason = "in range; const code has no iterators")]
        if are_equal(BOUNDARIES[index].as_bytes(), operation.as_bytes()) {
            return true;
        }
        index += 1;
    }
    false
}

const fn are_equal(mut one: &[u8], mut other: &[u8]) -> bool {
    while let ([first, rest @ ..], [second, others @ ..]) = (one, other) {
        if *first != *second {
            return false;
        }
        (one, other) = (rest, others);
    }
    one.is_empty() && other.is_empty()
}

/// Refuses to compile a writing operation that is no commit boundary by name.
macro_rules! listed {
    (write, $name:ident) => {
        const {
            assert!(
                $crate::store::faulty::is_boundary(stringify!($name)),
                "an operation that writes is named in `faulty::BOUNDARIES`"
            );
        }
    };
    (read, $name:ident) => {};
}
pub(crate) use listed;

/// The failures that are planned for a store.
#[derive(Default)]
pub struct FaultPlan {
    armed: AtomicBool,
    faults: Mutex<Vec<PlannedFault>>,
}

impl FaultPlan {
    /// Lets the `nth` (from 1) call of `operation` from now on fail at `point` with `Unavailable`.
    /// The name is that of the store's function, such as `execution_finish`.
    pub fn fail(&self, operation: &'static str, nth: u32, point: FaultPoint) {
        self.plan(operation, nth, point, Strike::Fail);
    }

    /// Lets the process be killed at a commit boundary, told as `OPERATION before NTH` or
    /// `OPERATION after NTH`.
    ///
    /// # Errors
    /// A sentence for a person when that is no boundary.
    pub fn kill_at(&self, text: &str) -> Result<(), String> {
        let mut words = text.split_whitespace();
        let operation = words.next().and_then(|word| BOUNDARIES.iter().find(|name| **name == word));
        let point = match words.next() {
            Some("before") => Some(FaultPoint::BeforeCommit),
            Some("after") => Some(FaultPoint::AfterCommit),
            _ => None,
        };
        let nth = words.next().and_then(|word| word.parse().ok());
        match (operation, point, nth, words.next()) {
            (Some(operation), Some(point), Some(nth), None) => {
                self.plan(operation, nth, point, Strike::Kill);
                Ok(())
            }
            _ => Err(format!(
                "`{text}` is not OPERATION before|after NTH; operations are {}",
                BOUNDARIES.join(", ")
            )),
        }
    }

    fn plan(&self, operation: &'static str, nth: u32, point: FaultPoint, strike: Strike) {
        let calls_left = nth.max(1);
        self.faults.lock().push(PlannedFault { operation, calls_left, point, strike });
        self.armed.store(true, Ordering::Relaxed);
    }

    /// Forgets all planned failures.
    pub fn clear(&self) {
        self.armed.store(false, Ordering::Relaxed);
        self.faults.lock().clear();
    }

    /// Counts a call of `operation` at `point`; an error when that call was planned to fail.
    pub(crate) fn check(
        &self,
        operation: &'static str,
        point: FaultPoint,
    ) -> Result<(), StoreError> {
        if !self.armed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut faults = self.faults.lock();
        let mut struck = None;
        faults.retain_mut(|fault| {
            if fault.operation != operation || fault.point != point {
                return true;
            }
            fault.calls_left -= 1;
            if fault.calls_left == 0 {
                struck = Some(fault.strike);
            }
            fault.calls_left > 0
        });
        match struck {
            None => Ok(()),
            Some(Strike::Fail) => Err(StoreError::Unavailable("planned failure".into())),
            Some(Strike::Kill) => die(),
        }
    }
}

/// Ends the process as `kill -9` would: nothing is flushed, nobody is told.
fn die() -> ! {
    loop {
        // The kernel ends this thread within the call; the loop is for the compiler.
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_is_told_by_its_whole_name() {
        assert!(is_boundary("schedule_fire"));
        assert!(!is_boundary("schedule_fir") && !is_boundary("schedule_fires"));
    }

    #[test]
    fn what_is_no_boundary_is_refused() {
        let plan = FaultPlan::default();
        assert_eq!(plan.kill_at("schedule_fire before 2"), Ok(()));
        for text in ["", "schedule_fire", "schedule_fire before", "no_such before 1", "x y z w"] {
            assert!(plan.kill_at(text).is_err(), "{text}");
        }
        assert!(plan.kill_at("schedule_fire after 1 more").is_err());
    }
}
