//! How soon an event is followed: from a post to the task that it sets off, and from one task to
//! the task that waits for its end.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::latency::{SHARES, millis, wait_for};
use super::load::{self, Marks, float};
use super::{Plan, Report};
use crate::clock::Timestamp;
use crate::domain::schedule::{ScheduleDefinition, ScheduleType};
use crate::domain::trigger::EventKind;
use crate::runtime::handles::Handles;
use crate::store::{EventPost, NewInboxEvent};

/// Tasks that run at once.
const SLOTS: usize = 256;
/// Time between two posts: 20 a second, 40 runs.
const EVERY: Duration = Duration::from_millis(50);
/// The name of the event.
const NAME: &str = "bench.event";
/// What the schedules note: who listens to the event, and who to the first one's end.
const FIRST: usize = 1;
const SECOND: usize = 2;

/// A schedule that notes when it ran, set off by events.
fn listener(number: usize, config: serde_json::Value, now: Timestamp) -> ScheduleDefinition {
    ScheduleDefinition {
        schedule_type: ScheduleType::Event,
        schedule_config: config,
        ..load::marking_schedule(number, 1_000, now)
    }
}

/// From a posted event to its task, and from there to the task that waits for the end of that one.
pub(super) async fn run(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let (embedded, marks) = Marks::system(load::settings(plan, "events", SLOTS)).await?;
    let system = embedded.system();
    let (store, clock) = (&system.parts().store, &system.parts().clock);
    let text = |error: crate::store::StoreError| error.to_string();
    let first = listener(FIRST, json!({"on": "event", "name": NAME}), clock.now());
    let after = json!({"on": "execution", "schedule": first.name});
    let second = listener(SECOND, after, clock.now());
    for definition in [first, second] {
        store.schedule_create(definition, None, None).await.map_err(text)?;
    }
    let until = Instant::now() + plan.time;
    let mut tick = tokio::time::interval(EVERY);
    let mut posted: Vec<Timestamp> = Vec::new();
    while Instant::now() < until {
        tick.tick().await;
        posted.push(clock.now());
        let ticket = system.claim_here(1);
        let event = NewInboxEvent {
            kind: EventKind::Event,
            name: NAME.to_owned(),
            payload: json!({"number": posted.len()}),
            dedup_key: None,
            occurred_at: None,
            traceparent: None,
            created_by: None,
        };
        let claim = ticket.as_ref().map(|ticket| ticket.claim.clone());
        let made = store.event_post(EventPost { event, claim, idempotency: None }).await;
        if let crate::store::Creation::New(made) = made.map_err(text)? {
            system.launched(made.executions, ticket);
        }
    }
    wait_for(&marks, posted.len() * 2).await;
    let (mut firsts, mut seconds) = (Vec::new(), Vec::new());
    for (number, at) in marks.take() {
        if number == FIRST { &mut firsts } else { &mut seconds }.push(at);
    }
    // They come one after the other, so that the nth run is that of the nth post.
    let gaps = |from: &[Timestamp], to: &[Timestamp]| -> Vec<f64> {
        from.iter().zip(to).map(|(from, to)| millis(*to - *from)).collect()
    };
    report.add_times("events", "posted to running, 20/s", &mut gaps(&posted, &firsts), &SHARES);
    let ends = "running to running of what waits for its end";
    report.add_times("events", ends, &mut gaps(&firsts, &seconds), &SHARES);
    let missing = 2 * posted.len() - firsts.len() - seconds.len();
    report.add("events", "never ran", float(missing), "executions");
    embedded.stop().await;
    Ok(())
}
