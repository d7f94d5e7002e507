//! Events as they lie in the store: the events of one transaction are one row.
//!
//! A row an event costs more than the run it tells of. A chunk is a JSON array with an array an
//! event: `[type, room, scheduleId, executionId, severity, tags, owner, payload]`. The events of an
//! execution's own status are `[1, facts]`, and `[2, facts]` where it was made and runs at once:
//! that is two events, of which the first follows from the second. The number of an event is its
//! chunk's first number plus its place. Chunks are bounded, so that reading a few events never
//! means reading many.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::domain::event::{Event, NewEvent, Room};
use crate::domain::execution::Severity;
use crate::domain::execution_event::{ExecutionEvent, ExecutionFacts, execution_event_type};
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

/// An event that a transaction noted.
#[derive(Clone, Debug)]
pub(crate) enum Noted {
    /// Told by its text.
    Text(NewEvent),
    /// Of an execution's own status.
    Execution(ExecutionEvent),
}

impl Noted {
    /// The event with its text.
    pub(crate) fn to_event(&self) -> NewEvent {
        match self {
            Self::Text(event) => event.clone(),
            Self::Execution(event) => event.clone().into(),
        }
    }
}

impl From<NewEvent> for Noted {
    fn from(event: NewEvent) -> Self {
        Self::Text(event)
    }
}

impl From<ExecutionEvent> for Noted {
    fn from(event: ExecutionEvent) -> Self {
        Self::Execution(event)
    }
}

/// The chunks of events that follow one another.
pub(crate) fn encode(events: &[Noted]) -> OpResult<Vec<Chunk>> {
    let unwritten = |error: serde_json::Error| corrupt("event", &error.to_string());
    let mut chunks = Vec::with_capacity(events.len() / CHUNK_EVENTS_MAX + 1);
    let (mut body, mut first, mut place) = (Vec::new(), 0, 0);
    while let Some(event) = events.get(place) {
        body.push(if body.is_empty() { b'[' } else { b',' });
        let together = match (event, events.get(place + 1)) {
            (Noted::Execution(made), Some(Noted::Execution(next)))
                if made.is_made_before(next) && place + 2 - first <= CHUNK_EVENTS_MAX =>
            {
                serde_json::to_writer(&mut body, &(2, next.facts())).map_err(unwritten)?;
                2
            }
            (Noted::Execution(event), _) => {
                serde_json::to_writer(&mut body, &(1, event.facts())).map_err(unwritten)?;
                1
            }
            (Noted::Text(event), _) => {
                encode_text(&mut body, event).map_err(unwritten)?;
                1
            }
        };
        place += together;
        if place - first >= CHUNK_EVENTS_MAX || body.len() >= CHUNK_BYTES_FULL {
            chunks.push(chunk(std::mem::take(&mut body), first, place)?);
            first = place;
        }
    }
    if place > first {
        chunks.push(chunk(body, first, place)?);
    }
    Ok(chunks)
}

/// The chunk of the events from the place `first` to the one before `end`.
fn chunk(mut body: Vec<u8>, first: usize, end: usize) -> OpResult<Chunk> {
    let number = |place| i64::try_from(place).unwrap_or(i64::MAX);
    body.push(b']');
    let body = String::from_utf8(body).map_err(|error| corrupt("event", &error.to_string()))?;
    Ok(Chunk { first: number(first), last: number(end) - 1, body: without_nul(body) })
}

fn encode_text(body: &mut Vec<u8>, event: &NewEvent) -> serde_json::Result<()> {
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
    let unread = |error: serde_json::Error| corrupt("event chunk", &error.to_string());
    let stored: Vec<&RawValue> = serde_json::from_str(body).map_err(unread)?;
    let mut events = Vec::new();
    let mut seq = first_seq;
    for text in stored {
        let text = text.get();
        if events.len() >= limit {
            break;
        }
        let together = together(text);
        let last = seq + together.unwrap_or(1) - 1;
        if last > after {
            if together.is_none() {
                events.push(told(seq, at, text)?);
            } else {
                let (_, facts): (i64, ExecutionFacts<'_>) =
                    serde_json::from_str(text).map_err(unread)?;
                if last > seq && seq > after {
                    events.push(of_facts(seq, at, &facts.at_creation()));
                }
                if events.len() < limit {
                    events.push(of_facts(last, at, &facts));
                }
            }
        }
        seq = last + 1;
    }
    Ok(events)
}

/// How many events an execution's facts tell: the number that their array begins with. `None` for
/// other events, which begin with a word.
fn together(text: &str) -> Option<i64> {
    let rest = text.strip_prefix('[')?.trim_start();
    let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
    rest.get(..end)?.parse().ok()
}

fn of_facts(seq: i64, at: Timestamp, facts: &ExecutionFacts<'_>) -> Event {
    Event {
        seq,
        at,
        event_type: execution_event_type(facts.status).to_owned(),
        room: Room::Tasks,
        schedule_id: facts.schedule_id,
        execution_id: Some(facts.id),
        severity: None,
        tags: facts.tags.to_vec(),
        owner: facts.owner.as_deref().map(str::to_owned),
        payload: facts.payload(),
    }
}

fn told(seq: i64, at: Timestamp, text: &str) -> OpResult<Event> {
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
    use crate::domain::execution::{Execution, ExecutionStatus};
    use crate::domain::execution_event::ExecutionMoment;
    use crate::domain::execution_samples;

    fn at() -> Timestamp {
        chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

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

    fn notices(count: usize, filler: usize) -> Vec<Noted> {
        (0..count).map(|number| notice(number, filler).into()).collect()
    }

    /// The events of a run that starts where it is made: made, started, completed.
    fn run(id: i64) -> [Noted; 3] {
        let sample = execution_samples::running(at());
        let runs = Execution { id, node_id: Some("n\"1".to_owned()), ..sample };
        let ended =
            Execution { status: ExecutionStatus::Completed, duration_ms: Some(3), ..runs.clone() };
        [
            ExecutionEvent::created(&runs).into(),
            ExecutionEvent::of(&runs).into(),
            ExecutionEvent::of(&ended).into(),
        ]
    }

    fn round_trip(events: &[Noted], after: i64, limit: usize) -> Vec<Event> {
        let chunks = encode(events).unwrap();
        let mut read = Vec::new();
        let mut next = 0;
        for chunk in chunks {
            assert_eq!(chunk.first, next);
            next = chunk.last + 1;
            assert!(chunk.last - chunk.first < i64::try_from(CHUNK_EVENTS_MAX).unwrap());
            let stored = (101 + chunk.first, at(), chunk.body.as_str());
            read.extend(decode(stored, after, limit - read.len()).unwrap());
        }
        assert_eq!(next, i64::try_from(events.len()).unwrap());
        read
    }

    fn assert_told(read: &[Event], events: &[Noted], first_seq: i64) {
        assert_eq!(read.len(), events.len());
        for ((seq, event), noted) in (first_seq..).zip(read).zip(events) {
            let new = noted.to_event();
            assert_eq!((event.seq, event.event_type.as_str()), (seq, new.event_type));
            assert_eq!(event.payload, new.payload);
            assert_eq!((&event.tags, &event.owner), (&new.tags, &new.owner));
            assert_eq!((event.severity, event.schedule_id), (new.severity, new.schedule_id));
            assert_eq!((event.room, event.execution_id), (new.room, new.execution_id));
        }
    }

    #[test]
    fn what_is_written_is_read_with_dense_numbers_across_chunks() {
        let events = notices(1_300, 1);
        assert_told(&round_trip(&events, 0, usize::MAX), &events, 101);
    }

    #[test]
    fn runs_are_read_as_the_events_they_were() {
        // A notice first, so that a pair meets the end of a chunk.
        let mut events = notices(1, 1);
        events.extend((1..=400).flat_map(run));
        assert_told(&round_trip(&events, 0, usize::MAX), &events, 101);
        for after in 95..112 {
            for limit in 1..5 {
                let read = round_trip(&events, after, limit);
                let first = usize::try_from((after - 100).max(0)).unwrap();
                assert_told(&read, &events[first..first + limit], 101 + (after - 100).max(0));
            }
        }
    }

    #[test]
    fn what_was_made_and_what_runs_are_one_entry_only_for_one_execution() {
        let [made, started, _] = run(1);
        let [other_made, ..] = run(2);
        let entries = |events: &[Noted]| {
            let body = encode(events).unwrap().remove(0).body;
            serde_json::from_str::<Vec<serde_json::Value>>(&body).unwrap().len()
        };
        assert_eq!(entries(&[made.clone(), started.clone()]), 1);
        assert_eq!(entries(&[other_made, started.clone()]), 2);
        assert_eq!(entries(&[started, made]), 2);
    }

    #[test]
    fn a_failure_keeps_its_reason() {
        let failed = Execution {
            status: ExecutionStatus::Failed,
            error: Some(crate::domain::task::TaskError::new("exit_code", "said \"no\"\u{1}")),
            ..execution_samples::running(at())
        };
        let event = ExecutionEvent::of(&failed);
        assert_eq!(event.moment, ExecutionMoment::of(&failed));
        let events = [event.into()];
        assert_told(&round_trip(&events, 0, usize::MAX), &events, 101);
    }

    #[test]
    fn large_payloads_make_chunks_of_few_events() {
        let events = notices(20, 100_000);
        assert!(encode(&events).unwrap().len() >= 6);
        assert_told(&round_trip(&events, 0, usize::MAX), &events, 101);
    }

    #[test]
    fn a_reader_gets_only_what_follows() {
        let read = round_trip(&notices(600, 1), 650, usize::MAX);
        assert_eq!(read.first().map(|event| event.seq), Some(651));
        assert_eq!(read.len(), 50);
    }

    #[test]
    fn nothing_is_no_chunk() {
        assert!(encode(&[]).unwrap().is_empty());
    }
}
