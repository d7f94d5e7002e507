//! The node's heartbeat: keeps this node's lease, and fences the node when it cannot.
//!
//! A beat every third of the lease. When no beat was confirmed for two thirds of it, everything
//! that runs here is ended before another node may take it over, and the node comes back under a
//! new boot id: what the old one claimed is no longer its to end.

pub mod lease;

use std::time::Duration;

use actix::{Actor, AsyncContext, Context, WrapFuture};
use tokio::time::Instant;

use crate::runtime::executor::launcher::Launcher;
use crate::store::{Store, StoreError};
use crate::supervision::Vitals;

/// How long a beat that failed waits to be tried again.
const BEAT_RETRY: Duration = Duration::from_millis(250);
/// How long a fenced node waits for its tasks to be gone before it claims again.
const FENCE_WAIT: Duration = Duration::from_secs(15);

/// The nodes actor.
pub struct Nodes {
    launcher: Launcher,
    store: Store,
    vitals: Vitals,
}

impl Nodes {
    /// A heartbeat for the launcher's lease.
    #[must_use]
    pub fn new(launcher: Launcher, store: Store, vitals: Vitals) -> Self {
        Self { launcher, store, vitals }
    }
}

impl Actor for Nodes {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let beat = Beat {
            launcher: self.launcher.clone(),
            store: self.store.clone(),
            vitals: self.vitals.clone(),
            is_held: false,
        };
        ctx.spawn(beat.run().into_actor(self));
    }
}

crate::actor_messages!(Nodes:);

struct Beat {
    launcher: Launcher,
    store: Store,
    vitals: Vitals,
    /// The last beat could not be written, but the lease holds all the same.
    is_held: bool,
}

impl Beat {
    async fn run(mut self) {
        loop {
            let lease = self.launcher.lease().clone();
            let next = match self.beat().await {
                Ok(()) => {
                    self.vitals.ready();
                    // A fenced node comes back at once, not a whole beat later.
                    lease.beat_at()
                }
                Err(error) => {
                    tracing::warn!(%error, "this node's lease could not be confirmed");
                    None
                }
            };
            if lease.fence_at().is_some() && !lease.holds() {
                self.fence("no beat was confirmed in time").await;
                continue;
            }
            tokio::time::sleep_until(next.unwrap_or_else(|| Instant::now() + BEAT_RETRY)).await;
        }
    }

    /// One beat. A file that takes nothing (its disk is full) is this process's alone: nobody could
    /// take anything over, so the tasks go on, and the lease is entered anew when there is room.
    async fn beat(&mut self) -> Result<(), StoreError> {
        let sent = Instant::now();
        let answer = self.confirm(sent).await;
        let lease = self.launcher.lease().clone();
        if matches!(answer, Err(StoreError::Unwritable(_))) && lease.holds() {
            lease.confirm(sent);
            self.launcher.prolong();
            self.is_held = true;
        }
        answer
    }

    async fn confirm(&mut self, sent: Instant) -> Result<(), StoreError> {
        let lease = self.launcher.lease().clone();
        if self.is_held || lease.fence_at().is_none() {
            self.store.node_register(lease.claimant(), lease.length()).await?;
        } else if !self.store.node_beat(lease.claimant().boot_id, lease.length()).await? {
            self.fence("the lease was taken away").await;
            return Ok(());
        }
        self.is_held = false;
        let first = lease.fence_at().is_none();
        lease.confirm(sent);
        self.launcher.prolong();
        if first {
            self.launcher.running().nudge();
        }
        Ok(())
    }

    async fn fence(&self, reason: &str) {
        let running = self.launcher.running().len();
        tracing::error!(
            reason,
            running,
            "this node fences itself: its tasks end, others take over"
        );
        // Claims stop at once, and what an earlier claim still brings is not begun any more: this
        // comes first, so that the interrupt reaches all that ever was. The tasks' own lease
        // deadline ends them too.
        self.launcher.lease().renew_identity();
        self.launcher.interrupt_all();
        if !self.launcher.idle(FENCE_WAIT).await {
            tracing::error!("tasks of the lost lease are still being ended");
        }
    }
}
