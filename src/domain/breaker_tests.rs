use std::collections::VecDeque;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::options::TaskOptions;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn report(execution: i64, verdict: Verdict) -> Report {
    Report { execution, verdict, policy: BreakerPolicy::default() }
}

/// A breaker that five failures opened at second 0.
fn opened() -> Breaker {
    let mut breaker = Breaker::default();
    for run in 0..4 {
        assert_eq!(breaker.record(report(run, Verdict::Broken), at(0)), None);
    }
    let transition = breaker.record(report(4, Verdict::Broken), at(0)).unwrap();
    assert_eq!((transition.to, transition.cause), (BreakerState::Open, "failures_in_a_row"));
    breaker
}

fn task(task_type: &str, config: Value, breaker: Option<BreakerOptions>) -> TaskSnapshot {
    let mut options = TaskOptions::default();
    options.recovery.breaker = breaker;
    TaskSnapshot { options, ..TaskSnapshot::new(task_type, config) }
}

#[test]
fn five_failures_in_a_row_open_it() {
    let mut breaker = opened();
    assert_eq!(breaker.gate(at(29)), Some(TargetGate::Closed));
    assert_eq!(breaker.gate(at(30)), Some(TargetGate::OneProbe));
    assert_eq!(breaker.record(report(9, Verdict::Works), at(1)), None, "started before");
    assert_eq!(breaker.state, BreakerState::Open);
}

#[test]
fn more_than_half_of_the_window_opens_it() {
    let mut breaker = Breaker::default();
    let history = [true, true, false, true, true, false, true, false, false];
    for (run, failed) in (0_i64..).zip(history) {
        let verdict = if failed { Verdict::Broken } else { Verdict::Works };
        assert_eq!(breaker.record(report(run, verdict), at(0)), None, "{run}");
    }
    let transition = breaker.record(report(9, Verdict::Broken), at(0)).unwrap();
    assert_eq!((transition.to, transition.cause), (BreakerState::Open, "failure_rate"));
}

#[test]
fn one_probe_passes_and_decides() {
    let mut breaker = opened();
    let half = breaker.begin_probe(70, at(30)).unwrap();
    assert_eq!(half.to, BreakerState::HalfOpen);
    assert_eq!(breaker.gate(at(31)), Some(TargetGate::Closed), "one at a time");
    assert_eq!(breaker.begin_probe(71, at(31)), None);
    assert_eq!(breaker.record(report(71, Verdict::Works), at(31)), None, "not the probe");
    let again = breaker.record(report(70, Verdict::Broken), at(32)).unwrap();
    assert_eq!((again.to, again.cause), (BreakerState::Open, "probe_failed"));
    assert_eq!(breaker.gate(at(61)), Some(TargetGate::Closed), "the wait begins again");
    assert!(breaker.begin_probe(72, at(62)).is_some());
    let closed = breaker.record(report(72, Verdict::Works), at(63)).unwrap();
    assert_eq!((closed.to, closed.cause), (BreakerState::Closed, "probe_succeeded"));
    assert!(breaker.is_quiet());
}

#[test]
fn a_probe_that_says_nothing_frees_its_place() {
    let mut breaker = opened();
    breaker.begin_probe(70, at(30)).unwrap();
    assert_eq!(breaker.record(report(70, Verdict::Silent), at(31)), None);
    assert_eq!(breaker.gate(at(31)), Some(TargetGate::OneProbe));
    assert_eq!(breaker.begin_probe(71, at(31)), None, "it is half open already");
    assert_eq!(breaker.probe, Some(71));
}

#[test]
fn a_force_is_obeyed_until_its_time() {
    let force =
        |is_open| Force { is_open, until: Some(at(100)), by: "ops".to_owned(), reason: None };
    let mut breaker = Breaker::default();
    breaker.force(force(true), at(0));
    assert_eq!(breaker.gate(at(99)), Some(TargetGate::Closed));
    assert!(!breaker.probe_now(at(99)));
    assert_eq!(breaker.gate(at(100)), Some(TargetGate::OneProbe));
    let mut breaker = opened();
    breaker.force(force(false), at(0));
    for run in 0..20 {
        assert_eq!(breaker.record(report(run, Verdict::Broken), at(50)), None);
    }
    assert_eq!(breaker.gate(at(99)), None);
    for run in 0..5 {
        breaker.record(report(run, Verdict::Broken), at(101));
    }
    assert_eq!(breaker.state, BreakerState::Open, "judged again");
    assert!(breaker.reset().is_some());
    assert_eq!(breaker.reset(), None);
}

#[test]
fn only_failures_that_speak_of_the_target_count() {
    let table = [
        ("http:a", "connection", Verdict::Broken),
        ("http:a", "timeout", Verdict::Broken),
        ("http:a", "http_5xx", Verdict::Broken),
        ("http:a", "http_429", Verdict::Broken),
        ("http:a", "http_4xx", Verdict::Works),
        ("http:a", "invalid_config", Verdict::Silent),
        ("http:a", "refused_by_policy", Verdict::Silent),
        ("http:a", "node_lost", Verdict::Silent),
        ("conductor", "conductor", Verdict::Broken),
        ("http:a", "exit_code", Verdict::Silent),
        ("key:mail", "exit_code", Verdict::Broken),
        ("key:mail", "command_not_found", Verdict::Silent),
    ];
    for (target, kind, expected) in table {
        let error = TaskError::new(kind, "it broke");
        let verdict = Verdict::of(target, ExecutionStatus::Failed, Some(&error));
        assert_eq!(verdict, expected, "{target} {kind}");
    }
    assert_eq!(Verdict::of("key:x", ExecutionStatus::Completed, None), Verdict::Works);
    let error = TaskError::new("timeout", "slow");
    assert_eq!(Verdict::of("http:a", ExecutionStatus::Timeout, Some(&error)), Verdict::Broken);
    assert_eq!(Verdict::of("http:a", ExecutionStatus::Cancelled, Some(&error)), Verdict::Silent);
}

#[test]
fn a_target_is_the_host_the_conductor_or_the_named_key() {
    let named = BreakerOptions { key: Some("billing".to_owned()), ..BreakerOptions::default() };
    let off = BreakerOptions { enabled: Some(false), ..BreakerOptions::default() };
    let url = |url: &str| json!({ "url": url });
    let table = [
        ("http_request", url("https://Api.Example.com/x?y"), None, Some("http:api.example.com")),
        ("http_request", url("http://10.0.0.7:8080/"), None, Some("http:10.0.0.7:8080")),
        ("http_request", url("http://a:80/"), None, Some("http:a")),
        ("http_request", url("nonsense"), None, None),
        ("http_request", url("http://a/"), Some(off), None),
        ("http_request", url("http://a/"), Some(named.clone()), Some("key:billing")),
        ("conductor_task", json!({}), None, Some("conductor")),
        ("shell_command", json!({}), None, None),
        ("shell_command", json!({}), Some(named), Some("key:billing")),
    ];
    for (task_type, config, breaker, expected) in table {
        assert_eq!(target_of(&task(task_type, config, breaker)).as_deref(), expected);
    }
}

/// What the breaker must do, said as plainly as can be: whole histories instead of counters.
#[derive(Debug)]
enum Model {
    Closed { said: Vec<bool> },
    Open { since: i64 },
    Half { probe: Option<i64> },
    ForcedOpen { until: i64 },
    ForcedClosed { until: i64 },
}

impl Model {
    /// The state after the passage of time alone.
    fn at(self, now: i64) -> Self {
        match self {
            Self::ForcedOpen { until } if now >= until => Self::Open { since: i64::MIN / 2 },
            Self::ForcedClosed { until } if now >= until => Self::Closed { said: Vec::new() },
            other => other,
        }
    }

    fn gate(&self, now: i64, open_s: i64) -> Option<TargetGate> {
        match self {
            Self::Closed { .. } | Self::ForcedClosed { .. } => None,
            Self::Open { since } if now - since >= open_s => Some(TargetGate::OneProbe),
            Self::Half { probe: None } => Some(TargetGate::OneProbe),
            Self::Open { .. } | Self::Half { .. } | Self::ForcedOpen { .. } => {
                Some(TargetGate::Closed)
            }
        }
    }

    fn record(self, run: i64, verdict: Verdict, now: i64, policy: BreakerPolicy) -> Self {
        match (self, verdict) {
            (Self::Closed { mut said }, Verdict::Works | Verdict::Broken) => {
                said.push(verdict == Verdict::Broken);
                let in_a_row = said.iter().rev().take_while(|failed| **failed).count();
                let window = said.iter().rev().take(policy.window as usize);
                let failed = window.filter(|failed| **failed).count();
                let opens =
                    in_a_row >= policy.failures as usize || failed * 2 > policy.window as usize;
                if verdict == Verdict::Broken && opens {
                    Self::Open { since: now }
                } else {
                    Self::Closed { said }
                }
            }
            (Self::Half { probe }, verdict) if probe == Some(run) => match verdict {
                Verdict::Works => Self::Closed { said: Vec::new() },
                Verdict::Broken => Self::Open { since: now },
                Verdict::Silent => Self::Half { probe: None },
            },
            (other, _) => other,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(i64),
    /// A run that passes (if one may) and ends later.
    Start,
    /// The oldest run under way ends so.
    End(Verdict),
    Force(bool, i64),
    Reset,
    Lose,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = prop_oneof![
        3 => Just(Verdict::Broken), 2 => Just(Verdict::Works), 1 => Just(Verdict::Silent)
    ];
    let step = prop_oneof![
        4 => (0_i64..20).prop_map(Step::Wait),
        12 => Just(Step::Start),
        12 => verdict.prop_map(Step::End),
        1 => (any::<bool>(), 1_i64..60).prop_map(|(open, long)| Step::Force(open, long)),
        1 => Just(Step::Reset),
        1 => Just(Step::Lose),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_breaker_does_as_a_plain_model_through_any_history(
        steps in steps(),
        failures in 1_u32..7,
        window in 1_u32..12,
        open_s in 1_u64..40,
    ) {
        let policy = BreakerPolicy { failures, window, open_ms: open_s * 1_000 };
        let open_s = open_s as i64;
        let mut breaker = Breaker { policy, ..Breaker::default() };
        let mut model = Model::Closed { said: Vec::new() };
        let mut under_way: VecDeque<i64> = VecDeque::new();
        let (mut now, mut run) = (0_i64, 0_i64);
        for step in steps {
            model = model.at(now);
            match step {
                Step::Wait(seconds) => now += seconds,
                Step::Start => {
                    run += 1;
                    match breaker.gate(at(now)) {
                        None => under_way.push_back(run),
                        Some(TargetGate::OneProbe) => {
                            breaker.begin_probe(run, at(now));
                            model = Model::Half { probe: Some(run) };
                            under_way.push_back(run);
                        }
                        Some(TargetGate::Closed) => {}
                    }
                }
                Step::End(verdict) => {
                    if let Some(ended) = under_way.pop_front() {
                        let end = Report { execution: ended, verdict, policy };
                        let before = breaker.state;
                        let transition = breaker.record(end, at(now));
                        prop_assert_eq!(transition.is_some(), before != breaker.state);
                        model = model.record(ended, verdict, now, policy);
                    }
                }
                Step::Force(is_open, long) => {
                    let until = now + long;
                    let force =
                        Force { is_open, until: Some(at(until)), by: String::new(), reason: None };
                    breaker.force(force, at(now));
                    model = if is_open {
                        Model::ForcedOpen { until }
                    } else {
                        Model::ForcedClosed { until }
                    };
                }
                Step::Reset => {
                    breaker.reset();
                    model = Model::Closed { said: Vec::new() };
                }
                Step::Lose => {
                    if let Some(probe) = breaker.probe.filter(|_| matches!(model, Model::Half { .. })) {
                        breaker.free_probe();
                        under_way.retain(|one| *one != probe);
                        model = Model::Half { probe: None };
                    }
                }
            }
            model = model.at(now);
            prop_assert_eq!(breaker.gate(at(now)), model.gate(now, open_s), "{:?} {:?}", breaker, model);
            prop_assert!(breaker.recent.len() <= policy.window as usize);
        }
    }
}
