//! What the plans of all schedules will ask of the machine: starts and concurrency ahead.
//!
//! Pure: from planned instants and past durations to buckets of time and to collisions, the moments
//! at which more would run than there are slots for. Durations are means of what completed; a
//! schedule that never completed counts as a start without length, and is told as such.
//!
//! Not here: what will be triggered by people, events or retries, which no plan knows.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use crate::domain::Timestamp;

/// Collisions that are told at most, the worst first.
pub const COLLISIONS_MAX: usize = 50;

/// What a schedule will do.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The schedule.
    pub schedule_id: i64,
    /// Its name.
    pub name: String,
    /// Its instants within the span, oldest first.
    pub instants: Vec<Timestamp>,
    /// How long a run takes; `None` when none completed yet.
    pub duration: Option<TimeDelta>,
}

/// The span that is looked at, and what there is to run it.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Its first instant.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// Length of a bucket.
    pub bucket: TimeDelta,
    /// Slots of all nodes.
    pub slots: usize,
}

/// A stretch of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// Its first instant.
    pub from: Timestamp,
    /// Planned starts.
    pub starts: usize,
    /// The most that run at once.
    pub peak: usize,
    /// How many run on average.
    pub mean: f64,
}

/// A moment at which more would run than there are slots for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collision {
    /// When it begins.
    pub at: Timestamp,
    /// When no more runs than there are slots for.
    pub until: Timestamp,
    /// The most that would run at once.
    pub peak: usize,
    /// The schedules that start from `at` to the peak, as positions in what was planned.
    pub schedules: Vec<usize>,
}

/// What lies ahead.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecast {
    /// The span, bucket by bucket.
    pub buckets: Vec<Bucket>,
    /// The worst collisions, by peak, then by instant.
    pub collisions: Vec<Collision>,
    /// All starts in the span.
    pub starts: usize,
    /// The most that run at once.
    pub peak: usize,
}

/// An instant at which something starts or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    at: Timestamp,
    /// Ends come before starts of the same instant: a slot that is given back is free.
    is_start: bool,
    schedule: usize,
}

/// Looks ahead.
#[must_use]
pub fn forecast(planned: &[Planned], span: Span) -> Forecast {
    let mut edges = Vec::new();
    for (schedule, plan) in planned.iter().enumerate() {
        let duration =
            plan.duration.unwrap_or_else(TimeDelta::zero).max(TimeDelta::milliseconds(1));
        for at in plan.instants.iter().filter(|at| **at >= span.from && **at < span.to) {
            edges.push(Edge { at: *at, is_start: true, schedule });
            edges.push(Edge { at: *at + duration, is_start: false, schedule });
        }
    }
    edges.sort_unstable();
    let mut sweep = Sweep::new(span);
    for edge in edges {
        sweep.step(edge);
    }
    sweep.finish()
}

struct Sweep {
    span: Span,
    buckets: BTreeMap<i64, (usize, usize, f64)>,
    running: usize,
    since: Timestamp,
    open: Option<Collision>,
    collisions: Vec<Collision>,
    starts: usize,
    peak: usize,
    /// What started at the present instant, should a collision begin with it.
    present: (Timestamp, Vec<usize>),
}

impl Sweep {
    fn new(span: Span) -> Self {
        let mut sweep = Self {
            span,
            buckets: BTreeMap::new(),
            running: 0,
            since: span.from,
            open: None,
            collisions: Vec::new(),
            starts: 0,
            peak: 0,
            present: (span.from, Vec::new()),
        };
        for number in 0..=sweep.number_of(span.to - TimeDelta::microseconds(1)) {
            sweep.buckets.insert(number, (0, 0, 0.0));
        }
        sweep
    }

    fn number_of(&self, at: Timestamp) -> i64 {
        let bucket = self.span.bucket.num_milliseconds().max(1);
        (at - self.span.from).num_milliseconds().div_euclid(bucket)
    }

    fn step(&mut self, edge: Edge) {
        self.pass(edge.at);
        if !edge.is_start {
            self.running -= 1;
            if self.running <= self.span.slots
                && let Some(mut open) = self.open.take()
            {
                open.until = edge.at;
                self.collisions.push(open);
            }
            return;
        }
        self.running += 1;
        self.starts += 1;
        self.peak = self.peak.max(self.running);
        let number = self.number_of(edge.at);
        let running = self.running;
        if let Some(bucket) = self.buckets.get_mut(&number) {
            bucket.0 += 1;
            bucket.1 = bucket.1.max(running);
        }
        if self.present.0 != edge.at {
            self.present = (edge.at, Vec::new());
        }
        self.present.1.push(edge.schedule);
        if running <= self.span.slots {
            return;
        }
        match &mut self.open {
            Some(open) => {
                open.peak = open.peak.max(running);
                open.schedules.push(edge.schedule);
            }
            None => {
                self.open = Some(Collision {
                    at: edge.at,
                    until: edge.at,
                    peak: running,
                    schedules: self.present.1.clone(),
                });
            }
        }
    }

    /// Adds what ran from the edge before to `at` to the buckets between.
    fn pass(&mut self, at: Timestamp) {
        let end = at.min(self.span.to);
        while self.since < end {
            let number = self.number_of(self.since);
            let next =
                self.span.from + self.span.bucket * i32::try_from(number + 1).unwrap_or(i32::MAX);
            let until = next.min(end).max(self.since + TimeDelta::microseconds(1));
            let millis = (until - self.since).num_microseconds().unwrap_or(0);
            let running = self.running;
            if let Some(bucket) = self.buckets.get_mut(&number) {
                bucket.1 = bucket.1.max(running);
                bucket.2 += share(millis, running);
            }
            self.since = until;
        }
    }

    fn finish(mut self) -> Forecast {
        self.pass(self.span.to);
        if let Some(mut open) = self.open.take() {
            open.until = self.span.to;
            self.collisions.push(open);
        }
        for collision in &mut self.collisions {
            collision.schedules.sort_unstable();
            collision.schedules.dedup();
        }
        self.collisions.sort_by_key(|one| (std::cmp::Reverse(one.peak), one.at));
        self.collisions.truncate(COLLISIONS_MAX);
        let length = self.span.bucket.num_microseconds().unwrap_or(1);
        let bucket_of = |(number, (starts, peak, area)): (i64, (usize, usize, f64))| Bucket {
            from: self.span.from + self.span.bucket * i32::try_from(number).unwrap_or(i32::MAX),
            starts,
            peak,
            mean: area / share(length, 1),
        };
        Forecast {
            buckets: self.buckets.into_iter().map(bucket_of).collect(),
            collisions: self.collisions,
            starts: self.starts,
            peak: self.peak,
        }
    }
}

/// Microseconds times a number, as an area; exact for any span that is asked for.
#[expect(clippy::cast_precision_loss, reason = "spans are far below 2^52 microseconds")]
fn share(micros: i64, running: usize) -> f64 {
    micros as f64 * running as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn plan(id: i64, instants: &[i64], seconds: Option<i64>) -> Planned {
        Planned {
            schedule_id: id,
            name: format!("s{id}"),
            instants: instants.iter().map(|one| at(*one)).collect(),
            duration: seconds.map(TimeDelta::seconds),
        }
    }

    fn span(slots: usize) -> Span {
        Span { from: at(0), to: at(60), bucket: TimeDelta::seconds(10), slots }
    }

    #[test]
    fn buckets_tell_starts_peak_and_mean() {
        let planned = [plan(1, &[0, 20], Some(15)), plan(2, &[5], Some(5))];
        let found = forecast(&planned, span(8));
        let told: Vec<_> =
            found.buckets.iter().map(|one| (one.starts, one.peak, one.mean)).collect();
        assert_eq!(
            told,
            [(2, 2, 1.5), (0, 1, 0.5), (1, 1, 1.0), (0, 1, 0.5), (0, 0, 0.0), (0, 0, 0.0)]
        );
        assert_eq!((found.starts, found.peak, found.collisions.len()), (3, 2, 0));
    }

    #[test]
    fn a_collision_names_those_that_start_together_and_when_it_ends() {
        let planned = [
            plan(1, &[10], Some(30)),
            plan(2, &[20], Some(5)),
            plan(3, &[20], Some(10)),
            plan(4, &[0], None),
        ];
        let found = forecast(&planned, span(2));
        let collision = Collision { at: at(20), until: at(25), peak: 3, schedules: vec![1, 2] };
        assert_eq!(found.collisions, [collision]);
    }

    #[test]
    fn a_slot_that_is_given_back_is_free_at_once() {
        let found = forecast(&[plan(1, &[0, 10, 20], Some(10))], span(1));
        assert_eq!((found.peak, found.collisions.len()), (1, 0));
    }

    proptest! {
        #[test]
        fn the_areas_are_those_of_the_runs(
            runs in proptest::collection::vec((0i64..60, 1i64..40), 0..40),
            slots in 1usize..6,
        ) {
            let planned: Vec<_> =
                runs.iter().enumerate().map(|(id, (start, length))| {
                    plan(i64::try_from(id).unwrap(), &[*start], Some(*length))
                }).collect();
            let found = forecast(&planned, span(slots));
            let area: f64 = found.buckets.iter().map(|one| one.mean * 10.0).sum();
            let expected: i64 = runs.iter().map(|(start, length)| (start + length).min(60) - start).sum();
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let expected = expected as f64;
            prop_assert!((area - expected).abs() < 0.001, "{area} {expected}");
            prop_assert_eq!(found.starts, runs.len());
            let running = |second: i64| {
                runs.iter().filter(|(start, length)| *start <= second && second < start + length).count()
            };
            let peak = (0..60).map(running).max().unwrap_or(0);
            prop_assert_eq!(found.peak, peak);
            prop_assert_eq!(found.collisions.is_empty(), peak <= slots);
        }
    }
}
