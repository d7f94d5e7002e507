//! Events as they lie in the store: the events of one transaction are one row.
//!
//! A row an event costs more than the run it tells of. A chunk is a JSON array with an array an
//! event: `[type, room, scheduleId, executionId, severity, tags, owner, payload]`; the number of an
//! event is its chunk's first number plus its place. Chunks are bounded, so that reading a few
//! events never means reading many.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::domain::event::{Event, NewEvent, Room};
use crate::domain::execution::Severity;
use crate::store::op::{OpResult, corrupt};
use crate::store::sql_types::without_nul;

/// Events a chunk at most.
pub(crate) const CHUNK_EVENTS_MAX: usize = 512;
/// Bytes from which a chunk takes no further event.
const CHUNK_BYTES_FULL: usize = 256 * 1024;

/// A chunk to be written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Place of its first event among those given, from 0.
    pub(crate) first: i64,
    /// Place of its last event.
    pub(crate) last: i64,
    /// The JSON array.
    pub(crate) body: String,
}

/// The chunks of events that follow one another.
pub(crate) fn encode(events: &[NewEvent]) -> OpResult<Vec<Chunk>> {
    let mut chunks = Vec::with_capacity(events.len() / CHUNK_EVENTS_MAX + 1);
    let (mut body, mut first, mut count) = (Vec::new(), 0, 0);
    for (place, event) in (0..).zip(events) {
        body.push(if body.is_empty() { b'[' } else { b',' });
        encode_one(&mut body, event).map_err(|error| corrupt("event", &error.to_string()))?;
        count += 1;
        if count == CHUNK_EVENTS_MAX || body.len() >= CHUNK_BYTES_FULL {
            chunks.push(chunk(std::mem::take(&mut body), first, place)?);
            (first, count) = (place + 1, 0);
        }
    }
    if count > 0 {
        let last = i64::try_from(events.len()).unwrap_or(i64::MAX) - 1;
        chunks.push(chunk(body, first, last)?);
    }
    Ok(chunks)
}

fn chunk(mut body: Vec<u8>, first: i64, last: i64) -> OpResult<Chunk> {
    body.push(b']');
    let body = String::from_utf8(body).map_err(|error| corrupt("event", &error.to_string()))?;
    Ok(Chunk { first, last, body: without_nul(body) })
}

fn encode_one(body: &mut Vec<u8>, event: &NewEvent) -> serde_json::Result<()> {
    let head = (
        event.event_type,
        event.room.as_str(),
        event.schedule_id,
        event.execution_id,
        event.severity.map(Severity::as_str),
        &event.tags,
        event.owner.as_deref(),
    );
    serde_json::to_writer(&mut *body, &head)?;
    // The payload is JSON already: it takes the place of the closing bracket.
    body.pop();
    body.push(b',');
    body.extend_from_slice(event.payload.as_bytes());
    body.push(b']');
    Ok(())
}

#[derive(Deserialize)]
struct Stored<'a>(
    String,
    String,
    Option<i64>,
    Option<i64>,
    Option<String>,
    Vec<String>,
    Option<String>,
    #[serde(borrow)] &'a RawValue,
);

/// The events of a chunk with numbers above `after`, at most `limit`.
pub(crate) fn decode(
    (first_seq, at, body): (i64, Timestamp, &str),
    after: i64,
    limit: usize,
) -> OpResult<Vec<Event>> {
    let stored: Vec<&RawValue> =
        serde_json::from_str(body).map_err(|error| corrupt("event chunk", &error.to_string()))?;
    let wanted = (first_seq..).zip(stored).filter(|(seq, _)| *seq > after).take(limit);
    wanted.map(|(seq, text)| event(seq, at, text.get())).collect()
}

fn event(seq: i64, at: Timestamp, text: &str) -> OpResult<Event> {
    let Stored(event_type, room, schedule_id, execution_id, severity, tags, owner, payload) =
        serde_json::from_str(text).map_err(|error| corrupt("event", &error.to_string()))?;
    Ok(Event {
        seq,
        at,
        event_type,
        room: Room::parse(&room).ok_or_else(|| corrupt("room", &room))?,
        schedule_id,
        execution_id,
        severity: severity.as_deref().and_then(Severity::parse),
        tags,
        owner,
        payload: payload.get().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(number: usize, filler: usize) -> NewEvent {
        NewEvent {
            event_type: "execution_created",
            room: Room::Tasks,
            schedule_id: Some(7),
            execution_id: None,
            severity: Some(Severity::High),
            tags: vec!["a \"b\"".to_owned()],
            owner: Some("me".to_owned()),
            payload: format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat(filler)),
        }
    }

    fn round_trip(events: &[NewEvent], after: i64) -> Vec<Event> {
        let at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let chunks = encode(events).unwrap();
        let mut read = Vec::new();
        for chunk in chunks {
            assert!(chunk.last - chunk.first < i64::try_from(CHUNK_EVENTS_MAX).unwrap());
            read.extend(decode((101 + chunk.first, at, &chunk.body), after, usize::MAX).unwrap());
        }
        read
    }

    #[test]
    fn what_is_written_is_read_with_dense_numbers_across_chunks() {
        let events: Vec<_> = (0..1_300).map(|n| notice(n, 1)).collect();
        let read = round_trip(&events, 0);
        assert_eq!(read.len(), events.len());
        for (place, (event, new)) in read.iter().zip(&events).enumerate() {
            assert_eq!(event.seq, 101 + i64::try_from(place).unwrap());
            assert_eq!(event.payload, new.payload);
            assert_eq!((&event.tags, &event.owner), (&new.tags, &new.owner));
            assert_eq!((event.severity, event.schedule_id), (new.severity, new.schedule_id));
        }
    }

    #[test]
    fn large_payloads_make_chunks_of_few_events() {
        let events: Vec<_> = (0..20).map(|n| notice(n, 100_000)).collect();
        assert!(encode(&events).unwrap().len() >= 6);
        assert_eq!(round_trip(&events, 0).len(), 20);
    }

    #[test]
    fn a_reader_gets_only_what_follows() {
        let events: Vec<_> = (0..600).map(|n| notice(n, 1)).collect();
        let read = round_trip(&events, 650);
        assert_eq!(read.first().map(|event| event.seq), Some(651));
        assert_eq!(read.len(), 50);
    }

    #[test]
    fn nothing_is_no_chunk() {
        assert!(encode(&[]).unwrap().is_empty());
    }
}
