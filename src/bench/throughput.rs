//! How much runs a second: no-op functions the whole way, a stored backlog, shell commands.
//!
//! The whole way is created, claimed, run and finished, each run with its three events. Closed
//! loops keep the system busy without letting a queue grow: a producer makes as many rows as there
//! are free slots, which the creating transaction claims, and makes more when slots are free again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::load::{self, float};
use super::{Plan, Report};
use crate::app::Embedded;
use crate::clock::Timestamp;
use crate::domain::execution::NewExecution;
use crate::runtime::handles::Handles;
use crate::runtime::system::System;

/// Rows a producer makes in one transaction.
const BATCH: usize = 512;
/// Producers at the same time.
const PRODUCERS: usize = 3;
/// Functions that run at once.
const SLOTS: usize = 4_096;
/// Shell commands that run at once.
const SHELL_SLOTS: usize = 8;
/// How long the system runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long a producer waits when no slot is free.
const PAUSE: Duration = Duration::from_micros(500);
/// Rows of the stored backlog.
const BACKLOG: usize = 100_000;
/// The longest that a backlog may take.
const DRAIN_MAX: Duration = Duration::from_secs(300);

/// What a producer makes.
#[derive(Clone, Copy)]
struct Kind {
    batch: usize,
    make: fn(Timestamp) -> NewExecution,
}

/// No-op functions, whole way.
pub(super) async fn functions(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let embedded = Embedded::start(load::settings(plan, "throughput", SLOTS)).await?;
    let kind = Kind { batch: BATCH, make: load::no_op };
    let (rate, cost) = loaded(plan, &embedded, kind).await;
    report.add("throughput", "no-op functions, whole way", rate, "executions/s");
    report.add("throughput", "processor time of this process", cost, "µs/execution");
    embedded.stop().await;
    Ok(())
}

/// `true` under the shim.
pub(super) async fn shell(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let embedded = Embedded::start(load::settings(plan, "shell", SHELL_SLOTS)).await?;
    let make =
        |now| load::execution("shell_command", json!({ "command": "true", "args": [] }), now);
    let (rate, cost) = loaded(plan, &embedded, Kind { batch: 1, make }).await;
    report.add("shell", "`true` under the shim, whole way", rate, "executions/s");
    report.add("shell", "processor time of the server alone", cost, "µs/execution");
    embedded.stop().await;
    Ok(())
}

fn completed(system: &System) -> usize {
    system.parts().launcher.counters().completed.load(Ordering::Relaxed)
}

/// Executions a second under load, and the processor time of this process for one, in µs.
async fn loaded(plan: &Plan, embedded: &Embedded, kind: Kind) -> (f64, f64) {
    let system = embedded.system();
    let producers: Vec<_> =
        (0..PRODUCERS).map(|_| actix_rt::spawn(produce(system.clone(), kind))).collect();
    tokio::time::sleep(WARM_UP).await;
    let (before, used, started) =
        (completed(system), load::processor_seconds("self"), Instant::now());
    tokio::time::sleep(plan.time).await;
    let seconds = started.elapsed().as_secs_f64();
    let done = float(completed(system) - before);
    let used = load::processor_seconds("self") - used;
    for producer in producers {
        producer.abort();
    }
    (done / seconds, used / done * 1e6)
}

async fn produce(system: Arc<System>, kind: Kind) {
    let (store, clock) = (&system.parts().store, &system.parts().clock);
    loop {
        let ticket = system.claim_here(kind.batch);
        let Some(ticket) = ticket.filter(|ticket| ticket.claim.slots * 2 > kind.batch) else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let now = clock.now();
        let rows = (0..ticket.claim.slots).map(|_| (kind.make)(now)).collect();
        match store.execution_create_batch(rows, Some(ticket.claim.clone())).await {
            Ok(rows) => system.launched(rows, Some(ticket)),
            Err(error) => {
                tracing::warn!(%error, "a batch was not made");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A backlog that was stored before the executor is let at it.
pub(super) async fn drain(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let embedded = Embedded::start(load::settings(plan, "drain", SLOTS)).await?;
    let system = embedded.system();
    let stopped = |error: crate::runtime::handles::ControlError| error.to_string();
    let executor = "work.executor";
    system
        .actor_command(executor, crate::runtime::handles::ActorCommand::Stop)
        .await
        .map_err(stopped)?;
    let (store, clock) = (&system.parts().store, &system.parts().clock);
    let started = Instant::now();
    for _ in 0..BACKLOG / BATCH + 1 {
        let rows = (0..BATCH).map(|_| load::no_op(clock.now())).collect();
        store.execution_create_batch(rows, None).await.map_err(|error| error.to_string())?;
    }
    let stored = float((BACKLOG / BATCH + 1) * BATCH);
    let rate = stored / started.elapsed().as_secs_f64();
    report.add("drain", "stored, not claimed", rate, "executions/s");
    let (before, started) = (completed(system), Instant::now());
    system
        .actor_command(executor, crate::runtime::handles::ActorCommand::Start)
        .await
        .map_err(stopped)?;
    while float(completed(system) - before) < stored {
        if started.elapsed() > DRAIN_MAX {
            return Err("the backlog was not drained in time".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rate = stored / started.elapsed().as_secs_f64();
    report.add("drain", "claimed, run and finished", rate, "executions/s");
    embedded.stop().await;
    Ok(())
}
