//! This node's lease: who we are to the store, and until when we may run things.
//!
//! The lease is the node's: an execution is leased to the boot that claimed it for as long as that
//! boot's lease holds. It is confirmed by beats. A node whose beats are not confirmed for two
//! thirds of the lease fences itself: it ends its tasks before another node may take them over.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use crate::store::Claimant;

/// The lease and its numbers; clones share it.
#[derive(Clone, Debug)]
pub struct NodeLease {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    claimant: ArcSwap<Claimant>,
    lease: Duration,
    confirmed: Mutex<Option<Instant>>,
}

impl NodeLease {
    /// A lease of length `lease` that is not confirmed yet.
    #[must_use]
    pub fn new(node_id: String, lease: Duration) -> Self {
        let claimant = Claimant { boot_id: Uuid::now_v7(), node_id };
        Self {
            shared: Arc::new(Shared {
                claimant: ArcSwap::from_pointee(claimant),
                lease,
                confirmed: Mutex::new(None),
            }),
        }
    }

    /// Who we are to the store.
    #[must_use]
    pub fn claimant(&self) -> Claimant {
        self.shared.claimant.load().as_ref().clone()
    }

    /// Its length.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.shared.lease
    }

    /// How long past its end others wait before they take over.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.shared.lease / 6
    }

    /// How often expired leases are looked for.
    #[must_use]
    pub fn sweep_every(&self) -> Duration {
        (self.shared.lease / 6).min(Duration::from_secs(5))
    }

    /// Notes a beat that the store confirmed; `sent` is when it was sent, so that the time on the
    /// way counts against us.
    pub fn confirm(&self, sent: Instant) {
        *self.shared.confirmed.lock() = Some(sent);
    }

    /// When it is to be confirmed again: a third of the lease after the last beat was *sent*.
    /// Counted from its answer, a slow one (or a node that was frozen meanwhile) would leave the
    /// next beat so much less time. `None` while nothing was ever confirmed or after a fencing.
    #[must_use]
    pub fn beat_at(&self) -> Option<Instant> {
        self.shared.confirmed.lock().map(|at| at + self.shared.lease / 3)
    }

    /// When we fence ourselves unless a beat is confirmed before; `None` while nothing was ever
    /// confirmed or after a fencing.
    #[must_use]
    pub fn fence_at(&self) -> Option<Instant> {
        self.shared.confirmed.lock().map(|at| at + self.shared.lease * 2 / 3)
    }

    /// True while tasks may be claimed and run.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.fence_at().is_some_and(|at| Instant::now() < at)
    }

    /// Until when a row of `owner` may run here; `None` when it may not be begun: the lease does
    /// not hold, or the row was claimed under an earlier boot id and may be another node's by now.
    #[must_use]
    pub fn deadline_of(&self, owner: Option<Uuid>) -> Option<Instant> {
        let until = self.fence_at().filter(|at| Instant::now() < *at)?;
        (owner == Some(self.shared.claimant.load().boot_id)).then_some(until)
    }

    /// Gives the lease up and takes on a new boot id: what the old one claimed is not ours.
    pub fn renew_identity(&self) {
        let old = self.claimant();
        self.shared
            .claimant
            .store(Arc::new(Claimant { boot_id: Uuid::now_v7(), node_id: old.node_id }));
        *self.shared.confirmed.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_fences_itself_at_two_thirds_without_a_beat() {
        let lease = NodeLease::new("n".to_owned(), Duration::from_secs(30));
        assert!(!lease.holds());
        lease.confirm(Instant::now());
        tokio::time::advance(Duration::from_secs(19)).await;
        assert!(lease.holds());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!lease.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_does_not_put_the_next_beat_off() {
        let lease = NodeLease::new("n".to_owned(), Duration::from_secs(30));
        assert_eq!(lease.beat_at(), None);
        let sent = Instant::now();
        tokio::time::advance(Duration::from_secs(12)).await;
        lease.confirm(sent);
        assert_eq!(lease.beat_at(), Some(sent + Duration::from_secs(10)), "at once");
        assert!(lease.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn rows_of_an_earlier_boot_or_a_lapsed_lease_may_not_be_begun() {
        let lease = NodeLease::new("n".to_owned(), Duration::from_secs(30));
        let owner = Some(lease.claimant().boot_id);
        assert_eq!(lease.deadline_of(owner), None, "nothing was confirmed yet");
        lease.confirm(Instant::now());
        assert_eq!(lease.deadline_of(owner), lease.fence_at());
        assert_eq!(lease.deadline_of(None), None);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(lease.deadline_of(owner), None);
        lease.renew_identity();
        lease.confirm(Instant::now());
        assert_eq!(lease.deadline_of(owner), None, "claimed before the fence");
        assert!(lease.deadline_of(Some(lease.claimant().boot_id)).is_some());
    }

    #[test]
    fn a_renewed_node_is_another_claimant() {
        let lease = NodeLease::new("n".to_owned(), Duration::from_secs(3));
        let old = lease.claimant().boot_id;
        lease.renew_identity();
        assert_ne!(old, lease.claimant().boot_id);
    }
}
