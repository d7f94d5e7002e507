//! The ranked list: a table of cases, and what holds of every list.

use chrono::DateTime;
use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn error(id: i64, fingerprint: &str, severity: Severity) -> ErrorFact {
    ErrorFact {
        id,
        fingerprint: fingerprint.to_owned(),
        severity,
        is_escalated: false,
        created_at: at(id),
        kind: "exit_code".to_owned(),
        message: "exit code 1".to_owned(),
        schedule_name: Some("nightly".to_owned()),
        assignee: None,
        has_group: true,
    }
}

fn breaker(key: &str, forced_by: Option<&str>) -> BreakerFact {
    BreakerFact {
        key: key.to_owned(),
        state: "open".to_owned(),
        since: Some(at(4)),
        forced_by: forced_by.map(str::to_owned),
        reason: None,
        waiting: 3,
    }
}

fn regressed(fingerprint: &str) -> RegressedFact {
    RegressedFact {
        fingerprint: fingerprint.to_owned(),
        kind: "exit_code".to_owned(),
        message: "exit code 1".to_owned(),
        regressed_at: Some(at(6)),
        regressions: 2,
    }
}

fn growth(added: u64) -> Option<GrowthFact> {
    Some(GrowthFact { added, window: TimeDelta::hours(1), threshold: 100 })
}

fn letter(id: i64, error_id: i64, cause: &str) -> LetterFact {
    LetterFact {
        id,
        error_id,
        cause: cause.to_owned(),
        schedule_id: Some(3),
        schedule_name: Some("nightly".to_owned()),
        created_at: at(id),
    }
}

fn schedule(id: i64) -> ScheduleFact {
    ScheduleFact { id, name: format!("s{id}"), since: Some(at(id)) }
}

fn waiting(id: i64, reason: Option<&str>, age: i64) -> WaitingFact {
    WaitingFact {
        id,
        available_at: at(10_000 - age),
        held_reason: reason.map(str::to_owned),
        paused_queue: reason.map(str::to_owned),
        target: None,
    }
}

fn node(name: &str, started: i64, is_alive: bool, is_stopped: bool) -> NodeFact {
    NodeFact {
        node_id: name.to_owned(),
        started_at: at(started),
        lease_until: at(started + 30),
        is_alive,
        is_stopped,
    }
}

fn actor(path: &str, state: &str, restarts: u64) -> ActorFact {
    ActorFact {
        path: path.to_owned(),
        state: state.to_owned(),
        restarts,
        crashed_at: Some(at(5)),
        reason: Some("a panic".to_owned()),
    }
}

fn calm() -> Facts {
    Facts { now: at(10_000), pause_max: TimeDelta::hours(24), ..Facts::default() }
}

/// One of everything.
pub(crate) fn everything() -> Facts {
    let paused = PausedFact { id: 9, paused_at: at(1), paused_by: None, reason: None };
    Facts {
        scheduler: SchedulerFact { is_running: true, stopped_at: None, enabled_schedules: 2 },
        health: vec![
            PartFact { name: "database".to_owned(), is_down: true, detail: None },
            PartFact { name: "events".to_owned(), is_down: false, detail: None },
        ],
        actors: vec![
            actor("time.scheduler", "failed", 9),
            actor("work.executor", "stopped", 0),
            actor("work.recovery", "backoff", 1),
            actor("ground.events", "running", 5),
        ],
        nodes: vec![node("a", 1, false, false)],
        errors: vec![
            error(1, "f", Severity::Critical),
            error(2, "g", Severity::Low),
            error(3, "g", Severity::Low),
        ],
        letters: vec![
            letter(1, 77, "poison"),
            letter(2, 78, "attempts_spent"),
            letter(3, 79, "attempts_spent"),
        ],
        overdue: vec![schedule(1), schedule(2)],
        paused_by_failures: vec![schedule(3)],
        waiting: vec![waiting(4, None, 400), waiting(5, Some("queue_paused"), 4_000)],
        paused: vec![paused],
        breakers: vec![breaker("http:a.example/x", None), breaker("conductor", Some("ada"))],
        regressed: vec![regressed("f"), regressed("quiet")],
        growth: growth(100),
        ..calm()
    }
}

fn kinds(facts: &Facts) -> Vec<(AttentionKind, Severity, u64)> {
    rank(facts).items.iter().map(|item| (item.kind, item.severity, item.count)).collect()
}

#[test]
fn nothing_is_the_matter_with_a_calm_system() {
    let facts = Facts {
        actors: vec![actor("time.scheduler", "running", 2)],
        nodes: vec![node("a", 1, true, false), node("b", 1, false, true)],
        ..calm()
    };
    assert_eq!(rank(&facts), Attention::default());
}

#[test]
fn each_fact_becomes_what_a_person_should_know_of_it() {
    use AttentionKind as K;
    use Severity::{Critical, High, Low, Medium};
    let stopped = |enabled_schedules| {
        let scheduler =
            SchedulerFact { is_running: false, stopped_at: Some(at(1)), enabled_schedules };
        Facts { scheduler, overdue: vec![schedule(1)], ..calm() }
    };
    let errors = |errors| Facts { errors, ..calm() };
    let letters = |letters, errors| Facts { letters, errors, ..calm() };
    let waits = |waiting| Facts { waiting, ..calm() };
    let nodes = |nodes| Facts { nodes, ..calm() };
    let back = |errors| Facts { regressed: vec![regressed("f")], errors, ..calm() };
    let held = || WaitingFact { target: Some("conductor".to_owned()), ..waiting(1, None, 400) };
    let breakers = |breakers| Facts { breakers, waiting: vec![held()], ..calm() };
    let grows = |added| Facts { growth: growth(added), ..calm() };
    let table = [
        // A stopped scheduler makes every schedule late: it alone is said.
        (stopped(2), vec![(K::SchedulerStopped, Critical, 2)]),
        (stopped(0), vec![(K::SchedulerStopped, Medium, 0)]),
        // Errors of one cause are one item, as bad as the worst.
        (
            errors(vec![error(1, "f", Low), error(2, "g", Medium), error(3, "f", High)]),
            vec![(K::Error, High, 2), (K::Error, Medium, 1)],
        ),
        // The letter of an open error is not said twice, one of a settled error is.
        (
            letters(vec![letter(1, 1, "attempts_spent")], vec![error(1, "f", Low)]),
            vec![(K::Error, Low, 1)],
        ),
        (letters(vec![letter(1, 1, "attempts_spent")], vec![]), vec![(K::DeadLetter, Medium, 1)]),
        // A poison task is said by its letter.
        (
            letters(vec![letter(1, 1, "poison")], vec![error(1, "f", Critical)]),
            vec![(K::PoisonTask, Critical, 1)],
        ),
        (
            waits(vec![waiting(1, None, 400), waiting(2, None, 500), waiting(3, Some("q"), 4_000)]),
            vec![(K::ExecutionWaiting, High, 1), (K::ExecutionWaiting, Medium, 2)],
        ),
        // A cause that came back is said with its open errors, or without.
        (
            back(vec![error(1, "f", Low), error(2, "f", Low), error(3, "g", Low)]),
            vec![(K::ErrorRegressed, High, 2), (K::Error, Low, 1)],
        ),
        (back(vec![error(1, "f", Critical)]), vec![(K::ErrorRegressed, Critical, 1)]),
        (back(vec![]), vec![(K::ErrorRegressed, Medium, 1)]),
        // What waits for a breaker is said by it; what a person forced is less urgent.
        (breakers(vec![breaker("conductor", None)]), vec![(K::BreakerOpen, High, 3)]),
        (breakers(vec![breaker("conductor", Some("ada"))]), vec![(K::BreakerOpen, Medium, 3)]),
        (breakers(vec![]), vec![(K::ExecutionWaiting, Medium, 1)]),
        (grows(99), vec![]),
        (grows(100), vec![(K::DeadLettersGrowing, High, 100)]),
        // A node that came back is not lost, whatever its earlier boot left.
        (nodes(vec![node("a", 1, false, false), node("a", 9, true, false)]), vec![]),
        (
            nodes(vec![node("a", 1, true, false), node("a", 9, false, false)]),
            vec![(K::NodeLost, High, 1)],
        ),
    ];
    for (place, (facts, wanted)) in table.into_iter().enumerate() {
        assert_eq!(kinds(&facts), wanted, "case {place}");
    }
}

#[test]
fn the_worst_comes_first_and_the_oldest_of_equals() {
    let listed = kinds(&everything());
    assert!(listed.is_sorted_by(|left, right| left.1 >= right.1), "{listed:?}");
    assert_eq!(listed.first().unwrap().0, AttentionKind::Health);
    let facts = Facts {
        errors: vec![
            error(9, "young", Severity::High),
            error(3, "old", Severity::High),
            error(5, "middle", Severity::High),
        ],
        ..calm()
    };
    let ids: Vec<_> = rank(&facts).items.into_iter().map(|item| item.subject.id).collect();
    assert_eq!(ids, ["3", "5", "9"]);
}

#[test]
fn a_long_list_is_cut_at_its_least_urgent_end() {
    let mut errors: Vec<ErrorFact> =
        (1..=300).map(|id| error(id, &format!("f{id}"), Severity::Low)).collect();
    errors.push(error(301, "worst", Severity::Critical));
    let list = rank(&Facts { errors, ..calm() });
    assert_eq!((list.items.len(), list.truncated), (ITEMS_MAX, true));
    assert_eq!(list.items[0].subject.id, "301");
}

fn severities() -> impl Strategy<Value = Severity> {
    proptest::sample::select(Severity::ALL)
}

fn facts() -> impl Strategy<Value = Facts> {
    let errors = proptest::collection::vec((0i64..30, "[a-d]", severities(), any::<bool>()), 0..30);
    let letters = proptest::collection::vec((0i64..30, 0i64..30, "poison|attempts_spent"), 0..20);
    let waits =
        proptest::collection::vec((0i64..50, proptest::option::of("[q-s]"), 0i64..9_000), 0..20);
    let actors =
        proptest::collection::vec(("[a-c]", "failed|stopped|running|backoff", 0u64..6), 0..6);
    let nodes = proptest::collection::vec(("[a-c]", 0i64..9, any::<bool>(), any::<bool>()), 0..6);
    let back = proptest::sample::subsequence(vec!["b", "c", "x"], 0..=3);
    (errors, letters, waits, actors, nodes, any::<bool>(), back).prop_map(
        |(errors, letters, waits, actors, nodes, runs, back)| {
            let mut facts = calm();
            facts.scheduler.is_running = runs;
            facts.regressed = back.into_iter().map(regressed).collect();
            for (place, (_, fingerprint, severity, is_escalated)) in errors.into_iter().enumerate()
            {
                let one = error(i64::try_from(place).unwrap(), &fingerprint, severity);
                facts.errors.push(ErrorFact { is_escalated, ..one });
            }
            for (place, (_, error_id, cause)) in letters.into_iter().enumerate() {
                facts.letters.push(letter(i64::try_from(place).unwrap(), error_id, &cause));
            }
            for (place, (_, reason, age)) in waits.into_iter().enumerate() {
                facts.waiting.push(waiting(i64::try_from(place).unwrap(), reason.as_deref(), age));
            }
            let named = |(place, (path, state, restarts)): (usize, (String, String, u64))| {
                actor(&format!("{path}{place}"), &state, restarts)
            };
            facts.actors = actors.into_iter().enumerate().map(named).collect();
            facts.nodes = nodes
                .into_iter()
                .map(|(name, started, alive, stopped)| node(&name, started, alive, stopped))
                .collect();
            facts
        },
    )
}

proptest! {
    #[test]
    fn the_order_is_total_and_says_nothing_twice(facts in facts()) {
        let list = rank(&facts);
        for pair in list.items.windows(2) {
            prop_assert!(key(&pair[0]) < key(&pair[1]), "{:?} and {:?}", pair[0], pair[1]);
        }
        for item in &list.items {
            prop_assert!(!item.actions.is_empty(), "{item:?}");
            prop_assert!(item.count > 0 || item.kind == AttentionKind::SchedulerStopped);
            prop_assert!(!item.title.is_empty() && !item.subject.href.is_empty());
        }
    }

    #[test]
    fn the_order_does_not_hang_on_that_of_the_facts(facts in facts()) {
        let mut turned = facts.clone();
        turned.errors.reverse();
        turned.letters.reverse();
        turned.waiting.reverse();
        turned.actors.reverse();
        let ids = |facts: &Facts| -> Vec<_> {
            rank(facts).items.into_iter().map(|item| (item.kind, item.severity, item.since, item.subject)).collect()
        };
        prop_assert_eq!(ids(&facts), ids(&turned));
    }

    #[test]
    fn every_open_error_is_counted_once(facts in facts()) {
        let counted: u64 = rank(&facts).items.iter()
            .filter(|item| matches!(item.kind, AttentionKind::Error | AttentionKind::ErrorRegressed))
            // One that came back without an open error offers no retry.
            .filter(|item| item.actions.len() > 2)
            .map(|item| item.count).sum();
        let is_poison = |error: &&ErrorFact| failures::is_poison(error, &facts);
        let poison = facts.errors.iter().filter(is_poison).count() as u64;
        prop_assert_eq!(counted + poison, facts.errors.len() as u64);
    }
}
