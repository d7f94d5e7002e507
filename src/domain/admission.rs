//! Admission: which of the executions that wait for more than a free slot may start now.
//!
//! Candidates come by rank (age and urgency). Each passes its gates in one order: its queue is
//! paused, the breaker of its target, its queue's limit and rate, its key's limit and rate, its
//! schedule's limit, the room of the node. The first gate that says no is the **lane** it waits in,
//! with a reason for people. Guarantees, tried against a simple model:
//! - No limit is ever exceeded, counting what runs and what this plan starts.
//! - In a lane the first goes first: once one of a lane is held, those ranked behind it are held
//!   too.
//! - What is held in one lane holds up no other: slots go to whoever may start.
//! - Who waits for several gates at once and is overdue by [`PATIENCE`] keeps its place in those
//!   that would let it through, so that others do not take turns in front of it for ever.
//!
//! Not here: where candidates and counts come from (`store/queries/admission.rs`).

use std::collections::{HashMap, HashSet};

use chrono::TimeDelta;

use crate::domain::Timestamp;
use crate::domain::breaker::TargetGate;
use crate::domain::execution::Priority;
use crate::domain::options::{Away, RateLimit, ResourceNeeds};

/// How long past its rank somebody waits before it keeps places in the gates that are open to it.
pub const PATIENCE: TimeDelta = TimeDelta::seconds(30);

/// One that waits, whose instant has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Row id.
    pub id: i64,
    /// Its place in the order of claims.
    pub rank_at: Timestamp,
    /// How urgent it is.
    pub priority: Priority,
    /// The queue it stands in.
    pub queue: Option<String>,
    /// Its key and the key's limits.
    pub key: Option<KeyRule>,
    /// Its schedule, and how many of that may run at once.
    pub schedule: Option<(i64, i32)>,
    /// What it depends on.
    pub target: Option<String>,
    /// What it needs of the node.
    pub needs: Option<ResourceNeeds>,
    /// The node that it keeps away from.
    pub away: Option<Away>,
    /// The lane it waits in so far; empty for none.
    pub held_by: String,
    /// What people were told so far.
    pub held_reason: Option<String>,
}

/// A key and its limits, as the candidate says them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRule {
    /// The key.
    pub key: String,
    /// How many with it may run at once; none for a key that is only counted by rate.
    pub limit: i32,
    /// How often one may start.
    pub rate: Option<RateLimit>,
}

/// A queue's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueRules {
    /// How many may run at once.
    pub max_concurrent: Option<i32>,
    /// How many may start in any minute.
    pub rate_per_minute: Option<i32>,
    /// True while nothing may start.
    pub is_paused: bool,
}

impl QueueRules {
    /// The rate as a limit.
    #[must_use]
    pub fn rate(&self) -> Option<RateLimit> {
        self.rate_per_minute.map(|count| RateLimit { count, per_ms: 60_000 })
    }
}

/// Who runs, and who started lately (newest first, as far back as the widest rate looks).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Running now.
    pub running: i64,
    /// Starts.
    pub starts: Vec<Timestamp>,
}

/// What the node has left for those that declare needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Room {
    /// Processors.
    pub cpu: f64,
    /// Memory in MiB.
    pub memory_mb: f64,
    /// All of it, when nothing is reserved.
    pub cpu_total: f64,
    /// All of it, when nothing is reserved.
    pub memory_total_mb: f64,
}

impl Room {
    /// Takes what somebody needs out of it.
    pub fn reserve(&mut self, needs: ResourceNeeds) {
        self.cpu -= cpu_of(needs);
        self.memory_mb -= memory_of(needs);
    }
}

/// The state of things that candidates are judged by.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Free slots.
    pub slots: usize,
    /// How many of them only a high one may take.
    pub reserved_high: usize,
    /// The ranks of those that wait for nothing but a slot, in order, as many as there are slots:
    /// they share the slots by rank.
    pub others: Vec<Timestamp>,
    /// Rules of queues that have any.
    pub rules: HashMap<String, QueueRules>,
    /// Use of queues.
    pub queues: HashMap<String, Usage>,
    /// Use of keys.
    pub keys: HashMap<String, Usage>,
    /// Running rows by schedule.
    pub schedules: HashMap<i64, i64>,
    /// Targets that do not let everything through.
    pub targets: HashMap<String, TargetGate>,
    /// The node's room; none when it does not limit.
    pub room: Option<Room>,
    /// The node that claims, when another one is there to take what keeps away from it.
    pub replaceable: Option<String>,
}

/// One that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Row id.
    pub id: i64,
    /// The target that it tries out, when it is a probe.
    pub probe: Option<String>,
}

/// One that is held, and was not before or for another reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Row id.
    pub id: i64,
    /// The lane it waits in.
    pub lane: String,
    /// Why, for people.
    pub reason: String,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdmissionPlan {
    /// These start, in order.
    pub start: Vec<Start>,
    /// These are held anew, or for another reason than before.
    pub hold: Vec<Hold>,
    /// When a rate lets the next one through.
    pub look_again_at: Option<Timestamp>,
    /// True when somebody that might start found no slot.
    pub wants_slots: bool,
}

/// Why one may not start: the gate, and whether it opens by itself as others end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Paused(String),
    Target(String),
    Queue(String),
    QueueRate(String),
    Key(String),
    KeyRate(String),
    Schedule(i64),
    Room,
    /// It asks for more than the whole node has; another may have it.
    TooBig,
    /// It is left to other nodes.
    Away(String),
}

impl Lane {
    /// The text that is stored. Those in several gates whose lane opens as others end are kept
    /// apart, so that the longest-waiting of them are found: their lanes sort last.
    fn text(&self, is_elder: bool) -> String {
        let name = match self {
            Self::Paused(queue) => format!("paused:{queue}"),
            Self::Target(target) => format!("target:{target}"),
            Self::Queue(queue) => format!("queue:{queue}"),
            Self::QueueRate(queue) => format!("queue-rate:{queue}"),
            Self::Key(key) => format!("key:{key}"),
            Self::KeyRate(key) => format!("key-rate:{key}"),
            Self::Schedule(id) => format!("schedule:{id}"),
            Self::Room => "room".to_owned(),
            Self::TooBig => "too-big".to_owned(),
            Self::Away(node) => format!("away:{node}"),
        };
        if is_elder { format!("{ELDERS}{name}") } else { name }
    }

    /// True for a lane that opens when something that runs ends.
    fn is_soft(&self) -> bool {
        matches!(self, Self::Queue(_) | Self::Key(_) | Self::Schedule(_) | Self::Room)
    }
}

/// What the lanes of those begin with that wait for several gates at once; the index of elders is
/// made of them.
pub const ELDERS: char = '~';

struct No {
    lane: Lane,
    reason: String,
}

impl No {
    fn new(lane: Lane, reason: String) -> Option<Self> {
        Some(Self { lane, reason })
    }
}

/// Decides over candidates, which come in any order.
#[must_use]
pub fn plan_admission(
    mut candidates: Vec<Candidate>,
    standing: Standing,
    now: Timestamp,
) -> AdmissionPlan {
    candidates.sort_by_key(|candidate| (candidate.rank_at, candidate.id));
    candidates.dedup_by_key(|candidate| candidate.id);
    let mut judge = Judge {
        standing,
        now,
        held: HashMap::new(),
        probes: HashSet::new(),
        plan: AdmissionPlan::default(),
    };
    for candidate in &candidates {
        judge.decide(candidate);
    }
    judge.plan
}

struct Judge {
    standing: Standing,
    now: Timestamp,
    /// Lanes in which somebody is held, and the reason.
    held: HashMap<Lane, String>,
    /// Targets whose one probe is on its way.
    probes: HashSet<String>,
    plan: AdmissionPlan,
}

impl Judge {
    fn decide(&mut self, candidate: &Candidate) {
        if let Some(no) = self.refusal(candidate) {
            return self.hold(candidate, no);
        }
        if !self.has_slot(candidate) {
            self.plan.wants_slots = true;
            return;
        }
        let probe =
            candidate.target.clone().filter(|target| self.standing.targets.contains_key(target));
        if let Some(target) = &probe {
            self.probes.insert(target.clone());
        }
        self.take_places(candidate, true);
        self.plan.start.push(Start { id: candidate.id, probe });
    }

    /// Slots are shared by rank with those that wait for nothing else.
    fn has_slot(&self, candidate: &Candidate) -> bool {
        let before = self.standing.others.partition_point(|rank| *rank <= candidate.rank_at);
        let used = self.plan.start.len() + before;
        let kept =
            if candidate.priority == Priority::High { 0 } else { self.standing.reserved_high };
        used + kept < self.standing.slots
    }

    fn hold(&mut self, candidate: &Candidate, no: No) {
        let gates = [
            candidate.queue.is_some(),
            candidate.key.is_some(),
            candidate.schedule.is_some(),
            candidate.needs.is_some(),
        ];
        let several = gates.into_iter().filter(|is_gate| *is_gate).count() > 1;
        // Room is a gate of two sizes: smaller needs pass larger ones.
        let is_elder = (several && no.lane.is_soft()) || no.lane == Lane::Room;
        if is_elder && candidate.rank_at + PATIENCE <= self.now {
            self.take_places(candidate, false);
        }
        let is_left = matches!(no.lane, Lane::Away(_));
        if is_left && !candidate.held_by.is_empty() {
            return;
        }
        let lane = no.lane.text(is_elder);
        if candidate.held_by != lane || candidate.held_reason.as_ref() != Some(&no.reason) {
            self.plan.hold.push(Hold { id: candidate.id, lane, reason: no.reason.clone() });
        }
        self.held.entry(no.lane).or_insert(no.reason);
    }

    fn refusal(&mut self, candidate: &Candidate) -> Option<No> {
        self.refused_by_node(candidate)
            .or_else(|| self.refused_by_queue_or_target(candidate))
            .or_else(|| self.refused_by_key(candidate))
            .or_else(|| self.refused_by_schedule(candidate))
            .or_else(|| self.refused_by_room(candidate))
    }

    /// The reason of the first that is held in a lane holds for all behind it.
    fn behind(&self, lane: &Lane) -> Option<No> {
        self.held.get(lane).and_then(|reason| No::new(lane.clone(), reason.clone()))
    }

    /// What failed here is left to another node for a while. Lanes are the same for all nodes, this
    /// refusal is not: what another gate holds stays in that lane.
    fn refused_by_node(&mut self, candidate: &Candidate) -> Option<No> {
        let away = candidate.away.as_ref()?;
        let is_here = self.standing.replaceable.as_ref() == Some(&away.from);
        if !is_here || away.until <= self.now {
            return None;
        }
        self.look_again(away.until);
        let reason = format!("it failed on {}; another node may take it", away.from);
        No::new(Lane::Away(away.from.clone()), reason)
    }

    fn refused_by_queue_or_target(&mut self, candidate: &Candidate) -> Option<No> {
        let rules = candidate.queue.as_ref().and_then(|queue| self.standing.rules.get(queue));
        let rules = rules.cloned().unwrap_or_default();
        if let Some(queue) = candidate.queue.as_ref().filter(|_| rules.is_paused) {
            return No::new(Lane::Paused(queue.clone()), format!("queue \"{queue}\" is paused"));
        }
        if let Some(no) = self.refused_by_target(candidate) {
            return Some(no);
        }
        let queue = candidate.queue.as_ref()?;
        let (lane, rate_lane) = (Lane::Queue(queue.clone()), Lane::QueueRate(queue.clone()));
        if let Some(no) = self.behind(&lane).or_else(|| self.behind(&rate_lane)) {
            return Some(no);
        }
        let used = self.standing.queues.entry(queue.clone()).or_default();
        if let Some(most) = rules.max_concurrent
            && used.running >= i64::from(most)
        {
            let reason = format!("{} of {most} of queue \"{queue}\" are running", used.running);
            return No::new(lane, reason);
        }
        let rate = rules.rate()?;
        let next = next_by_rate(&used.starts, rate, self.now)?;
        self.look_again(next);
        No::new(rate_lane, format!("queue \"{queue}\" starts at most {}", rate_text(rate)))
    }

    fn refused_by_target(&self, candidate: &Candidate) -> Option<No> {
        let target = candidate.target.as_ref()?;
        let word = match self.standing.targets.get(target)? {
            TargetGate::Closed => "is open",
            TargetGate::OneProbe if self.probes.contains(target) => "waits for its probe",
            TargetGate::OneProbe => return None,
        };
        No::new(Lane::Target(target.clone()), format!("circuit breaker of {target} {word}"))
    }

    fn refused_by_key(&mut self, candidate: &Candidate) -> Option<No> {
        let rule = candidate.key.as_ref()?;
        let key = &rule.key;
        let (lane, rate_lane) = (Lane::Key(key.clone()), Lane::KeyRate(key.clone()));
        if let Some(no) = self.behind(&lane).or_else(|| self.behind(&rate_lane)) {
            return Some(no);
        }
        let used = self.standing.keys.entry(key.clone()).or_default();
        let most = rule.limit;
        if used.running >= i64::from(most) {
            let reason = format!("{} of {most} with key \"{key}\" are running", used.running);
            return No::new(lane, reason);
        }
        let rate = rule.rate?;
        let next = next_by_rate(&used.starts, rate, self.now)?;
        self.look_again(next);
        No::new(rate_lane, format!("key \"{key}\" starts at most {}", rate_text(rate)))
    }

    fn refused_by_schedule(&self, candidate: &Candidate) -> Option<No> {
        let (schedule, most) = candidate.schedule?;
        let lane = Lane::Schedule(schedule);
        if let Some(no) = self.behind(&lane) {
            return Some(no);
        }
        let running = self.standing.schedules.get(&schedule).copied().unwrap_or(0);
        (running >= i64::from(most)).then(|| No {
            lane,
            reason: format!("{running} of {most} of this schedule are running"),
        })
    }

    /// What does not fit waits; what is smaller may pass it until it is overdue.
    fn refused_by_room(&self, candidate: &Candidate) -> Option<No> {
        let (needs, room) = (candidate.needs?, self.standing.room?);
        let (cpu, memory) = (cpu_of(needs), memory_of(needs));
        let reason = if cpu > room.cpu_total || memory > room.memory_total_mb {
            let total = (amount(room.cpu_total), amount(room.memory_total_mb));
            let reason = format!(
                "needs {}, this node has {} cpu and {} MiB",
                needs_text(needs),
                total.0,
                total.1
            );
            return No::new(Lane::TooBig, reason);
        } else if cpu > room.cpu {
            format!("needs {} cpu, {} free", amount(cpu), amount(room.cpu.max(0.0)))
        } else if memory > room.memory_mb {
            format!("needs {} MiB, {} free", amount(memory), amount(room.memory_mb.max(0.0)))
        } else {
            return None;
        };
        No::new(Lane::Room, reason)
    }

    /// Counts a start, or the place that somebody overdue keeps.
    fn take_places(&mut self, candidate: &Candidate, starts: bool) {
        let now = self.now;
        let queue = candidate.queue.as_ref().map(|queue| (&mut self.standing.queues, queue));
        let key = candidate.key.as_ref().map(|rule| (&mut self.standing.keys, &rule.key));
        for (usages, name) in [queue, key].into_iter().flatten() {
            let usage = usages.entry(name.clone()).or_default();
            usage.running += 1;
            if starts {
                usage.starts.insert(0, now);
            }
        }
        if let Some((schedule, _)) = candidate.schedule {
            *self.standing.schedules.entry(schedule).or_default() += 1;
        }
        if let (Some(needs), Some(room)) = (candidate.needs, self.standing.room.as_mut()) {
            room.reserve(needs);
        }
    }

    fn look_again(&mut self, at: Timestamp) {
        let earliest = self.plan.look_again_at.map_or(at, |known| known.min(at));
        self.plan.look_again_at = Some(earliest);
    }
}

/// When the next start is due under a rate; none when it may be now.
fn next_by_rate(starts: &[Timestamp], rate: RateLimit, now: Timestamp) -> Option<Timestamp> {
    let place = usize::try_from(rate.count).unwrap_or(0).checked_sub(1)?;
    let next = *starts.get(place)? + TimeDelta::milliseconds(rate.per_ms);
    (next > now).then_some(next)
}

fn rate_text(rate: RateLimit) -> String {
    if rate.per_ms == 60_000 {
        format!("{} a minute", rate.count)
    } else {
        format!("{} in {} ms", rate.count, rate.per_ms)
    }
}

fn cpu_of(needs: ResourceNeeds) -> f64 {
    needs.cpu.unwrap_or(0.0)
}

#[expect(clippy::cast_precision_loss, reason = "memory in MiB is far below 2^52")]
fn memory_of(needs: ResourceNeeds) -> f64 {
    needs.memory_mb.unwrap_or(0) as f64
}

fn needs_text(needs: ResourceNeeds) -> String {
    match (needs.cpu, needs.memory_mb) {
        (Some(cpu), Some(memory)) => format!("{} cpu and {memory} MiB", amount(cpu)),
        (Some(cpu), None) => format!("{} cpu", amount(cpu)),
        (None, memory) => format!("{} MiB", memory.unwrap_or(0)),
    }
}

/// An amount with at most one digit after the point.
fn amount(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    format!("{rounded}")
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
