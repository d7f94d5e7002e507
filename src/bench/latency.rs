//! How soon work runs: from an acknowledged creation, and from the instant a schedule is due.
//!
//! The task itself notes the time. What a row says of its start is not asked.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{Duration as Span, SubsecRound};
use tokio::time::Instant;

use super::load::{self, Marks, float};
use super::server::make_room;
use super::{Plan, Report};
use crate::clock::Timestamp;
use crate::runtime::handles::Handles;

/// The shares of a distribution that are reported.
pub(super) const SHARES: [f64; 3] = [0.5, 0.99, 1.0];
/// Tasks that run at once.
const SLOTS: usize = 4_096;
/// Time between two creations of the pick-up scenario: 50 a second.
const PICK_UP_EVERY: Duration = Duration::from_millis(20);
/// How long stragglers are waited for.
const STRAGGLERS: Duration = Duration::from_secs(5);
/// Time from the making of the schedules to their first instant.
const LEAD: Span = Span::seconds(3);

/// From the acknowledged creation to the task running, at 50 a second.
pub(super) async fn pick_up(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let (embedded, marks) = Marks::system(load::settings(plan, "pick-up", SLOTS)).await?;
    let system = embedded.system();
    let (store, clock) = (&system.parts().store, &system.parts().clock);
    let until = Instant::now() + plan.time;
    let mut tick = tokio::time::interval(PICK_UP_EVERY);
    let mut acknowledged: HashMap<usize, Timestamp> = HashMap::new();
    let mut number = 0;
    while Instant::now() < until {
        tick.tick().await;
        let ticket = system.claim_here(1);
        let claim = ticket.as_ref().map(|ticket| ticket.claim.clone());
        let rows = store
            .execution_create_batch(vec![load::mark(number, clock.now())], claim)
            .await
            .map_err(|error| error.to_string())?;
        acknowledged.insert(number, clock.now());
        system.launched(rows, ticket);
        number += 1;
    }
    wait_for(&marks, number).await;
    let mut waits: Vec<f64> = marks
        .take()
        .into_iter()
        .filter_map(|(number, ran)| Some(millis(ran - *acknowledged.get(&number)?)))
        .collect();
    report.add_times("pick-up", "created to running, 50/s", &mut waits, &SHARES);
    report.add("pick-up", "never ran", float(number - waits.len()), "executions");
    embedded.stop().await;
    Ok(())
}

/// Schedules that are due at the same instant, and schedules spread over the second.
pub(super) async fn lateness(plan: &Plan, report: &mut Report) -> Result<(), String> {
    for (count, interval_ms, spread) in [
        (1, 1_000, false),
        (100, 1_000, false),
        (1_000, 1_000, true),
        (1_000, 5_000, false),
        (10_000, 10_000, false),
    ] {
        // A database is shared by the cases: what the one before made must not fire in this.
        make_room(plan).await?;
        late(plan, report, Case { count, interval_ms, spread }).await?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Case {
    count: usize,
    interval_ms: i64,
    spread: bool,
}

async fn late(plan: &Plan, report: &mut Report, case: Case) -> Result<(), String> {
    let Case { count, interval_ms, spread } = case;
    let directory = format!("lateness-{count}-{spread}");
    let slots = SLOTS.max(count);
    let (embedded, marks) = Marks::system(load::settings(plan, &directory, slots)).await?;
    let clock = embedded.system().parts().clock.clone();
    // Made while the scheduler has no time to fire any of them.
    let prepare = Span::milliseconds(i64::try_from(count).unwrap_or(i64::MAX));
    // Instants have whole milliseconds.
    let first = (clock.now() + LEAD + prepare).trunc_subsecs(3);
    let anchor = |number: usize| {
        let number = i64::try_from(number).unwrap_or(0);
        let places = i64::try_from(count).unwrap_or(1);
        if spread { first + Span::milliseconds(interval_ms * number / places) } else { first }
    };
    let definitions = (0..count).map(|number| {
        (load::marking_schedule(number, interval_ms, anchor(number)), anchor(number))
    });
    load::make_schedules(&embedded, definitions).await?;
    if clock.now() >= first {
        return Err(format!("{count} schedules were not made in time"));
    }
    let rounds = i64::try_from(plan.time.as_millis()).unwrap_or(0) / interval_ms;
    let rounds = rounds.max(2);
    let end = first + Span::milliseconds(interval_ms * rounds - interval_ms / 10);
    clock.sleep_until(end).await;
    let expected = count * usize::try_from(rounds).unwrap_or(0);
    wait_for(&marks, expected).await;
    let mut late: Vec<f64> = marks
        .take()
        .into_iter()
        .map(|(number, ran)| {
            millis(ran - anchor(number)) % float(usize::try_from(interval_ms).unwrap_or(1))
        })
        .collect();
    let how = if spread { "spread over the second" } else { "due at the same instant" };
    let missed = expected.saturating_sub(late.len());
    report.add_times("lateness", &format!("{count} schedules {how}"), &mut late, &SHARES);
    report.add("lateness", format!("{count} schedules {how}: missed"), float(missed), "runs");
    embedded.stop().await;
    Ok(())
}

/// Waits until so much was noted, or for stragglers long enough.
pub(super) async fn wait_for(marks: &Marks, expected: usize) {
    let until = Instant::now() + STRAGGLERS;
    while marks.count() < expected && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A span in milliseconds; 0 when it is negative.
pub(super) fn millis(span: Span) -> f64 {
    span.to_std().unwrap_or_default().as_secs_f64() * 1_000.0
}
