//! What a request is as an act: its name, its subject, its reason; and the record of acts that
//! change nothing in the store.
//!
//! Every route that changes something is an act of whoever called it, and its name follows from its
//! method and path, so that a new route is audited without a word of its own. The store writes the
//! row in the transaction of the act (`store::Store::acting`). What is done outside the store (an
//! actor restarted, the log level set) gets its row right after; if the store does not take it, the
//! act is told to the log in full.
//!
//! Deliberately not audited: work that programs send ([`UNAUDITED`]); such rows say who made them.

use serde_json::Value;

use crate::api::call::Call;
use crate::api::error::ApiError;
use crate::api::routes::{Effect, Route};
use crate::domain::act::{Act, REASON_MAX};
use crate::store::Store;

/// Acts that leave no row: programs do them all the time, and what they make bears their name.
pub const UNAUDITED: &[&str] = &["execution.create", "event.create", "webhook_delivery.create"];

/// Where a reason may stand beside the body's field `reason`.
pub const REASON_HEADER: &str = "x-carillon-reason";

/// The name of what a route does, `schedule.pause`; `None` for those that only read and those that
/// are not audited.
#[must_use]
pub fn action_of(route: &Route) -> Option<String> {
    if route.effect == Effect::Read {
        return None;
    }
    let action = name_of(route.method, route.path);
    (!UNAUDITED.contains(&action.as_str())).then_some(action)
}

/// `POST /scheduler/schedules/{id}/pause` is `schedule.pause`, `PUT /scheduler/schedules/{id}` is
/// `schedule.update`, `POST /scheduler/start` is `scheduler.start`.
fn name_of(method: &str, path: &str) -> String {
    if path == "/hooks/{id}" {
        return "webhook_delivery.create".to_owned();
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let is_parameter = |segment: &&str| segment.starts_with('{');
    let by_method = match method {
        "PUT" | "PATCH" => "update",
        "DELETE" => "delete",
        _ => "act",
    };
    let (kind, verb) = match segments.iter().rposition(is_parameter) {
        Some(place) => {
            let kind = place.checked_sub(1).and_then(|before| segments.get(before));
            let verb: Vec<&str> = segments.iter().skip(place + 1).copied().collect();
            (kind.copied(), verb.join("_"))
        }
        None => match segments.as_slice() {
            [.., last] if method != "POST" => (Some(*last), String::new()),
            [.., last] if is_collection(last) => (Some(*last), "create".to_owned()),
            [.., kind, verb] => (Some(*kind), (*verb).to_owned()),
            [verb] => (Some("system"), (*verb).to_owned()),
            [] => (None, String::new()),
        },
    };
    let kind = kind_of(kind.unwrap_or("system"));
    let verb = if verb.is_empty() { by_method.to_owned() } else { verb };
    format!("{kind}.{}", verb.replace('-', "_"))
}

/// Whether a path that ends so names many things of one kind.
fn is_collection(segment: &str) -> bool {
    segment.ends_with('s') && !segment.ends_with("ss") && !segment.ends_with("status")
}

/// The one of many that a segment names.
fn kind_of(segment: &str) -> String {
    let kind = match segment {
        "dlq" => "dead_letter",
        "circuitbreaker" | "circuitbreakers" => "breaker",
        // Those of errors; others are acted upon by a filter.
        "groups" => "error_group",
        other => other,
    };
    let one = if let Some(stem) = kind.strip_suffix("ies") {
        format!("{stem}y")
    } else if is_collection(kind) {
        kind.strip_suffix('s').unwrap_or(kind).to_owned()
    } else {
        kind.to_owned()
    };
    one.replace('-', "_")
}

/// The act that a call is; `None` when it is none, or nobody's.
///
/// # Errors
/// 422 when its reason cannot be one.
pub(crate) fn act_of(route: &Route, call: &Call) -> Result<Option<Act>, ApiError> {
    let (Some(action), Some(principal)) = (action_of(route), call.principal.as_ref()) else {
        return Ok(None);
    };
    let subject_kind = action.split('.').next().unwrap_or_default().to_owned();
    let named = route.path.rsplit('/').find_map(|segment| {
        let name = segment.strip_prefix('{')?.strip_suffix('}')?;
        call.params.get(name).cloned()
    });
    let lone = action.starts_with("scheduler.") || action.starts_with("system.");
    Ok(Some(Act {
        who: principal.name.clone(),
        key_id: Some(principal.key_id),
        role: principal.role.to_string(),
        subject_id: named.or_else(|| lone.then(|| subject_kind.clone())),
        subject_kind,
        action,
        reason: reason_of(call)?,
        request_id: Some(call.context.request_id.to_string()),
    }))
}

/// The reason in the body, else the one in the header.
fn reason_of(call: &Call) -> Result<Option<String>, ApiError> {
    let body = serde_json::from_slice::<Value>(&call.body).ok();
    let in_body = body.as_ref().and_then(|body| body.get("reason"));
    let in_body = match in_body.filter(|reason| !reason.is_null()) {
        None => None,
        Some(Value::String(text)) => Some(text.as_str()),
        Some(_) => {
            let message = "`reason` must be a string";
            return Err(ApiError::invalid_field("reason", "invalid_type", message));
        }
    };
    let header = call.headers.get(REASON_HEADER);
    let (field, text) = match (in_body, header) {
        (Some(text), _) => ("reason", text),
        (None, Some(header)) => {
            let text = std::str::from_utf8(header.as_bytes()).map_err(|_| {
                let message = "give the reason in UTF-8";
                ApiError::invalid_field("X-Carillon-Reason", "invalid_value", message)
            })?;
            ("X-Carillon-Reason", text)
        }
        (None, None) => return Ok(None),
    };
    let text = text.trim();
    if text.chars().count() > REASON_MAX || text.contains('\0') {
        let message = format!("a reason has {REASON_MAX} characters at most, without U+0000");
        return Err(ApiError::invalid_field(field, "invalid_value", message));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// Writes the row of an act that was done outside the store. The act stands even when the row is
/// not taken: then the log has it.
pub(crate) async fn settle(store: &Store) {
    let Some(act) = store.unsettled_act() else { return };
    if let Err(error) = store.audit_append(act.clone()).await {
        tracing::error!(
            target: "carillon::audit",
            %error,
            who = act.who,
            role = act.role,
            action = act.action,
            subject = act.subject_id,
            reason = act.reason,
            request.id = act.request_id,
            "an act was done and its audit row could not be stored"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::routes::ROUTES;

    #[test]
    fn acts_are_named_after_what_they_are_done_to() {
        for (method, path, name) in [
            ("POST", "/scheduler/schedules", "schedule.create"),
            ("PUT", "/scheduler/schedules/{id}", "schedule.update"),
            ("DELETE", "/scheduler/schedules/{id}", "schedule.delete"),
            ("POST", "/scheduler/schedules/{id}/pause", "schedule.pause"),
            ("POST", "/schedules/{id}/skip-next", "schedule.skip_next"),
            ("POST", "/scheduler/start", "scheduler.start"),
            ("POST", "/execution/executions/{id}/cancel", "execution.cancel"),
            ("POST", "/execution/executions", "execution.create"),
            ("POST", "/errors/errors/{id}/resolve", "error.resolve"),
            ("POST", "/errors/{id}/assign", "error.assign"),
            ("POST", "/dlq/{id}/discard", "dead_letter.discard"),
            ("POST", "/dead-letters/resubmit", "dead_letters.resubmit"),
            ("POST", "/circuitbreaker/{key}/reset", "breaker.reset"),
            ("POST", "/breakers/{key}/force-open", "breaker.force_open"),
            ("POST", "/errors/groups/{fingerprint}/resolve", "error_group.resolve"),
            ("POST", "/forecast/spread", "forecast.spread"),
            ("POST", "/actors/{path}/restart", "actor.restart"),
            ("PUT", "/log-level", "log_level.update"),
            ("POST", "/drain", "system.drain"),
            ("POST", "/keys", "key.create"),
            ("DELETE", "/keys/{id}", "key.delete"),
        ] {
            let wanted = name.replace("dead_letters.", "dead_letter.");
            assert_eq!(name_of(method, path), wanted, "{method} {path}");
        }
    }

    #[test]
    fn every_route_that_changes_something_is_audited_under_a_name_that_says_what() {
        for route in ROUTES.iter().filter(|route| route.effect != Effect::Read) {
            let name = name_of(route.method, route.path);
            assert!(!name.ends_with(".act"), "{} {} has no verb", route.method, route.path);
            let is_left_out = UNAUDITED.contains(&name.as_str());
            assert_eq!(action_of(route).is_none(), is_left_out, "{name}");
        }
    }
}
