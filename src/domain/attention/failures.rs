//! What failed and needs a person: targets that are held back, errors, dead letters.
//!
//! A failure is said once: a poison task by its letter, any other chain by its open error, and a
//! letter of its own only when its error is settled. Errors of one cause are one item; if the cause
//! had been resolved before, the item says that it came back.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    Action, AttentionKind, BreakerFact, ErrorFact, Facts, Item, LetterFact, POISON, RegressedFact,
    Subject, percent, shorten,
};
use crate::domain::execution::Severity;

/// Starts a minute when what was given up is offered to be run again all at once.
const GENTLE_PER_MINUTE: i64 = 60;

pub(super) fn breaker_item(breaker: &BreakerFact) -> Item {
    let path = format!("/api/v2/breakers/{}", percent(&breaker.key));
    let (title, cure) = match &breaker.forced_by {
        Some(who) => {
            let cure = Action::post("Let it be judged again", format!("{path}/reset"));
            (format!("{} is not asked: {who} forced its breaker open", breaker.key), cure)
        }
        None => {
            let cure = Action::post("Try it now", format!("{path}/probe"));
            (format!("{} is not asked: its breaker is {}", breaker.key, breaker.state), cure)
        }
    };
    let why = shorten(breaker.reason.as_deref().unwrap_or("its target failed too often"));
    Item {
        kind: AttentionKind::BreakerOpen,
        severity: if breaker.forced_by.is_some() { Severity::Medium } else { Severity::High },
        since: breaker.since,
        title,
        detail: format!("{why}; {} executions wait for it", breaker.waiting),
        subject: Subject { kind: "breaker", id: breaker.key.clone(), href: path.clone() },
        count: breaker.waiting.max(1),
        actions: vec![cure, Action::get("See what became of it", path)],
    }
}

/// More letters than the alert allows.
pub(super) fn growth_item(facts: &Facts) -> Option<Item> {
    let growth = facts.growth.as_ref()?;
    if growth.threshold == 0 || growth.added < growth.threshold {
        return None;
    }
    let all = json!({ "filter": {}, "ratePerMinute": GENTLE_PER_MINUTE });
    Some(Item {
        kind: AttentionKind::DeadLettersGrowing,
        severity: Severity::High,
        since: None,
        title: format!(
            "{} dead letters in the last {} minutes",
            growth.added,
            growth.window.num_minutes()
        ),
        detail: format!(
            "{} are worth an alert; find the cause that most of them share, mend it, then run \
             them again",
            growth.threshold
        ),
        subject: Subject {
            kind: "dead_letters",
            id: "dead_letters".to_owned(),
            href: "/api/v2/dead-letters/groups".to_owned(),
        },
        count: growth.added,
        actions: vec![
            Action::get("See them by cause", "/api/v2/dead-letters/groups".to_owned()),
            Action::post("Run them again, slowly", "/api/v2/dead-letters/resubmit".to_owned())
                .with(all),
        ],
    })
}

/// Open errors of one cause are one item, with the newest to act upon.
pub(super) fn error_items(facts: &Facts) -> Vec<Item> {
    let mut groups: BTreeMap<&str, Vec<&ErrorFact>> = BTreeMap::new();
    for error in facts.errors.iter().filter(|error| !is_poison(error, facts)) {
        groups.entry(&error.fingerprint).or_default().push(error);
    }
    let back: BTreeMap<&str, &RegressedFact> =
        facts.regressed.iter().map(|group| (group.fingerprint.as_str(), group)).collect();
    // What came back and is retried, or was retried with success, has no open error.
    let alone = back.values().filter(|group| !groups.contains_key(group.fingerprint.as_str()));
    let mut items: Vec<Item> = alone.map(|group| regressed_item(group, None)).collect();
    for (fingerprint, group) in groups {
        let Some(item) = error_item(&group) else { continue };
        items.push(match back.get(fingerprint) {
            Some(regressed) => regressed_item(regressed, Some(item)),
            None => item,
        });
    }
    items
}

/// The letter of a poison task says it; its error would say it twice.
pub(super) fn is_poison(error: &ErrorFact, facts: &Facts) -> bool {
    facts.letters.iter().any(|letter| letter.error_id == error.id && letter.cause == POISON)
}

fn group_path(fingerprint: &str) -> String {
    format!("/api/v2/errors/groups/{}", percent(fingerprint))
}

fn resolve_all(fingerprint: &str) -> Action {
    Action::post("Resolve them all", format!("{}/resolve", group_path(fingerprint))).with(notes())
}

fn notes() -> Value {
    json!({ "resolutionNotes": "" })
}

fn error_item(group: &[&ErrorFact]) -> Option<Item> {
    let newest = group.iter().max_by_key(|error| error.id)?;
    let severity = group.iter().map(|error| error.severity).max()?;
    let since = group.iter().map(|error| error.created_at).min();
    let (id, count) = (newest.id, group.len() as u64);
    let whose = newest.schedule_name.as_deref().unwrap_or("a task without a schedule");
    let given = newest.assignee.as_deref().map(|who| format!("; {who} looks after it"));
    let escalated = if group.iter().any(|error| error.is_escalated) { "; escalated" } else { "" };
    let path = format!("/api/v2/errors/{id}");
    let mut actions = vec![
        Action::post("Retry the newest", format!("{path}/retry")),
        Action::post("Resolve it", format!("{path}/resolve")).with(notes()),
        Action::post("Ignore it", format!("{path}/ignore")),
    ];
    if count > 1 && newest.has_group {
        actions.insert(1, resolve_all(&newest.fingerprint));
    }
    Some(Item {
        kind: AttentionKind::Error,
        severity,
        since,
        title: match count {
            1 => format!("{whose} failed: {}", newest.kind),
            _ => format!("{count} chains failed alike, {whose} last: {}", newest.kind),
        },
        detail: format!("{}{escalated}{}", shorten(&newest.message), given.unwrap_or_default()),
        subject: Subject { kind: "error", id: id.to_string(), href: path },
        count,
        actions,
    })
}

/// A cause that came back: with its open errors, if it has any.
fn regressed_item(group: &RegressedFact, open: Option<Item>) -> Item {
    let fingerprint = &group.fingerprint;
    let path = group_path(fingerprint);
    let again = match group.regressions {
        1 => String::new(),
        times => format!(", for the {times}. time"),
    };
    let resolve = Action::post("Resolve it again", format!("{path}/resolve")).with(notes());
    let see = Action::get("See its history", path.clone());
    let (severity, count, actions) = match &open {
        Some(item) => {
            let retry = item.actions.first().cloned();
            (item.severity.max(Severity::High), item.count, retry.into_iter().collect())
        }
        None => (Severity::Medium, 1, Vec::new()),
    };
    let actions = actions.into_iter().chain([resolve, see]).collect();
    let detail = open.map_or_else(|| shorten(&group.message), |item| item.detail);
    Item {
        kind: AttentionKind::ErrorRegressed,
        severity,
        since: group.regressed_at,
        title: format!("An error came back after it was resolved{again}: {}", group.kind),
        detail,
        subject: Subject { kind: "error_group", id: fingerprint.clone(), href: path },
        count,
        actions,
    }
}

/// Letters of a poison task, and those whose error needs nobody any more.
pub(super) fn letter_items(facts: &Facts) -> Vec<Item> {
    let open: BTreeSet<i64> = facts.errors.iter().map(|error| error.id).collect();
    let mut groups: BTreeMap<(&str, Option<i64>), Vec<&LetterFact>> = BTreeMap::new();
    for letter in &facts.letters {
        if letter.cause == POISON || !open.contains(&letter.error_id) {
            groups.entry((&letter.cause, letter.schedule_id)).or_default().push(letter);
        }
    }
    groups.into_values().filter_map(|group| letter_item(&group)).collect()
}

fn letter_item(group: &[&LetterFact]) -> Option<Item> {
    let newest = group.iter().max_by_key(|letter| letter.id)?;
    let (id, count) = (newest.id, group.len() as u64);
    let whose = newest.schedule_name.as_deref().unwrap_or("a task without a schedule");
    let is_poison = newest.cause == POISON;
    let (kind, severity, title) = if is_poison {
        let title = format!("{whose} ends the node that runs it");
        (AttentionKind::PoisonTask, Severity::Critical, title)
    } else {
        let title = format!("{count} dead letters of {whose}: {}", newest.cause);
        (AttentionKind::DeadLetter, Severity::Medium, title)
    };
    let detail = if is_poison {
        "it was running each time its node was lost; mend or limit it before it is run again"
    } else {
        "everything needed to run it again is kept"
    };
    let mut ids: Vec<i64> = group.iter().map(|letter| letter.id).collect();
    ids.sort_unstable();
    let (resubmit, discard) = match ids.as_slice() {
        [id] => (
            Action::post("Run it again", format!("/api/v1/dlq/{id}/resubmit")),
            Action::post("Discard it", format!("/api/v1/dlq/{id}/discard")),
        ),
        ids => {
            let (run, drop) = (json!({ "ids": ids }), json!({ "ids": ids, "reason": "" }));
            let path = "/api/v2/dead-letters";
            (
                Action::post("Run them again", format!("{path}/resubmit")).with(run),
                Action::post("Discard them", format!("{path}/discard")).with(drop),
            )
        }
    };
    let mut actions = vec![resubmit, discard];
    if is_poison {
        actions.reverse();
        if let Some(schedule) = newest.schedule_id {
            let path = format!("/api/v1/scheduler/schedules/{schedule}/pause");
            actions.insert(0, Action::post("Pause its schedule", path));
        }
    }
    Some(Item {
        kind,
        severity,
        since: group.iter().map(|letter| letter.created_at).min(),
        title,
        detail: detail.to_owned(),
        subject: Subject {
            kind: "dead_letter",
            id: id.to_string(),
            href: "/api/v2/dead-letters".to_owned(),
        },
        count,
        actions,
    })
}
