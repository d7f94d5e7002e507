//! What a session hears: its subscription, checked and applied.
//!
//! Within one list any entry may match, between lists all must; an event that lacks what a list
//! asks for does not match it; an empty list is no list. Whatever a client asks for, it hears only
//! rooms of its role. A client that filters nothing must see numbers without holes, so what its
//! role hides reaches it as a [`Verdict::Stub`] that says nothing but the number.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::event::Room;
use crate::domain::execution::Severity;
use crate::domain::key::Role;
use crate::runtime::events::{ExecutionName, Facts};
use crate::runtime::sessions::rooms_of;

/// Entries in one list at most.
const LIST_MAX: usize = 256;
/// Bytes in one entry at most.
const ENTRY_BYTES_MAX: usize = 200;

/// An execution as JSON names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum ExecutionKey {
    Number(i64),
    Text(String),
}

impl ExecutionKey {
    fn name(&self) -> Option<ExecutionName> {
        match self {
            Self::Number(id) => Some(ExecutionName::Id(*id)),
            Self::Text(text) => Uuid::parse_str(text)
                .map(ExecutionName::Uuid)
                .ok()
                .or_else(|| text.parse().map(ExecutionName::Id).ok()),
        }
    }
}

/// A subscription as the client wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Subscriptions {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    schedule_ids: Vec<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    execution_ids: Vec<ExecutionKey>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    severities: Vec<Severity>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    types: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rooms: Vec<String>,
}

/// Why a message was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// A stable code.
    pub(super) code: &'static str,
    /// A sentence for a person.
    pub(super) detail: String,
}

/// The code of a subscription that is wrong in itself.
pub(super) const INVALID_SUBSCRIPTION: &str = "invalid_subscription";
/// The code of a room that the role may not hear.
pub(super) const FORBIDDEN_ROOM: &str = "forbidden_room";

fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal { code: INVALID_SUBSCRIPTION, detail: detail.into() }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum RoomName {
    Fixed(Room),
    Tag(Box<str>),
    Owner(Box<str>),
}

impl RoomName {
    fn parse(text: &str) -> Option<Self> {
        let some = |name: &str| (!name.is_empty()).then(|| name.into());
        match text.split_once(':') {
            Some(("tag", tag)) => some(tag).map(Self::Tag),
            Some(("owner", owner)) => some(owner).map(Self::Owner),
            _ => Room::parse(text).map(Self::Fixed),
        }
    }

    fn holds(&self, facts: &Facts) -> bool {
        match self {
            Self::Fixed(room) => *room == facts.room,
            Self::Tag(tag) => facts.tags.iter().any(|held| **held == **tag),
            Self::Owner(owner) => facts.owner.as_ref() == Some(owner),
        }
    }
}

/// What to do with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send it.
    Deliver,
    /// Send only its number.
    Stub,
    /// Leave it out.
    Skip,
}

/// A session's filter.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    role: Role,
    schedule_ids: Box<[i64]>,
    executions: Vec<ExecutionName>,
    severities: Box<[Severity]>,
    types: Box<[String]>,
    rooms: Box<[RoomName]>,
}

impl Filter {
    /// Everything that the role may hear.
    pub(super) fn everything(role: Role) -> Self {
        Self {
            role,
            schedule_ids: Box::default(),
            executions: Vec::new(),
            severities: Box::default(),
            types: Box::default(),
            rooms: Box::default(),
        }
    }

    /// Checks a subscription.
    pub(super) fn parse(wanted: &Subscriptions, role: Role) -> Result<Self, Refusal> {
        let lengths = [
            ("scheduleIds", wanted.schedule_ids.len()),
            ("executionIds", wanted.execution_ids.len()),
            ("severities", wanted.severities.len()),
            ("types", wanted.types.len()),
            ("rooms", wanted.rooms.len()),
        ];
        if let Some((field, _)) = lengths.iter().find(|(_, length)| *length > LIST_MAX) {
            return Err(invalid(format!("{field} has more than {LIST_MAX} entries")));
        }
        let texts = wanted.types.iter().chain(&wanted.rooms);
        if texts.into_iter().any(|text| text.len() > ENTRY_BYTES_MAX) {
            return Err(invalid(format!("an entry is longer than {ENTRY_BYTES_MAX} bytes")));
        }
        let is_type = |text: &String| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        if let Some(wrong) = wanted.types.iter().find(|text| !is_type(text)) {
            return Err(invalid(format!("types: `{wrong}` is no event type")));
        }
        let executions = wanted.execution_ids.iter().map(|key| {
            key.name().ok_or_else(|| invalid("executionIds: entries are ids or UUIDs".to_owned()))
        });
        let rooms = wanted.rooms.iter().map(|text| {
            let room = RoomName::parse(text);
            room.ok_or_else(|| invalid(format!("rooms: there is no room `{text}`")))
        });
        let filter = Self {
            role,
            schedule_ids: wanted.schedule_ids.clone().into(),
            executions: executions.collect::<Result<_, _>>()?,
            severities: wanted.severities.clone().into(),
            types: wanted.types.clone().into(),
            rooms: rooms.collect::<Result<_, _>>()?,
        };
        let visible = rooms_of(role);
        let is_hidden =
            |room: &RoomName| matches!(room, RoomName::Fixed(room) if !visible.contains(room));
        if filter.rooms.iter().any(is_hidden) {
            let detail = "rooms: `admin` needs the role admin".to_owned();
            return Err(Refusal { code: FORBIDDEN_ROOM, detail });
        }
        Ok(filter)
    }

    /// The executions whose output the session wants to hear.
    pub(super) fn executions(&self) -> &[ExecutionName] {
        &self.executions
    }

    /// The rooms the session sits in, for statistics.
    pub(super) fn room_names(&self, wanted: &Subscriptions) -> Vec<String> {
        if self.rooms.is_empty() {
            rooms_of(self.role).iter().map(ToString::to_string).collect()
        } else {
            wanted.rooms.clone()
        }
    }

    /// What to do with a numbered event.
    pub(super) fn judge(&mut self, facts: &Facts) -> Verdict {
        let is_visible = facts.room != Room::Admin || self.role.allows(Role::Admin);
        if !is_visible {
            return if self.filters_nothing() { Verdict::Stub } else { Verdict::Skip };
        }
        let is_wanted = (self.schedule_ids.is_empty()
            || facts.schedule_id.is_some_and(|id| self.schedule_ids.contains(&id)))
            && (self.severities.is_empty()
                || facts.severity.is_some_and(|severity| self.severities.contains(&severity)))
            && self.wants_type(&facts.event_type)
            && (self.rooms.is_empty() || self.rooms.iter().any(|room| room.holds(facts)))
            && self.names_execution(facts);
        if is_wanted { Verdict::Deliver } else { Verdict::Skip }
    }

    /// Whether to send output or progress of an execution the session named.
    pub(super) fn wants_transient(&self, event_type: &str) -> bool {
        let is_task = |room: &RoomName| *room == RoomName::Fixed(Room::Tasks);
        self.schedule_ids.is_empty()
            && self.severities.is_empty()
            && (self.rooms.is_empty() || self.rooms.iter().any(is_task))
            && self.wants_type(event_type)
    }

    fn wants_type(&self, event_type: &str) -> bool {
        self.types.is_empty() || self.types.iter().any(|wanted| wanted == event_type)
    }

    fn filters_nothing(&self) -> bool {
        self.schedule_ids.is_empty()
            && self.executions.is_empty()
            && self.severities.is_empty()
            && self.types.is_empty()
            && self.rooms.is_empty()
    }

    /// An event that names its execution by UUID teaches the row id: errors and their like name
    /// executions by row id alone.
    fn names_execution(&mut self, facts: &Facts) -> bool {
        if self.executions.is_empty() {
            return true;
        }
        let by_id = facts.execution_id.map(ExecutionName::Id);
        if by_id.is_some_and(|name| self.executions.contains(&name)) {
            return true;
        }
        let by_uuid = facts.execution_uuid.map(ExecutionName::Uuid);
        let is_named = by_uuid.is_some_and(|name| self.executions.contains(&name));
        if is_named && self.executions.len() < 2 * LIST_MAX {
            self.executions.extend(by_id);
        }
        is_named
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn facts() -> Facts {
        Facts {
            event_type: "execution_failed".into(),
            room: Room::Tasks,
            schedule_id: Some(1),
            execution_id: Some(10),
            execution_uuid: Some(Uuid::from_u128(10)),
            severity: Some(Severity::High),
            tags: Box::new(["nightly".to_owned()]),
            owner: Some("ops".into()),
        }
    }

    fn parse(value: Value, role: Role) -> Result<Filter, Refusal> {
        let wanted = serde_json::from_value(value).map_err(|error| invalid(error.to_string()))?;
        Filter::parse(&wanted, role)
    }

    fn judge(value: Value) -> Verdict {
        parse(value, Role::Operator).unwrap().judge(&facts())
    }

    #[test]
    fn within_a_list_any_matches_and_between_lists_all_must() {
        let uuid = Uuid::from_u128(10);
        let matching = [
            json!({}),
            json!({"scheduleIds": []}),
            json!({"scheduleIds": [2, 1]}),
            json!({"executionIds": [10]}),
            json!({"executionIds": [uuid]}),
            json!({"executionIds": ["10"]}),
            json!({"severities": ["low", "high"]}),
            json!({"types": ["execution_failed"]}),
            json!({"rooms": ["alerts", "tasks"]}),
            json!({"rooms": ["tag:nightly"]}),
            json!({"rooms": ["owner:ops"]}),
            json!({"scheduleIds": [1], "severities": ["high"], "rooms": ["tasks"]}),
        ];
        for value in matching {
            assert_eq!(judge(value.clone()), Verdict::Deliver, "{value}");
        }
        let other = [
            json!({"scheduleIds": [2]}),
            json!({"executionIds": [11]}),
            json!({"severities": ["low"]}),
            json!({"types": ["execution_started"]}),
            json!({"rooms": ["alerts"]}),
            json!({"rooms": ["tag:daily", "owner:dev"]}),
            json!({"scheduleIds": [1], "severities": ["low"]}),
        ];
        for value in other {
            assert_eq!(judge(value.clone()), Verdict::Skip, "{value}");
        }
    }

    #[test]
    fn an_event_that_lacks_the_field_does_not_match() {
        let bare = Facts {
            schedule_id: None,
            execution_id: None,
            execution_uuid: None,
            severity: None,
            ..facts()
        };
        for value in [
            json!({"scheduleIds": [1]}),
            json!({"executionIds": [10]}),
            json!({"severities": ["high"]}),
        ] {
            assert_eq!(parse(value, Role::Admin).unwrap().judge(&bare), Verdict::Skip);
        }
    }

    #[test]
    fn an_execution_named_by_uuid_is_known_by_its_row_id_once_seen() {
        let mut filter =
            parse(json!({"executionIds": [Uuid::from_u128(10)]}), Role::Viewer).unwrap();
        let by_id = Facts { execution_uuid: None, ..facts() };
        assert_eq!(filter.judge(&by_id), Verdict::Skip);
        assert_eq!(filter.judge(&facts()), Verdict::Deliver);
        assert_eq!(filter.judge(&by_id), Verdict::Deliver);
    }

    #[test]
    fn the_admin_room_needs_the_role_and_hides_as_a_stub() {
        let hidden = Facts { room: Room::Admin, ..facts() };
        let refusal = parse(json!({"rooms": ["admin"]}), Role::Operator).unwrap_err();
        assert_eq!(refusal.code, FORBIDDEN_ROOM);
        assert!(parse(json!({"rooms": ["admin"]}), Role::Admin).is_ok());
        assert_eq!(Filter::everything(Role::Viewer).judge(&hidden), Verdict::Stub);
        assert_eq!(Filter::everything(Role::Admin).judge(&hidden), Verdict::Deliver);
        let mut tagged = parse(json!({"rooms": ["tag:nightly"]}), Role::Viewer).unwrap();
        assert_eq!(tagged.judge(&hidden), Verdict::Skip);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for value in [
            json!({"scheduleId": [1]}),
            json!({"scheduleIds": ["x"]}),
            json!({"executionIds": ["x"]}),
            json!({"severities": ["fatal"]}),
            json!({"types": [""]}),
            json!({"types": ["Execution Failed"]}),
            json!({"rooms": ["kitchen"]}),
            json!({"rooms": ["tag:"]}),
            json!({"scheduleIds": vec![1; LIST_MAX + 1]}),
        ] {
            let refusal = parse(value.clone(), Role::Admin);
            assert_eq!(
                refusal.map_err(|refusal| refusal.code).err(),
                Some(INVALID_SUBSCRIPTION),
                "{value}"
            );
        }
    }

    #[test]
    fn output_goes_to_who_named_the_execution_unless_another_list_forbids() {
        let wants = |value| parse(value, Role::Viewer).unwrap().wants_transient("execution_log");
        assert!(wants(json!({"executionIds": [1]})));
        assert!(wants(json!({"executionIds": [1], "rooms": ["tasks"]})));
        assert!(!wants(json!({"executionIds": [1], "types": ["execution_failed"]})));
        assert!(!wants(json!({"executionIds": [1], "severities": ["high"]})));
    }
}
