//! Admission: executions that wait for more than a free slot, claimed one by one by plan.
//!
//! One transaction at a time does this, also across nodes (a lock on PostgreSQL, the one writer on
//! SQLite), so that limits hold whoever claims. It never reads all that waits: what is held waits
//! in a lane named after what holds it, and only the first of each lane are looked at again, beside
//! what came newly and those that wait longest for several gates at once.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use diesel::dsl::{count_star, sql as raw};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, SmallInt, Text};
use diesel_async::RunQueryDsl;

use super::{Tx, breakers, gated, hot, nodes, queues};
use crate::clock::Timestamp;
use crate::domain::admission::{Candidate, ELDERS, KeyRule, Room, Standing, Usage, plan_admission};
use crate::domain::execution::{Execution, RANK_SPAN};
use crate::domain::execution_event::ExecutionEvent;
use crate::domain::options::TaskOptions;
use crate::store::conversions::{options_of, priority_of_rank};
use crate::store::models::ExecutionRow;
use crate::store::op::OpResult;
use crate::store::schema::task_executions as t;
use crate::store::sql_types::{Instant, JsonDoc, Uid, sql};
use crate::store::{Capacity, ClaimGated, ClaimHere, GatedClaimed, Topic};

/// The name of the lock.
const LOCK: &str = "carillon.admission";
/// Rows looked at that came newly.
const FRESH_MAX: i64 = 256;
/// Rows looked at that wait longest for several gates at once.
const ELDERS_MAX: i64 = 64;
/// Lanes looked at in one pass; what is left is looked at in the next.
const LANES_MAX: i64 = 1_000;
/// Rows looked at over all lanes, about.
const HEADS_TOTAL: usize = 4_000;
/// Rows looked at in one lane.
const HEADS_MAX: usize = 256;
/// Starts read to judge rates.
const STARTS_MAX: i64 = 20_000;

/// The columns of a candidate, for statements by hand.
pub(crate) const CANDIDATE: &str = "id, rank_at, priority_rank, queue, concurrency_key, target, \
    schedule_id, options, held_by, held_reason";

/// The condition that rows of the index of gated rows meet.
pub(crate) const GATED: &str = "status = 'pending' AND gated";

/// A row that waits to be admitted.
#[derive(Clone, Debug, QueryableByName)]
pub(crate) struct CandidateRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = sql::Instant)]
    rank_at: Instant,
    #[diesel(sql_type = SmallInt)]
    priority_rank: i16,
    #[diesel(sql_type = Nullable<Text>)]
    queue: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    concurrency_key: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    target: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    schedule_id: Option<i64>,
    #[diesel(sql_type = Nullable<sql::JsonDoc>)]
    options: Option<JsonDoc>,
    #[diesel(sql_type = Text)]
    held_by: String,
    #[diesel(sql_type = Nullable<Text>)]
    held_reason: Option<String>,
}

impl CandidateRow {
    fn candidate(self) -> OpResult<Candidate> {
        let options: TaskOptions = self.options.map(options_of).transpose()?.unwrap_or_default();
        let admission = options.admission;
        Ok(Candidate {
            id: self.id,
            rank_at: self.rank_at.0,
            priority: priority_of_rank(self.priority_rank)?,
            queue: self.queue,
            key: self.concurrency_key.map(|key| KeyRule {
                key,
                limit: admission.concurrency_limit.unwrap_or(1),
                rate: admission.rate_limit,
            }),
            schedule: self.schedule_id.zip(admission.overlap_limit),
            target: self.target,
            needs: admission.resources,
            away: admission.away,
            held_by: self.held_by,
            held_reason: self.held_reason,
        })
    }
}

#[derive(QueryableByName)]
struct LaneRow {
    #[diesel(sql_type = Nullable<Text>)]
    lane: Option<String>,
}

/// Rows of high priority that wait for nothing but a slot, since `since` or longer, in the order of
/// claims, `most` at most; `locking` ends the text.
async fn urgent(tx: &mut Tx, since: Timestamp, most: usize, locking: &str) -> OpResult<Vec<i64>> {
    #[derive(QueryableByName)]
    struct Urgent {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    let rows: Vec<Urgent> = diesel::sql_query(format!(
        "SELECT id FROM task_executions {} WHERE status = 'pending' AND NOT gated \
         AND priority_rank = 0 AND available_at <= $1 ORDER BY rank_at, id LIMIT {most}{locking}",
        gated::BY_URGENCY
    ))
    .bind::<sql::Instant, _>(Instant(since))
    .load(tx.conn())
    .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Claims rows of high priority alone, into the slots that are kept for them.
pub(super) async fn claim_urgent(
    tx: &mut Tx,
    claim: &ClaimHere,
    now: Timestamp,
) -> OpResult<Vec<ExecutionRow>> {
    let ids = urgent(tx, now, claim.high_only, hot::PASS_OVER_LOCKED).await?;
    gated::start_executions(tx.conn(), claim, ids, now).await
}

/// Rows of high priority that have waited for nothing but a slot for as long as `since`.
pub(crate) async fn execution_urgent_waiting(
    tx: &mut Tx,
    since: &Duration,
    most: &usize,
) -> OpResult<usize> {
    let now = tx.now().await?;
    let since = now - chrono::Duration::from_std(*since).unwrap_or_default();
    Ok(urgent(tx, since, *most, "").await?.len())
}

/// True when any row waits to be admitted.
pub(crate) async fn execution_gated_waits(tx: &mut Tx) -> OpResult<bool> {
    let found: Option<LaneRow> = diesel::sql_query(format!(
        "SELECT held_by AS lane FROM task_executions {} WHERE {GATED} LIMIT 1",
        gated::BY_GATE
    ))
    .get_result(tx.conn())
    .await
    .optional()?;
    Ok(found.is_some())
}

pub(crate) async fn execution_claim_gated(
    tx: &mut Tx,
    request: &ClaimGated,
) -> OpResult<GatedClaimed> {
    gated::lock_key(tx.conn(), LOCK).await?;
    let now = tx.now().await?;
    let looked = look(tx, request, now).await?;
    let mut standing = standing_of(tx, request, &looked.candidates, now).await?;
    standing.others = others(tx, request.claim.slots, now).await?;
    let plan = plan_admission(looked.candidates, standing, now);
    let held = plan.hold.len();
    gated::hold_executions(tx.conn(), &plan.hold).await?;
    let ids: Vec<i64> = plan.start.iter().map(|start| start.id).collect();
    let executions = start(tx, request, &ids, now).await?;
    for start in &plan.start {
        let Some(target) = &start.probe else { continue };
        if executions.iter().any(|execution| execution.id == start.id) {
            breakers::begin_probe(tx, target, start.id).await?;
        }
    }
    let next = next_available(tx, now).await?;
    let moved = !executions.is_empty() || held > 0;
    Ok(GatedClaimed {
        more: looked.next_lane.is_some() || (looked.is_cut && moved),
        next_lane: looked.next_lane,
        look_again_at: plan.look_again_at.into_iter().chain(next).min(),
        wants_slots: plan.wants_slots,
        executions,
    })
}

/// What a pass looks at.
struct Looked {
    candidates: Vec<Candidate>,
    /// From which lane the next pass goes on; none when all were looked at.
    next_lane: Option<String>,
    /// True when more of what was looked at waits behind it.
    is_cut: bool,
}

async fn look(tx: &mut Tx, request: &ClaimGated, now: Timestamp) -> OpResult<Looked> {
    let fresh: Vec<CandidateRow> = diesel::sql_query(format!(
        "SELECT {CANDIDATE} FROM task_executions {} WHERE {GATED} AND held_by = '' \
         AND rank_at <= $1 AND available_at <= $2 ORDER BY rank_at, id LIMIT {FRESH_MAX}",
        gated::BY_GATE
    ))
    .bind::<sql::Instant, _>(Instant(now + RANK_SPAN))
    .bind::<sql::Instant, _>(Instant(now))
    .load(tx.conn())
    .await?;
    let lanes: Vec<LaneRow> = diesel::sql_query(gated::lanes(LANES_MAX))
        .bind::<Text, _>(request.after_lane.clone().unwrap_or_default())
        .load(tx.conn())
        .await?;
    let lanes: Vec<String> = lanes.into_iter().filter_map(|row| row.lane).collect();
    let heads = (HEADS_TOTAL / lanes.len().max(1)).clamp(4, HEADS_MAX);
    let first = gated::lane_heads(tx.conn(), lanes.clone(), heads).await?;
    let elders: Vec<CandidateRow> = diesel::sql_query(format!(
        "SELECT {CANDIDATE} FROM task_executions {} WHERE {GATED} AND held_by >= '{ELDERS}' \
         ORDER BY rank_at, id LIMIT {ELDERS_MAX}",
        gated::BY_AGE
    ))
    .load(tx.conn())
    .await?;
    let is_cut = fresh.len() >= usize::try_from(FRESH_MAX).unwrap_or(usize::MAX)
        || first.len() > lanes.len();
    let is_last = lanes.len() < usize::try_from(LANES_MAX).unwrap_or(usize::MAX);
    let next_lane = lanes.into_iter().next_back().filter(|_| !is_last);
    let rows = fresh.into_iter().chain(first).chain(elders);
    let candidates = rows.map(CandidateRow::candidate).collect::<OpResult<Vec<_>>>()?;
    Ok(Looked { candidates, next_lane, is_cut })
}

/// The distinct values of a gate among candidates.
fn names<'a, T: Clone + Eq + std::hash::Hash + 'a>(
    values: impl Iterator<Item = Option<&'a T>>,
) -> Vec<T> {
    let distinct: HashSet<&T> = values.flatten().collect();
    distinct.into_iter().cloned().collect()
}

async fn standing_of(
    tx: &mut Tx,
    request: &ClaimGated,
    candidates: &[Candidate],
    now: Timestamp,
) -> OpResult<Standing> {
    let mut standing = Standing {
        slots: request.claim.slots,
        reserved_high: request.claim.high_only,
        ..Standing::default()
    };
    let in_queues = names(candidates.iter().map(|one| one.queue.as_ref()));
    if !in_queues.is_empty() {
        standing.rules = queues::rules_of(tx, &in_queues).await?;
        let running = running_by_queue(tx, &in_queues).await?;
        let starts = if standing.rules.values().any(|rules| rules.rate().is_some()) {
            starts_by_queue(tx, &in_queues, now - chrono::TimeDelta::minutes(1)).await?
        } else {
            Vec::new()
        };
        standing.queues = usage_of(running, starts);
    }
    let keys = names(candidates.iter().map(|one| one.key.as_ref().map(|rule| &rule.key)));
    if !keys.is_empty() {
        let rates = candidates.iter().filter_map(|one| one.key.as_ref()?.rate);
        let widest = rates.map(|rate| rate.per_ms).max();
        let running = running_by_key(tx, &keys).await?;
        let starts = match widest {
            Some(ms) => starts_by_key(tx, &keys, now - chrono::TimeDelta::milliseconds(ms)).await?,
            None => Vec::new(),
        };
        standing.keys = usage_of(running, starts);
    }
    let schedules = names(candidates.iter().map(|one| one.schedule.as_ref().map(|(id, _)| id)));
    if !schedules.is_empty() {
        standing.schedules = running_by_schedule(tx, &schedules).await?;
    }
    let targets = names(candidates.iter().map(|one| one.target.as_ref()));
    if !targets.is_empty() {
        standing.targets = breakers::target_gates(tx, &targets).await?;
    }
    let here = &request.claim.claimant.node_id;
    if candidates.iter().any(|one| one.away.as_ref().is_some_and(|away| away.from == *here)) {
        standing.replaceable = nodes::has_other(tx, here).await?.then(|| here.clone());
    }
    if let Some(capacity) = request.capacity
        && candidates.iter().any(|one| one.needs.is_some())
    {
        standing.room = Some(room(tx, request, capacity).await?);
    }
    Ok(standing)
}

fn usage_of(
    running: Vec<(Option<String>, i64)>,
    starts: Vec<(Option<String>, Option<Instant>)>,
) -> HashMap<String, Usage> {
    let mut usages: HashMap<String, Usage> = HashMap::new();
    for (name, count) in running {
        usages.entry(name.unwrap_or_default()).or_default().running = count;
    }
    for (name, at) in starts {
        if let Some(at) = at {
            usages.entry(name.unwrap_or_default()).or_default().starts.push(at.0);
        }
    }
    usages
}

/// Running rows, as the indexes of active rows are asked: SQLite takes an index over a part of the
/// table only where the query says the same words, and none for a parameter.
const RUNNING: &str = "status = 'running' AND status IN ('pending', 'running')";

async fn running_by_queue(tx: &mut Tx, names: &[String]) -> OpResult<Vec<(Option<String>, i64)>> {
    Ok(t::table
        .filter(raw::<Bool>(RUNNING))
        .filter(t::queue.is_not_null())
        .filter(t::queue.eq_any(names))
        .group_by(t::queue)
        .select((t::queue, count_star()))
        .load(tx.conn())
        .await?)
}

async fn running_by_key(tx: &mut Tx, keys: &[String]) -> OpResult<Vec<(Option<String>, i64)>> {
    Ok(t::table
        .filter(raw::<Bool>(RUNNING))
        .filter(t::concurrency_key.is_not_null())
        .filter(t::concurrency_key.eq_any(keys))
        .group_by(t::concurrency_key)
        .select((t::concurrency_key, count_star()))
        .load(tx.conn())
        .await?)
}

async fn running_by_schedule(tx: &mut Tx, ids: &[i64]) -> OpResult<HashMap<i64, i64>> {
    let counts: Vec<(Option<i64>, i64)> = t::table
        .filter(raw::<Bool>("status = 'running'"))
        .filter(t::schedule_id.is_not_null())
        .filter(t::schedule_id.eq_any(ids))
        .group_by(t::schedule_id)
        .select((t::schedule_id, count_star()))
        .load(tx.conn())
        .await?;
    Ok(counts.into_iter().filter_map(|(id, count)| id.map(|id| (id, count))).collect())
}

async fn starts_by_queue(
    tx: &mut Tx,
    names: &[String],
    since: Timestamp,
) -> OpResult<Vec<(Option<String>, Option<Instant>)>> {
    Ok(t::table
        .filter(t::queue.is_not_null())
        .filter(t::queue.eq_any(names))
        .filter(t::started_at.is_not_null())
        .filter(t::started_at.gt(Instant(since)))
        .order(t::started_at.desc())
        .limit(STARTS_MAX)
        .select((t::queue, t::started_at))
        .load(tx.conn())
        .await?)
}

async fn starts_by_key(
    tx: &mut Tx,
    keys: &[String],
    since: Timestamp,
) -> OpResult<Vec<(Option<String>, Option<Instant>)>> {
    Ok(t::table
        .filter(t::concurrency_key.is_not_null())
        .filter(t::concurrency_key.eq_any(keys))
        .filter(t::started_at.is_not_null())
        .filter(t::started_at.gt(Instant(since)))
        .order(t::started_at.desc())
        .limit(STARTS_MAX)
        .select((t::concurrency_key, t::started_at))
        .load(tx.conn())
        .await?)
}

/// What the node has left, less what its running tasks declared.
async fn room(tx: &mut Tx, request: &ClaimGated, capacity: Capacity) -> OpResult<Room> {
    let running: Vec<Option<JsonDoc>> = t::table
        .filter(raw::<Bool>("status = 'running'"))
        .filter(t::lease_owner.eq(Uid(request.claim.claimant.boot_id)))
        .filter(t::gated)
        .select(t::options)
        .load(tx.conn())
        .await?;
    let mut room = Room {
        cpu: capacity.cpu,
        memory_mb: capacity.memory_mb,
        cpu_total: capacity.cpu,
        memory_total_mb: capacity.memory_mb,
    };
    for document in running.into_iter().flatten() {
        let options: TaskOptions = options_of(document)?;
        let Some(needs) = options.admission.resources else { continue };
        room.reserve(needs);
    }
    Ok(room)
}

/// The ranks of those that wait for nothing but a slot.
async fn others(tx: &mut Tx, slots: usize, now: Timestamp) -> OpResult<Vec<Timestamp>> {
    #[derive(QueryableByName)]
    struct Rank {
        #[diesel(sql_type = sql::Instant)]
        rank_at: Instant,
    }
    if slots == 0 {
        return Ok(Vec::new());
    }
    let rows: Vec<Rank> = diesel::sql_query(format!(
        "SELECT rank_at FROM task_executions {} WHERE status = 'pending' AND NOT gated \
         AND rank_at <= $1 AND available_at <= $2 ORDER BY rank_at, id LIMIT {slots}",
        gated::BY_RANK
    ))
    .bind::<sql::Instant, _>(Instant(now + RANK_SPAN))
    .bind::<sql::Instant, _>(Instant(now))
    .load(tx.conn())
    .await?;
    Ok(rows.into_iter().map(|row| row.rank_at.0).collect())
}

async fn start(
    tx: &mut Tx,
    request: &ClaimGated,
    ids: &[i64],
    now: Timestamp,
) -> OpResult<Vec<Execution>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    // Whoever made room for them may have ended since this pass began.
    let now = tx.later_now().await?.max(now);
    let rows = gated::start_executions(tx.conn(), &request.claim, ids.to_vec(), now).await?;
    let mut started = rows.into_iter().map(Execution::try_from).collect::<OpResult<Vec<_>>>()?;
    started.sort_by_key(|row| (row.new.rank_at(), row.id));
    for execution in &started {
        tx.event(ExecutionEvent::of(execution));
    }
    Ok(started)
}

/// When the next row that waits for its instant is due.
async fn next_available(tx: &mut Tx, now: Timestamp) -> OpResult<Option<Timestamp>> {
    #[derive(QueryableByName)]
    struct Next {
        #[diesel(sql_type = sql::Instant)]
        available_at: Instant,
    }
    let next: Option<Next> = diesel::sql_query(format!(
        "SELECT available_at FROM task_executions {} WHERE {GATED} AND available_at > $1 \
         ORDER BY available_at LIMIT 1",
        gated::BY_GATED_AVAILABLE
    ))
    .bind::<sql::Instant, _>(Instant(now))
    .get_result(tx.conn())
    .await
    .optional()?;
    Ok(next.map(|next| next.available_at.0))
}

/// A row that waits for others to end has one less to wait for.
pub(super) fn note_end(tx: &mut Tx, execution: &Execution) {
    let gates = &execution.new.gates;
    if gates.is_gated || gates.queue.is_some() || gates.concurrency_key.is_some() {
        tx.changed(Topic::Gated);
    }
}
