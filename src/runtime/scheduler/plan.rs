//! From a due schedule to its firing: pure.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::cadence::Cadence;
use crate::domain::execution::{NewExecution, TaskSnapshot, Trigger};
use crate::domain::misfire::{Due, MisfireRules, plan_firing};
use crate::domain::schedule::{
    LedgerReason, MisfirePolicy, OverlapPolicy, Schedule, ScheduleDefinition,
};
use crate::runtime::scheduler::stop::StopWindow;
use crate::store::Firing;

/// What is known of the schedule's task when a row is made.
#[must_use]
pub fn snapshot(definition: &ScheduleDefinition) -> TaskSnapshot {
    TaskSnapshot {
        task_type: definition.task_type.clone(),
        task_config: definition.task_config.clone(),
        timeout_ms: definition.timeout_ms,
        retry_policy: definition.retry_policy.clone(),
        severity: definition.severity,
        cost_per_hour: definition.cost_per_hour,
        tags: definition.tags.clone(),
        owner: definition.owner.clone(),
    }
}

/// How many rows of a schedule may wait or run at once; `None` is no limit.
#[must_use]
pub fn overlap_limit(definition: &ScheduleDefinition) -> Option<i32> {
    match definition.overlap_policy {
        OverlapPolicy::Skip => Some(definition.max_concurrent.unwrap_or(1)),
        OverlapPolicy::Allow => definition.max_concurrent,
    }
}

/// The firing of a schedule at `now`.
#[must_use]
pub fn plan_schedule(
    schedule: &Schedule,
    cadence: &Cadence,
    now: Timestamp,
    stop: &StopWindow,
) -> Firing {
    let definition = &schedule.definition;
    let millis = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let rules = MisfireRules {
        policy: definition.misfire_policy,
        grace: millis(definition.misfire_grace_ms),
        window: millis(definition.catchup_window_ms),
        cap: usize::try_from(definition.catchup_max).unwrap_or(0),
    };
    let left =
        definition.max_executions.map(|max| usize::try_from(max - schedule.fired).unwrap_or(0));
    let due = Due {
        cadence,
        next_run_at: schedule.next_run_at.unwrap_or(now),
        end_at: definition.end_at,
        left,
    };
    let plan = plan_firing(due, rules, now, |at| missed_because(schedule, stop, at));
    let run_all = definition.misfire_policy == MisfirePolicy::RunAll;
    let executions =
        plan.run.iter().map(|at| Arc::new(planned_execution(schedule, *at, now))).collect();
    Firing {
        schedule_id: schedule.id,
        expected_next: schedule.next_run_at,
        expected_version: schedule.version,
        executions,
        catch_up: if run_all { plan.caught_up } else { 0 },
        overlap_limit: overlap_limit(definition),
        ledger: plan.ledger,
        next_run_at: plan.next,
        exhausted: plan.next.is_none(),
    }
}

/// Why an instant that was missed was missed.
fn missed_because(schedule: &Schedule, stop: &StopWindow, at: Timestamp) -> LedgerReason {
    if schedule.resumed_at.is_some_and(|resumed| at <= resumed) {
        LedgerReason::Paused
    } else if stop.covers(at) {
        LedgerReason::Stopped
    } else {
        LedgerReason::Misfire
    }
}

fn planned_execution(schedule: &Schedule, at: Timestamp, now: Timestamp) -> NewExecution {
    let execution_id = Uuid::now_v7();
    NewExecution {
        execution_id,
        chain_id: execution_id,
        schedule_id: Some(schedule.id),
        schedule_name: Some(schedule.definition.name.clone()),
        trigger: Trigger::Schedule,
        task: snapshot(&schedule.definition),
        priority: schedule.definition.priority,
        attempt: 1,
        retry_of: None,
        scheduled_at: at,
        available_at: at.min(now),
        failures_before: 0,
        crashes_before: 0,
        dead_letter_id: None,
        dedup_key: None,
        traceparent: Some(crate::telemetry::TraceParent::generate().to_string()),
        created_by: None,
    }
}
