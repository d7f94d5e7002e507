//! The facts of what needs a person: a few queries, each served by an index and bounded.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::RunQueryDsl;

use super::{Tx, letters as letter_queries, pauses, schedules};
use crate::domain::attention::{
    BreakerFact, ErrorFact, Facts, GrowthFact, LetterFact, NodeFact, PausedFact, RegressedFact,
    ScheduleFact, SchedulerFact, WaitingFact,
};
use crate::domain::error_record::{GroupStatus, RecoveryStatus};
use crate::domain::execution::Severity;
use crate::store::AttentionLimits;
use crate::store::models::NodeRowRaw;
use crate::store::op::{OpResult, corrupt};
use crate::store::schema::{dead_letters, error_groups, error_records, nodes};
use crate::store::sql_types::{Instant, sql};

/// Rows of one kind at most.
const ROWS_MAX: i64 = 500;
/// A lease that ran out this many milliseconds ago is lost; before, it may still be renewed.
const LEASE_GRACE_MS: i64 = 15_000;

const OVERDUE: &str = "SELECT id, name, next_run_at AS since FROM task_schedules \
    WHERE enabled AND next_run_at IS NOT NULL AND next_run_at < $1 ORDER BY next_run_at LIMIT $2";
/// Followed by one of [`LANES`] and [`WAITING_REST`].
const WAITING: &str = "SELECT id, available_at, held_reason, held_by FROM task_executions \
    WHERE status = 'pending' AND";
const WAITING_REST: &str = "AND available_at < $1 ORDER BY available_at LIMIT $2";
/// Each has an index of its own.
const LANES: [&str; 2] = ["NOT gated", "gated"];
/// How `held_by` begins for rows of a paused queue, whose name follows.
const PAUSED_QUEUE: &str = "paused:";
/// How it begins for rows that the breaker of a target holds; the target follows.
const BROKEN_TARGET: &str = "target:";
const BREAKERS: &str = "SELECT b.\"key\" AS name, b.state, b.opened_at, b.forced_by, b.forced_reason, \
    (SELECT count(*) FROM task_executions e WHERE e.target = b.\"key\" AND e.target IS NOT NULL \
    AND e.status = 'pending') AS waiting \
    FROM breakers b WHERE b.state <> 'closed' ORDER BY b.id LIMIT $1";
const FAILED: &str = "SELECT id, name, paused_at AS since FROM task_schedules \
    WHERE failure_streak > 0 AND NOT enabled AND pause_reason LIKE $1 ORDER BY id LIMIT $2";
const PAUSED: &str = "SELECT a.execution_id AS id, a.paused_at, a.paused_by, a.pause_reason \
    FROM execution_acts a JOIN task_executions e ON e.id = a.execution_id \
    WHERE a.paused_at IS NOT NULL AND e.status = 'running' ORDER BY a.paused_at LIMIT $1";

#[derive(QueryableByName)]
struct ScheduleRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Nullable<sql::Instant>)]
    since: Option<Instant>,
}

#[derive(QueryableByName)]
struct WaitingRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = sql::Instant)]
    available_at: Instant,
    #[diesel(sql_type = Nullable<Text>)]
    held_reason: Option<String>,
    #[diesel(sql_type = Text)]
    held_by: String,
}

#[derive(QueryableByName)]
struct PausedRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = sql::Instant)]
    paused_at: Instant,
    #[diesel(sql_type = Nullable<Text>)]
    paused_by: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pause_reason: Option<String>,
}

#[derive(QueryableByName)]
struct BreakerRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Nullable<sql::Instant>)]
    opened_at: Option<Instant>,
    #[diesel(sql_type = Nullable<Text>)]
    forced_by: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    forced_reason: Option<String>,
    #[diesel(sql_type = BigInt)]
    waiting: i64,
}

/// All of it, but what only the running server knows (its parts, its scheduler's stored state).
pub(crate) async fn attention_facts(tx: &mut Tx, limits: &AttentionLimits) -> OpResult<Facts> {
    let now = tx.now().await?;
    let mut facts = Facts { now, pause_max: limits.pause_max, ..Facts::default() };
    facts.errors = open_errors(tx).await?;
    facts.letters = letters(tx).await?;
    facts.nodes = known_nodes(tx).await?;
    let overdue: Vec<ScheduleRow> = diesel::sql_query(OVERDUE)
        .bind::<sql::Instant, _>(Instant(now - limits.overdue_after))
        .bind::<BigInt, _>(ROWS_MAX)
        .load(tx.conn())
        .await?;
    facts.overdue = overdue.into_iter().map(schedule_fact).collect();
    for lane in LANES {
        let waiting: Vec<WaitingRow> =
            diesel::sql_query(format!("{WAITING} {lane} {WAITING_REST}"))
                .bind::<sql::Instant, _>(Instant(now - limits.waiting_after))
                .bind::<BigInt, _>(ROWS_MAX)
                .load(tx.conn())
                .await?;
        facts.waiting.extend(waiting.into_iter().map(waiting_fact));
    }
    let paused: Vec<PausedRow> =
        diesel::sql_query(PAUSED).bind::<BigInt, _>(ROWS_MAX).load(tx.conn()).await?;
    facts.paused = paused.into_iter().map(paused_fact).collect();
    let failed: Vec<ScheduleRow> = diesel::sql_query(FAILED)
        .bind::<Text, _>(format!("%{}", pauses::FAILED_FOR_GOOD))
        .bind::<BigInt, _>(ROWS_MAX)
        .load(tx.conn())
        .await?;
    facts.paused_by_failures = failed.into_iter().map(schedule_fact).collect();
    let breakers: Vec<BreakerRow> =
        diesel::sql_query(BREAKERS).bind::<BigInt, _>(ROWS_MAX).load(tx.conn()).await?;
    facts.breakers = breakers.into_iter().map(breaker_fact).collect();
    facts.regressed = regressed(tx).await?;
    let added = letter_queries::dead_letters_added(tx, &limits.letters_window).await?;
    facts.growth = Some(GrowthFact {
        added: u64::try_from(added).unwrap_or(0),
        window: chrono::Duration::from_std(limits.letters_window).unwrap_or_default(),
        threshold: limits.letters_max,
    });
    let counts = schedules::schedule_counts(tx).await?;
    facts.scheduler = SchedulerFact {
        enabled_schedules: u64::try_from(counts.enabled).unwrap_or(0),
        ..SchedulerFact::default()
    };
    let most = usize::try_from(ROWS_MAX).unwrap_or(usize::MAX);
    facts.truncated = facts.letters.len() >= most
        || facts.breakers.len() >= most
        || facts.regressed.len() >= most
        || facts.paused.len() >= most
        || facts.paused_by_failures.len() >= most
        || facts.errors.len() >= most
        || facts.overdue.len() >= most
        || facts.waiting.len() >= most;
    Ok(facts)
}

fn schedule_fact(row: ScheduleRow) -> ScheduleFact {
    ScheduleFact { id: row.id, name: row.name, since: row.since.map(|at| at.0) }
}

fn waiting_fact(row: WaitingRow) -> WaitingFact {
    let WaitingRow { id, available_at, held_reason, held_by } = row;
    let behind = |gate: &str| held_by.strip_prefix(gate).map(str::to_owned);
    let (paused_queue, target) = (behind(PAUSED_QUEUE), behind(BROKEN_TARGET));
    WaitingFact { id, available_at: available_at.0, held_reason, paused_queue, target }
}

fn breaker_fact(row: BreakerRow) -> BreakerFact {
    BreakerFact {
        key: row.name,
        state: row.state,
        since: row.opened_at.map(|at| at.0),
        forced_by: row.forced_by,
        reason: row.forced_reason,
        waiting: u64::try_from(row.waiting).unwrap_or(0),
    }
}

async fn regressed(tx: &mut Tx) -> OpResult<Vec<RegressedFact>> {
    let rows: Vec<(String, String, String, Option<Instant>, i64)> = error_groups::table
        .filter(error_groups::status.eq(GroupStatus::Regressed.as_str()))
        .order(error_groups::id.desc())
        .limit(ROWS_MAX)
        .select((
            error_groups::fingerprint,
            error_groups::kind,
            error_groups::message,
            error_groups::regressed_at,
            error_groups::regressions,
        ))
        .load(tx.conn())
        .await?;
    let fact = |(fingerprint, kind, message, at, regressions): (_, _, _, Option<Instant>, i64)| {
        let regressions = u64::try_from(regressions).unwrap_or(0);
        RegressedFact { fingerprint, kind, message, regressed_at: at.map(|at| at.0), regressions }
    };
    Ok(rows.into_iter().map(fact).collect())
}

/// Those of the fingerprints whose failures are counted as groups.
async fn grouped(tx: &mut Tx, fingerprints: HashSet<&str>) -> OpResult<HashSet<String>> {
    let known: Vec<String> = error_groups::table
        .filter(error_groups::fingerprint.eq_any(fingerprints))
        .select(error_groups::fingerprint)
        .load(tx.conn())
        .await?;
    Ok(known.into_iter().collect())
}

fn paused_fact(row: PausedRow) -> PausedFact {
    let PausedRow { id, paused_at, paused_by, pause_reason } = row;
    PausedFact { id, paused_at: paused_at.0, paused_by, reason: pause_reason }
}

type ErrorColumns = (i64, String, String, Instant, String, String, Option<String>, Option<String>);

/// Escalated ones first: a cut leaves the others out.
async fn open_errors(tx: &mut Tx) -> OpResult<Vec<ErrorFact>> {
    let mut found = Vec::new();
    for status in [RecoveryStatus::Escalated, RecoveryStatus::Unresolved] {
        let rows: Vec<ErrorColumns> = error_records::table
            .filter(error_records::recovery_status.eq(status.as_str()))
            .order(error_records::id.desc())
            .limit(ROWS_MAX)
            .select((
                error_records::id,
                error_records::fingerprint,
                error_records::severity,
                error_records::created_at,
                error_records::kind,
                error_records::message,
                error_records::schedule_name,
                error_records::assignee,
            ))
            .load(tx.conn())
            .await?;
        for (id, fingerprint, severity, created_at, kind, message, schedule_name, assignee) in rows
        {
            found.push(ErrorFact {
                id,
                fingerprint,
                severity: Severity::parse(&severity)
                    .ok_or_else(|| corrupt("severity", &severity))?,
                is_escalated: status == RecoveryStatus::Escalated,
                created_at: created_at.0,
                kind,
                message,
                schedule_name,
                assignee,
                has_group: false,
            });
        }
    }
    let known = grouped(tx, found.iter().map(|one| one.fingerprint.as_str()).collect()).await?;
    for one in &mut found {
        one.has_group = known.contains(&one.fingerprint);
    }
    Ok(found)
}

type LetterColumns = (i64, i64, String, Option<i64>, Option<String>, Instant);

async fn letters(tx: &mut Tx) -> OpResult<Vec<LetterFact>> {
    let rows: Vec<LetterColumns> = dead_letters::table
        .filter(dead_letters::status.eq("pending"))
        .order(dead_letters::id.desc())
        .limit(ROWS_MAX)
        .select((
            dead_letters::id,
            dead_letters::error_id,
            dead_letters::cause,
            dead_letters::schedule_id,
            dead_letters::schedule_name,
            dead_letters::created_at,
        ))
        .load(tx.conn())
        .await?;
    let fact = |(id, error_id, cause, schedule_id, schedule_name, at): (_, _, _, _, _, Instant)| {
        LetterFact { id, error_id, cause, schedule_id, schedule_name, created_at: at.0 }
    };
    Ok(rows.into_iter().map(fact).collect())
}

async fn known_nodes(tx: &mut Tx) -> OpResult<Vec<NodeFact>> {
    let lease_now = tx.lease_now().await?;
    let rows: Vec<NodeRowRaw> = nodes::table
        .order(nodes::started_at.desc())
        .limit(ROWS_MAX)
        .select(NodeRowRaw::as_select())
        .load(tx.conn())
        .await?;
    let oldest = lease_now - chrono::Duration::milliseconds(LEASE_GRACE_MS);
    Ok(rows
        .into_iter()
        .map(|row| NodeFact {
            node_id: row.node_id,
            started_at: row.started_at.0,
            lease_until: row.lease_until.0,
            is_alive: row.lease_until.0 >= oldest,
            is_stopped: row.stopped_at.is_some(),
        })
        .collect())
}
