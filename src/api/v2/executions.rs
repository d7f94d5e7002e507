//! What people do to an execution: skip it, let it stand still and go on, say how it ended.

use crate::api::call::{Call, accepted, ok};
use crate::api::error::{Answer, ApiError};
use crate::api::v1::executions::nothing_in;
use crate::api::wire::body::Fields;
use crate::api::wire::interventions;
use crate::domain::act::CHANGE_BYTES_MAX;
use crate::runtime::handles::Wake;
use crate::store::{OutcomeSetting, OverrideOutcome};

/// `POST /executions/{id}/skip {reason?}`: a waiting one ends as `skipped`, its chain with it.
pub(crate) async fn skip(call: Call) -> Answer {
    call.no_query()?;
    nothing_in(&call)?;
    let acted = call.state.store().execution_skip(call.execution_key()?).await?;
    for what in [Wake::Executor, Wake::Recovery] {
        call.state.handles().wake(what);
    }
    ok(&interventions::acted(&acted))
}

/// `POST /executions/{id}/pause {reason?}`: 202, as the node that runs it stops it.
pub(crate) async fn pause(call: Call) -> Answer {
    call.no_query()?;
    nothing_in(&call)?;
    let reason = call.reason();
    let acted = call.state.store().execution_pause(call.execution_key()?, reason).await?;
    accepted(&interventions::acted(&acted))
}

/// `POST /executions/{id}/resume {reason?}`: 202, as the node that runs it lets it go on.
pub(crate) async fn resume(call: Call) -> Answer {
    call.no_query()?;
    nothing_in(&call)?;
    let reason = call.reason();
    let acted = call.state.store().execution_resume(call.execution_key()?, reason).await?;
    accepted(&interventions::acted(&acted))
}

/// `POST /executions/{id}/succeed {reason, result?}`.
pub(crate) async fn succeed(call: Call) -> Answer {
    set_outcome(call, OverrideOutcome::Succeeded).await
}

/// `POST /executions/{id}/fail {reason}`.
pub(crate) async fn fail(call: Call) -> Answer {
    set_outcome(call, OverrideOutcome::Failed).await
}

/// A word against what the attempts say needs its reason.
async fn set_outcome(call: Call, outcome: OverrideOutcome) -> Answer {
    call.no_query()?;
    let body = call.optional_json()?;
    let known: &[&str] = match outcome {
        OverrideOutcome::Succeeded => &["reason", "result"],
        OverrideOutcome::Failed => &["reason"],
    };
    let mut fields = Fields::of(&body, known, &[])?;
    let reason = call.reason();
    if reason.is_none() {
        fields.fault("reason", "required", "`reason` is needed: why the attempts do not decide");
    }
    let result = fields.value("result").cloned();
    if result.as_ref().is_some_and(|result| result.to_string().len() > CHANGE_BYTES_MAX) {
        let message = format!("`result` may have {CHANGE_BYTES_MAX} bytes of JSON at most");
        fields.fault("result", "out_of_range", message);
    }
    fields.finish()?;
    let by = call.principal.as_ref().map(|principal| principal.name.clone());
    let setting = OutcomeSetting { outcome, by, reason, result };
    let key = call.execution_key()?;
    let acted = call.state.store().execution_override(key, setting).await;
    let acted = acted.map_err(ApiError::from)?;
    for what in [Wake::Executor, Wake::Recovery] {
        call.state.handles().wake(what);
    }
    ok(&interventions::acted(&acted))
}
