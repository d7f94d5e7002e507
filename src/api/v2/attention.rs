//! What needs a person now, ranked, each with the requests that cure it.
//!
//! It answers without a database too: then it says what the server itself can see.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::api::call::{Call, ok};
use crate::api::error::Answer;
use crate::domain::attention::{ActorFact, Attention, Facts, PartFact, rank};
use crate::domain::event::instant_text;
use crate::domain::execution::Severity;
use crate::runtime::handles::{Handles, HealthStatus};
use crate::runtime::scheduler::STATE_KEY;
use crate::runtime::scheduler::stop::StopWindow;
use crate::store::{AttentionLimits, StoreError, StoreResult};
use crate::tasks::PAUSE_MAX;

/// How long past the grace a schedule may be before it is overdue: a busy firing is not trouble.
const OVERDUE_MARGIN: TimeDelta = TimeDelta::seconds(30);
/// How long an execution may wait past its instant.
const WAITING_MAX: TimeDelta = TimeDelta::minutes(5);
/// Deeper than any tree is.
const DEPTH_MAX: usize = 16;

/// `GET /attention`.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    let mut facts = match stored_facts(&call).await {
        Ok(facts) => facts,
        Err(StoreError::Unavailable(reason)) => without_store(&call, &reason),
        Err(error) => return Err(error.into()),
    };
    let handles = call.state.handles();
    facts.health.extend(parts(handles));
    facts.health.dedup_by(|left, right| left.name == right.name);
    let tree = handles.tree_report().await;
    collect_actors(&tree, 0, &mut facts.actors);
    ok(&view(&rank(&facts), &facts))
}

async fn stored_facts(call: &Call) -> StoreResult<Facts> {
    let store = call.state.store();
    let grace = call.state.settings().scheduler.misfire_grace_ms.duration();
    let grace = TimeDelta::from_std(grace).unwrap_or(TimeDelta::zero());
    let letters = &call.state.settings().recovery;
    let limits = AttentionLimits {
        overdue_after: grace + OVERDUE_MARGIN,
        waiting_after: WAITING_MAX,
        pause_max: TimeDelta::from_std(PAUSE_MAX).unwrap_or(TimeDelta::days(1)),
        letters_max: letters.dead_letter_alert.into(),
        letters_window: letters.dead_letter_alert_ms.duration(),
    };
    let mut facts = store.attention_facts(limits).await?;
    let window = StopWindow::from_state(store.state_get(STATE_KEY.to_owned()).await?.as_ref());
    facts.scheduler.is_running = window.running;
    facts.scheduler.stopped_at = window.stopped_at;
    Ok(facts)
}

fn without_store(call: &Call, reason: &str) -> Facts {
    let detail = Some(format!("the database does not answer: {reason}"));
    let database = PartFact { name: "database".to_owned(), is_down: true, detail };
    Facts {
        now: call.state.clock().now(),
        health: vec![database],
        truncated: true,
        ..Facts::default()
    }
}

fn parts(handles: &dyn Handles) -> impl Iterator<Item = PartFact> {
    handles.health().into_iter().filter(|(_, state)| state.status != HealthStatus::Ok).map(
        |(name, state)| PartFact {
            name,
            is_down: state.status == HealthStatus::Down,
            detail: state.detail,
        },
    )
}

/// The leaves of the tree: what a supervisor suffers from is one of its children.
fn collect_actors(node: &Value, depth: usize, actors: &mut Vec<ActorFact>) {
    let children = node.get("children").and_then(Value::as_array);
    let children = children.map_or(&[] as &[Value], Vec::as_slice);
    if !children.is_empty() {
        if depth < DEPTH_MAX {
            children.iter().for_each(|child| collect_actors(child, depth + 1, actors));
        }
        return;
    }
    let text = |name: &str| node.get(name).and_then(Value::as_str).map(str::to_owned);
    let crash = node.get("lastCrash");
    let crash_text = |name: &str| crash?.get(name)?.as_str().map(str::to_owned);
    let Some((path, state)) = text("path").zip(text("state")) else { return };
    actors.push(ActorFact {
        path,
        state,
        restarts: node.get("restarts").and_then(Value::as_u64).unwrap_or(0),
        crashed_at: crash_text("at").and_then(|at| at.parse().ok()),
        reason: crash_text("reason"),
    });
}

fn view(attention: &Attention, facts: &Facts) -> Value {
    let of = |severity: Severity| {
        attention.items.iter().filter(|item| item.severity == severity).count()
    };
    let by_severity: serde_json::Map<String, Value> = Severity::ALL
        .iter()
        .map(|severity| (severity.as_str().to_owned(), of(*severity).into()))
        .collect();
    json!({
        "generatedAt": instant_text(facts.now),
        "items": attention.items.iter().map(|item| item.to_json()).collect::<Vec<_>>(),
        "counts": by_severity,
        "truncated": attention.truncated,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::routes::ROUTES;
    use crate::domain::attention::tests::everything;
    use crate::domain::attention::{AttentionKind, SchedulerFact};

    /// Whether a path is one of a pattern's.
    fn fits(pattern: &str, path: &str) -> bool {
        let (pattern, path): (Vec<_>, Vec<_>) =
            (pattern.split('/').collect(), path.split('/').collect());
        pattern.len() == path.len()
            && pattern.iter().zip(&path).all(|(part, segment)| {
                (part.starts_with('{') && !segment.is_empty()) || part == segment
            })
    }

    #[test]
    fn every_action_and_every_subject_is_a_route() {
        let mut facts = everything();
        let mut items = rank(&facts).items;
        facts.scheduler = SchedulerFact { is_running: false, ..SchedulerFact::default() };
        items.extend(rank(&facts).items);
        for kind in AttentionKind::ALL {
            assert!(items.iter().any(|item| item.kind == *kind), "no {kind}");
        }
        let is_route = |method: &str, path: &str| {
            ROUTES.iter().any(|route| {
                route.method == method
                    && route.full_paths().iter().any(|pattern| fits(pattern, path))
            })
        };
        for item in items {
            for action in &item.actions {
                assert!(is_route(action.method, &action.path), "{} {}", action.method, action.path);
            }
            assert!(is_route("GET", &item.subject.href), "{:?}", item.subject);
        }
    }
}
