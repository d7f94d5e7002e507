//! How the executor steers a task that runs: stop it, or prolong its right to run.
//!
//! A [`TaskControl`] is a pair of watched values, so a message cannot be lost and the last one
//! wins; clones steer the same task. The first stop reason stays.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

/// Why a task is to end before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Somebody cancelled it: it ends `cancelled`.
    Cancel,
    /// A drain reached its deadline: it ends `failed` with `interrupted`.
    Interrupt,
    /// It makes room for something urgent: it ends `failed` with `preempted`.
    Preempt,
}

/// Steers one running task; cheap to clone.
#[derive(Clone, Debug)]
pub struct TaskControl {
    paused: Arc<watch::Sender<bool>>,
    stop: Arc<watch::Sender<Option<StopReason>>>,
    lease: Arc<watch::Sender<Option<Instant>>>,
}

impl TaskControl {
    /// A control for a task that may run until `lease` (for ever, if `None`) unless prolonged.
    #[must_use]
    pub fn new(lease: Option<Instant>) -> Self {
        Self {
            paused: Arc::new(watch::channel(false).0),
            stop: Arc::new(watch::channel(None).0),
            lease: Arc::new(watch::channel(lease).0),
        }
    }

    /// Ends the task as cancelled. Does nothing once the task is being stopped.
    pub fn cancel(&self) {
        self.request(StopReason::Cancel);
    }

    /// Ends the task as interrupted. Does nothing once the task is being stopped.
    pub fn interrupt(&self) {
        self.request(StopReason::Interrupt);
    }

    /// Ends the task to make room. Does nothing once the task is being stopped.
    pub fn preempt(&self) {
        self.request(StopReason::Preempt);
    }

    /// True once somebody asked for the end of the task.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    /// Lets the task stand still, or go on; only tasks with processes of their own obey.
    pub fn set_paused(&self, paused: bool) {
        self.paused.send_if_modified(|now| std::mem::replace(now, paused) != paused);
    }

    /// Whether the task is to stand still.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Watches whether the task is to stand still.
    pub(crate) fn paused(&self) -> watch::Receiver<bool> {
        self.paused.subscribe()
    }

    /// Lets the task run until `until`. Past it the task is ended at once, here or by its shim.
    pub fn lease_extended(&self, until: Instant) {
        self.lease.send_replace(Some(until));
    }

    fn request(&self, reason: StopReason) {
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            stop.get_or_insert(reason);
            first
        });
    }

    /// Waits until somebody asks for the end of the task.
    pub(crate) async fn stopped(&self) -> StopReason {
        let mut stop = self.stop.subscribe();
        loop {
            if let Some(reason) = *stop.borrow_and_update() {
                return reason;
            }
            if stop.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until the lease has run out; for ever without one.
    pub(crate) async fn lease_lost(&self) {
        let mut lease = self.lease.subscribe();
        loop {
            let until = *lease.borrow_and_update();
            let expired = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = expired => return,
                // The sender lives in `self`, so this cannot fail while we wait.
                _ = lease.changed() => {}
            }
        }
    }

    /// Watches the lease's deadline.
    pub(crate) fn lease(&self) -> watch::Receiver<Option<Instant>> {
        self.lease.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_first_stop_reason_stays() {
        let control = TaskControl::new(None);
        control.interrupt();
        control.cancel();
        assert_eq!(control.stopped().await, StopReason::Interrupt);
    }

    #[tokio::test]
    async fn a_prolonged_lease_is_lost_only_at_its_new_end() {
        let start = Instant::now();
        let control = TaskControl::new(Some(start + Duration::from_millis(50)));
        let watched = control.clone();
        let lost = tokio::spawn(async move { watched.lease_lost().await });
        tokio::task::yield_now().await;
        control.lease_extended(start + Duration::from_millis(200));
        lost.await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(200));
    }
}
