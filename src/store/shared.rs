//! What a store shares with its threads: the change counters and, in tests, planned faults.

use parking_lot::Mutex;

use crate::store::changes::Changes;
use crate::store::faulty::FaultPlan;

/// One a store.
pub(crate) struct Shared {
    pub(crate) changes: Changes,
    pub(crate) faults: FaultPlan,
    /// Why nothing could be written the last time, until something is.
    pub(crate) unwritable: Mutex<Option<String>>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self { changes: Changes::new(), faults: FaultPlan::default(), unwritable: Mutex::default() }
    }
}
