//! Planned failures, for tests: the nth call of a named operation fails before or after its commit.
//!
//! A store without a plan pays one relaxed load an operation.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::store::StoreError;

/// Where a planned failure strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPoint {
    /// Before the commit: nothing is written.
    BeforeCommit,
    /// After the commit: everything is written, but the caller is told otherwise.
    AfterCommit,
}

struct PlannedFault {
    operation: &'static str,
    calls_left: u32,
    point: FaultPoint,
}

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
        self.faults.lock().push(PlannedFault { operation, calls_left: nth.max(1), point });
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
        let mut strikes = false;
        faults.retain_mut(|fault| {
            if fault.operation != operation || fault.point != point {
                return true;
            }
            fault.calls_left -= 1;
            strikes |= fault.calls_left == 0;
            fault.calls_left > 0
        });
        if strikes { Err(StoreError::Unavailable("planned failure".into())) } else { Ok(()) }
    }
}
