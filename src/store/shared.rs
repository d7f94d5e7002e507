//! What a store shares with its threads: the change counters and, in tests, planned faults.

use crate::store::changes::Changes;
use crate::store::faulty::FaultPlan;

/// One a store.
pub(crate) struct Shared {
    pub(crate) changes: Changes,
    pub(crate) faults: FaultPlan,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self { changes: Changes::new(), faults: FaultPlan::default() }
    }
}
