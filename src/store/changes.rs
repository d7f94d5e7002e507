//! Counters that go up after commits, one a topic: how waiting parts learn that something changed.

use tokio::sync::watch;

use crate::store::Topic;
use crate::store::op::TopicSet;

/// One counter a topic.
pub(crate) struct Changes {
    counters: [watch::Sender<u64>; 8],
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self { counters: std::array::from_fn(|_| watch::channel(0).0) }
    }

    pub(crate) fn subscribe(&self, topic: Topic) -> watch::Receiver<u64> {
        let [schedules, pending, cancels, retries, events, state, gated, inbox] = &self.counters;
        match topic {
            Topic::Schedules => schedules,
            Topic::Pending => pending,
            Topic::Cancels => cancels,
            Topic::Retries => retries,
            Topic::Events => events,
            Topic::State => state,
            Topic::Gated => gated,
            Topic::Inbox => inbox,
        }
        .subscribe()
    }

    /// Bumps the counter of each topic in the set.
    pub(crate) fn bump(&self, topics: TopicSet) {
        for ((topic, _), counter) in TopicSet::LETTERS.iter().zip(&self.counters) {
            if topics.contains(*topic) {
                counter.send_modify(|count| *count = count.wrapping_add(1));
            }
        }
    }
}
