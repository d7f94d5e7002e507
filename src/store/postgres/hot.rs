//! The statements by hand: set-based, one array a column.

use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
use diesel_async::RunQueryDsl;
use serde::{Serialize, Serializer};

use super::{Conn, Db};
use crate::clock::{Clock, Timestamp};
use crate::domain::execution::{Execution, RANK_SPAN};
use crate::store::event_chunk::Noted;
use crate::store::models::{ExecutionRow, NewAuditRow, Standing, lock_schedules};
use crate::store::op::OpResult;
use crate::store::sql_types::{Instant, JsonDoc, JsonText, Uid, sql};
use crate::store::statement::{execution_columns, execution_row, statement};
use crate::store::types::{Advance, End};
use crate::store::{ClaimHere, event_chunk};

/// An instant inside a JSON parameter: RFC 3339 with microseconds.
#[derive(Clone, Copy)]
pub(crate) struct At(pub(crate) Timestamp);

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.format("%Y-%m-%dT%H:%M:%S%.6fZ"))
    }
}

/// The backfill that made a row of `task_executions`.
pub(crate) const BACKFILL_OF: &str = "(options #>> '{backfill,id}')::bigint";

/// Around a tag: true for schedules that carry it.
pub(crate) const HAS_TAG: [&str; 2] = ["task_schedules.tags @> jsonb_build_array(", "::text)"];

/// Around a pattern, twice: true for schedules whose name or description matches.
pub(crate) const CONTAINS: [&str; 3] =
    ["(name ILIKE ", " OR coalesce(description, '') ILIKE ", ")"];

/// Around a pattern: true for lines that match, or state a gap.
pub(crate) const LINE_CONTAINS: [&str; 2] = ["(dropped_lines IS NOT NULL OR \"text\" ILIKE ", ")"];

/// Other nodes share the database: a start says nothing about their leases.
pub(crate) const EARLIER_BOOTS_END_AFTER: Option<Duration> = None;

/// Rows that another transaction holds are passed over.
pub(crate) const PASS_OVER_LOCKED: &str = " FOR UPDATE SKIP LOCKED";

/// Makes the statement that inserts rows.
macro_rules! insert_executions {
    (
        $row:ident, $lt:lifetime;
        $first:ident: $first_sql:ty, $first_rust:ty = $first_value:expr;
        $($name:ident: $sql:ty, $rust:ty = $value:expr;)*
    ) => {
        statement! {
            /// Inserts rows; those that meet a unique index are left out.
            InsertExecutions<$lt> => (BigInt, sql::Uid) {
                concat!(
                    "INSERT INTO task_executions (\"", stringify!($first), "\"",
                    $(", \"", stringify!($name), "\"",)* ") SELECT * FROM unnest("
                ), $first: Vec<$first_rust> as Array<$first_sql>;
                $(", ", $name: Vec<$rust> as Array<$sql>;)*
                => ") ON CONFLICT DO NOTHING RETURNING id, execution_id"
            }
        }

        impl<$lt> InsertExecutions<$lt> {
            fn new(rows: &$lt [Execution]) -> Self {
                Self {
                    $first: rows.iter().map(|$row| $first_value).collect(),
                    $($name: rows.iter().map(|$row| $value).collect(),)*
                    of: PhantomData,
                }
            }
        }
    };
}
execution_columns!(insert_executions, row, 'a);

statement! {
    /// By rank; rows that are admitted one by one are left alone, and rows that another node is
    /// claiming are passed over. The array keeps the planner on the primary key whatever it
    /// believes about `status`.
    ClaimExecutions<'a> => <diesel::dsl::AsSelect<ExecutionRow, Db> as Expression>::SqlType {
        "WITH picked AS MATERIALIZED (SELECT id FROM task_executions WHERE status = 'pending' \
         AND NOT gated AND available_at <= ", available_at: Instant as sql::Instant;
        " AND rank_at <= ", rank_at: Instant as sql::Instant;
        " ORDER BY rank_at, id LIMIT ", slots: i64 as BigInt;
        " FOR UPDATE SKIP LOCKED) UPDATE task_executions SET status = 'running', started_at = ", started_at: Instant as sql::Instant;
        ", lease_owner = ", lease_owner: Uid as sql::Uid;
        ", node_id = ", node_id: &'a str as Text;
        ", lateness_ms = CASE WHEN \"trigger\" = 'schedule' AND attempt = 1 THEN greatest(0, \
         floor(extract(epoch FROM ", late_at: Instant as sql::Instant;
        => concat!(
            " - scheduled_at) * 1000)::bigint - coalesce((options ->> 'jitterMs')::bigint, 0)) END \
             WHERE id = ANY(ARRAY(SELECT id FROM picked)) \
             RETURNING ",
            execution_row!()
        )
    }
}

statement! {
    /// Ends rows that their owners still hold, each found by its id: an equality written as a list
    /// of one leaves the planner no join that reads the whole table. The fence on `status` is
    /// written so that the planner cannot use what it believes of it: it believes that nearly
    /// nothing runs, and would read all that runs for each end.
    FinishExecutions<'a> => (BigInt, Bool) {
        "UPDATE task_executions AS t SET status = r.status, completed_at = r.completed_at, \
         duration_ms = r.duration_ms, result = r.result, error = r.error, conductor_thread_id = \
         r.thread, conductor_status = r.word, cost = r.cost, usage = r.usage FROM unnest(", id: Vec<i64> as Array<BigInt>;
        ", ", lease_owner: Vec<Uid> as Array<sql::Uid>;
        ", ", status: Vec<&'a str> as Array<Text>;
        ", ", completed_at: Vec<Instant> as Array<sql::Instant>;
        ", ", duration_ms: Vec<i64> as Array<BigInt>;
        ", ", result: Vec<Option<JsonText>> as Array<Nullable<sql::JsonDoc>>;
        ", ", error: Vec<Option<JsonText>> as Array<Nullable<sql::JsonDoc>>;
        ", ", thread: Vec<Option<&'a str>> as Array<Nullable<Text>>;
        ", ", word: Vec<Option<&'a str>> as Array<Nullable<Text>>;
        ", ", cost: Vec<Option<f64>> as Array<Nullable<Double>>;
        ", ", usage: Vec<Option<JsonText>> as Array<Nullable<sql::JsonDoc>>;
        => ") AS r(id, lease_owner, status, completed_at, duration_ms, result, error, thread, word, \
         cost, usage) WHERE t.id = ANY(ARRAY[r.id]) AND t.lease_owner = r.lease_owner AND \
         t.status || '' = 'running' \
         RETURNING t.id, EXISTS (SELECT 1 FROM event_listeners WHERE of_execution)"
    }
}

statement! {
    /// Rows of schedules that wait or run.
    CountActive<'a> => (Nullable<BigInt>, BigInt) {
        "SELECT schedule_id, count(*) FROM task_executions WHERE status IN ('pending', 'running') \
         AND schedule_id = ANY(", ids: Vec<i64> as Array<BigInt>;
        => ") GROUP BY schedule_id"
    }
}

statement! {
    /// The earliest instant of the rows that wait for nothing but a slot.
    NextAvailable<'a> => sql::Instant {
        => "SELECT available_at FROM task_executions WHERE status = 'pending' AND NOT gated \
            ORDER BY available_at LIMIT 1"
    }
}

statement! {
    /// Moves schedules on, each found by its id; see [`FinishExecutions`].
    AdvanceSchedules<'a> {
        "UPDATE task_schedules AS t SET next_run_at = r.next_run_at, last_run_at = r.last_run_at, \
         fired = r.fired, enabled = r.enabled, paused_at = r.paused_at, catch_up_at = \
         r.catch_up_at FROM unnest(", id: Vec<i64> as Array<BigInt>;
        ", ", next_run_at: Vec<Option<Instant>> as Array<Nullable<sql::Instant>>;
        ", ", last_run_at: Vec<Option<Instant>> as Array<Nullable<sql::Instant>>;
        ", ", fired: Vec<i64> as Array<BigInt>;
        ", ", enabled: Vec<bool> as Array<Bool>;
        ", ", paused_at: Vec<Option<Instant>> as Array<Nullable<sql::Instant>>;
        ", ", catch_up_at: Vec<Option<Instant>> as Array<Nullable<sql::Instant>>;
        => ") AS r(id, next_run_at, last_run_at, fired, enabled, paused_at, catch_up_at) WHERE \
             t.id = ANY(ARRAY[r.id])"
    }
}

lock_schedules!("= ANY(", Vec<i64> as Array<BigInt>, " FOR UPDATE");

statement! {
    /// The database's instant.
    DatabaseNow<'a> => sql::Instant {
        => "SELECT clock_timestamp()"
    }
}

statement! {
    /// Takes the numbers and writes the chunks in one round trip: the counter is locked no longer
    /// than it must be.
    AppendEvents<'a> {
        "WITH c AS (UPDATE event_counter SET last = last + ", count: i64 as BigInt;
        " RETURNING last - ", less: i64 as BigInt;
        " + 1 AS base) INSERT INTO event_chunks (last_seq, first_seq, at, body) \
         SELECT c.base + r.last, c.base + r.first, ", at: Instant as sql::Instant;
        ", r.body FROM c, unnest(", last: Vec<i64> as Array<BigInt>;
        ", ", first: Vec<i64> as Array<BigInt>;
        ", ", body: Vec<&'a str> as Array<Text>;
        => ") AS r(last, first, body)"
    }
}

statement! {
    /// The same for one chunk, as nearly every transaction has. What is read from lists is planned
    /// for each run, as its length is part of the price; this is planned once.
    AppendChunk<'a> {
        "WITH c AS (UPDATE event_counter SET last = last + ", count: i64 as BigInt;
        " RETURNING last - ", less: i64 as BigInt;
        " + 1 AS base) INSERT INTO event_chunks (last_seq, first_seq, at, body) \
         SELECT c.base + ", last: i64 as BigInt;
        ", c.base + ", first: i64 as BigInt;
        ", ", at: Instant as sql::Instant;
        ", ", body: &'a str as Text;
        => " FROM c"
    }
}

statement! {
    /// Adds rows of the audit log.
    InsertAudit<'a> {
        "INSERT INTO audit_log (at, who, key_id, role, action, subject_kind, subject_id, reason, \
         before, after, request_id) SELECT * FROM unnest(", at: Vec<Instant> as Array<sql::Instant>;
        ", ", who: Vec<&'a str> as Array<Text>;
        ", ", key_id: Vec<Option<i64>> as Array<Nullable<BigInt>>;
        ", ", role: Vec<&'a str> as Array<Text>;
        ", ", action: Vec<&'a str> as Array<Text>;
        ", ", subject_kind: Vec<&'a str> as Array<Text>;
        ", ", subject_id: Vec<Option<&'a str>> as Array<Nullable<Text>>;
        ", ", reason: Vec<Option<&'a str>> as Array<Nullable<Text>>;
        ", ", before: Vec<Option<JsonDoc>> as Array<Nullable<sql::JsonDoc>>;
        ", ", after: Vec<Option<JsonDoc>> as Array<Nullable<sql::JsonDoc>>;
        ", ", request_id: Vec<Option<&'a str>> as Array<Nullable<Text>>;
        => ")"
    }
}

const INSERT_LEDGER: &str = "INSERT INTO schedule_ledger (schedule_id, from_at, to_at, instants, reason, created_at) \
    SELECT r.schedule_id, r.from_at, r.to_at, r.instants, r.reason, r.created_at FROM \
    json_to_recordset($1::text::json) AS r(schedule_id bigint, from_at timestamptz, to_at \
    timestamptz, instants bigint, reason text, created_at timestamptz)";

const INSERT_LOGS: &str = "INSERT INTO execution_logs (execution_id, line, at, stream, \"text\", continues, \
    dropped_lines, dropped_bytes) SELECT r.execution_id, r.line, r.at, r.stream, r.\"text\", \
    r.continues, r.dropped_lines, r.dropped_bytes FROM json_to_recordset($1::text::json) AS \
    r(execution_id bigint, line bigint, at timestamptz, stream text, \"text\" text, continues \
    boolean, dropped_lines bigint, dropped_bytes bigint) ON CONFLICT DO NOTHING";

/// The database's instant, which all nodes share; a manual clock's, as tests move it.
pub(crate) async fn now(conn: &mut Conn, clock: &Clock) -> OpResult<Timestamp> {
    if clock.is_manual() {
        return Ok(clock.now());
    }
    let asked = clock.now();
    let now: Instant = DatabaseNow { of: PhantomData }.get_result(conn).await?;
    clock.follow(asked, now.0);
    Ok(now.0)
}

/// The instant by which leases are counted: the same, as all nodes share it.
pub(crate) async fn lease_now(conn: &mut Conn, clock: &Clock) -> OpResult<Timestamp> {
    now(conn, clock).await
}

/// Takes a key for this transaction, to its end; false when another transaction has it.
pub(crate) async fn try_lock_key(conn: &mut Conn, key: &str) -> OpResult<bool> {
    let held = diesel::dsl::sql::<Bool>("pg_try_advisory_xact_lock(hashtextextended(")
        .bind::<Text, _>(key)
        .sql(", 0))");
    Ok(diesel::select(held).get_result(conn).await?)
}

/// Inserts rows and gives those that were, with their ids; rows that meet a unique index are left
/// out.
pub(crate) async fn insert_executions(
    conn: &mut Conn,
    mut rows: Vec<Execution>,
) -> OpResult<Vec<Execution>> {
    let made: Vec<(i64, Uid)> = InsertExecutions::new(&rows).load(conn).await?;
    let ids: HashMap<_, _> = made.into_iter().map(|(id, uid)| (uid.0, id)).collect();
    rows.retain_mut(|row| {
        ids.get(&row.new.execution_id).is_some_and(|id| {
            row.id = *id;
            true
        })
    });
    Ok(rows)
}

/// Claims rows that may run now.
pub(crate) async fn claim_executions(
    conn: &mut Conn,
    claim: &ClaimHere,
    slots: usize,
    now: Timestamp,
) -> OpResult<Vec<Execution>> {
    let now = Instant(now);
    let statement = ClaimExecutions {
        available_at: now,
        rank_at: Instant(now.0 + RANK_SPAN),
        slots: i64::try_from(slots).unwrap_or(i64::MAX),
        started_at: now,
        lease_owner: Uid(claim.claimant.boot_id),
        node_id: &claim.claimant.node_id,
        late_at: now,
        of: PhantomData,
    };
    let rows: Vec<ExecutionRow> = statement.load(conn).await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Writes the ends of rows that their owners hold; gives the ends back, the ids of those rows, and
/// whether any schedule listens to ends (asked once a statement, in the same round trip).
pub(crate) async fn finish_executions(
    conn: &mut Conn,
    mut ends: Vec<End>,
) -> OpResult<(Vec<End>, HashSet<i64>, bool)> {
    // The texts may be large: they are moved, not copied.
    let results = ends.iter_mut().map(|end| end.result.take().map(JsonText)).collect();
    let errors = ends.iter_mut().map(|end| end.error.take().map(JsonText)).collect();
    let statement = FinishExecutions {
        id: ends.iter().map(|end| end.id).collect(),
        lease_owner: ends.iter().map(|end| Uid(end.lease_owner)).collect(),
        status: ends.iter().map(|end| end.status.as_str()).collect(),
        completed_at: ends.iter().map(|end| Instant(end.completed_at)).collect(),
        duration_ms: ends.iter().map(|end| end.duration_ms).collect(),
        result: results,
        error: errors,
        thread: ends.iter().map(|end| end.conductor_thread_id.as_deref()).collect(),
        word: ends.iter().map(|end| end.conductor_status.as_deref()).collect(),
        cost: ends.iter().map(|end| end.cost).collect(),
        usage: ends.iter().map(|end| end.usage.clone().map(JsonText)).collect(),
        of: PhantomData,
    };
    let written: Vec<(i64, bool)> = statement.load(conn).await?;
    let is_listened = written.iter().any(|(_, is_listened)| *is_listened);
    Ok((ends, written.into_iter().map(|(id, _)| id).collect(), is_listened))
}

/// How many rows of each schedule wait or run; those without any are left out.
pub(crate) async fn count_active(conn: &mut Conn, ids: Vec<i64>) -> OpResult<HashMap<i64, i64>> {
    let counts: Vec<(Option<i64>, i64)> = CountActive { ids, of: PhantomData }.load(conn).await?;
    Ok(counts.into_iter().filter_map(|(id, count)| id.map(|id| (id, count))).collect())
}

/// The earliest instant of the rows that wait for nothing but a slot.
pub(crate) async fn next_available(conn: &mut Conn) -> OpResult<Option<Timestamp>> {
    let next: Option<Instant> =
        NextAvailable { of: PhantomData }.get_result(conn).await.optional()?;
    Ok(next.map(|next| next.0))
}

/// Where schedules stand, by id, locked.
pub(crate) async fn lock_schedules(conn: &mut Conn, ids: &[i64]) -> OpResult<Vec<Standing>> {
    Ok(LockSchedules { ids: ids.to_vec(), of: PhantomData }.load(conn).await?)
}

/// Moves schedules on.
pub(crate) async fn advance_schedules(conn: &mut Conn, advances: Vec<Advance>) -> OpResult<()> {
    AdvanceSchedules {
        id: advances.iter().map(|one| one.id).collect(),
        next_run_at: advances.iter().map(|one| one.next_run_at.map(Instant)).collect(),
        last_run_at: advances.iter().map(|one| one.last_run_at.map(Instant)).collect(),
        fired: advances.iter().map(|one| one.fired).collect(),
        enabled: advances.iter().map(|one| one.enabled).collect(),
        paused_at: advances.iter().map(|one| one.paused_at.map(Instant)).collect(),
        catch_up_at: advances.iter().map(|one| one.catch_up_at.map(Instant)).collect(),
        of: PhantomData,
    }
    .execute(conn)
    .await?;
    Ok(())
}

async fn execute(conn: &mut Conn, statement: &'static str, rows: String) -> OpResult<()> {
    diesel::sql_query(statement).bind::<Text, _>(rows).execute(conn).await?;
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
pub(crate) async fn insert_audit(conn: &mut Conn, mut rows: Vec<NewAuditRow>) -> OpResult<()> {
    // The documents may be large: they are moved, not copied.
    let before = rows.iter_mut().map(|row| row.before.take()).collect();
    let after = rows.iter_mut().map(|row| row.after.take()).collect();
    let statement = InsertAudit {
        at: rows.iter().map(|row| row.at).collect(),
        who: rows.iter().map(|row| row.who.as_str()).collect(),
        key_id: rows.iter().map(|row| row.key_id).collect(),
        role: rows.iter().map(|row| row.role.as_str()).collect(),
        action: rows.iter().map(|row| row.action.as_str()).collect(),
        subject_kind: rows.iter().map(|row| row.subject_kind.as_str()).collect(),
        subject_id: rows.iter().map(|row| row.subject_id.as_deref()).collect(),
        reason: rows.iter().map(|row| row.reason.as_deref()).collect(),
        before,
        after,
        request_id: rows.iter().map(|row| row.request_id.as_deref()).collect(),
        of: PhantomData,
    };
    statement.execute(conn).await?;
    Ok(())
}

/// Numbers events and appends them.
pub(crate) async fn append_events(
    conn: &mut Conn,
    now: Timestamp,
    events: &[Noted],
) -> OpResult<()> {
    let chunks = event_chunk::encode(events)?;
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let at = Instant(now);
    if let [chunk] = chunks.as_slice() {
        let (last, first, body) = (chunk.last, chunk.first, chunk.body.as_str());
        let less = count;
        let statement = AppendChunk { count, less, last, first, at, body, of: PhantomData };
        statement.execute(conn).await?;
        return Ok(());
    }
    AppendEvents {
        count,
        less: count,
        at,
        last: chunks.iter().map(|chunk| chunk.last).collect(),
        first: chunks.iter().map(|chunk| chunk.first).collect(),
        body: chunks.iter().map(|chunk| chunk.body.as_str()).collect(),
        of: PhantomData,
    }
    .execute(conn)
    .await?;
    Ok(())
}
