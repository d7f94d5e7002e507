use super::*;
use crate::runtime::scheduler::plan::tests::{at, every_minute};
use crate::store::ScheduleProgress;

fn schedule(id: i64, version: i64, next: i64) -> Schedule {
    let (schedule, _) = every_minute(None);
    Schedule { id, version, next_run_at: Some(at(next)), ..schedule }
}

fn progress(schedule: &Schedule, fired: i64) -> ScheduleProgress {
    ScheduleProgress {
        id: schedule.id,
        version: schedule.version,
        next_run_at: schedule.next_run_at,
        last_run_at: schedule.last_run_at,
        fired,
        catch_up_at: schedule.catch_up_at,
        settled_at: schedule.settled_at,
    }
}

/// What is due: of the first list where it stands, of the second all.
fn due(known: &[(&Schedule, i64)], unknown: &[&Schedule]) -> DueSchedules {
    let first = known.iter().map(|(schedule, fired)| progress(schedule, *fired));
    let others = unknown.iter().map(|schedule| progress(schedule, schedule.fired));
    DueSchedules {
        progress: first.chain(others).collect(),
        unknown: unknown.iter().copied().cloned().collect(),
    }
}

fn window_of(schedules: &[&Schedule]) -> Window {
    let mut window = Window::default();
    window.refill(due(&[], schedules), &[], "UTC", &HashSet::new());
    window
}

fn content(window: &Window) -> Vec<(i64, i64, i64)> {
    let of = |(_, id): &(Timestamp, i64)| {
        let schedule = &window.entries[id].schedule;
        (*id, schedule.version, schedule.fired)
    };
    window.order.iter().map(of).collect()
}

#[test]
fn what_is_known_is_brought_up_to_date_and_what_is_not_comes_whole() {
    let (one, two) = (schedule(1, 1, 60), schedule(2, 1, 30));
    let mut window = window_of(&[&one, &two]);
    assert_eq!(window.known(), HashMap::from([(1, 1), (2, 1)]));
    let (moved, edited, new) = (schedule(1, 1, 90), schedule(2, 2, 10), schedule(3, 1, 20));
    window.refill(due(&[(&moved, 7)], &[&edited, &new]), &[], "UTC", &HashSet::new());
    assert_eq!(content(&window), [(2, 2, 0), (3, 1, 0), (1, 1, 7)]);
    assert_eq!(window.next(), Some((2, at(10))));
}

#[test]
fn what_is_not_due_any_more_leaves() {
    let (one, two) = (schedule(1, 1, 60), schedule(2, 1, 30));
    let mut window = window_of(&[&one, &two]);
    window.refill(due(&[(&one, 0)], &[]), &[], "UTC", &HashSet::new());
    assert_eq!(content(&window), [(1, 1, 0)]);
}

#[test]
fn what_fired_since_the_reading_began_stays_as_it_is() {
    let (one, two, gone) = (schedule(1, 1, 60), schedule(2, 1, 30), schedule(3, 1, 20));
    let mut window = window_of(&[&one, &two, &gone]);
    let seen_before = due(&[(&one, 0), (&two, 0), (&gone, 0)], &[]);
    let mut fired = window.take_due(at(30), 2);
    let mut second = fired.pop().unwrap();
    second.schedule.next_run_at = Some(at(90));
    second.schedule.fired = 1;
    window.put(second);
    window.refill(seen_before, &[], "UTC", &HashSet::from([2, 3]));
    assert_eq!(content(&window), [(1, 1, 0), (2, 1, 1)], "the third ran for the last time");
}
