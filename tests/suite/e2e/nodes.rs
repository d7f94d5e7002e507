//! Several nodes on one PostgreSQL, and what befalls them: killed, frozen past the lease, cut off
//! from the database. The tasks keep a ledger outside the product: a line when an attempt begins
//! and one when it ends, and a lock a chain that its whole tree holds, so that the kernel itself
//! says whether two trees of one chain were ever alive at the same time.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use super::history::{Outside, Ticker, settled};
use super::server::Server;
use crate::support::checker::expect_sound;
use crate::support::postgres::Cluster;
use crate::support::proxy::{Mood, Proxy};

/// The lease: takeover comes after it, its grace and a sweep, a sixth of it each.
const LEASE: Duration = Duration::from_secs(2);
/// What a busy machine may add to a takeover.
const SLACK: Duration = Duration::from_secs(3);
/// Schedules that fire every second.
const SCHEDULES: usize = 12;
const EVERY_MS: i64 = 1_000;

/// Troubles of the short form, which runs with every test; `CARILLON_NODE_ROUNDS` asks for more.
const ROUNDS: usize = 1;

fn rounds() -> usize {
    std::env::vars()
        .find(|(key, _)| key == "CARILLON_NODE_ROUNDS")
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(ROUNDS)
}

/// Nodes on one database, each by a network of its own.
struct Fleet {
    cluster: Cluster,
    networks: Vec<Proxy>,
    nodes: Vec<Server>,
    outside: Outside,
    tickers: Vec<Ticker>,
}

impl Fleet {
    fn of(count: usize) -> Self {
        let cluster = Cluster::start(false);
        let (mut networks, mut nodes) = (Vec::new(), Vec::<Server>::new());
        for _ in 0..count {
            let (network, url) = cluster.through_proxy("postgres");
            let node = nodes
                .first()
                .map_or_else(|| Server::at(url.clone()), |first| first.neighbour_at(url.clone()));
            let lease = LEASE.as_millis().to_string();
            nodes.push(node.with("CARILLON_EXECUTOR__LEASE_MS", &lease).started());
            networks.push(network);
        }
        let outside = Outside::new();
        let task = outside.task("sleep 0.2");
        let tickers = (0..SCHEDULES)
            .map(|number| {
                let name = format!("ticker {number}");
                Ticker::make(&nodes[number % count], &name, EVERY_MS, &task)
            })
            .collect();
        Self { cluster, networks, nodes, outside, tickers }
    }

    /// Starts a run whose first attempt goes on for ever, deaf to TERM, with a daemon. It is asked
    /// of that node; the node that claimed it, given too, is another when that one had no free
    /// slot.
    fn pin(&mut self, node: usize) -> (Value, usize) {
        let work = "if test $CARILLON_ATTEMPT = 1; then trap '' TERM; setsid sleep 600 & \
                    sleep 600; sleep 600; fi";
        let server = &mut self.nodes[node];
        let run = server.post("/api/execution/executions", &self.outside.task(work));
        let path = format!("/api/execution/executions/{}", run["id"]);
        server.until("the run began", |server| server.get(&path)["status"] == "running");
        let owner = server.get(&path)["nodeId"].as_str().unwrap().to_owned();
        let is_owner =
            |node: &Server| owner.ends_with(&format!(":{}", node.pid().as_raw_nonzero()));
        (run, self.nodes.iter().position(is_owner).unwrap())
    }

    /// Waits until another node has ended the run and the next attempt completed.
    fn taken_over(&mut self, run: &Value, by: usize, since: Instant) {
        let path = format!("/api/execution/executions/{}", run["id"]);
        let server = &mut self.nodes[by];
        server.until("the lost run is found", |server| server.get(&path)["status"] == "failed");
        let took = since.elapsed();
        assert!(took < LEASE + LEASE / 3 + SLACK, "the takeover took {took:?}");
        assert_eq!(server.get(&path)["error"]["kind"], "node_lost");
        let chain = run["chainId"].as_str().unwrap();
        let ended = format!(
            "SELECT count(*) FROM task_executions WHERE chain_id = '{chain}' \
             AND status = 'completed'"
        );
        let cluster = &self.cluster;
        server.until("its next attempt completed", |_| cluster.query(&ended) == "1");
    }

    fn boots(&self) -> HashSet<String> {
        let boots = self.cluster.query("SELECT boot_id FROM nodes");
        boots.lines().map(str::to_owned).collect()
    }

    /// The node serves, claims and runs again, under a boot id that none had before.
    fn works_again(&mut self, node: usize, before: &HashSet<String>) {
        let server = &mut self.nodes[node];
        server.ready();
        let run = json!({"taskType": "shell_command", "taskConfig": {"command": "true"}});
        let cluster = &self.cluster;
        server.until("it runs tasks under a new boot id", |server| {
            let made = server.post("/api/execution/executions", &run);
            let ended = server.ended(&made["id"]);
            let owner =
                format!("SELECT lease_owner FROM task_executions WHERE id = {}", made["id"]);
            let owner = cluster.query(&owner);
            // Busy with its backlog, it may have left the run to others.
            ended["status"] == "completed" && !before.contains(&owner)
        });
    }

    /// Lets everything settle and has the checker compare what the product says with the ledger
    /// outside.
    fn check(mut self) {
        let cluster = &self.cluster;
        let seen = "SELECT count(*) FROM (SELECT schedule_id FROM task_executions \
                    WHERE schedule_id IS NOT NULL AND attempt = 1 \
                    GROUP BY schedule_id HAVING count(*) > 2) enough";
        let wanted = self.tickers.len().to_string();
        self.nodes[0].until("each schedule fired a few times", |_| cluster.query(seen) == wanted);
        let mut history = settled(&mut self.nodes[0], &self.tickers, &self.outside);
        // What a node was asked to run to see whether it works keeps no ledger.
        history.rows.retain(|row| self.outside.judges(&row.command));
        expect_sound(&history);
    }
}

fn superseded(server: &Server) -> u64 {
    let (_, text) = server.exchange("GET", "/metrics", &Value::Null).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("carillon_lease_superseded_total "))
        .filter_map(|count| count.trim().parse::<u64>().ok())
        .sum()
}

#[test]
fn what_a_killed_node_ran_is_retried_by_another_in_time() {
    let mut fleet = Fleet::of(2);
    for round in 0..rounds() {
        let (run, victim) = fleet.pin(round % 2);
        let other = (victim + 1) % 2;
        let before = fleet.boots();
        let struck = Instant::now();
        fleet.nodes[victim].kill();
        fleet.taken_over(&run, other, struck);
        fleet.nodes[victim].start();
        fleet.works_again(victim, &before);
    }
    fleet.check();
}

#[test]
fn a_retry_is_made_on_another_node_when_it_asks_for_it() {
    let mut fleet = Fleet::of(2);
    let run = json!({
        "taskType": "shell_command",
        "taskConfig": {"command": "exit 1"},
        "retryPolicy": {"maxAttempts": 5, "baseMs": 50, "maxMs": 100, "retryOn": ["exit_code"]},
        "retryOnAnotherNode": true,
    });
    let run = fleet.nodes[0].post("/api/execution/executions", &run);
    let of_chain =
        format!("FROM task_executions WHERE chain_id = '{}'", run["chainId"].as_str().unwrap());
    let ended = format!("SELECT count(*) {of_chain} AND status = 'failed'");
    let cluster = &fleet.cluster;
    fleet.nodes[0].until("five attempts failed", |_| cluster.query(&ended) == "5");
    let nodes = cluster.query(&format!("SELECT node_id {of_chain} ORDER BY attempt"));
    let nodes: Vec<&str> = nodes.lines().collect();
    assert!(nodes.windows(2).all(|pair| pair[0] != pair[1]), "{nodes:?}");
}

#[test]
fn late_results_of_a_frozen_node_are_refused_and_it_comes_back_as_another() {
    let mut fleet = Fleet::of(3);
    for round in 0..rounds() {
        let (run, victim) = fleet.pin(round % 3);
        let other = (victim + 1) % 3;
        let (before, refused) = (fleet.boots(), superseded(&fleet.nodes[victim]));
        let struck = Instant::now();
        kill_process(fleet.nodes[victim].pid(), Signal::STOP).unwrap();
        fleet.taken_over(&run, other, struck);
        kill_process(fleet.nodes[victim].pid(), Signal::CONT).unwrap();
        fleet.nodes[victim]
            .until("the late result is refused", |server| superseded(server) > refused);
        fleet.works_again(victim, &before);
    }
    fleet.check();
}

#[test]
fn a_node_cut_off_from_the_database_is_replaced_and_comes_back() {
    let mut fleet = Fleet::of(2);
    for round in 0..rounds() {
        let (run, victim) = fleet.pin(round % 2);
        let other = (victim + 1) % 2;
        let before = fleet.boots();
        let struck = Instant::now();
        fleet.networks[victim].set(Mood::Silent);
        fleet.taken_over(&run, other, struck);
        fleet.networks[victim].set(Mood::Open);
        fleet.works_again(victim, &before);
    }
    fleet.check();
}
