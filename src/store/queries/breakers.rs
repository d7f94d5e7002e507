//! Circuit breakers, as claims see them.

use std::collections::HashMap;

use super::Tx;
use crate::domain::breaker::TargetGate;
use crate::store::op::OpResult;

/// Those of `targets` that do not let everything through.
#[expect(dead_code, clippy::unused_async, reason = "claims that admit one by one will ask")]
pub(super) async fn target_gates(
    _tx: &mut Tx,
    _targets: &[String],
) -> OpResult<HashMap<String, TargetGate>> {
    Ok(HashMap::new())
}

/// Notes that `execution_id` was claimed as the probe of `target`.
#[expect(dead_code, clippy::unused_async, reason = "claims that admit one by one will tell")]
pub(super) async fn begin_probe(_tx: &mut Tx, _target: &str, _execution_id: i64) -> OpResult<()> {
    Ok(())
}
