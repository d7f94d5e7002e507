//! Circuit breakers, as claims see them.

use std::collections::HashMap;

use super::Tx;
use crate::domain::breaker::TargetGate;
use crate::store::op::OpResult;

/// Those of `targets` that do not let everything through.
#[expect(clippy::unused_async, reason = "nothing is asked of the database yet")]
pub(super) async fn target_gates(
    _tx: &mut Tx,
    _targets: &[String],
) -> OpResult<HashMap<String, TargetGate>> {
    Ok(HashMap::new())
}

/// Notes that `execution_id` was claimed as the probe of `target`.
#[expect(clippy::unused_async, reason = "nothing is asked of the database yet")]
pub(super) async fn begin_probe(_tx: &mut Tx, _target: &str, _execution_id: i64) -> OpResult<()> {
    Ok(())
}
