//! The statements by hand. The connection runs in place, so statements with a parameter a value,
//! prepared once, are cheaper than one over a set: nothing is packed into JSON and unpacked again.

use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;
use std::time::Duration;

use diesel::SqliteConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
use serde::{Serialize, Serializer};

use super::many::{by_eights, rows_statement};
use super::queries::creating;
use super::{Conn, Db};
use crate::clock::{Clock, Timestamp};
use crate::domain::execution::{Execution, RANK_SPAN};
use crate::store::event_chunk::Noted;
use crate::store::models::{ExecutionRow, NewAuditRow, Standing, lock_schedules};
use crate::store::op::{OpResult, corrupt};
use crate::store::schema::audit_log;
use crate::store::sql_types::{Instant, JsonText, Uid, sql};
use crate::store::statement::{execution_columns, execution_row, statement};
use crate::store::types::{Advance, End};
use crate::store::{ClaimHere, event_chunk};

/// An instant inside a JSON parameter: microseconds.
#[derive(Clone, Copy)]
pub(crate) struct At(pub(crate) Timestamp);

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0.timestamp_micros())
    }
}

/// Around a tag: true for schedules that carry it.
pub(crate) const HAS_TAG: [&str; 2] =
    ["EXISTS (SELECT 1 FROM json_each(task_schedules.tags) WHERE value = ", ")"];

/// Around a pattern, twice: true for schedules whose name or description matches.
pub(crate) const CONTAINS: [&str; 3] =
    ["(name LIKE ", " ESCAPE '\\' OR coalesce(description, '') LIKE ", " ESCAPE '\\')"];

/// Around a pattern: true for lines that match, or state a gap.
pub(crate) const LINE_CONTAINS: [&str; 2] =
    ["(dropped_lines IS NOT NULL OR \"text\" LIKE ", " ESCAPE '\\')"];

/// Leases of earlier boots end this long after a start: the file has one process.
pub(crate) const EARLIER_BOOTS_END_AFTER: Option<Duration> = Some(Duration::from_secs(2));

/// The backfill that made a row of `task_executions`.
pub(crate) const BACKFILL_OF: &str = "json_extract(options, '$.backfill.id')";

/// There is one writer: no row is locked.
pub(crate) const PASS_OVER_LOCKED: &str = "";

/// Makes the statement that inserts rows.
macro_rules! insert_executions {
    ($row:ident, $lt:lifetime; $($name:ident: $sql:ty, $rust:ty = $value:expr;)*) => {
        rows_statement! {
            /// Inserts rows with the ids they are to have; one that meets a unique index is left
            /// out.
            InsertExecutions<$lt> of ExecutionValues {
                concat!(
                    "INSERT OR FAIL INTO task_executions (id", $(", \"", stringify!($name), "\"",)*
                    ") VALUES "
                );
                id: i64 as BigInt;
                $($name: $rust as $sql;)*
                => " ON CONFLICT DO NOTHING"
            }
        }

        impl<$lt> ExecutionValues<$lt> {
            fn new(id: i64, $row: &$lt Execution) -> Self {
                Self { id, $($name: $value,)* of: PhantomData }
            }
        }
    };
}
execution_columns!(insert_executions, row, 'a);

statement! {
    /// The rows with ids in a span.
    ExecutionsBetween<'a> => BigInt {
        "SELECT id FROM task_executions WHERE id BETWEEN ", first: i64 as BigInt;
        " AND ", last: i64 as BigInt;
        => ""
    }
}

statement! {
    /// The highest id ever given: ids are not used again, also after rows were deleted.
    LastExecutionId<'a> => BigInt {
        "SELECT seq FROM sqlite_sequence WHERE name = ", table: &'a str as Text;
        => ""
    }
}

statement! {
    /// Rows that wait for nothing but a slot and may run now, by rank; the claim index gives that
    /// order without sorting.
    ClaimableExecutions<'a> => <diesel::dsl::AsSelect<ExecutionRow, Db> as Expression>::SqlType {
        concat!("SELECT ", execution_row!(), " FROM task_executions \
         INDEXED BY task_executions_claim WHERE status = 'pending' AND NOT gated \
         AND available_at <= "), available_at: Instant as sql::Instant;
        " AND rank_at <= ", rank_at: Instant as sql::Instant;
        " ORDER BY rank_at, id LIMIT ", slots: i64 as BigInt;
        => ""
    }
}

rows_statement! {
    /// Starts rows that wait.
    StartExecutions<'a> of StartValues {
        "UPDATE OR FAIL task_executions SET status = 'running', started_at = v.column1, \
         lateness_ms = v.column2, lease_owner = v.column3, node_id = v.column4 FROM (VALUES ";
        started_at: Option<Instant> as Nullable<sql::Instant>;
        lateness_ms: Option<i64> as Nullable<BigInt>;
        lease_owner: Option<Uid> as Nullable<sql::Uid>;
        node_id: Option<&'a str> as Nullable<Text>;
        id: i64 as BigInt;
        => ") v WHERE task_executions.id = v.column5"
    }
}

impl<'a> StartValues<'a> {
    fn of(execution: &'a Execution) -> Self {
        Self {
            started_at: execution.started_at.map(Instant),
            lateness_ms: execution.lateness_ms,
            lease_owner: execution.lease_owner.map(Uid),
            node_id: execution.node_id.as_deref(),
            id: execution.id,
            of: PhantomData,
        }
    }
}

rows_statement! {
    /// Ends rows that their owners still hold, and gives the ids of those. The owner's index is
    /// kept out of it: a row is found by its id. No row fails alone, so that no statement needs
    /// to be undone: an error undoes the operation.
    FinishExecutions<'a> of EndValues => BigInt {
        "UPDATE OR FAIL task_executions SET status = v.column1, completed_at = v.column2, \
         duration_ms = v.column3, result = v.column4, error = v.column5, \
         conductor_thread_id = v.column6, conductor_status = v.column7, cost = v.column8, \
         usage = v.column9 FROM (VALUES ";
        status: &'a str as Text;
        completed_at: Instant as sql::Instant;
        duration_ms: i64 as BigInt;
        result: Option<&'a str> as Nullable<Text>;
        error: Option<&'a str> as Nullable<Text>;
        thread: Option<&'a str> as Nullable<Text>;
        word: Option<&'a str> as Nullable<Text>;
        cost: Option<f64> as Nullable<Double>;
        usage: Option<&'a str> as Nullable<Text>;
        id: i64 as BigInt;
        lease_owner: Uid as sql::Uid;
        => ") v WHERE task_executions.id = v.column10 \
            AND +task_executions.lease_owner = v.column11 \
            AND +task_executions.status = 'running' RETURNING id"
    }
}

impl<'a> EndValues<'a> {
    fn of(end: &'a End) -> Self {
        Self {
            status: end.status.as_str(),
            completed_at: Instant(end.completed_at),
            duration_ms: end.duration_ms,
            result: end.result.as_deref(),
            error: end.error.as_deref(),
            thread: end.conductor_thread_id.as_deref(),
            word: end.conductor_status.as_deref(),
            cost: end.cost,
            usage: end.usage.as_deref(),
            id: end.id,
            lease_owner: Uid(end.lease_owner),
            of: PhantomData,
        }
    }
}

statement! {
    /// Whether any schedule listens to the ends of executions.
    IsListened<'a> => Bool {
        "SELECT EXISTS (SELECT 1 FROM event_listeners WHERE of_execution) = ", wanted: bool as Bool;
        => ""
    }
}

statement! {
    /// Rows of a schedule that wait or run; the words are those of the index.
    CountActive<'a> => BigInt {
        "SELECT count(*) FROM task_executions WHERE status IN ('pending', 'running') \
         AND schedule_id IS NOT NULL AND schedule_id = ", id: i64 as BigInt;
        => ""
    }
}

statement! {
    /// The earliest instant of the rows that wait for nothing but a slot. SQLite believes that few
    /// rows have any one status and would sort them all; it is told better.
    NextAvailable<'a> => sql::Instant {
        => "SELECT available_at FROM task_executions INDEXED BY task_executions_available \
            WHERE status = 'pending' AND NOT gated ORDER BY available_at LIMIT 1"
    }
}

rows_statement! {
    /// Moves schedules on.
    AdvanceSchedules<'a> of AdvanceValues {
        "UPDATE OR FAIL task_schedules SET next_run_at = v.column1, last_run_at = v.column2, \
         fired = v.column3, enabled = v.column4, paused_at = v.column5, catch_up_at = v.column6 \
         FROM (VALUES ";
        next_run_at: Option<Instant> as Nullable<sql::Instant>;
        last_run_at: Option<Instant> as Nullable<sql::Instant>;
        fired: i64 as BigInt;
        enabled: bool as Bool;
        paused_at: Option<Instant> as Nullable<sql::Instant>;
        catch_up_at: Option<Instant> as Nullable<sql::Instant>;
        id: i64 as BigInt;
        => ") v WHERE task_schedules.id = v.column7"
    }
}

impl AdvanceValues<'_> {
    fn of(advance: &Advance) -> Self {
        Self {
            next_run_at: advance.next_run_at.map(Instant),
            last_run_at: advance.last_run_at.map(Instant),
            fired: advance.fired,
            enabled: advance.enabled,
            paused_at: advance.paused_at.map(Instant),
            catch_up_at: advance.catch_up_at.map(Instant),
            id: advance.id,
            of: PhantomData,
        }
    }
}

lock_schedules!("IN (SELECT value FROM json_each(", String as Text, ")");

statement! {
    /// Takes numbers for events; gives the last of them.
    TakeNumbers<'a> => BigInt {
        "UPDATE event_counter SET last = last + ", count: i64 as BigInt;
        => " RETURNING last"
    }
}

statement! {
    /// Appends a chunk of events.
    InsertEvents<'a> {
        "INSERT INTO event_chunks (last_seq, first_seq, at, body) VALUES (", last_seq: i64 as BigInt;
        ", ", first_seq: i64 as BigInt;
        ", ", at: Instant as sql::Instant;
        ", ", body: &'a str as Text;
        => ")"
    }
}

const INSERT_LEDGER: &str = "INSERT INTO schedule_ledger \
    (schedule_id, from_at, to_at, instants, reason, created_at) \
    SELECT value ->> 'schedule_id', value ->> 'from_at', value ->> 'to_at', \
    value ->> 'instants', value ->> 'reason', value ->> 'created_at' FROM json_each($1)";

const INSERT_LOGS: &str = "INSERT INTO execution_logs (execution_id, line, at, stream, \"text\", \
    continues, dropped_lines, dropped_bytes) \
    SELECT value ->> 'execution_id', value ->> 'line', value ->> 'at', value ->> 'stream', \
    value ->> 'text', value ->> 'continues', value ->> 'dropped_lines', \
    value ->> 'dropped_bytes' FROM json_each($1) WHERE true ON CONFLICT DO NOTHING";

/// The injected clock's instant: one process owns the file.
#[expect(clippy::unused_async, reason = "the other back end asks its database")]
pub(crate) async fn now(_conn: &mut Conn, clock: &Clock) -> OpResult<Timestamp> {
    Ok(clock.now())
}

/// The instant by which leases are counted: the wall clock may be stepped, and this process alone
/// holds leases on the file, so they go by time that only passes.
#[expect(clippy::unused_async, reason = "the other back end asks its database")]
pub(crate) async fn lease_now(_conn: &mut Conn, clock: &Clock) -> OpResult<Timestamp> {
    Ok(clock.steady())
}

/// Nothing to lock: there is one writer.
#[expect(clippy::unused_async, reason = "the other back end asks its database")]
pub(crate) async fn try_lock_key(_conn: &mut Conn, _key: &str) -> OpResult<bool> {
    Ok(true)
}

/// Inserts rows and gives those that were, with their ids; rows that meet a unique index are left
/// out.
pub(crate) async fn insert_executions(
    conn: &mut Conn,
    rows: Vec<Execution>,
) -> OpResult<Vec<Execution>> {
    Ok(conn.spawn_blocking(move |conn| insert_here(conn, rows)).await?)
}

fn insert_here(
    conn: &mut SqliteConnection,
    mut rows: Vec<Execution>,
) -> QueryResult<Vec<Execution>> {
    let last = LastExecutionId { table: "task_executions", of: PhantomData };
    let first: i64 = last.get_result(conn).optional()?.unwrap_or(0) + 1;
    for (id, row) in (first..).zip(&mut rows) {
        row.id = id;
    }
    let mut inserted = 0;
    by_eights!(rows.iter().map(|row| ExecutionValues::new(row.id, row)), |rows| {
        inserted += InsertExecutions { rows }.execute(conn)?;
    });
    if inserted < rows.len() {
        let last = first + i64::try_from(rows.len()).unwrap_or(i64::MAX) - 1;
        let between = ExecutionsBetween { first, last, of: PhantomData };
        let made: HashSet<i64> = between.load(conn)?.into_iter().collect();
        rows.retain(|row| made.contains(&row.id));
    }
    Ok(rows)
}

/// Claims rows that may run now. They are read and then written: there is one writer, so that
/// nobody comes in between, and a statement that gives back what it writes keeps it all twice.
pub(crate) async fn claim_executions(
    conn: &mut Conn,
    claim: &ClaimHere,
    slots: usize,
    now: Timestamp,
) -> OpResult<Vec<Execution>> {
    let slots = i64::try_from(slots).unwrap_or(i64::MAX);
    let found = conn.spawn_blocking(move |conn| {
        ClaimableExecutions {
            available_at: Instant(now),
            rank_at: Instant(now + RANK_SPAN),
            slots,
            of: PhantomData,
        }
        .load(conn)
    });
    let found: Vec<ExecutionRow> = found.await?;
    let mut claimed: Vec<Execution> =
        found.into_iter().map(TryInto::try_into).collect::<OpResult<_>>()?;
    for execution in &mut claimed {
        creating::start(execution, claim, now);
    }
    let started = conn.spawn_blocking(move |conn| {
        by_eights!(claimed.iter().map(StartValues::of), |rows| {
            StartExecutions { rows }.execute(conn)?;
        });
        Ok(claimed)
    });
    Ok(started.await?)
}

/// Writes the ends of rows that their owners hold; gives the ends back, the ids of those rows, and
/// whether any schedule listens to ends.
pub(crate) async fn finish_executions(
    conn: &mut Conn,
    ends: Vec<End>,
) -> OpResult<(Vec<End>, HashSet<i64>, bool)> {
    let written = conn.spawn_blocking(move |conn| {
        let mut written = HashSet::with_capacity(ends.len());
        by_eights!(ends.iter().map(EndValues::of), |rows| {
            let ids: Vec<i64> = FinishExecutions { rows }.load(conn)?;
            written.extend(ids);
        });
        let is_listened = IsListened { wanted: true, of: PhantomData }.get_result(conn)?;
        Ok((ends, written, is_listened))
    });
    Ok(written.await?)
}

/// How many rows of each schedule wait or run; those without any are left out.
pub(crate) async fn count_active(conn: &mut Conn, ids: Vec<i64>) -> OpResult<HashMap<i64, i64>> {
    let counted = conn.spawn_blocking(move |conn| {
        let mut counts = HashMap::new();
        for id in ids {
            let count: i64 = CountActive { id, of: PhantomData }.get_result(conn)?;
            if count > 0 {
                counts.insert(id, count);
            }
        }
        Ok(counts)
    });
    Ok(counted.await?)
}

/// The earliest instant of the rows that wait for nothing but a slot.
pub(crate) async fn next_available(conn: &mut Conn) -> OpResult<Option<Timestamp>> {
    let next = conn.spawn_blocking(|conn| {
        NextAvailable { of: PhantomData }.get_result::<Instant>(conn).optional()
    });
    Ok(next.await?.map(|next| next.0))
}

/// Where schedules stand, by id.
pub(crate) async fn lock_schedules(conn: &mut Conn, ids: &[i64]) -> OpResult<Vec<Standing>> {
    let ids = serde_json::to_string(ids).map_err(|error| corrupt("ids", &error.to_string()))?;
    let rows = conn.spawn_blocking(move |conn| LockSchedules { ids, of: PhantomData }.load(conn));
    Ok(rows.await?)
}

/// Moves schedules on.
pub(crate) async fn advance_schedules(conn: &mut Conn, advances: Vec<Advance>) -> OpResult<()> {
    let moved = conn.spawn_blocking(move |conn| {
        by_eights!(advances.iter().map(AdvanceValues::of), |rows| {
            AdvanceSchedules { rows }.execute(conn)?;
        });
        Ok(())
    });
    Ok(moved.await?)
}

async fn execute(conn: &mut Conn, statement: &'static str, rows: String) -> OpResult<()> {
    let done = conn.spawn_blocking(move |conn| {
        diesel::sql_query(statement).bind::<Text, _>(rows).execute(conn)
    });
    done.await?;
    Ok(())
}

/// Adds ledger rows.
pub(crate) async fn insert_ledger(conn: &mut Conn, rows: String) -> OpResult<()> {
    execute(conn, INSERT_LEDGER, rows).await
}

/// Adds log lines; one that exists stays as it is.
pub(crate) async fn insert_logs(conn: &mut Conn, rows: String) -> OpResult<()> {
    execute(conn, INSERT_LOGS, rows).await
}

/// Adds rows of the audit log.
pub(crate) async fn insert_audit(conn: &mut Conn, rows: Vec<NewAuditRow>) -> OpResult<()> {
    let written = conn.spawn_blocking(move |conn| {
        for row in &rows {
            diesel::insert_into(audit_log::table).values(row).execute(conn)?;
        }
        Ok(())
    });
    Ok(written.await?)
}

/// Numbers events and appends them.
pub(crate) async fn append_events(
    conn: &mut Conn,
    now: Timestamp,
    events: &[Noted],
) -> OpResult<()> {
    let chunks = event_chunk::encode(events)?;
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let appended = conn.spawn_blocking(move |conn| {
        let last: i64 = TakeNumbers { count, of: PhantomData }.get_result(conn)?;
        let base = last - count + 1;
        for chunk in &chunks {
            InsertEvents {
                last_seq: base + chunk.last,
                first_seq: base + chunk.first,
                at: Instant(now),
                body: &chunk.body,
                of: PhantomData,
            }
            .execute(conn)?;
        }
        Ok(())
    });
    Ok(appended.await?)
}
