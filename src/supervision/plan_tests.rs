//! Laws of the plan: tables for what each rule says, properties for what holds whatever happens.

use proptest::prelude::{Just, any, prop, prop_assert, prop_oneof, proptest};
use proptest::strategy::Strategy as _;

use super::super::spec::Backoff;
use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn policy() -> ChildPolicy {
    ChildPolicy {
        restart: Restart::Permanent,
        shutdown: 5 * SECOND,
        start_deadline: Some(30 * SECOND),
        backoff: Backoff::default(),
        waits_for_ready: true,
    }
}

fn plan(strategy: Strategy, count: usize) -> Plan {
    let policy =
        Policy { strategy, limit: RestartLimit::default(), children: vec![policy(); count] };
    Plan::new(policy, |_| false)
}

/// A plan whose children all run.
fn running(strategy: Strategy, count: usize) -> Plan {
    let mut plan = plan(strategy, count);
    assert_eq!(plan.step(Duration::ZERO, Event::Tick), [Action::Launch(0)]);
    for child in 0..count {
        let expected: Vec<_> =
            (child + 1 < count).then_some(Action::Launch(child + 1)).into_iter().collect();
        assert_eq!(plan.step(Duration::ZERO, Event::Ready(child)), expected);
    }
    assert!(plan.has_passed());
    plan
}

const fn crash(child: usize) -> Event {
    Event::Exited { child, crashed: true }
}

const fn quiet(child: usize) -> Event {
    Event::Exited { child, crashed: false }
}

const fn ask(child: usize, for_good: bool) -> Action {
    Action::AskStop { child, for_good }
}

#[test]
fn one_for_one_restarts_the_crashed_child_alone() {
    let mut plan = running(Strategy::OneForOne, 3);
    assert_eq!(plan.step(SECOND, crash(1)), []);
    assert_eq!(plan.next_wake(), Some(SECOND + 50 * MS));
    assert_eq!(plan.step(SECOND + 49 * MS, Event::Tick), []);
    assert_eq!(plan.step(SECOND + 50 * MS, Event::Tick), [Action::Launch(1)]);
}

#[test]
fn rest_for_one_stops_the_later_in_reverse_and_starts_them_in_order() {
    let mut plan = running(Strategy::RestForOne, 4);
    assert_eq!(plan.step(SECOND, crash(1)), [ask(3, false)]);
    assert_eq!(plan.step(SECOND, quiet(3)), [ask(2, false)]);
    assert_eq!(plan.step(SECOND + 60 * MS, Event::Tick), []);
    assert_eq!(plan.step(SECOND + 60 * MS, quiet(2)), [Action::Launch(1)]);
    assert_eq!(plan.step(SECOND + 60 * MS, Event::Ready(1)), [Action::Launch(2)]);
    assert_eq!(plan.step(SECOND + 60 * MS, Event::Ready(2)), [Action::Launch(3)]);
    assert_eq!(plan.phase(0), Some(Phase::Running));
}

#[test]
fn one_for_all_restarts_everyone() {
    let mut plan = running(Strategy::OneForAll, 3);
    assert_eq!(plan.step(SECOND, crash(1)), [ask(2, false)]);
    assert_eq!(plan.step(SECOND, quiet(2)), [ask(0, false)]);
    assert_eq!(plan.step(SECOND, quiet(0)), [Action::Launch(0)]);
    assert_eq!(plan.step(2 * SECOND, Event::Ready(0)), [Action::Launch(1)]);
    assert_eq!(plan.step(2 * SECOND, Event::Ready(1)), [Action::Launch(2)]);
}

#[test]
fn restart_policies_decide_who_comes_back() {
    for (restart, crashed, phase) in [
        (Restart::Permanent, true, Phase::Down),
        (Restart::Permanent, false, Phase::Down),
        (Restart::Transient, true, Phase::Down),
        (Restart::Transient, false, Phase::Stopped),
        (Restart::Temporary, true, Phase::Failed),
        (Restart::Temporary, false, Phase::Stopped),
    ] {
        let child = ChildPolicy { restart, ..policy() };
        let limit = RestartLimit::default();
        let policy = Policy { strategy: Strategy::OneForOne, limit, children: vec![child] };
        let mut plan = Plan::new(policy, |_| false);
        assert_eq!(plan.step(SECOND, Event::Tick), [Action::Launch(0)]);
        assert_eq!(plan.step(SECOND, Event::Exited { child: 0, crashed }), []);
        assert_eq!(plan.phase(0), Some(phase), "{restart:?} crashed={crashed}");
    }
}

#[test]
fn a_hung_child_that_policy_does_not_restart_has_failed() {
    let child = ChildPolicy { restart: Restart::Temporary, ..policy() };
    let limit = RestartLimit::default();
    let mut plan =
        Plan::new(Policy { strategy: Strategy::OneForOne, limit, children: vec![child] }, |_| {
            false
        });
    assert_eq!(plan.step(SECOND, Event::Tick), [Action::Launch(0)]);
    assert_eq!(plan.step(SECOND, Event::Hung(0)), [Action::Abort(0)]);
    assert_eq!(plan.step(SECOND, quiet(0)), []);
    assert_eq!(plan.phase(0), Some(Phase::Failed));
}

#[test]
fn the_restart_past_the_limit_gives_up_and_stops_in_reverse() {
    let mut plan = running(Strategy::OneForOne, 2);
    let mut now = Duration::ZERO;
    for _ in 0..10 {
        assert_eq!(plan.step(now, crash(0)), []);
        now = plan.next_wake().unwrap();
        assert_eq!(plan.step(now, Event::Tick), [Action::Launch(0)]);
        assert_eq!(plan.step(now, Event::Ready(0)), []);
    }
    assert!(now < 60 * SECOND, "the default back-off must not keep the limit from tripping");
    assert_eq!(plan.step(now, crash(0)), [ask(1, false)]);
    assert_eq!(plan.step(now, quiet(1)), [Action::End(Ending::GaveUp)]);
    assert_eq!(plan.step(now, Event::Tick), []);
}

#[test]
fn the_restart_limit_counts_only_the_window() {
    let mut plan = running(Strategy::OneForOne, 1);
    for minute in 0..100 {
        let now = minute * 7 * SECOND;
        assert_eq!(plan.step(now, crash(0)), []);
        assert_eq!(plan.step(now + 5 * SECOND, Event::Tick), [Action::Launch(0)]);
    }
    assert_eq!(plan.restarts_in_window(99 * 7 * SECOND), 9);
}

#[test]
fn the_delay_doubles_up_to_its_maximum_and_is_forgotten_in_peace() {
    let mut plan = running(Strategy::OneForOne, 1);
    let mut now = Duration::ZERO;
    for millis in [50_u32, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
        assert_eq!(plan.step(now, crash(0)), []);
        assert_eq!(plan.next_wake(), Some(now + millis * MS));
        now += millis * MS;
        assert_eq!(plan.step(now, Event::Tick), [Action::Launch(0)]);
    }
    now += 61 * SECOND;
    assert_eq!(plan.step(now, crash(0)), []);
    assert_eq!(plan.next_wake(), Some(now + 50 * MS));
}

#[test]
fn operator_restarts_are_not_counted() {
    let mut plan = running(Strategy::OneForOne, 1);
    for _ in 0..100 {
        assert_eq!(plan.step(SECOND, Event::Restart(0)), [ask(0, false)]);
        assert_eq!(plan.step(SECOND, quiet(0)), [Action::Launch(0)]);
        assert_eq!(plan.step(SECOND, Event::Ready(0)), []);
    }
    assert_eq!(plan.restarts_in_window(SECOND), 0);
}

#[test]
fn an_operator_restart_cuts_the_back_off_short() {
    let mut plan = running(Strategy::OneForOne, 1);
    assert_eq!(plan.step(SECOND, crash(0)), []);
    assert!(plan.is_backing_off(0, SECOND));
    assert_eq!(plan.step(SECOND, Event::Restart(0)), [Action::Launch(0)]);
}

#[test]
fn a_stopped_child_stays_stopped_until_it_is_started() {
    let mut plan = running(Strategy::OneForAll, 2);
    assert_eq!(plan.step(SECOND, Event::Stop(0)), [ask(0, true)]);
    assert_eq!(plan.step(SECOND, quiet(0)), []);
    assert_eq!(plan.step(SECOND, crash(1)), []);
    assert_eq!(plan.step(2 * SECOND, Event::Tick), [Action::Launch(1)]);
    assert_eq!(plan.phase(0), Some(Phase::Stopped));
    assert_eq!(plan.step(2 * SECOND, Event::Start(0)), [Action::Launch(0)]);
}

#[test]
fn a_child_that_does_not_stop_is_aborted_and_one_that_does_not_end_is_abandoned() {
    let mut plan = running(Strategy::OneForOne, 1);
    assert_eq!(plan.step(SECOND, Event::Restart(0)), [ask(0, false)]);
    assert_eq!(plan.next_wake(), Some(6 * SECOND));
    assert_eq!(plan.step(6 * SECOND, Event::Tick), [Action::Abort(0)]);
    let end = 6 * SECOND + ABORT_GRACE;
    assert_eq!(plan.next_wake(), Some(end));
    assert_eq!(plan.step(end, Event::Tick), [Action::Abandon(0), Action::Launch(0)]);
}

#[test]
fn a_start_past_its_deadline_is_a_crash() {
    let mut plan = plan(Strategy::OneForOne, 2);
    assert_eq!(plan.step(Duration::ZERO, Event::Tick), [Action::Launch(0)]);
    let late = 30 * SECOND;
    assert_eq!(plan.step(late, Event::Tick), [Action::StartTimedOut(0), Action::Abort(0)]);
    assert_eq!(plan.step(late, quiet(0)), []);
    assert_eq!(plan.restarts_in_window(late), 1);
    assert_eq!(plan.step(late + 50 * MS, Event::Tick), [Action::Launch(0)]);
}

#[test]
fn a_move_of_the_group_is_no_crash() {
    let mut plan = running(Strategy::OneForAll, 2);
    assert_eq!(plan.step(SECOND, Event::Displaced(0)), [Action::Launch(0)]);
    assert_eq!(plan.restarts_in_window(SECOND), 0);
    assert_eq!(plan.phase(1), Some(Phase::Running));
}

#[test]
fn a_close_while_giving_up_still_ends_once() {
    let mut plan = running(Strategy::OneForOne, 1);
    let close = Event::Close { for_good: true };
    assert_eq!(plan.step(SECOND, close), [ask(0, true)]);
    assert_eq!(plan.step(SECOND, close), []);
    let ended = Action::End(Ending::Closed { for_good: true });
    assert_eq!(plan.step(SECOND, quiet(0)), [ended]);
    assert_eq!(plan.step(SECOND, Event::Restart(0)), []);
}

#[test]
fn back_off_never_overflows() {
    let backoff = Backoff::default();
    assert_eq!(backoff.delay(u32::MAX), backoff.max);
    assert_eq!(backoff.delay(0), backoff.first);
}

/// What the world does next.
#[derive(Clone, Copy, Debug)]
enum Move {
    Wait(u16),
    Ready(usize),
    Crash(usize),
    Finish(usize),
    Hang(usize),
    Displace(usize),
    Restart(usize),
    Stop(usize),
    Start(usize),
}

fn moves() -> impl proptest::strategy::Strategy<Value = Move> {
    let child = 0..4_usize;
    prop_oneof![
        (1..5_000_u16).prop_map(Move::Wait),
        child.clone().prop_map(Move::Ready),
        child.clone().prop_map(Move::Ready),
        child.clone().prop_map(Move::Crash),
        child.clone().prop_map(Move::Finish),
        child.clone().prop_map(Move::Hang),
        child.clone().prop_map(Move::Displace),
        child.clone().prop_map(Move::Restart),
        child.clone().prop_map(Move::Stop),
        child.prop_map(Move::Start),
    ]
}

/// The world as the plan may believe it: which lives exist, and in what order things happened.
struct World {
    plan: Plan,
    now: Duration,
    alive: [bool; 4],
    asked: [bool; 4],
    ended: bool,
    crashes: usize,
}

impl World {
    fn new(strategy: Strategy, kinds: [u8; 4]) -> Self {
        let children = kinds.map(|kind| ChildPolicy {
            restart: match kind % 3 {
                0 => Restart::Permanent,
                1 => Restart::Transient,
                _ => Restart::Temporary,
            },
            waits_for_ready: kind < 6,
            ..policy()
        });
        let limit = RestartLimit::default();
        let policy = Policy { strategy, limit, children: children.to_vec() };
        let plan = Plan::new(policy, |_| false);
        let [alive, asked] = [[false; 4]; 2];
        Self { plan, now: Duration::ZERO, alive, asked, ended: false, crashes: 0 }
    }

    fn step(&mut self, event: Event) {
        let actions = self.plan.step(self.now, event);
        assert!(!self.ended || actions.is_empty(), "it acted after its end");
        for action in actions {
            match action {
                Action::Launch(child) => {
                    assert!(!self.alive[child], "two lives of one child");
                    assert!(!self.plan.is_ending(), "launched while ending");
                    for before in 0..child {
                        let slot = &self.plan.slots[before];
                        assert!(
                            slot.passed || !slot.wanted || !slot.policy.waits_for_ready,
                            "{child} did not wait for {before}"
                        );
                    }
                    self.alive[child] = true;
                    self.asked[child] = false;
                }
                Action::AskStop { child, .. } => {
                    assert!(self.alive[child] && !self.asked[child], "asked twice");
                    self.asked[child] = true;
                    for after in child + 1..4 {
                        assert!(!self.plan.slots[after].is_going_down(), "{after} goes first");
                    }
                }
                Action::Abort(child) => assert!(self.alive[child]),
                Action::StartTimedOut(_) => self.crashes += 1,
                Action::Abandon(child) => self.alive[child] = false,
                Action::End(ending) => {
                    assert_eq!(self.alive, [false; 4], "it left a life behind");
                    assert!(ending != Ending::GaveUp || self.crashes > 10, "gave up too early");
                    self.ended = true;
                }
            }
        }
    }

    fn make(&mut self, next: Move) {
        match next {
            Move::Wait(millis) => {
                self.now += u32::from(millis) * MS;
                self.step(Event::Tick);
            }
            Move::Ready(child) if self.alive[child] => self.step(Event::Ready(child)),
            Move::Crash(child) | Move::Finish(child) if self.alive[child] => {
                self.alive[child] = false;
                self.crashes += 1;
                let crashed = matches!(next, Move::Crash(_));
                self.step(Event::Exited { child, crashed });
            }
            Move::Hang(child) if self.alive[child] => {
                self.crashes += 1;
                self.step(Event::Hung(child));
            }
            Move::Displace(child) if self.alive[child] => {
                self.alive[child] = false;
                self.step(Event::Displaced(child));
            }
            Move::Restart(child) => self.step(Event::Restart(child)),
            Move::Stop(child) => self.step(Event::Stop(child)),
            Move::Start(child) => self.step(Event::Start(child)),
            _ => {}
        }
    }

    /// From here on everybody does as asked, and time passes as the plan wants.
    fn calm(&mut self) {
        for _ in 0..200 {
            for child in 0..4 {
                let stopping = matches!(self.plan.phase(child), Some(Phase::Stopping { .. }));
                if self.alive[child] && stopping {
                    self.alive[child] = false;
                    self.step(quiet(child));
                } else if matches!(self.plan.phase(child), Some(Phase::Starting { .. })) {
                    self.step(Event::Ready(child));
                }
            }
            if let Some(at) = self.plan.next_wake() {
                self.now = self.now.max(at);
                self.step(Event::Tick);
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_order_and_the_lives_are_kept(
        strategy in prop_oneof![
            Just(Strategy::OneForOne), Just(Strategy::RestForOne), Just(Strategy::OneForAll),
        ],
        kinds in any::<[u8; 4]>().prop_map(|kinds| kinds.map(|kind| kind % 9)),
        script in prop::collection::vec(moves(), 0..80),
    ) {
        let mut world = World::new(strategy, kinds);
        world.step(Event::Tick);
        for next in script {
            world.make(next);
        }
        world.calm();
        if !world.ended {
            for child in 0..4 {
                let expected = if world.plan.is_wanted(child) { [Phase::Running; 2] }
                    else { [Phase::Stopped, Phase::Failed] };
                let phase = world.plan.phase(child).unwrap();
                prop_assert!(expected.contains(&phase), "{child} is {phase:?}");
            }
            world.step(Event::Close { for_good: true });
            world.calm();
        }
        prop_assert!(world.ended, "it did not end");
    }

    #[test]
    fn delays_grow_and_stay_within_bounds(crashes in 1..u32::MAX) {
        let backoff = Backoff::default();
        prop_assert!(backoff.delay(crashes) <= backoff.delay(crashes.saturating_add(1)));
        prop_assert!(backoff.delay(crashes) >= backoff.first);
        prop_assert!(backoff.delay(crashes) <= backoff.max);
    }
}
