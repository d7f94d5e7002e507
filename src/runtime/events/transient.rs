//! Output and progress of running tasks, for the sessions that named the execution.
//!
//! These messages have no number, are not stored as events and are not replayed: who needs every
//! line reads the log. So a session's box is bounded and what does not fit is dropped and counted.
//! Producers ask [`TransientBus::is_wanted`] first: nothing is serialised that nobody hears.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytestring::ByteString;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::sync::Notify;
use uuid::Uuid;

use super::frame::event_text;
use crate::clock::Timestamp;

/// Messages that wait in one session's box at most.
pub const OUTBOX_MAX: usize = 256;

/// Output or progress of one execution.
#[derive(Clone, Debug)]
pub struct TransientEvent {
    /// `execution_log` or `execution_progress`.
    pub event_type: &'static str,
    /// The execution's row id.
    pub execution_id: i64,
    /// The execution's UUID.
    pub execution_uuid: Uuid,
    /// When it happened.
    pub at: Timestamp,
    /// What a client gets as `payload`; both ids are added to an object that lacks them.
    pub payload: Value,
}

/// An execution as a client may name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExecutionName {
    /// By row id.
    Id(i64),
    /// By UUID.
    Uuid(Uuid),
}

/// A message waiting in a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransientFrame {
    /// Its type, for `types` filters.
    pub event_type: &'static str,
    /// The text to send.
    pub text: ByteString,
}

/// One session's waiting messages.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<VecDeque<TransientFrame>>,
    dropped: AtomicUsize,
    filled: Notify,
}

impl Outbox {
    fn put(&self, frame: TransientFrame) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < OUTBOX_MAX {
            waiting.push_back(frame);
            drop(waiting);
            self.filled.notify_one();
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The oldest waiting message.
    #[must_use]
    pub fn take(&self) -> Option<TransientFrame> {
        self.waiting.lock().pop_front()
    }

    /// How many were dropped since the last call.
    pub fn take_dropped(&self) -> usize {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// Waits until a message came.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }
}

/// Who wants to hear which execution.
#[derive(Debug, Default)]
pub struct TransientBus {
    wanted: RwLock<HashMap<ExecutionName, Vec<Arc<Outbox>>>>,
}

impl TransientBus {
    /// Whether any session wants to hear this execution.
    #[must_use]
    pub fn is_wanted(&self, id: i64, uuid: Uuid) -> bool {
        let wanted = self.wanted.read();
        !wanted.is_empty()
            && (wanted.contains_key(&ExecutionName::Id(id))
                || wanted.contains_key(&ExecutionName::Uuid(uuid)))
    }

    /// Puts a message into the boxes of the sessions that named its execution. Never waits.
    pub fn publish(&self, event: TransientEvent) {
        if !self.is_wanted(event.execution_id, event.execution_uuid) {
            return;
        }
        let mut payload = event.payload;
        if let Some(fields) = payload.as_object_mut() {
            fields.entry("id").or_insert_with(|| event.execution_id.into());
            fields.entry("executionId").or_insert_with(|| event.execution_uuid.to_string().into());
        }
        let frame = TransientFrame {
            event_type: event.event_type,
            text: event_text(event.event_type, None, event.at, &payload.to_string()),
        };
        let wanted = self.wanted.read();
        let by_id = wanted.get(&ExecutionName::Id(event.execution_id)).into_iter().flatten();
        let by_uuid = wanted.get(&ExecutionName::Uuid(event.execution_uuid)).into_iter().flatten();
        let mut served: Vec<*const Outbox> = Vec::new();
        for outbox in by_id.chain(by_uuid) {
            // A session that named the execution both ways hears it once.
            if !served.contains(&Arc::as_ptr(outbox)) {
                served.push(Arc::as_ptr(outbox));
                outbox.put(frame.clone());
            }
        }
    }

    /// Starts filling `outbox` with what is said of `names`; ends with the guard.
    #[must_use = "the interest ends when the guard is dropped"]
    pub fn join(self: &Arc<Self>, names: Vec<ExecutionName>, outbox: &Arc<Outbox>) -> Interest {
        let mut wanted = self.wanted.write();
        for name in &names {
            wanted.entry(*name).or_default().push(Arc::clone(outbox));
        }
        drop(wanted);
        Interest { bus: Arc::clone(self), names, outbox: Arc::clone(outbox) }
    }
}

/// A session's interest in executions; dropped, it ends.
#[derive(Debug)]
pub struct Interest {
    bus: Arc<TransientBus>,
    names: Vec<ExecutionName>,
    outbox: Arc<Outbox>,
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut wanted = self.bus.wanted.write();
        for name in &self.names {
            if let Some(boxes) = wanted.get_mut(name) {
                boxes.retain(|outbox| !Arc::ptr_eq(outbox, &self.outbox));
                if boxes.is_empty() {
                    wanted.remove(name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(id: i64) -> TransientEvent {
        TransientEvent {
            event_type: "execution_progress",
            execution_id: id,
            execution_uuid: Uuid::from_u128(u128::try_from(id).unwrap()),
            at: chrono::DateTime::UNIX_EPOCH,
            payload: serde_json::json!({"percent": 5}),
        }
    }

    #[test]
    fn only_who_named_the_execution_hears_it_and_only_once() {
        let bus = Arc::new(TransientBus::default());
        let outbox = Arc::new(Outbox::default());
        let names = vec![ExecutionName::Id(1), ExecutionName::Uuid(Uuid::from_u128(1))];
        let interest = bus.join(names, &outbox);
        bus.publish(progress(1));
        bus.publish(progress(2));
        let heard = outbox.take().unwrap();
        let value: Value = serde_json::from_str(&heard.text).unwrap();
        assert_eq!(value["payload"]["id"], 1);
        assert!(value.get("seq").is_none());
        assert_eq!(outbox.take(), None);
        drop(interest);
        assert!(!bus.is_wanted(1, Uuid::from_u128(1)));
    }

    #[test]
    fn a_full_box_drops_and_counts() {
        let bus = Arc::new(TransientBus::default());
        let outbox = Arc::new(Outbox::default());
        let _interest = bus.join(vec![ExecutionName::Id(1)], &outbox);
        for _ in 0..OUTBOX_MAX + 3 {
            bus.publish(progress(1));
        }
        assert_eq!(outbox.take_dropped(), 3);
        assert_eq!(outbox.take_dropped(), 0);
    }
}
