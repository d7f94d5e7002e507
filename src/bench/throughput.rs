//! No-op functions the whole way: created, claimed, run and finished, each with its three events.
//!
//! Closed loops keep the system busy without letting a queue grow: a producer makes as many rows as
//! there are free slots, which the creating transaction claims, and makes more when slots are free
//! again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Plan, Report, load};
use crate::app::Embedded;
use crate::runtime::handles::Handles;
use crate::runtime::system::System;

const SCENARIO: &str = "throughput";
/// Rows a producer makes in one transaction.
const BATCH: usize = 512;
/// Producers at the same time.
const PRODUCERS: usize = 3;
/// Tasks that run at once.
const SLOTS: usize = 4_096;
/// How long the system runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long a producer waits when no slot is free.
const PAUSE: Duration = Duration::from_micros(500);

pub(super) async fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let mut settings = plan.settings.clone();
    settings.executor.slots = SLOTS;
    settings.server.data_dir = plan.scratch.join(SCENARIO);
    let embedded = Embedded::start(settings).await?;
    let producers: Vec<_> =
        (0..PRODUCERS).map(|_| actix_rt::spawn(produce(embedded.system().clone()))).collect();
    tokio::time::sleep(WARM_UP).await;
    let counted =
        || embedded.system().parts().launcher.counters().completed.load(Ordering::Relaxed);
    let (before, used, started) =
        (counted(), load::processor_seconds(), tokio::time::Instant::now());
    tokio::time::sleep(plan.time).await;
    let seconds = started.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a count of executions")]
    let completed = (counted() - before) as f64;
    let used = load::processor_seconds() - used;
    for producer in producers {
        producer.abort();
    }
    report.add(SCENARIO, "no-op functions, whole way", completed / seconds, "executions/s");
    report.add(SCENARIO, "processor time of this process", used / completed * 1e6, "µs/execution");
    embedded.stop().await;
    Ok(())
}

async fn produce(system: std::sync::Arc<System>) {
    let (store, clock) = (&system.parts().store, &system.parts().clock);
    loop {
        let Some(ticket) = system.claim_here(BATCH).filter(|t| t.claim.slots * 2 > BATCH) else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let now = clock.now();
        let rows = (0..ticket.claim.slots).map(|_| load::no_op(now)).collect();
        match store.execution_create_batch(rows, Some(ticket.claim.clone())).await {
            Ok(rows) => system.launched(rows, Some(ticket)),
            Err(error) => {
                tracing::warn!(%error, "a batch was not made");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
