//! The event of an execution that took on a status.
//!
//! There are three of them a run, which is nearly all that the event log holds. So they are noted
//! and stored as facts ([`ExecutionFacts`], a third of the text), and become the text that clients
//! get when somebody reads them.

use std::borrow::Cow;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::event::{NewEvent, Room, instant_text};
use crate::domain::execution::{
    Execution, ExecutionError, ExecutionStatus, ExecutionUsage, NewExecution, Priority, Trigger,
};

/// The event type that tells of an execution's new status (`Pending` means it was created).
#[must_use]
pub const fn execution_event_type(status: ExecutionStatus) -> &'static str {
    match status {
        ExecutionStatus::Pending => "execution_created",
        ExecutionStatus::Running => "execution_started",
        ExecutionStatus::Completed => "execution_completed",
        ExecutionStatus::Failed => "execution_failed",
        ExecutionStatus::Timeout => "execution_timeout",
        ExecutionStatus::Cancelled => "execution_cancelled",
        ExecutionStatus::Skipped => "execution_skipped",
    }
}

/// Where an execution stands at one moment: what its event tells beside what never changes.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecutionMoment {
    /// Where it stands.
    pub status: ExecutionStatus,
    /// When it was claimed.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// `completed_at - started_at` in milliseconds.
    pub duration_ms: Option<i64>,
    /// Start minus due in milliseconds.
    pub lateness_ms: Option<i64>,
    /// Why it failed.
    pub error: Option<ExecutionError>,
    /// Name of the node that runs or ran it.
    pub node_id: Option<String>,
    /// What a command used.
    pub usage: Option<ExecutionUsage>,
}

impl ExecutionMoment {
    /// The moment of its making.
    pub const CREATED: Self = Self {
        status: ExecutionStatus::Pending,
        started_at: None,
        completed_at: None,
        duration_ms: None,
        lateness_ms: None,
        error: None,
        node_id: None,
        usage: None,
    };

    /// As the row is now.
    #[must_use]
    pub fn of(execution: &Execution) -> Self {
        Self {
            status: execution.status,
            started_at: execution.started_at,
            completed_at: execution.completed_at,
            duration_ms: execution.duration_ms,
            lateness_ms: execution.lateness_ms,
            error: execution.error.clone(),
            node_id: execution.node_id.clone(),
            usage: execution.usage,
        }
    }
}

/// The event of an execution that just took on a status, not yet text.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecutionEvent {
    /// The execution's row id.
    pub id: i64,
    /// What never changes of it.
    pub new: Arc<NewExecution>,
    /// Where it stands now.
    pub moment: ExecutionMoment,
}

impl ExecutionEvent {
    /// The event that tells where a row stands now.
    #[must_use]
    pub fn of(execution: &Execution) -> Self {
        let moment = ExecutionMoment::of(execution);
        Self { id: execution.id, new: Arc::clone(&execution.new), moment }
    }

    /// The event that tells that a row was made.
    #[must_use]
    pub fn created(execution: &Execution) -> Self {
        let moment = ExecutionMoment::CREATED;
        Self { id: execution.id, new: Arc::clone(&execution.new), moment }
    }

    /// True when `next` says of the same execution that it runs, and this that it was made.
    #[must_use]
    pub fn is_made_before(&self, next: &Self) -> bool {
        self.id == next.id
            && self.moment == ExecutionMoment::CREATED
            && next.moment.status == ExecutionStatus::Running
    }

    /// What it tells.
    #[must_use]
    pub fn facts(&self) -> ExecutionFacts<'_> {
        let (new, moment) = (&*self.new, &self.moment);
        let in_ms = |at: DateTime<Utc>| at.timestamp_millis();
        ExecutionFacts {
            id: self.id,
            execution_id: new.execution_id,
            chain_id: (new.chain_id != new.execution_id).then_some(new.chain_id),
            schedule_id: new.schedule_id,
            schedule_name: new.schedule_name.as_deref().map(Cow::Borrowed),
            trigger: new.trigger,
            task_type: Cow::Borrowed(&new.task.task_type),
            priority: new.priority,
            attempt: new.attempt,
            scheduled_ms: in_ms(new.scheduled_at),
            tags: Cow::Borrowed(&new.task.tags),
            owner: new.task.owner.as_deref().map(Cow::Borrowed),
            status: moment.status,
            started_ms: moment.started_at.map(in_ms),
            completed_ms: moment.completed_at.map(in_ms),
            duration_ms: moment.duration_ms,
            lateness_ms: moment.lateness_ms,
            error: moment.error.as_ref().map(Cow::Borrowed),
            node_id: moment.node_id.as_deref().map(Cow::Borrowed),
            usage: moment.usage,
        }
    }
}

impl From<ExecutionEvent> for NewEvent {
    fn from(event: ExecutionEvent) -> Self {
        let task = &event.new.task;
        Self {
            event_type: execution_event_type(event.moment.status),
            room: Room::Tasks,
            schedule_id: event.new.schedule_id,
            execution_id: Some(event.id),
            severity: None,
            tags: task.tags.clone(),
            owner: task.owner.clone(),
            payload: event.facts().payload(),
        }
    }
}

/// What the event of an execution tells, as it is stored: instants in milliseconds since 1970, as
/// precise as clients get them.
///
/// It is written as an array of its fields in their order, and read from one: a field that is added
/// goes to the end, and has a default.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ExecutionFacts<'a> {
    /// Row id.
    pub id: i64,
    /// Its public id.
    pub execution_id: Uuid,
    /// Its chain, where that is not its own id.
    pub chain_id: Option<Uuid>,
    /// The schedule it belongs to.
    pub schedule_id: Option<i64>,
    /// That schedule's name.
    pub schedule_name: Option<Cow<'a, str>>,
    /// What made it.
    pub trigger: Trigger,
    /// What it runs.
    pub task_type: Cow<'a, str>,
    /// How urgent it is.
    pub priority: Priority,
    /// 1 for the first attempt.
    pub attempt: i32,
    /// The planned instant.
    pub scheduled_ms: i64,
    /// Labels, for the rooms `tag:<tag>`.
    pub tags: Cow<'a, [String]>,
    /// Owner, for the rooms `owner:<owner>`.
    pub owner: Option<Cow<'a, str>>,
    /// Where it stands.
    pub status: ExecutionStatus,
    /// When it was claimed.
    pub started_ms: Option<i64>,
    /// When it ended.
    pub completed_ms: Option<i64>,
    /// How long it ran, in milliseconds.
    pub duration_ms: Option<i64>,
    /// Start minus due in milliseconds.
    pub lateness_ms: Option<i64>,
    /// Why it failed.
    pub error: Option<Cow<'a, ExecutionError>>,
    /// Name of the node that runs or ran it.
    pub node_id: Option<Cow<'a, str>>,
    /// What a command used.
    pub usage: Option<ExecutionUsage>,
}

/// Fields of [`ExecutionFacts`].
const FIELDS: usize = 20;

impl Serialize for ExecutionFacts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut array = serializer.serialize_tuple(FIELDS)?;
        array.serialize_element(&self.id)?;
        array.serialize_element(&self.execution_id)?;
        array.serialize_element(&self.chain_id)?;
        array.serialize_element(&self.schedule_id)?;
        array.serialize_element(&self.schedule_name)?;
        array.serialize_element(&self.trigger)?;
        array.serialize_element(&self.task_type)?;
        array.serialize_element(&self.priority)?;
        array.serialize_element(&self.attempt)?;
        array.serialize_element(&self.scheduled_ms)?;
        array.serialize_element(&self.tags)?;
        array.serialize_element(&self.owner)?;
        array.serialize_element(&self.status)?;
        array.serialize_element(&self.started_ms)?;
        array.serialize_element(&self.completed_ms)?;
        array.serialize_element(&self.duration_ms)?;
        array.serialize_element(&self.lateness_ms)?;
        array.serialize_element(&self.error)?;
        array.serialize_element(&self.node_id)?;
        array.serialize_element(&self.usage)?;
        array.end()
    }
}

/// An instant that is written as the API writes it.
struct InstantText(i64);

impl Serialize for InstantText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let at = DateTime::from_timestamp_millis(self.0).unwrap_or_default();
        serializer.serialize_str(&instant_text(at))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    id: i64,
    execution_id: Uuid,
    chain_id: Uuid,
    schedule_id: Option<i64>,
    schedule_name: Option<&'a str>,
    trigger: Trigger,
    task_type: &'a str,
    status: ExecutionStatus,
    priority: Priority,
    attempt: i32,
    scheduled_at: InstantText,
    started_at: Option<InstantText>,
    completed_at: Option<InstantText>,
    duration_ms: Option<i64>,
    lateness_ms: Option<i64>,
    error: Option<&'a ExecutionError>,
    node_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<ExecutionUsage>,
}

impl ExecutionFacts<'_> {
    /// The same execution at the moment of its making.
    #[must_use]
    pub fn at_creation(&self) -> Self {
        Self {
            status: ExecutionStatus::Pending,
            started_ms: None,
            completed_ms: None,
            duration_ms: None,
            lateness_ms: None,
            error: None,
            node_id: None,
            usage: None,
            ..self.clone()
        }
    }

    /// What a client gets as `payload`: JSON text. Result and config are left out: they may be
    /// large, and a client that wants them asks for the execution.
    #[must_use]
    pub fn payload(&self) -> String {
        let payload = Payload {
            id: self.id,
            execution_id: self.execution_id,
            chain_id: self.chain_id.unwrap_or(self.execution_id),
            schedule_id: self.schedule_id,
            schedule_name: self.schedule_name.as_deref(),
            trigger: self.trigger,
            task_type: &self.task_type,
            status: self.status,
            priority: self.priority,
            attempt: self.attempt,
            scheduled_at: InstantText(self.scheduled_ms),
            started_at: self.started_ms.map(InstantText),
            completed_at: self.completed_ms.map(InstantText),
            duration_ms: self.duration_ms,
            lateness_ms: self.lateness_ms,
            error: self.error.as_deref(),
            node_id: self.node_id.as_deref(),
            usage: self.usage,
        };
        // Plain fields cannot fail to be written.
        serde_json::to_string(&payload).unwrap_or_else(|_| "null".to_owned())
    }
}

/// An event about what a person did to an execution: `execution_paused`, `execution_resumed`,
/// `execution_overridden`. Its payload is that of the execution's own events and `more`.
#[must_use]
pub fn execution_act_event(
    execution: &Execution,
    event_type: &'static str,
    more: Map<String, Value>,
) -> NewEvent {
    let event = NewEvent::from(ExecutionEvent::of(execution));
    let mut payload: Map<String, Value> = serde_json::from_str(&event.payload).unwrap_or_default();
    payload.extend(more);
    NewEvent { event_type, payload: Value::Object(payload).to_string(), ..event }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::execution_samples;

    fn run() -> Execution {
        let at = DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap();
        Execution { node_id: Some("here".to_owned()), ..execution_samples::running(at) }
    }

    #[test]
    fn the_payload_has_the_names_and_instants_of_the_api() {
        let event = NewEvent::from(ExecutionEvent::of(&run()));
        assert_eq!((event.event_type, event.execution_id), ("execution_started", Some(7)));
        assert_eq!(
            serde_json::from_str::<Value>(&event.payload).unwrap(),
            json!({
                "id": 7,
                "executionId": Uuid::nil(),
                "chainId": Uuid::nil(),
                "scheduleId": 1,
                "scheduleName": "nightly",
                "trigger": "schedule",
                "taskType": "shell_command",
                "status": "running",
                "priority": "medium",
                "attempt": 1,
                "scheduledAt": "2027-01-15T08:00:00.123Z",
                "startedAt": "2027-01-15T08:00:00.123Z",
                "completedAt": null,
                "durationMs": null,
                "latenessMs": null,
                "error": null,
                "nodeId": "here",
            })
        );
    }

    #[test]
    fn facts_are_an_array_and_read_back_as_they_were() {
        let mut row = run();
        let new = Arc::make_mut(&mut row.new);
        new.chain_id = Uuid::from_u128(5);
        new.task.tags = vec!["nightly \"x\"".to_owned()];
        new.task.owner = Some("ops".to_owned());
        row.error = Some(ExecutionError::new("exit_code", "it broke"));
        row.usage = Some(ExecutionUsage::default());
        let event = ExecutionEvent::of(&row);
        let text = serde_json::to_string(&event.facts()).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Value>>(&text).unwrap().len(), FIELDS);
        let read: ExecutionFacts<'_> = serde_json::from_str(&text).unwrap();
        assert_eq!(read, event.facts());
        assert_eq!(read.payload(), event.facts().payload());
    }

    #[test]
    fn what_was_made_follows_from_what_runs() {
        let row = run();
        let (made, started) = (ExecutionEvent::created(&row), ExecutionEvent::of(&row));
        assert!(made.is_made_before(&started));
        assert_eq!(started.facts().at_creation(), made.facts());
        assert!(!started.is_made_before(&made));
        assert!(!made.is_made_before(&ExecutionEvent { id: 8, ..started }));
    }
}
