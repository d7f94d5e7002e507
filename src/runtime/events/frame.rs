//! A frame: one event as live sessions get it, serialised once for all of them, with the facts
//! that filters ask for beside it.
//!
//! The payload is taken over as the text the store keeps; nothing here parses it again, but for
//! the one field (`executionId`) that clients may filter by and the event row does not carry.

use bytestring::ByteString;
use serde::Deserialize;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::event::{Event, Room, instant_text};
use crate::domain::execution::Severity;

/// What a filter may ask of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its type.
    pub event_type: Box<str>,
    /// Who it is for.
    pub room: Room,
    /// The schedule it speaks of.
    pub schedule_id: Option<i64>,
    /// The execution (row id) it speaks of.
    pub execution_id: Option<i64>,
    /// The execution's UUID, when the payload names it.
    pub execution_uuid: Option<Uuid>,
    /// The severity it carries.
    pub severity: Option<Severity>,
    /// Labels, for `tag:` rooms.
    pub tags: Box<[String]>,
    /// Owner, for `owner:` rooms.
    pub owner: Option<Box<str>>,
}

/// One numbered event, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its number.
    pub seq: i64,
    /// When it was written.
    pub at: Timestamp,
    /// `{"type","seq","timestamp","payload"}`.
    pub text: ByteString,
    /// What filters ask for.
    pub facts: Facts,
}

#[derive(Deserialize)]
struct ExecutionName {
    #[serde(rename = "executionId")]
    execution_id: Option<Uuid>,
}

impl Frame {
    /// Serialises an event. A payload that is not JSON (a broken row) becomes `null`, so that one
    /// bad row cannot break every client's stream.
    #[must_use]
    pub fn from_event(event: Event) -> Self {
        let named = serde_json::from_str::<ExecutionName>(&event.payload);
        let payload = match &named {
            Err(error) if !error.is_data() => "null",
            _ => event.payload.as_str(),
        };
        let text = event_text(&event.event_type, Some(event.seq), event.at, payload);
        let execution_uuid = named.ok().and_then(|name| name.execution_id);
        Self {
            seq: event.seq,
            at: event.at,
            text,
            facts: Facts {
                event_type: event.event_type.into_boxed_str(),
                room: event.room,
                schedule_id: event.schedule_id,
                execution_id: event.execution_id,
                execution_uuid,
                severity: event.severity,
                tags: event.tags.into_boxed_slice(),
                owner: event.owner.map(String::into_boxed_str),
            },
        }
    }

    /// Bytes it holds, roughly: for limits.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.text.len() + size_of::<Self>()
    }
}

/// The text of an event message; `payload` is JSON already.
pub(crate) fn event_text(
    event_type: &str,
    seq: Option<i64>,
    at: Timestamp,
    payload: &str,
) -> ByteString {
    let name = serde_json::Value::from(event_type);
    let instant = instant_text(at);
    seq.map_or_else(
        || format!(r#"{{"type":{name},"timestamp":"{instant}","payload":{payload}}}"#),
        |seq| {
            format!(r#"{{"type":{name},"seq":{seq},"timestamp":"{instant}","payload":{payload}}}"#)
        },
    )
    .into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An event with nothing but a number.
    pub(crate) fn event(seq: i64) -> Event {
        Event {
            seq,
            at: chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            event_type: "execution_created".to_owned(),
            room: Room::Tasks,
            schedule_id: None,
            execution_id: None,
            severity: None,
            tags: Vec::new(),
            owner: None,
            payload: format!("{{\"id\":{seq}}}"),
        }
    }

    #[test]
    fn a_frame_carries_type_number_instant_and_payload() {
        let frame = Frame::from_event(event(7));
        let value: serde_json::Value = serde_json::from_str(&frame.text).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"type": "execution_created", "seq": 7,
                "timestamp": "2027-01-15T08:00:00.000Z", "payload": {"id": 7}})
        );
    }

    #[test]
    fn the_execution_is_found_in_the_payload_when_it_is_a_uuid() {
        let uuid = Uuid::from_u128(9);
        let mut named = event(1);
        named.payload = format!("{{\"executionId\":\"{uuid}\"}}");
        assert_eq!(Frame::from_event(named).facts.execution_uuid, Some(uuid));
        let mut numbered = event(1);
        numbered.payload = "{\"executionId\":5}".to_owned();
        let frame = Frame::from_event(numbered);
        assert_eq!(frame.facts.execution_uuid, None);
        assert!(frame.text.contains("\"executionId\":5"));
    }

    #[test]
    fn a_broken_payload_becomes_null_and_the_frame_stays_json() {
        let mut broken = event(1);
        broken.payload = "{\"id\":".to_owned();
        let frame = Frame::from_event(broken);
        let value: serde_json::Value = serde_json::from_str(&frame.text).unwrap();
        assert_eq!(value["payload"], serde_json::Value::Null);
    }
}
