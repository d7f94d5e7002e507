//! Circuit breakers: judged by the ends of runs, asked by claims, overruled by operators.
//!
//! A target has a row from its first failure on. Whoever changes one has it locked; what only looks
//! (a new row, a success on a target that is well) does not. Breakers are locked after all else but
//! the event counter. When one opens, what waits for its target is set aside (`gated`), except rows
//! that another transaction holds: that one claims them, or ends them, or they are met by the next
//! report.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use diesel::dsl::count_star;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;

use super::super::{Db, locked};
use super::{Tx, gated, hot};
use crate::clock::Timestamp;
use crate::domain::breaker::{
    Breaker, BreakerPolicy, BreakerState, Force, Report, TargetGate, Transition, Verdict,
};
use crate::domain::error_record::{RecoveryDecision, RecoveryStatus};
use crate::domain::event::breaker_event;
use crate::domain::execution::NewExecution;
use crate::store::op::{OpResult, not_found, wrong_state};
use crate::store::recovery_rows::{BreakerChangeRaw, BreakerRowRaw, BreakerValues};
use crate::store::schema::{breaker_history, breakers as t, task_executions};
use crate::store::sql_types::{Instant, sql};
use crate::store::{
    BreakerAct, BreakerChange, BreakerCounts, BreakerOrder, BreakerRow, Finish, KeysetPage,
    KeysetRequest, Topic,
};

/// So many of what a target held start at once when it works again.
const AT_ONCE: i64 = 5;
/// Then one in so long, or sooner if all of them would not start within `openMs`.
const SPACING_MICROS: i64 = 100_000;
/// Changes of one breaker that are kept.
const HISTORY_MAX: i64 = 100;

/// What a change says beside the breaker itself.
#[derive(Clone, Copy, Default)]
struct Teller<'a> {
    execution: Option<i64>,
    by: Option<&'a str>,
    reason: Option<&'a str>,
}

/// Those of `targets` that do not let everything through. They are locked, so that of two claims
/// one gets the probe.
pub(super) async fn target_gates(
    tx: &mut Tx,
    targets: &[String],
) -> OpResult<HashMap<String, TargetGate>> {
    if targets.is_empty() {
        return Ok(HashMap::new());
    }
    let now = tx.now().await?;
    let rows: Vec<BreakerRowRaw> = locked!(
        t::table
            .filter(t::key.eq_any(targets))
            .filter(t::state.ne(BreakerState::Closed.as_str()))
            .order(t::key.asc())
            .select(BreakerRowRaw::as_select())
    )
    .load(tx.conn())
    .await?;
    let mut gates = HashMap::new();
    for row in rows {
        let mut row: BreakerRow = row.try_into()?;
        free_lost_probe(tx, &mut row.breaker).await?;
        if let Some(gate) = row.breaker.gate(now) {
            gates.insert(row.key, gate);
        }
    }
    Ok(gates)
}

/// Notes that `execution_id` was claimed as the probe of `target`.
pub(super) async fn begin_probe(tx: &mut Tx, target: &str, execution_id: i64) -> OpResult<()> {
    let now = tx.now().await?;
    let Some(mut row) = lock(tx, target).await? else { return Ok(()) };
    free_lost_probe(tx, &mut row.breaker).await?;
    let transition = row.breaker.begin_probe(execution_id, now);
    let teller = Teller { execution: Some(execution_id), ..Teller::default() };
    save(tx, &row, transition, teller).await
}

/// A probe that no longer runs and never reported (its row is gone) holds no place.
async fn free_lost_probe(tx: &mut Tx, breaker: &mut Breaker) -> OpResult<()> {
    let Some(probe) = breaker.probe else { return Ok(()) };
    let status: Option<String> = task_executions::table
        .filter(task_executions::id.eq(probe))
        .select(task_executions::status)
        .get_result(tx.conn())
        .await
        .optional()?;
    if status.as_deref() != Some("running") {
        breaker.free_probe();
    }
    Ok(())
}

/// New rows of targets whose breaker is not closed are set aside.
pub(super) async fn set_aside(tx: &mut Tx, rows: &mut [Arc<NewExecution>]) -> OpResult<()> {
    let targets: HashSet<&str> =
        rows.iter().filter_map(|row| row.gates.target.as_deref()).collect();
    if targets.is_empty() {
        return Ok(());
    }
    let held: Vec<String> = t::table
        .filter(t::key.eq_any(targets.into_iter().map(str::to_owned).collect::<Vec<_>>()))
        .filter(t::state.ne(BreakerState::Closed.as_str()))
        .select(t::key)
        .load(tx.conn())
        .await?;
    if held.is_empty() {
        return Ok(());
    }
    for row in rows {
        if row.gates.target.as_ref().is_some_and(|target| held.contains(target)) {
            Arc::make_mut(row).gates.is_gated = true;
        }
    }
    Ok(())
}

/// The probes among `ended` that found their target broken. They found it out for all that wait,
/// and are charged to no account: the attempt is taken off their row's count.
pub(super) async fn failed_probes(tx: &mut Tx, ended: &[&Finish]) -> OpResult<HashSet<i64>> {
    let broken = |finish: &&&Finish| {
        finish.row.new.gates.target.as_deref().is_some_and(|target| {
            Verdict::of(target, finish.status, finish.error.as_ref()) == Verdict::Broken
        })
    };
    let ids: Vec<i64> = ended.iter().filter(broken).map(|finish| finish.row.id).collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let probes: Vec<Option<i64>> =
        t::table.filter(t::probe_id.eq_any(ids)).select(t::probe_id).load(tx.conn()).await?;
    let probes: HashSet<i64> = probes.into_iter().flatten().collect();
    if !probes.is_empty() {
        use task_executions as e;
        diesel::update(e::table.filter(e::id.eq_any(probes.iter().copied().collect::<Vec<_>>())))
            .set(e::failures_before.eq(e::failures_before - 1))
            .execute(tx.conn())
            .await?;
    }
    Ok(probes)
}

/// What follows a probe that failed: its chain waits on, however many attempts it has had.
pub(super) fn uncharged(decision: &RecoveryDecision, now: Timestamp) -> RecoveryDecision {
    match decision {
        RecoveryDecision::GiveUp { status: RecoveryStatus::Escalated, .. } => {
            RecoveryDecision::RetryAt(now)
        }
        other => other.clone(),
    }
}

/// Takes the ends of runs into account. Costs nothing for runs without a target, and one look for
/// a batch of runs that say nothing new.
pub(super) async fn record(tx: &mut Tx, ended: &[&Finish]) -> OpResult<()> {
    let mut reports: BTreeMap<&str, Vec<Report>> = BTreeMap::new();
    for finish in ended {
        let Some(target) = finish.row.new.gates.target.as_deref() else { continue };
        let options = finish.row.new.task.options.recovery.breaker.as_ref();
        reports.entry(target).or_default().push(Report {
            execution: finish.row.id,
            verdict: Verdict::of(target, finish.status, finish.error.as_ref()),
            policy: BreakerPolicy::of(options),
        });
    }
    if reports.is_empty() {
        return Ok(());
    }
    let targets: Vec<String> = reports.keys().map(|target| (*target).to_owned()).collect();
    let alert: HashSet<String> = t::table
        .filter(t::key.eq_any(targets))
        .filter(t::state.ne("closed").or(t::recent.ne("")).or(t::forced.is_not_null()))
        .select(t::key)
        .load(tx.conn())
        .await?
        .into_iter()
        .collect();
    for (target, reports) in reports {
        let has_failed = reports.iter().any(|report| report.verdict == Verdict::Broken);
        if has_failed || alert.contains(target) {
            judge(tx, target, &reports, has_failed).await?;
        }
    }
    Ok(())
}

async fn judge(tx: &mut Tx, target: &str, reports: &[Report], may_make: bool) -> OpResult<()> {
    let now = tx.now().await?;
    let found =
        if may_make { Some(lock_or_make(tx, target).await?) } else { lock(tx, target).await? };
    let Some(mut row) = found else { return Ok(()) };
    let before = row.breaker.clone();
    for report in reports {
        if let Some(transition) = row.breaker.record(*report, now) {
            let teller = Teller { execution: Some(report.execution), ..Teller::default() };
            tell(tx, &row, transition, teller).await?;
        }
    }
    if row.breaker != before {
        write(tx, &row).await?;
    }
    if row.breaker.state == BreakerState::Closed {
        if before.state != BreakerState::Closed {
            release(tx, &row).await?;
        }
    } else {
        hold(tx, target).await?;
    }
    if before.probe.is_some() && row.breaker.probe.is_none() {
        tx.changed(Topic::Gated);
    }
    Ok(())
}

/// Lets what a target held start: the first few at once, the others one after the other. A target
/// that has just come back is not met by all that waited for it.
async fn release(tx: &mut Tx, row: &BreakerRow) -> OpResult<()> {
    let now = Instant(tx.now().await?);
    let waiting: Waiting = diesel::sql_query(
        "SELECT count(*) AS waiting FROM task_executions WHERE status = 'pending' AND gated \
         AND target = $1 AND available_at <= $2",
    )
    .bind::<Text, _>(&row.key)
    .bind::<sql::Instant, _>(now)
    .get_result(tx.conn())
    .await?;
    let open_ms = i64::try_from(row.breaker.policy.open_ms).unwrap_or(i64::MAX);
    let spacing = (open_ms.saturating_mul(1_000) / waiting.waiting.max(1)).min(SPACING_MICROS);
    diesel::sql_query(format!(
        "UPDATE task_executions SET held_by = '', held_reason = NULL, available_at = {} \
         FROM (SELECT w.id AS row_id, row_number() OVER (ORDER BY w.rank_at, w.id) - $3 AS place \
         FROM (SELECT id, rank_at FROM task_executions WHERE status = 'pending' AND gated \
         AND target = $4 AND available_at <= $1{}) AS w) AS r WHERE id = r.row_id AND r.place > 0",
        gated::LATER,
        hot::PASS_OVER_LOCKED
    ))
    .bind::<sql::Instant, _>(now)
    .bind::<BigInt, _>(spacing)
    .bind::<BigInt, _>(AT_ONCE)
    .bind::<Text, _>(&row.key)
    .execute(tx.conn())
    .await?;
    tx.changed(Topic::Gated);
    Ok(())
}

#[derive(QueryableByName)]
struct Waiting {
    #[diesel(sql_type = BigInt)]
    waiting: i64,
}

/// Sets aside what waits for the target.
async fn hold(tx: &mut Tx, target: &str) -> OpResult<()> {
    // The status stands in the text: an index over a part of the table serves no parameter.
    let held = diesel::sql_query(format!(
        "UPDATE task_executions SET gated = true WHERE id IN (SELECT id FROM task_executions \
         WHERE status = 'pending' AND target = $1 AND NOT gated{})",
        hot::PASS_OVER_LOCKED
    ))
    .bind::<Text, _>(target)
    .execute(tx.conn())
    .await?;
    if held > 0 {
        tx.changed(Topic::Gated);
    }
    Ok(())
}

async fn lock(tx: &mut Tx, key: &str) -> OpResult<Option<BreakerRow>> {
    let row: Option<BreakerRowRaw> =
        locked!(t::table.filter(t::key.eq(key)).select(BreakerRowRaw::as_select()))
            .get_result(tx.conn())
            .await
            .optional()?;
    row.map(BreakerRow::try_from).transpose()
}

async fn lock_or_make(tx: &mut Tx, key: &str) -> OpResult<BreakerRow> {
    if let Some(row) = lock(tx, key).await? {
        return Ok(row);
    }
    let now = Instant(tx.now().await?);
    diesel::insert_into(t::table)
        .values((
            t::key.eq(key),
            t::created_at.eq(now),
            BreakerValues::of(&Breaker::default(), now),
        ))
        .on_conflict_do_nothing()
        .execute(tx.conn())
        .await?;
    lock(tx, key).await?.ok_or_else(|| not_found("breaker", key))
}

async fn write(tx: &mut Tx, row: &BreakerRow) -> OpResult<()> {
    let now = Instant(tx.now().await?);
    diesel::update(t::table.filter(t::id.eq(row.id)))
        .set(BreakerValues::of(&row.breaker, now))
        .execute(tx.conn())
        .await?;
    Ok(())
}

async fn save(
    tx: &mut Tx,
    row: &BreakerRow,
    transition: Option<Transition>,
    teller: Teller<'_>,
) -> OpResult<()> {
    write(tx, row).await?;
    match transition {
        Some(transition) => tell(tx, row, transition, teller).await,
        None => Ok(()),
    }
}

/// The event and the history of a change; the oldest history goes.
async fn tell(
    tx: &mut Tx,
    row: &BreakerRow,
    transition: Transition,
    teller: Teller<'_>,
) -> OpResult<()> {
    let now = tx.now().await?;
    let payload = (teller.execution, teller.by, teller.reason);
    tx.event(breaker_event(&row.key, &row.breaker, transition, payload));
    note(tx, row.id, transition, teller, now).await
}

async fn note(
    tx: &mut Tx,
    breaker: i64,
    transition: Transition,
    teller: Teller<'_>,
    now: Timestamp,
) -> OpResult<()> {
    use breaker_history as h;
    let made: i64 = diesel::insert_into(h::table)
        .values((
            h::breaker_id.eq(breaker),
            h::at.eq(Instant(now)),
            h::from_state.eq(transition.from.as_str()),
            h::to_state.eq(transition.to.as_str()),
            h::cause.eq(transition.cause),
            h::execution_id.eq(teller.execution),
            h::by_whom.eq(teller.by),
            h::reason.eq(teller.reason),
        ))
        .returning(h::id)
        .get_result(tx.conn())
        .await?;
    let oldest: Option<i64> = h::table
        .filter(h::breaker_id.eq(breaker))
        .filter(h::id.le(made))
        .order(h::id.desc())
        .offset(HISTORY_MAX)
        .select(h::id)
        .first(tx.conn())
        .await
        .optional()?;
    if let Some(oldest) = oldest {
        diesel::delete(h::table.filter(h::breaker_id.eq(breaker)).filter(h::id.le(oldest)))
            .execute(tx.conn())
            .await?;
    }
    Ok(())
}

pub(crate) async fn breaker_list(
    tx: &mut Tx,
    page: &KeysetRequest,
) -> OpResult<KeysetPage<BreakerRow>> {
    let mut query = t::table.select(BreakerRowRaw::as_select()).into_boxed::<Db>();
    if let Some(below) = page.below {
        query = query.filter(t::id.lt(below));
    }
    let rows: Vec<BreakerRowRaw> =
        query.order(t::id.desc()).limit(page.limit + 1).load(tx.conn()).await?;
    let rows = rows.into_iter().map(BreakerRow::try_from).collect::<OpResult<Vec<_>>>()?;
    Ok(KeysetPage::of(*page, rows, |row| row.id))
}

pub(crate) async fn breaker_get(
    tx: &mut Tx,
    key: &str,
) -> OpResult<(BreakerRow, Vec<BreakerChange>)> {
    let row: Option<BreakerRowRaw> = t::table
        .filter(t::key.eq(key))
        .select(BreakerRowRaw::as_select())
        .get_result(tx.conn())
        .await
        .optional()?;
    let row: BreakerRow = row.ok_or_else(|| not_found("breaker", key))?.try_into()?;
    let changes: Vec<BreakerChangeRaw> = breaker_history::table
        .filter(breaker_history::breaker_id.eq(row.id))
        .order(breaker_history::id.desc())
        .select(BreakerChangeRaw::as_select())
        .load(tx.conn())
        .await?;
    let changes = changes.into_iter().map(BreakerChange::try_from).collect::<OpResult<Vec<_>>>()?;
    Ok((row, changes))
}

pub(crate) async fn breaker_counts(tx: &mut Tx) -> OpResult<BreakerCounts> {
    let counts: Vec<(String, i64)> =
        t::table.group_by(t::state).select((t::state, count_star())).load(tx.conn()).await?;
    let of = |state: BreakerState| {
        counts.iter().find(|(word, _)| word == state.as_str()).map_or(0, |(_, count)| *count)
    };
    Ok(BreakerCounts { open: of(BreakerState::Open), half_open: of(BreakerState::HalfOpen) })
}

pub(crate) async fn breaker_act(tx: &mut Tx, order: &BreakerOrder) -> OpResult<BreakerRow> {
    let now = tx.now().await?;
    let mut row = match order.act {
        BreakerAct::ForceOpen(_) | BreakerAct::ForceClosed(_) => {
            lock_or_make(tx, &order.key).await?
        }
        BreakerAct::Probe | BreakerAct::Reset => {
            lock(tx, &order.key).await?.ok_or_else(|| not_found("breaker", &order.key))?
        }
    };
    let was = row.breaker.state;
    let force = |is_open, until| Force {
        is_open,
        until,
        by: order.by.clone(),
        reason: order.reason.clone(),
    };
    let teller =
        Teller { by: Some(&order.by), reason: order.reason.as_deref(), ..Teller::default() };
    let transition = match order.act {
        BreakerAct::Probe => {
            if !row.breaker.probe_now(now) {
                let detail = "there is nothing to find out: the breaker is closed or forced, or a \
                              probe is on its way";
                return Err(wrong_state("wrong_state", detail));
            }
            let state = row.breaker.state;
            let asked = Transition { from: state, to: state, cause: "probe_asked" };
            note(tx, row.id, asked, teller, now).await?;
            None
        }
        BreakerAct::ForceOpen(until) => Some(row.breaker.force(force(true, until), now)),
        BreakerAct::ForceClosed(until) => Some(row.breaker.force(force(false, until), now)),
        BreakerAct::Reset => row.breaker.reset(),
    };
    save(tx, &row, transition, teller).await?;
    row.updated_at = now;
    if row.breaker.state == BreakerState::Open {
        hold(tx, &order.key).await?;
    }
    if row.breaker.state == BreakerState::Closed && was != BreakerState::Closed {
        release(tx, &row).await?;
    }
    tx.changed(Topic::Gated);
    Ok(row)
}
