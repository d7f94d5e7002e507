//! The state machines, driven at random on the real store and compared with a small model after
//! every step: executions (which transitions are allowed, and by whom), leases (beats, goodbyes,
//! takeovers, late ends), retry chains (one attempt at a time, each once). The clock is injected,
//! so leases run out and retries become due when the history says so.

use std::collections::{BTreeMap, BTreeSet};

use carillon::clock::Timestamp;
use carillon::domain::error_record::RecoveryDecision;
use carillon::domain::execution::{Execution, ExecutionStatus};
use carillon::store::{
    CancelResult, ClaimHere, ExecutionFilter, ExecutionKey, Finish, FinishResult, RetryStart,
};
use chrono::Duration;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use super::fixtures::{
    Bench, PERMANENT, SPENT, cancelled, claimant, completed, failed, page, retry_of, row,
};

/// Histories a back end.
const HISTORIES: usize = 20;
/// The lease of a boot, as [`Bench::register`] takes it, and the grace of those who take over.
const LEASE: Duration = Duration::seconds(30);
const GRACE: Duration = Duration::seconds(5);

/// How an attempt ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Completed,
    Cancelled,
    Permanent,
    Spent,
    /// A failure that is tried again after so many seconds.
    RetryIn(i64),
}

/// Something that happens. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Create(usize),
    CreateHere {
        boot: usize,
        rows: usize,
        slots: usize,
    },
    Claim {
        boot: usize,
        slots: usize,
    },
    /// Any boot tries to end any row, in whatever state.
    Finish {
        boot: usize,
        row: usize,
        ending: Ending,
    },
    /// The owner ends what it runs.
    FinishOwn {
        row: usize,
        ending: Ending,
    },
    Cancel(usize),
    Beat(usize),
    Boot,
    Goodbye(usize),
    /// What lost boots ran is ended, to be tried again at once.
    Sweep,
    /// What is due is tried again: twice, as two nodes would; perhaps claimed at once.
    Retry {
        boot: Option<usize>,
    },
    Pass(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ending = || {
        prop_oneof![
            3 => Just(Ending::Completed),
            1 => Just(Ending::Cancelled),
            1 => Just(Ending::Permanent),
            1 => Just(Ending::Spent),
            4 => (0_i64..40).prop_map(Ending::RetryIn),
        ]
    };
    let step = prop_oneof![
        3 => (1_usize..4).prop_map(Step::Create),
        2 => (0_usize..9, 1_usize..4, 0_usize..4)
            .prop_map(|(boot, rows, slots)| Step::CreateHere { boot, rows, slots }),
        5 => (0_usize..9, 1_usize..4).prop_map(|(boot, slots)| Step::Claim { boot, slots }),
        3 => (0_usize..9, 0_usize..99, ending())
            .prop_map(|(boot, row, ending)| Step::Finish { boot, row, ending }),
        6 => (0_usize..99, ending()).prop_map(|(row, ending)| Step::FinishOwn { row, ending }),
        2 => (0_usize..99).prop_map(Step::Cancel),
        4 => (0_usize..9).prop_map(Step::Beat),
        1 => Just(Step::Boot),
        1 => (0_usize..9).prop_map(Step::Goodbye),
        3 => Just(Step::Sweep),
        4 => prop::option::of(0_usize..9).prop_map(|boot| Step::Retry { boot }),
        4 => (0_i64..25).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 20..60)
}

#[derive(Clone, Debug)]
struct Attempt {
    status: ExecutionStatus,
    owner: Option<Uuid>,
    chain: Uuid,
    number: i32,
    available_at: Timestamp,
    cancel_requested: bool,
}

#[derive(Clone, Debug)]
struct Boot {
    claim: ClaimHere,
    until: Timestamp,
    said_goodbye: bool,
}

/// The model: what should be there.
struct Model<'a> {
    bench: &'a Bench,
    /// On a file, a new boot ends the leases of all others two seconds from then.
    is_file: bool,
    boots: Vec<Boot>,
    attempts: BTreeMap<i64, Attempt>,
    /// Chains that wait for their next attempt, and since when it is due.
    retries: BTreeMap<Uuid, Timestamp>,
}

impl<'a> Model<'a> {
    async fn new(bench: &'a Bench) -> Self {
        let is_file = bench.store.backend_name() == "sqlite";
        let (attempts, retries) = (BTreeMap::new(), BTreeMap::new());
        let mut model = Self { bench, is_file, boots: Vec::new(), attempts, retries };
        model.boot().await;
        model
    }

    async fn boot(&mut self) {
        let claim = claimant(0);
        self.bench.register(&claim).await;
        let now = self.bench.now();
        if self.is_file {
            for boot in &mut self.boots {
                boot.until = boot.until.min(now + Duration::seconds(2));
            }
        }
        self.boots.push(Boot { claim, until: now + LEASE, said_goodbye: false });
    }

    fn claim(&self, boot: usize, slots: usize) -> ClaimHere {
        ClaimHere { slots, ..self.boots[boot % self.boots.len()].claim.clone() }
    }

    /// Takes in rows that the store made: the first `slots` of them run at once.
    fn made(&mut self, rows: &[Execution], claim: Option<&ClaimHere>) {
        let running = rows.iter().filter(|row| row.status == ExecutionStatus::Running).count();
        assert_eq!(running, claim.map_or(0, |claim| claim.slots.min(rows.len())), "{rows:?}");
        for made in rows {
            let owner =
                (made.status == ExecutionStatus::Running).then(|| claim.unwrap().claimant.boot_id);
            let attempt = Attempt {
                status: made.status,
                owner,
                chain: made.new.chain_id,
                number: made.new.attempt,
                available_at: made.new.available_at,
                cancel_requested: false,
            };
            assert!(self.attempts.insert(made.id, attempt).is_none(), "an id was given twice");
        }
    }

    /// A row by its place, if there are any.
    fn any(&self, place: usize) -> Option<i64> {
        let count = self.attempts.len();
        (count > 0).then(|| *self.attempts.keys().nth(place % count).unwrap())
    }

    async fn row(&self, id: i64) -> Execution {
        self.bench.store.execution_get(ExecutionKey::Id(id)).await.unwrap()
    }

    async fn finish(&mut self, owner: Uuid, id: i64, ending: Ending) {
        let (row, now) = (self.row(id).await, self.bench.now());
        // A chain that somebody wants to end is not tried again, whoever decides.
        let ending = match ending {
            Ending::RetryIn(_) if self.attempts[&id].cancel_requested => Ending::Cancelled,
            other => other,
        };
        let finish = match ending {
            Ending::Completed => completed(&row),
            Ending::Cancelled => cancelled(&row),
            Ending::Permanent => failed(&row, PERMANENT),
            Ending::Spent => failed(&row, SPENT),
            Ending::RetryIn(seconds) => {
                failed(&row, RecoveryDecision::RetryAt(now + Duration::seconds(seconds)))
            }
        };
        let finish = Finish { lease_owner: owner, ..finish };
        let status = finish.status;
        let result = self.bench.store.execution_finish(vec![finish]).await.unwrap().remove(0);
        let attempt = self.attempts.get_mut(&id).unwrap();
        let holds = attempt.status == ExecutionStatus::Running && attempt.owner == Some(owner);
        assert_eq!(matches!(result, FinishResult::Done(_)), holds, "{ending:?} of {attempt:?}");
        if holds {
            attempt.status = status;
            if let Ending::RetryIn(seconds) = ending {
                self.retries.insert(attempt.chain, now + Duration::seconds(seconds));
            }
        }
    }

    /// What boots that are gone ran.
    fn lost(&self) -> BTreeSet<i64> {
        let oldest = self.bench.now() - GRACE;
        let holds = |owner: Option<Uuid>| {
            self.boots.iter().any(|boot| {
                Some(boot.claim.claimant.boot_id) == owner
                    && !boot.said_goodbye
                    && boot.until >= oldest
            })
        };
        let running = |one: &Attempt| one.status == ExecutionStatus::Running;
        let lost = self.attempts.iter().filter(|(_, one)| running(one) && !holds(one.owner));
        lost.map(|(id, _)| *id).collect()
    }

    async fn sweep(&mut self) {
        let grace = GRACE.to_std().unwrap();
        let found = self.bench.store.execution_list_expired(grace, 1_000).await.unwrap();
        let ids: BTreeSet<i64> = found.iter().map(|row| row.id).collect();
        assert_eq!(ids, self.lost());
        for row in found {
            self.finish(row.lease_owner.unwrap(), row.id, Ending::RetryIn(0)).await;
        }
    }

    async fn claim_what_waits(&mut self, boot: usize, slots: usize) {
        let claim = self.claim(boot, slots);
        let (owner, now) = (claim.claimant.boot_id, self.bench.now());
        let mut waiting: Vec<(Timestamp, i64)> = self
            .attempts
            .iter()
            .filter(|(_, one)| one.status == ExecutionStatus::Pending && one.available_at <= now)
            .map(|(id, one)| (one.available_at, *id))
            .collect();
        waiting.sort_unstable();
        let expected: BTreeSet<i64> = waiting.iter().take(slots).map(|(_, id)| *id).collect();
        let rows = self.bench.store.execution_claim(claim).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.id).collect::<BTreeSet<_>>(), expected);
        for id in expected {
            let attempt = self.attempts.get_mut(&id).unwrap();
            (attempt.status, attempt.owner) = (ExecutionStatus::Running, Some(owner));
        }
    }

    async fn retry(&mut self, boot: Option<usize>) {
        let (store, now) = (&self.bench.store, self.bench.now());
        let due = store.error_list_due(now, 1_000).await.unwrap();
        let chains: BTreeSet<Uuid> = due.iter().map(|(_, failed)| failed.new.chain_id).collect();
        let expected = self.retries.iter().filter(|(_, at)| **at <= now).map(|(chain, _)| *chain);
        assert_eq!(chains, expected.collect());
        let starts: Vec<RetryStart> = due
            .into_iter()
            .map(|(record, failed)| RetryStart {
                error_id: record.id,
                expected_next_retry_at: record.next_retry_at,
                execution: retry_of(&failed, now),
            })
            .collect();
        let claim = boot.map(|boot| self.claim(boot, 2));
        let made = store.error_start_retries(starts.clone(), claim.clone()).await.unwrap();
        let again = store.error_start_retries(starts, claim.clone()).await.unwrap();
        assert!(again.is_empty(), "an attempt was started twice");
        assert_eq!(made.len(), chains.len());
        self.retries.retain(|chain, _| !chains.contains(chain));
        let rows: Vec<Execution> = made.into_iter().map(|(_, row)| row).collect();
        self.made(&rows, claim.as_ref());
    }

    async fn cancel(&mut self, id: i64) {
        let result = self.bench.store.execution_cancel(ExecutionKey::Id(id)).await.unwrap();
        let attempt = self.attempts.get_mut(&id).unwrap();
        match result {
            CancelResult::Cancelled(_) => {
                assert_eq!(attempt.status, ExecutionStatus::Pending);
                attempt.status = ExecutionStatus::Cancelled;
            }
            CancelResult::Requested(_) => {
                assert_eq!(attempt.status, ExecutionStatus::Running);
                attempt.cancel_requested = true;
            }
            CancelResult::AlreadyFinished(_) => assert!(attempt.status.is_terminal()),
        }
    }

    async fn beat(&mut self, place: usize) {
        let (place, now) = (place % self.boots.len(), self.bench.now());
        let boot_id = self.boots[place].claim.claimant.boot_id;
        let lease = LEASE.to_std().unwrap();
        let confirmed = self.bench.store.node_beat(boot_id, lease).await.unwrap();
        let boot = &mut self.boots[place];
        let expected = !boot.said_goodbye && boot.until >= now - LEASE / 6;
        assert_eq!(confirmed, expected, "{boot:?} at {now}");
        if confirmed {
            boot.until = now + LEASE;
        }
    }

    async fn take(&mut self, step: Step) {
        let store = &self.bench.store;
        match step {
            Step::Create(count) => {
                let made = self.bench.pending(count).await;
                self.made(&made, None);
            }
            Step::CreateHere { boot, rows, slots } => {
                let (claim, now) = (self.claim(boot, slots), self.bench.now());
                let rows = (0..rows).map(|_| row(now)).collect();
                let made = store.execution_create_batch(rows, Some(claim.clone())).await.unwrap();
                self.made(&made, Some(&claim));
            }
            Step::Claim { boot, slots } => self.claim_what_waits(boot, slots).await,
            Step::Finish { boot, row, ending } => {
                if let Some(id) = self.any(row) {
                    let owner = self.claim(boot, 0).claimant.boot_id;
                    self.finish(owner, id, ending).await;
                }
            }
            Step::FinishOwn { row, ending } => {
                let own = self.any(row).and_then(|id| Some((id, self.attempts[&id].owner?)));
                if let Some((id, owner)) = own {
                    self.finish(owner, id, ending).await;
                }
            }
            Step::Cancel(row) => {
                if let Some(id) = self.any(row) {
                    self.cancel(id).await;
                }
            }
            Step::Beat(boot) => self.beat(boot).await,
            Step::Boot => self.boot().await,
            Step::Goodbye(boot) => {
                let boot_id = self.claim(boot, 0).claimant.boot_id;
                store.node_stop(boot_id).await.unwrap();
                let count = self.boots.len();
                self.boots[boot % count].said_goodbye = true;
            }
            Step::Sweep => self.sweep().await,
            Step::Retry { boot } => self.retry(boot).await,
            Step::Pass(seconds) => self.bench.advance(seconds.unsigned_abs()),
        }
    }

    /// The store says what the model says; `before` is what it said a step ago.
    async fn compare(
        &self,
        before: &BTreeMap<i64, ExecutionStatus>,
    ) -> BTreeMap<i64, ExecutionStatus> {
        let filter = ExecutionFilter::default();
        let rows = self.bench.store.execution_list(filter, page(10_000)).await.unwrap().items;
        let rows: Vec<&Execution> =
            rows.iter().filter(|row| self.attempts.contains_key(&row.id)).collect();
        assert_eq!(rows.len(), self.attempts.len());
        let mut alive: BTreeSet<Uuid> = BTreeSet::new();
        for row in &rows {
            let attempt = &self.attempts[&row.id];
            assert_eq!((row.status, row.lease_owner), (attempt.status, attempt.owner), "{row:?}");
            assert_eq!((row.new.chain_id, row.new.attempt), (attempt.chain, attempt.number));
            assert_eq!(row.cancel_requested_at.is_some(), attempt.cancel_requested);
            if let Some(was) = before.get(&row.id) {
                let allowed = *was == row.status || was.may_become(row.status);
                assert!(allowed, "{was} became {}", row.status);
            }
            let is_alive = !row.status.is_terminal() || self.retries.contains_key(&attempt.chain);
            if !row.status.is_terminal() {
                assert!(alive.insert(attempt.chain), "two attempts of a chain at once");
                assert!(!self.retries.contains_key(&attempt.chain), "and one that waits");
            }
            assert!(is_alive || row.completed_at.is_some(), "{row:?}");
        }
        rows.iter().map(|row| (row.id, row.status)).collect()
    }
}

/// The steps of a history, told only when it fails: a failing one becomes a test of its own.
#[derive(Default)]
struct Told(Vec<String>);

impl Drop for Told {
    #[expect(clippy::print_stderr, reason = "for whoever reads the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0.join("\n"));
        }
    }
}

pub(super) async fn random_histories_agree_with_the_model(bench: &Bench) {
    let mut runner = TestRunner::default();
    let mut told = Told::default();
    for number in 0..HISTORIES {
        let history = steps().new_tree(&mut runner).unwrap().current();
        let mut model = Model::new(bench).await;
        // What an earlier history left over would be claimed by this one.
        let mut seen = BTreeMap::new();
        for (place, step) in history.iter().cloned().enumerate() {
            told.0.push(format!("history {number}, step {place}: {step:?}"));
            model.take(step).await;
            seen = model.compare(&seen).await;
        }
        model.wind_up().await;
        told.0.clear();
    }
}

impl Model<'_> {
    /// Ends all that is left, so that the next history finds nothing.
    async fn wind_up(&mut self) {
        self.boots.clear();
        self.bench.advance(3_600);
        self.boot().await;
        self.sweep().await;
        loop {
            self.retry(None).await;
            self.claim_what_waits(0, 1_000).await;
            let running: Vec<(i64, Uuid)> = self
                .attempts
                .iter()
                .filter(|(_, one)| one.status == ExecutionStatus::Running)
                .map(|(id, one)| (*id, one.owner.unwrap()))
                .collect();
            if running.is_empty() {
                return assert!(self.retries.is_empty());
            }
            for (id, owner) in running {
                self.finish(owner, id, Ending::Completed).await;
            }
        }
    }
}
