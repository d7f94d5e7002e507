//! The policies of a schedule, each group in a file of its own: read from a request, written back.

pub(crate) mod admission;
pub(crate) mod cadence;
mod events;
mod recovery;

use serde_json::{Map, Value};

use super::body::Fields;
use crate::domain::options::{ScheduleOptions, TaskOptions};

/// The fields of every group.
pub(crate) fn schedule_fields() -> impl Iterator<Item = &'static str> {
    let task = task_fields();
    task.chain(cadence::FIELDS.iter().copied()).chain(events::FIELDS.iter().copied())
}

/// The fields of the groups that an ad-hoc execution may have too.
pub(crate) fn task_fields() -> impl Iterator<Item = &'static str> {
    admission::FIELDS.iter().chain(recovery::FIELDS).copied()
}

/// Reads every group.
pub(crate) fn read_schedule(fields: &mut Fields<'_>) -> ScheduleOptions {
    ScheduleOptions {
        cadence: cadence::read(fields),
        events: events::read(fields),
        task: read_task(fields),
    }
}

/// Reads the groups that go with an execution.
pub(crate) fn read_task(fields: &mut Fields<'_>) -> TaskOptions {
    TaskOptions {
        admission: admission::read(fields),
        recovery: recovery::read(fields),
        ..TaskOptions::default()
    }
}

/// Writes every group, every field there.
pub(crate) fn write_schedule(options: &ScheduleOptions, body: &mut Map<String, Value>) {
    cadence::write(&options.cadence, body);
    events::write(&options.events, body);
    write_task(&options.task, body);
}

/// Writes the groups that go with an execution.
pub(crate) fn write_task(options: &TaskOptions, body: &mut Map<String, Value>) {
    admission::write(&options.admission, body);
    recovery::write(&options.recovery, body);
}
