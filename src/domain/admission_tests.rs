//! Cases of admission, and random histories against a simple model.

use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn one(id: i64) -> Candidate {
    Candidate {
        id,
        rank_at: at(-100 + id),
        priority: Priority::Medium,
        queue: None,
        key: None,
        schedule: None,
        target: None,
        needs: None,
        away: None,
        held_by: String::new(),
        held_reason: None,
    }
}

fn in_queue(id: i64, queue: &str) -> Candidate {
    Candidate { queue: Some(queue.to_owned()), ..one(id) }
}

fn keyed(id: i64, key: &str, limit: i32) -> Candidate {
    Candidate { key: Some(KeyRule { key: key.to_owned(), limit, rate: None }), ..one(id) }
}

fn slots(slots: usize) -> Standing {
    Standing { slots, ..Standing::default() }
}

fn started(plan: &AdmissionPlan) -> Vec<i64> {
    plan.start.iter().map(|start| start.id).collect()
}

fn reasons(plan: &AdmissionPlan) -> Vec<(i64, &str)> {
    plan.hold.iter().map(|hold| (hold.id, hold.reason.as_str())).collect()
}

#[test]
fn a_paused_queue_holds_its_own_and_nobody_else() {
    let mut standing = slots(9);
    let paused = QueueRules { is_paused: true, ..QueueRules::default() };
    standing.rules.insert("reports".to_owned(), paused);
    let candidates = vec![in_queue(1, "reports"), in_queue(2, "reports"), in_queue(3, "mail")];
    let plan = plan_admission(candidates, standing, at(0));
    assert_eq!(started(&plan), [3]);
    let reason = "queue \"reports\" is paused";
    assert_eq!(reasons(&plan), [(1, reason), (2, reason)]);
}

#[test]
fn a_key_admits_up_to_its_limit_counting_what_runs() {
    let mut standing = slots(9);
    standing.keys.insert("tenant-7".to_owned(), Usage { running: 1, starts: Vec::new() });
    let candidates = (1..=4).map(|id| keyed(id, "tenant-7", 2)).collect();
    let plan = plan_admission(candidates, standing, at(0));
    assert_eq!(started(&plan), [1]);
    let reason = "2 of 2 with key \"tenant-7\" are running";
    assert_eq!(reasons(&plan), [(2, reason), (3, reason), (4, reason)]);
    assert_eq!(plan.hold[0].lane, "key:tenant-7");
}

#[test]
fn nobody_passes_the_first_of_a_lane_by_asking_for_less() {
    let mut standing = slots(9);
    standing.keys.insert("a".to_owned(), Usage { running: 1, starts: Vec::new() });
    let plan = plan_admission(vec![keyed(2, "a", 5), keyed(1, "a", 1)], standing, at(0));
    assert_eq!(started(&plan), [0_i64; 0]);
}

#[test]
fn what_was_told_before_is_not_told_again() {
    let mut standing = slots(9);
    standing.keys.insert("a".to_owned(), Usage { running: 1, starts: Vec::new() });
    let told = Candidate {
        held_by: "key:a".to_owned(),
        held_reason: Some("1 of 1 with key \"a\" are running".to_owned()),
        ..keyed(1, "a", 1)
    };
    assert_eq!(plan_admission(vec![told], standing, at(0)).hold, []);
}

#[test]
fn what_failed_here_is_left_to_another_node_for_a_while() {
    let away = |id, from: &str, until| Candidate {
        away: Some(Away { from: from.to_owned(), until: at(until) }),
        ..one(id)
    };
    let all = || vec![away(1, "here", 30), away(2, "there", 30), away(3, "here", 0)];
    let alone = plan_admission(all(), slots(9), at(0));
    assert_eq!(started(&alone), [1, 2, 3]);
    let among = Standing { replaceable: Some("here".to_owned()), ..slots(9) };
    let plan = plan_admission(all(), among.clone(), at(0));
    assert_eq!(started(&plan), [2, 3]);
    assert_eq!(reasons(&plan), [(1, "it failed on here; another node may take it")]);
    assert_eq!((plan.hold[0].lane.as_str(), plan.look_again_at), ("away:here", Some(at(30))));
    let held = Candidate { held_by: "queue:q".to_owned(), ..away(1, "here", 30) };
    assert_eq!(plan_admission(vec![held], among, at(0)).hold, []);
}

#[test]
fn an_open_breaker_holds_and_a_half_open_one_lets_one_through() {
    let to = |id, target: &str| Candidate { target: Some(target.to_owned()), ..one(id) };
    let mut standing = slots(9);
    standing.targets.insert("http:a".to_owned(), TargetGate::Closed);
    standing.targets.insert("http:b".to_owned(), TargetGate::OneProbe);
    let candidates = vec![to(1, "http:a"), to(2, "http:b"), to(3, "http:b"), to(4, "http:c")];
    let plan = plan_admission(candidates, standing, at(0));
    assert_eq!(plan.start[0], Start { id: 2, probe: Some("http:b".to_owned()) });
    assert_eq!(plan.start[1], Start { id: 4, probe: None });
    let expected = [
        (1, "circuit breaker of http:a is open"),
        (3, "circuit breaker of http:b waits for its probe"),
    ];
    assert_eq!(reasons(&plan), expected);
}

#[test]
fn a_rate_lets_the_next_one_through_when_its_window_has_moved_on() {
    let rate = RateLimit { count: 2, per_ms: 10_000 };
    let candidate = |id| Candidate {
        key: Some(KeyRule { key: "k".to_owned(), limit: 9, rate: Some(rate) }),
        ..one(id)
    };
    let standing = |starts: &[i64]| {
        let starts = starts.iter().map(|second| at(*second)).collect();
        let mut standing = slots(9);
        standing.keys.insert("k".to_owned(), Usage { running: 0, starts });
        standing
    };
    let plan = plan_admission(vec![candidate(1), candidate(2)], standing(&[-4, -9, -11]), at(0));
    assert_eq!(started(&plan), [0_i64; 0]);
    assert_eq!(plan.look_again_at, Some(at(1)));
    let plan = plan_admission(vec![candidate(1), candidate(2)], standing(&[-4, -10]), at(0));
    assert_eq!(started(&plan), [1]);
    assert_eq!(plan.look_again_at, Some(at(6)));
    assert_eq!(reasons(&plan), [(2, "key \"k\" starts at most 2 in 10000 ms")]);
}

#[test]
fn what_does_not_fit_waits_and_what_fits_goes_on() {
    let needing = |id, cpu, memory_mb| Candidate {
        needs: Some(ResourceNeeds { cpu: Some(cpu), memory_mb: Some(memory_mb) }),
        rank_at: at(-1),
        ..one(id)
    };
    let room = Room { cpu: 1.5, memory_mb: 1_000.0, cpu_total: 4.0, memory_total_mb: 2_000.0 };
    let standing = Standing { room: Some(room), ..slots(9) };
    let candidates = vec![
        needing(1, 4.0, 10),
        needing(2, 1.0, 1_500),
        needing(3, 8.0, 10),
        needing(4, 1.0, 900),
        needing(5, 0.5, 200),
    ];
    let plan = plan_admission(candidates, standing, at(0));
    assert_eq!(started(&plan), [4]);
    let expected = [
        (1, "needs 4 cpu, 1.5 free"),
        (2, "needs 1500 MiB, 1000 free"),
        (3, "needs 8 cpu and 10 MiB, this node has 4 cpu and 2000 MiB"),
        (5, "needs 200 MiB, 100 free"),
    ];
    assert_eq!(reasons(&plan), expected);
}

#[test]
fn what_is_overdue_and_does_not_fit_keeps_the_room_that_comes_free() {
    let needing = |id, cpu| Candidate {
        needs: Some(ResourceNeeds { cpu: Some(cpu), memory_mb: None }),
        ..one(id)
    };
    let room = Room { cpu: 1.0, memory_mb: 1.0, cpu_total: 4.0, memory_total_mb: 1.0 };
    let standing = Standing { room: Some(room), ..slots(9) };
    let plan = plan_admission(vec![needing(1, 4.0), needing(2, 1.0)], standing, at(0));
    assert_eq!(started(&plan), [0_i64; 0]);
}

#[test]
fn slots_are_shared_by_rank_with_those_that_wait_for_nothing_else() {
    let others = vec![at(-99), at(-97)];
    let standing = Standing { others, ..slots(3) };
    let plan = plan_admission(vec![one(2), one(4)], standing, at(0));
    assert_eq!(started(&plan), [2]);
    assert!(plan.wants_slots);
}

#[test]
fn slots_kept_for_the_urgent_go_to_nobody_else() {
    let standing = Standing { reserved_high: 2, ..slots(3) };
    let high = Candidate { priority: Priority::High, ..one(9) };
    let plan = plan_admission(vec![one(1), one(2), high], standing, at(0));
    assert_eq!(started(&plan), [1, 9]);
}

/// What a history is made of.
#[derive(Clone, Debug)]
struct Job {
    arrives: i64,
    takes: i64,
    queue: Option<u8>,
    key: Option<u8>,
    schedule: Option<u8>,
    cpu: Option<u8>,
    high: bool,
}

fn job() -> impl Strategy<Value = Job> {
    let gate = || proptest::option::of(0_u8..2);
    let cpu = proptest::option::weighted(0.3, 1_u8..=3);
    (0_i64..200, 1_i64..20, (gate(), gate(), gate()), cpu, any::<bool>()).prop_map(
        |(arrives, takes, (queue, key, schedule), cpu, high)| Job {
            arrives,
            takes,
            queue,
            key,
            schedule,
            cpu,
            high,
        },
    )
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    slots: usize,
    queue: i32,
    queue_rate: i32,
    key: i32,
    key_rate: RateLimit,
    schedule: i32,
    cpu: u8,
}

fn limits() -> impl Strategy<Value = Limits> {
    (1_usize..6, 1_i32..4, 3_i32..40, 1_i32..4, (1_i32..6, 1_i64..15), 1_i32..3).prop_map(
        |(slots, queue, queue_rate, key, (count, seconds), schedule)| Limits {
            slots,
            queue,
            queue_rate,
            key,
            key_rate: RateLimit { count, per_ms: seconds * 1_000 },
            schedule,
            cpu: 3,
        },
    )
}

impl Job {
    fn candidate(&self, id: usize, limits: Limits) -> Candidate {
        let priority = if self.high { Priority::High } else { Priority::Low };
        Candidate {
            id: i64::try_from(id).unwrap(),
            rank_at: at(self.arrives) + priority.penalty(),
            priority,
            queue: self.queue.map(|queue| format!("q{queue}")),
            key: self.key.map(|key| KeyRule {
                key: format!("k{key}"),
                limit: limits.key,
                rate: (key == 0).then_some(limits.key_rate),
            }),
            schedule: self.schedule.map(|id| (i64::from(id), limits.schedule)),
            target: None,
            needs: self.cpu.map(|cpu| ResourceNeeds { cpu: Some(f64::from(cpu)), memory_mb: None }),
            away: None,
            held_by: String::new(),
            held_reason: None,
        }
    }
}

/// The model: what runs, and when each began.
struct Model<'a> {
    jobs: &'a [Job],
    limits: Limits,
    began: Vec<Option<i64>>,
}

impl Model<'_> {
    fn runs(&self, now: i64) -> impl Iterator<Item = (usize, &Job)> {
        self.jobs.iter().enumerate().filter(move |(place, job)| {
            self.began[*place].is_some_and(|began| now < began + job.takes)
        })
    }

    fn usage(&self, now: i64, mine: impl Fn(&Job) -> bool) -> Usage {
        let running = self.runs(now).filter(|(_, job)| mine(job)).count();
        let mut starts: Vec<Timestamp> = self
            .jobs
            .iter()
            .zip(&self.began)
            .filter_map(|(job, began)| began.filter(|_| mine(job)).map(at))
            .collect();
        starts.sort_unstable();
        starts.reverse();
        Usage { running: i64::try_from(running).unwrap(), starts }
    }

    fn cpu_used(&self, now: i64) -> u8 {
        self.runs(now).filter_map(|(_, job)| job.cpu).sum()
    }

    fn standing(&self, now: i64) -> Standing {
        let limits = self.limits;
        let mut standing = slots(limits.slots - self.runs(now).count());
        for name in 0..2_u8 {
            let queue = format!("q{name}");
            let rules = QueueRules {
                max_concurrent: Some(limits.queue),
                rate_per_minute: (name == 0).then_some(limits.queue_rate),
                is_paused: false,
            };
            standing.queues.insert(queue.clone(), self.usage(now, |job| job.queue == Some(name)));
            standing.rules.insert(queue, rules);
            standing.keys.insert(format!("k{name}"), self.usage(now, |job| job.key == Some(name)));
            let of_schedule = self.usage(now, |job| job.schedule == Some(name));
            standing.schedules.insert(i64::from(name), of_schedule.running);
        }
        let total = f64::from(limits.cpu);
        standing.room = Some(Room {
            cpu: total - f64::from(self.cpu_used(now)),
            memory_mb: 0.0,
            cpu_total: total,
            memory_total_mb: 0.0,
        });
        standing
    }

    /// No limit is exceeded now.
    fn check(&self, now: i64) {
        let limits = self.limits;
        assert!(self.runs(now).count() <= limits.slots);
        assert!(self.cpu_used(now) <= limits.cpu);
        let within = |usage: &Usage, rate: RateLimit| {
            let since = at(now) - TimeDelta::milliseconds(rate.per_ms);
            usage.starts.iter().filter(|start| **start > since).count()
                <= usize::try_from(rate.count).unwrap()
        };
        for name in 0..2_u8 {
            let queue = self.usage(now, |job| job.queue == Some(name));
            assert!(queue.running <= i64::from(limits.queue));
            let a_minute = RateLimit { count: limits.queue_rate, per_ms: 60_000 };
            assert!(name != 0 || within(&queue, a_minute));
            let key = self.usage(now, |job| job.key == Some(name));
            assert!(key.running <= i64::from(limits.key));
            assert!(name != 0 || within(&key, limits.key_rate));
            let schedule = self.usage(now, |job| job.schedule == Some(name));
            assert!(schedule.running <= i64::from(limits.schedule));
        }
    }

    /// True when somebody waits who no limit keeps from starting.
    fn could_start(&self, now: i64) -> Option<usize> {
        let standing = self.standing(now);
        (0..self.jobs.len())
            .filter(|place| self.began[*place].is_none() && self.jobs[*place].arrives <= now)
            // Those who are overdue may keep places from those behind them.
            .find(|place| {
                let alone = vec![self.jobs[*place].candidate(*place, self.limits)];
                !plan_admission(alone, standing.clone(), at(now)).start.is_empty()
            })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_limit_is_exceeded_and_nobody_waits_for_ever(
        jobs in proptest::collection::vec(job(), 1..40),
        limits in limits(),
    ) {
        let mut model = Model { jobs: &jobs, limits, began: vec![None; jobs.len()] };
        // Everything takes turns one after the other at worst, at the slowest rate.
        let worst = 400 + 40 * 80;
        for now in 0..worst {
            if model.began.iter().all(Option::is_some) {
                break;
            }
            let waiting: Vec<Candidate> = (0..jobs.len())
                .filter(|place| model.began[*place].is_none() && jobs[*place].arrives <= now)
                .map(|place| jobs[place].candidate(place, limits))
                .collect();
            let overdue = waiting.iter().any(|one| one.rank_at + PATIENCE <= at(now));
            let plan = plan_admission(waiting, model.standing(now), at(now));
            for start in &plan.start {
                model.began[usize::try_from(start.id).unwrap()] = Some(now);
            }
            model.check(now);
            // Work is conserved: nobody waits whom nothing holds, but for places that are kept.
            prop_assert!(overdue || model.could_start(now).is_none());
        }
        prop_assert!(model.began.iter().all(Option::is_some), "{:?}", model.began);
    }
}
