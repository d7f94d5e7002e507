//! The running set: what this process runs, and how many more it may.
//!
//! It lives beside the executor actor and survives its generations, so a crash or restart of the
//! actor ends no task: the next generation finds the set as it is. It guarantees that one row is
//! begun at most once in this process, whoever hands it over and however often: an id that ended is
//! remembered until every hand-over that was under way then (a claim, a look for rows that were
//! never begun) is over.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::runtime::executor::preemption::Preemptible;
use crate::tasks::TaskControl;

/// The running set; clones share it.
#[derive(Clone)]
pub struct RunningSet {
    shared: Arc<Shared>,
}

struct Shared {
    slots: usize,
    state: Mutex<State>,
    /// Somebody freed a slot.
    freed: Notify,
    /// The set became empty.
    emptied: Notify,
}

#[derive(Default)]
struct State {
    tasks: HashMap<i64, TaskControl>,
    /// Those of them that may be interrupted to make room.
    preemptible: HashMap<i64, Preemptible>,
    /// Slots promised to claims that are on their way to the store.
    reserved: usize,
    /// Rows that ended while hand-overs were under way, also in the order of their ends.
    ended: HashSet<i64>,
    ended_order: VecDeque<i64>,
    /// How many ends were forgotten: the place of the first of `ended_order` among all ends.
    forgotten: u64,
    /// Hand-overs under way: at which end each began.
    handovers: BTreeMap<u64, usize>,
}

impl State {
    fn free(&self, slots: usize) -> usize {
        slots.saturating_sub(self.tasks.len() + self.reserved)
    }

    fn ends(&self) -> u64 {
        self.forgotten + self.ended_order.len() as u64
    }

    fn open_handover(&mut self) -> u64 {
        let at = self.ends();
        *self.handovers.entry(at).or_default() += 1;
        at
    }

    fn close_handover(&mut self, at: u64) {
        if let Some(count) = self.handovers.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                self.handovers.remove(&at);
            }
        }
        let oldest = self.handovers.keys().next().copied().unwrap_or(u64::MAX);
        while self.forgotten < oldest {
            let Some(id) = self.ended_order.pop_front() else { break };
            self.ended.remove(&id);
            self.forgotten += 1;
        }
    }
}

/// A hand-over under way: from before the store is asked for rows until they were all begun.
pub struct Handover {
    set: RunningSet,
    at: u64,
}

impl Drop for Handover {
    fn drop(&mut self) {
        self.set.shared.state.lock().close_handover(self.at);
    }
}

/// Slots promised to one claim; what is not used goes back when it is dropped. It is a hand-over
/// too.
pub struct Reservation {
    set: RunningSet,
    count: usize,
    left: usize,
    _handover: Handover,
}

impl Reservation {
    /// How many slots are promised.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many of the promised slots are among the last `kept` of all that were free.
    #[must_use]
    pub fn among_last(&self, kept: usize) -> usize {
        self.count - self.count.min((self.count + self.left).saturating_sub(kept))
    }

    /// Gives the slots back without waking whoever waits for one: for the executor, which would
    /// wake itself for ever.
    pub fn give_back_quietly(mut self) {
        self.set.shared.state.lock().reserved -= std::mem::take(&mut self.count);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.count > 0 {
            self.set.shared.state.lock().reserved -= self.count;
            self.set.shared.freed.notify_one();
        }
    }
}

impl RunningSet {
    /// An empty set of `slots` slots.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                slots,
                state: Mutex::default(),
                freed: Notify::new(),
                emptied: Notify::new(),
            }),
        }
    }

    /// True when half of the slots at most is free: those who want one soon may be as many as those
    /// who have one.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.free() * 2 <= self.slots()
    }

    /// All slots, used or not.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.shared.slots
    }

    /// How many tasks run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.state.lock().tasks.len()
    }

    /// True when nothing runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Slots neither used nor promised.
    #[must_use]
    pub fn free(&self) -> usize {
        self.shared.state.lock().free(self.shared.slots)
    }

    /// Promises up to `wanted` free slots; `None` when there is none.
    #[must_use]
    pub fn reserve(&self, wanted: usize) -> Option<Reservation> {
        let mut state = self.shared.state.lock();
        let count = state.free(self.shared.slots).min(wanted);
        if count == 0 {
            return None;
        }
        state.reserved += count;
        let left = state.free(self.shared.slots);
        let at = state.open_handover();
        drop(state);
        let handover = Handover { set: self.clone(), at };
        Some(Reservation { set: self.clone(), count, left, _handover: handover })
    }

    /// Begins a hand-over that needs no slots of its own: keep it from before the store is read
    /// until the rows were begun.
    #[must_use]
    pub fn hand_over(&self) -> Handover {
        let at = self.shared.state.lock().open_handover();
        Handover { set: self.clone(), at }
    }

    /// Enters a row that this node holds the lease of. False when it was entered before: then
    /// somebody else begins or began it, and the caller must not.
    #[must_use]
    pub fn begin(&self, id: i64, control: TaskControl) -> bool {
        let mut state = self.shared.state.lock();
        if state.tasks.contains_key(&id) || state.ended.contains(&id) {
            return false;
        }
        state.tasks.insert(id, control);
        true
    }

    /// Says that a task that was entered may be interrupted to make room.
    pub fn may_make_room(&self, task: Preemptible) {
        let mut state = self.shared.state.lock();
        if state.tasks.contains_key(&task.id) {
            state.preemptible.insert(task.id, task);
        }
    }

    /// The tasks that may be interrupted to make room, and how many that could are on their way
    /// out.
    #[must_use]
    pub fn preemptible(&self) -> (Vec<Preemptible>, usize) {
        let state = self.shared.state.lock();
        let is_stopping = |id: &i64| state.tasks.get(id).is_some_and(TaskControl::is_stopping);
        let (leaving, staying): (Vec<_>, Vec<_>) =
            state.preemptible.values().copied().partition(|task| is_stopping(&task.id));
        (staying, leaving.len())
    }

    /// Takes out a row whose end is in the store (or whose lease is lost) and frees its slot.
    pub fn end(&self, id: i64) {
        let mut state = self.shared.state.lock();
        if state.tasks.remove(&id).is_none() {
            return;
        }
        state.preemptible.remove(&id);
        if !state.handovers.is_empty() {
            state.ended.insert(id);
            state.ended_order.push_back(id);
        }
        let empty = state.tasks.is_empty();
        drop(state);
        self.shared.freed.notify_one();
        if empty {
            self.shared.emptied.notify_waiters();
        }
    }

    /// The control of a running task.
    #[must_use]
    pub fn control(&self, id: i64) -> Option<TaskControl> {
        self.shared.state.lock().tasks.get(&id).cloned()
    }

    /// The controls of everything that runs.
    #[must_use]
    pub fn controls(&self) -> Vec<(i64, TaskControl)> {
        self.shared.state.lock().tasks.iter().map(|(id, control)| (*id, control.clone())).collect()
    }

    /// Ends the wait for a free slot: something else that a claim needs has come.
    pub fn nudge(&self) {
        self.shared.freed.notify_one();
    }

    /// Waits until a slot may have become free.
    pub async fn freed(&self) {
        self.shared.freed.notified().await;
    }

    /// Waits until nothing runs.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.shared.emptied.notified();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_begun_once_even_after_it_ended() {
        let set = RunningSet::new(2);
        let claim = set.hand_over();
        assert!(set.begin(1, TaskControl::new(None)));
        assert!(!set.begin(1, TaskControl::new(None)));
        let look = set.reserve(1).unwrap();
        set.end(1);
        drop(claim);
        assert!(!set.begin(1, TaskControl::new(None)), "a look under way may still bring it");
        assert!(set.is_empty());
        drop(look);
    }

    #[test]
    fn ended_rows_are_forgotten_once_nobody_can_bring_them_back() {
        let set = RunningSet::new(10);
        let remembered = || set.shared.state.lock().ended.len();
        let run = |id| {
            assert!(set.begin(id, TaskControl::new(None)));
            set.end(id);
        };
        run(1);
        assert_eq!(remembered(), 0);
        let first = set.hand_over();
        run(2);
        let second = set.hand_over();
        run(3);
        assert_eq!(remembered(), 2);
        drop(first);
        assert_eq!(remembered(), 1);
        drop(second);
        assert_eq!(remembered(), 0);
        assert!(set.shared.state.lock().handovers.is_empty());
    }

    #[test]
    fn slots_are_never_promised_twice() {
        let set = RunningSet::new(3);
        let first = set.reserve(2).unwrap();
        let second = set.reserve(5).unwrap();
        assert_eq!((first.count(), second.count()), (2, 1));
        assert!(set.reserve(1).is_none());
        drop(first);
        assert_eq!(set.free(), 2);
    }

    #[test]
    fn the_last_free_slots_are_told_apart() {
        let set = RunningSet::new(10);
        let few = set.reserve(4).unwrap();
        assert_eq!((few.among_last(2), few.among_last(8), few.among_last(10)), (0, 2, 4));
        let rest = set.reserve(9).unwrap();
        assert_eq!((rest.count(), rest.among_last(2), rest.among_last(0)), (6, 2, 0));
    }

    #[tokio::test]
    async fn only_slots_given_back_aloud_wake_who_waits() {
        let set = RunningSet::new(2);
        let woken = async |set: &RunningSet| {
            tokio::select! {
                biased;
                () = set.freed() => true,
                () = tokio::task::yield_now() => false,
            }
        };
        set.reserve(2).unwrap().give_back_quietly();
        assert_eq!(set.free(), 2);
        assert!(!woken(&set).await);
        drop(set.reserve(1));
        assert!(woken(&set).await);
    }

    #[tokio::test]
    async fn an_empty_set_is_empty_at_once() {
        RunningSet::new(1).emptied().await;
    }
}
