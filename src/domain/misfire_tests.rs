use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::cadence::ParseContext;

const RULES: MisfireRules = MisfireRules {
    policy: MisfirePolicy::Coalesce,
    grace: Duration::from_secs(5),
    window: Duration::from_secs(3600),
    cap: 100,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn every(seconds: i64) -> Cadence {
    let context = ParseContext { created_at: at(0), default_zone: "UTC".to_owned() };
    Cadence::parse("interval", &json!({"intervalMs": seconds * 1000}), &context).unwrap()
}

fn due(cadence: &Cadence, next: i64) -> Due<'_> {
    Due { cadence, next_run_at: at(next), end_at: None, left: None }
}

fn misfire(_: Timestamp) -> LedgerReason {
    LedgerReason::Misfire
}

#[test]
fn an_instant_within_its_grace_just_runs() {
    let cadence = every(10);
    let plan = plan_firing(due(&cadence, 10), RULES, at(14), &misfire);
    assert_eq!(plan.run, [at(10)]);
    assert_eq!((plan.caught_up, plan.ledger.len(), plan.next), (0, 0, Some(at(20))));
}

#[test]
fn coalesce_runs_the_newest_missed_instant_and_accounts_for_the_others() {
    let cadence = every(10);
    let plan = plan_firing(due(&cadence, 10), RULES, at(108), &misfire);
    assert_eq!(plan.run, [at(100)]);
    assert_eq!(plan.caught_up, 1);
    let range = LedgerRange { from: at(10), to: at(90), count: 9, reason: LedgerReason::Misfire };
    assert_eq!(plan.ledger, [range]);
    assert_eq!(plan.next, Some(at(110)));
}

#[test]
fn skip_runs_no_missed_instant_but_what_is_due() {
    let cadence = every(10);
    let rules = MisfireRules { policy: MisfirePolicy::Skip, ..RULES };
    let plan = plan_firing(due(&cadence, 10), rules, at(101), &misfire);
    assert_eq!(plan.run, [at(100)]);
    assert_eq!(plan.caught_up, 0);
    assert_eq!(plan.ledger.iter().map(|range| range.count).sum::<i64>(), 9);
}

#[test]
fn run_all_runs_the_newest_within_window_and_cap_oldest_first() {
    let cadence = every(10);
    let rules = MisfireRules { policy: MisfirePolicy::RunAll, cap: 3, ..RULES };
    let plan = plan_firing(due(&cadence, 10), rules, at(108), &misfire);
    assert_eq!(plan.run, [at(80), at(90), at(100)]);
    assert_eq!(plan.ledger[0].count, 7);
    assert_eq!(plan.ledger[0].reason, LedgerReason::Window);
    let narrow = MisfireRules { window: Duration::from_secs(20), cap: 100, ..rules };
    let plan = plan_firing(due(&cadence, 10), narrow, at(108), &misfire);
    assert_eq!(plan.run, [at(90), at(100)]);
}

#[test]
fn a_year_of_missed_seconds_is_one_range() {
    let cadence = every(1);
    let plan = plan_firing(due(&cadence, 1), RULES, at(365 * 86_400), &misfire);
    assert_eq!(plan.ledger.len(), 1);
    assert!(plan.run.len() <= 7);
}

#[test]
fn the_ledger_tells_a_pause_from_an_outage() {
    let cadence = every(10);
    let reason =
        |t: Timestamp| if t < at(50) { LedgerReason::Paused } else { LedgerReason::Misfire };
    let rules = MisfireRules { policy: MisfirePolicy::Skip, ..RULES };
    let plan = plan_firing(due(&cadence, 10), rules, at(108), &reason);
    let count = |wanted| -> i64 {
        plan.ledger.iter().filter(|r| r.reason == wanted).map(|r| r.count).sum()
    };
    assert_eq!((count(LedgerReason::Paused), count(LedgerReason::Misfire)), (4, 6));
}

#[test]
fn nothing_is_planned_past_the_end_or_the_last_execution() {
    let cadence = every(10);
    let ending = Due { end_at: Some(at(25)), ..due(&cadence, 10) };
    let plan = plan_firing(ending, RULES, at(22), &misfire);
    assert_eq!((plan.run, plan.next), (vec![at(10), at(20)], None));
    let last = Due { left: Some(1), ..due(&cadence, 10) };
    let plan = plan_firing(last, RULES, at(11), &misfire);
    assert_eq!((plan.run.len(), plan.next), (1, None));
}

#[test]
fn an_announced_instant_has_an_outcome_though_the_cadence_has_lost_it() {
    let cadence = every(10);
    for policy in MisfirePolicy::ALL {
        let rules = MisfireRules { policy: *policy, ..RULES };
        for now in [13, 19, 24, 100, 90_000] {
            let plan = plan_firing(due(&cadence, 13), rules, at(now), &misfire);
            let ledger: i64 = plan.ledger.iter().map(|range| range.count).sum();
            let outcomes = plan.run.len() + usize::try_from(ledger).unwrap();
            assert_eq!(outcomes, cadence.instants_between(at(13), at(now), 10_000).len() + 1);
        }
    }
}

#[test]
fn the_last_instant_before_the_end_is_missed_like_any_other() {
    let cadence = every(10);
    let ended = Due { end_at: Some(at(30)), ..due(&cadence, 10) };
    let rules = MisfireRules { policy: MisfirePolicy::Skip, ..RULES };
    let plan = plan_firing(ended, rules, at(9_000), &misfire);
    assert_eq!((plan.run.len(), plan.ledger[0].count, plan.next), (0, 3, None));
    let plan = plan_firing(ended, RULES, at(9_000), &misfire);
    assert_eq!((plan.run, plan.ledger[0].count, plan.next), (vec![at(30)], 2, None));
}

#[test]
fn a_year_of_missed_cron_seconds_is_counted_and_not_walked_through() {
    let context = ParseContext { created_at: at(0), default_zone: "Europe/Berlin".to_owned() };
    let cadence = Cadence::parse("cron", &json!({"cron": "* * * * * *"}), &context).unwrap();
    let plan = plan_firing(due(&cadence, 1), RULES, at(365 * 86_400), &misfire);
    let ledger = usize::try_from(plan.ledger[0].count).unwrap();
    assert_eq!(plan.run.len() + ledger, 365 * 86_400);
}

proptest! {
    #[test]
    fn every_planned_instant_has_exactly_one_outcome(
        step in 1_i64..100,
        policy in prop::sample::select(MisfirePolicy::ALL.to_vec()),
        behind in 0_i64..5_000,
        cap in 0_usize..20,
        window in 0_u64..2_000,
    ) {
        let cadence = every(step);
        let rules = MisfireRules { policy, cap, window: Duration::from_secs(window), ..RULES };
        let now = at(step + behind);
        let plan = plan_firing(due(&cadence, step), rules, now, &misfire);
        let expected = cadence.instants_between(at(0), now, 10_000);
        let ledger: i64 = plan.ledger.iter().map(|range| range.count).sum();
        prop_assert_eq!(plan.run.len() + usize::try_from(ledger).unwrap(), expected.len());
        prop_assert!(plan.run.windows(2).all(|pair| pair[0] < pair[1]));
        for range in &plan.ledger {
            prop_assert!(plan.run.iter().all(|run| *run < range.from || *run > range.to));
        }
        prop_assert_eq!(plan.next, cadence.next_after(now));
    }

    #[test]
    fn plans_in_a_row_give_every_instant_one_outcome_over_clock_changes(
        expression in prop::sample::select(vec![
            "* * * * *", "*/20 * * * * *", "*/7 * * * *", "30 2 * * *", "0,30 1-3 * * *", "0 3 * * SUN",
        ]),
        policy in prop::sample::select(MisfirePolicy::ALL.to_vec()),
        (cap, window) in (0_usize..50, 0_u64..7_200),
        // Berlin's clock changes 70 days after this start.
        begin in 0_i64..80 * 86_400,
        steps in prop::collection::vec(1_i64..4_000, 1..6),
    ) {
        let context = ParseContext { created_at: at(0), default_zone: "Europe/Berlin".to_owned() };
        let cadence = Cadence::parse("cron", &json!({"cron": expression}), &context).unwrap();
        let rules = MisfireRules { policy, cap, window: Duration::from_secs(window), ..RULES };
        let tick = chrono::Duration::microseconds(1);
        let first = cadence.next_after(at(begin)).unwrap();
        let (mut next, mut now) = (first, first);
        let mut outcomes: Vec<Timestamp> = Vec::new();
        for step in steps {
            now += chrono::Duration::seconds(step);
            let due = Due { cadence: &cadence, next_run_at: next, end_at: None, left: None };
            let plan = plan_firing(due, rules, now, &misfire);
            outcomes.extend(&plan.run);
            for range in &plan.ledger {
                let all = cadence.instants_between(range.from - tick, range.to, 1_000_000);
                prop_assert_eq!(i64::try_from(all.len()).unwrap(), range.count);
                prop_assert_eq!((all[0], all[all.len() - 1]), (range.from, range.to));
                outcomes.extend(all);
            }
            next = plan.next.unwrap();
        }
        outcomes.sort_unstable();
        let planned = cadence.instants_between(first - tick, next - tick, 1_000_000);
        prop_assert_eq!(outcomes, planned);
    }
}
