//! Each statement that runs often or over a large table is served by its index, on both back ends.

use diesel::connection::SimpleConnection;
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};

use super::fixtures::{Bench, Home, claimant, completed, definition, firing, options, row};
use crate::support::postgres::database;
use carillon::store::{MISSED_OF_SCHEDULE, RAN_OF_SCHEDULE, Store, StoreLocation, StoreOptions};

/// A statement that both back ends understand, and the index that must serve it.
const SERVED: &[(&str, &str)] = &[
    (
        "SELECT id FROM task_executions $CLAIM WHERE status = 'pending' AND NOT gated \
         AND available_at <= $NOW AND rank_at <= $NOW ORDER BY rank_at, id LIMIT 10",
        "task_executions_claim",
    ),
    (
        "SELECT available_at FROM task_executions $AVAILABLE WHERE status = 'pending' \
         AND NOT gated ORDER BY available_at LIMIT 1",
        "task_executions_available",
    ),
    (
        "SELECT id FROM task_executions $GATE WHERE status = 'pending' AND gated AND held_by = 'key:a' \
         AND rank_at <= $NOW AND available_at <= $NOW ORDER BY rank_at, id LIMIT 256",
        "task_executions_gated",
    ),
    (
        "SELECT held_by FROM task_executions $GATE WHERE status = 'pending' AND gated \
         AND held_by > 'key:a' ORDER BY held_by LIMIT 1",
        "task_executions_gated",
    ),
    (
        "SELECT id FROM task_executions $ELDERS WHERE status = 'pending' AND gated \
         AND held_by >= '~' ORDER BY rank_at, id LIMIT 64",
        "task_executions_elders",
    ),
    (
        "SELECT available_at FROM task_executions $SOON WHERE status = 'pending' AND gated \
         AND available_at > $NOW ORDER BY available_at LIMIT 1",
        "task_executions_gated_available",
    ),
    (
        "SELECT concurrency_key, count(*) FROM task_executions WHERE status = 'running' \
         AND status IN ('pending', 'running') AND concurrency_key IS NOT NULL \
         AND concurrency_key IN ('a', 'b') GROUP BY concurrency_key",
        // What runs is little: its own index serves as well.
        "task_executions_",
    ),
    (
        "SELECT started_at FROM task_executions WHERE concurrency_key IS NOT NULL \
         AND concurrency_key = 'a' AND started_at IS NOT NULL AND started_at > $NOW \
         ORDER BY started_at DESC LIMIT 10",
        "task_executions_key_starts",
    ),
    (
        "SELECT status, count(*) FROM task_executions WHERE queue IS NOT NULL AND status IN \
         ('pending', 'running') AND queue = 'a' GROUP BY queue, status",
        "task_executions_queue",
    ),
    (
        "SELECT e.id FROM task_executions e WHERE e.status = 'running' AND NOT EXISTS \
         (SELECT 1 FROM nodes n WHERE n.boot_id = e.lease_owner AND n.lease_until >= $NOW)",
        "task_executions_",
    ),
    (
        "SELECT count(*) FROM task_executions WHERE schedule_id IS NOT NULL AND schedule_id = 7 \
         AND status IN ('pending', 'running')",
        "task_executions_schedule",
    ),
    (
        "SELECT * FROM task_executions WHERE status = 'failed' AND status <> 'completed' \
         AND status <> 'pending' AND status <> 'running' ORDER BY id DESC LIMIT 50",
        "task_executions_short",
    ),
    (
        "SELECT * FROM task_executions WHERE status = 'pending' ORDER BY id DESC LIMIT 50",
        "task_executions_pending",
    ),
    (
        "SELECT * FROM task_executions WHERE id IN (SELECT e.id FROM task_executions e \
         WHERE e.status = 'pending' UNION ALL SELECT e.id FROM task_executions e \
         WHERE e.status = 'running') ORDER BY id DESC LIMIT 50",
        "task_executions_pending",
    ),
    (
        "SELECT id FROM task_executions WHERE status = 'running' AND lease_owner = $UUID \
         AND cancel_requested_at IS NOT NULL ORDER BY id",
        "task_executions_running",
    ),
    (
        "SELECT id FROM task_executions WHERE dedup_key IS NOT NULL AND dedup_key = 'a' \
         AND status IN ('pending', 'running')",
        "task_executions_dedup",
    ),
    (
        "SELECT * FROM task_executions WHERE schedule_id = 7 ORDER BY id DESC LIMIT 50",
        "task_executions_schedule_newest",
    ),
    (
        "SELECT * FROM task_executions WHERE schedule_id = 7 AND status = 'completed' \
         ORDER BY id DESC LIMIT 50",
        "task_executions_schedule",
    ),
    (
        "SELECT * FROM task_executions WHERE id IN (SELECT e.id FROM task_executions e \
         WHERE e.execution_id = $UUID UNION SELECT e.id FROM task_executions e \
         WHERE e.attempt > 1 AND e.chain_id = $UUID) ORDER BY id LIMIT 50",
        "task_executions_chain",
    ),
    (
        "SELECT id FROM task_executions WHERE completed_at < $NOW LIMIT 50",
        "task_executions_completed",
    ),
    (
        "SELECT * FROM task_schedules WHERE enabled AND next_run_at IS NOT NULL \
         AND next_run_at <= $NOW ORDER BY next_run_at, id LIMIT 50",
        "task_schedules_due",
    ),
    (
        "SELECT * FROM error_records WHERE next_retry_at <= $NOW \
         ORDER BY next_retry_at, id LIMIT 50",
        "error_records_due",
    ),
    (
        "SELECT * FROM error_records WHERE recovery_status = 'unresolved' \
         ORDER BY id DESC LIMIT 50",
        "error_records_status",
    ),
    (
        "SELECT * FROM error_records WHERE schedule_id = 7 ORDER BY id DESC LIMIT 50",
        "error_records_schedule",
    ),
    (
        "SELECT * FROM error_records WHERE severity = 'low' ORDER BY id DESC LIMIT 50",
        "error_records_severity",
    ),
    (
        "SELECT * FROM dead_letters WHERE status = 'pending' ORDER BY id DESC LIMIT 50",
        "dead_letters_status",
    ),
    (
        "SELECT * FROM dead_letters WHERE schedule_id = 7 ORDER BY id DESC LIMIT 50",
        "dead_letters_schedule",
    ),
    (
        "SELECT * FROM schedule_ledger WHERE schedule_id = 7 ORDER BY id DESC LIMIT 50",
        "schedule_ledger_schedule",
    ),
    (RAN_OF_SCHEDULE, "task_executions_instant"),
    (MISSED_OF_SCHEDULE, "schedule_ledger_instants"),
    ("SELECT * FROM execution_logs WHERE at < $NOW LIMIT 50", "execution_logs_at"),
];

/// A statement of the store's with values for its parameters.
fn with_values(statement: &str) -> String {
    let values = [("$1", "7"), ("$2", "$NOW"), ("$3", "$NOW"), ("$4", "50")];
    values.iter().fold(statement.to_owned(), |text, (name, value)| text.replace(name, value))
}

#[derive(QueryableByName)]
struct SqlitePlan {
    #[diesel(sql_type = diesel::sql_types::Text)]
    detail: String,
}

#[derive(QueryableByName)]
struct PostgresPlan {
    #[diesel(sql_type = diesel::sql_types::Text)]
    #[diesel(column_name = "QUERY PLAN")]
    line: String,
}

#[tokio::test]
async fn sqlite_serves_each_list_from_its_index() {
    let bench = Bench::sqlite().await;
    let StoreLocation::Sqlite(path) = &bench.options.location else { panic!() };
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    connection.batch_execute("PRAGMA query_only = ON").unwrap();
    for (statement, index) in SERVED {
        let statement = with_values(statement)
            .replace("$NOW", "1800000000000000")
            .replace("$UUID", "'x'")
            .replace("$CLAIM", "INDEXED BY task_executions_claim")
            .replace("$AVAILABLE", "INDEXED BY task_executions_available")
            .replace("$GATE", "INDEXED BY task_executions_gated")
            .replace("$SOON", "INDEXED BY task_executions_gated_available")
            .replace("$ELDERS", "INDEXED BY task_executions_elders");
        let plan: Vec<SqlitePlan> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {statement}"))
            .load(&mut connection)
            .unwrap();
        let plan: Vec<String> = plan.into_iter().map(|row| row.detail).collect();
        assert!(plan.iter().any(|line| line.contains(index)), "{statement}\n{plan:?}");
        let sorts = plan.iter().any(|line| line.contains("TEMP B-TREE"));
        assert!(!sorts, "{statement} sorts\n{plan:?}");
    }
    bench.store.close().await;
}

#[tokio::test]
async fn sqlite_finds_what_ends_by_its_id() {
    let bench = Bench::sqlite().await;
    let StoreLocation::Sqlite(path) = &bench.options.location else { panic!() };
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    let plan: Vec<SqlitePlan> = diesel::sql_query(
        "EXPLAIN QUERY PLAN UPDATE OR FAIL task_executions SET status = v.column1 \
         FROM (VALUES ('completed', 7, 'x'), ('completed', 8, 'x')) v \
         WHERE task_executions.id = v.column2 AND +task_executions.lease_owner = v.column3 \
         AND +task_executions.status = 'running' RETURNING id",
    )
    .load(&mut connection)
    .unwrap();
    let found =
        plan.iter().any(|row| row.detail.contains("task_executions USING INTEGER PRIMARY KEY"));
    assert!(found, "{:?}", plan.iter().map(|row| &row.detail).collect::<Vec<_>>());
    bench.store.close().await;
}

#[tokio::test]
async fn postgres_serves_each_list_from_its_index() {
    let bench = Bench::postgres().await;
    let StoreLocation::Postgres(url) = &bench.options.location else { panic!() };
    let mut connection = AsyncPgConnection::establish(url).await.unwrap();
    // The tables are empty, where any plan is as good: what is asked is whether the index can.
    let settings = "SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off";
    connection.batch_execute(settings).await.unwrap();
    for (statement, index) in SERVED {
        let statement = with_values(statement)
            .replace("$NOW", "now()")
            .replace("$CLAIM", "")
            .replace("$AVAILABLE", "")
            .replace("$GATE", "")
            .replace("$SOON", "")
            .replace("$ELDERS", "")
            .replace("$UUID", "'00000000-0000-0000-0000-000000000000'");
        let query = diesel::sql_query(format!("EXPLAIN {statement}"));
        let plan: Vec<PostgresPlan> =
            diesel_async::RunQueryDsl::load(query, &mut connection).await.unwrap();
        let plan: Vec<String> = plan.into_iter().map(|row| row.line).collect();
        assert!(plan.iter().any(|line| line.contains(index)), "{statement}\n{}", plan.join("\n"));
        assert!(!plan.iter().any(|line| line.contains("Sort")), "{statement}\n{plan:?}");
    }
    drop(connection);
    bench.store.close().await;
}

#[tokio::test]
async fn postgres_claims_read_no_more_than_they_take_whatever_the_statistics_say() {
    const WAITING: usize = 2_000;
    let bench = Bench::postgres().await;
    let mut connection = connect(&bench).await;
    bench.pending(WAITING).await;
    // A queue when statistics are taken: everything has ended.
    let ended = "ALTER TABLE task_executions SET (autovacuum_enabled = off); \
                 UPDATE task_executions SET status = 'completed', completed_at = now(); \
                 VACUUM ANALYZE task_executions";
    one_by_one(&mut connection, ended).await;
    bench.pending(WAITING).await;
    connection.batch_execute("SELECT pg_stat_reset()").await.unwrap();
    assert_eq!(bench.store.execution_claim(claimant(10)).await.unwrap().len(), 10);
    bench.store.close().await;
    let read = read_of(&mut connection, "task_executions").await;
    assert!(read < 100, "{read} rows and entries were read for ten claims");
}

#[tokio::test]
async fn postgres_reads_no_more_than_it_needs_though_planned_when_tables_were_small() {
    const GROWN: usize = 2_000;
    // One connection, which keeps its plans.
    let database = database();
    let location = StoreLocation::Postgres(database.url.clone());
    let of_one = StoreOptions { pool_max: 1, ..options(location) };
    let bench = Bench::open(of_one.clone(), Home::Database { _database: database }).await;
    let mut connection = connect(&bench).await;
    let empty = "ALTER TABLE task_executions SET (autovacuum_enabled = off); \
                 ALTER TABLE task_schedules SET (autovacuum_enabled = off); \
                 VACUUM ANALYZE task_executions; VACUUM ANALYZE task_schedules";
    one_by_one(&mut connection, empty).await;
    let claim = claimant(10);
    let schedule = bench.schedule("small").await.id;
    let step = async || {
        let schedule = bench.store.schedule_get(schedule).await.unwrap();
        let at = schedule.next_run_at.unwrap();
        bench.advance(1);
        let firing = firing(&schedule, &[at], Some(bench.now()));
        let fired = bench.store.schedule_fire(vec![firing], Some(claim.clone())).await.unwrap();
        assert_eq!(fired.executions.len(), 1);
        bench.pending(1).await;
        let claimed = bench.store.execution_claim(claim.clone()).await.unwrap();
        let ends = fired.executions.iter().chain(&claimed).map(completed).collect();
        bench.store.execution_finish(ends).await.unwrap();
        claimed.len()
    };
    // As often as a plan is made anew, and then kept.
    for _ in 0..8 {
        assert_eq!(step().await, 1);
    }
    // By other connections, whose reading is not counted.
    let other = Store::open(of_one, bench.clock.clone()).await.unwrap();
    for running in [true, false] {
        let rows = (0..GROWN).map(|_| row(bench.now())).collect();
        let claim = running.then(|| claimant(GROWN));
        other.execution_create_batch(rows, claim).await.unwrap();
    }
    for number in 0..GROWN / 4 {
        let name = format!("schedule {number}");
        other.schedule_create(definition(&name), Some(bench.now()), None).await.unwrap();
    }
    other.close().await;
    connection.batch_execute("SELECT pg_stat_reset()").await.unwrap();
    assert_eq!(step().await, 10);
    bench.store.close().await;
    for table in ["task_executions", "task_schedules"] {
        let read = read_of(&mut connection, table).await;
        assert!(read < 200, "{read} rows and entries of {table} were read for a few runs");
    }
}

async fn connect(bench: &Bench) -> AsyncPgConnection {
    let StoreLocation::Postgres(url) = &bench.options.location else { panic!() };
    AsyncPgConnection::establish(url).await.unwrap()
}

/// Statements that may not share a transaction.
async fn one_by_one(connection: &mut AsyncPgConnection, statements: &str) {
    for statement in statements.split(';') {
        connection.batch_execute(statement).await.unwrap();
    }
}

/// How many rows and index entries of a table were read by connections that are closed: what one
/// has counted is seen then, at the latest. Waits for the last of them but this one to go.
async fn read_of(connection: &mut AsyncPgConnection, table: &str) -> i64 {
    let read = format!(
        "SELECT (SELECT coalesce(max(seq_tup_read + idx_tup_fetch), 0) FROM pg_stat_user_tables \
         WHERE relname = '{table}') + (SELECT coalesce(max(idx_tup_read), 0) FROM \
         pg_stat_user_indexes WHERE relname = '{table}') AS read, (SELECT count(*) FROM \
         pg_stat_activity WHERE datname = current_database()) AS connections"
    );
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let query = diesel::sql_query(read.as_str());
        let counts: Vec<Counts> = diesel_async::RunQueryDsl::load(query, connection).await.unwrap();
        let Counts { read, connections } = counts[0];
        if read > 0 && connections <= 1 {
            return read;
        }
        assert!(tokio::time::Instant::now() < until, "{read} read, {connections} connections");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[derive(Clone, Copy, QueryableByName)]
struct Counts {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    read: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    connections: i64,
}
