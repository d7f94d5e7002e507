//! Requests for one execution each share a transaction.
//!
//! Events are numbered by a counter that a transaction holds to its end, so that commits come one
//! after the other however many connections there are: many small ones cost a lock, a wake-up, a
//! handful of round trips and a commit each. Requests that wait while a group commits are made
//! together, by a few statements, in the next ([`Together`]). A request that is alone is made at
//! once.
//!
//! Grouped is what needs nothing of others: a request with a key or a limit reads and locks what
//! exists, and has a transaction of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;
use uuid::Uuid;

use super::queries::audit::{self, ActNote};
use super::queries::{Op, Tx, creating, op};
use super::together::{Asked, Together};
use super::{Core, STATEMENT_MAX};
use crate::domain::event::NewEvent;
use crate::domain::execution::{Execution, NewExecution};
use crate::domain::execution_event::ExecutionEvent;
use crate::store::acts::BoundAct;
use crate::store::op::OpResult;
use crate::store::{Creation, ExecutionCreate, StoreError, StoreResult};

/// The operation that is grouped: what plans faults calls it.
const NAME: &str = "execution_create";
/// How long a group waits for company; less than it saves, the round trips and the commit of one.
const PATIENCE: Duration = Duration::from_millis(2);

/// A request that asks for one run and nothing else, with the act that it belongs to.
pub(crate) struct PlainCreation {
    request: ExecutionCreate,
    act: Option<Arc<BoundAct>>,
}

impl PlainCreation {
    /// True for a request that names no key and no limit: it needs nothing of others.
    pub(crate) const fn fits(request: &ExecutionCreate) -> bool {
        request.idempotency.is_none() && request.limit.is_none() && request.row.dedup_key.is_none()
    }

    /// A request that [fits](Self::fits).
    pub(crate) const fn new(request: ExecutionCreate, act: Option<Arc<BoundAct>>) -> Self {
        Self { request, act }
    }
}

/// Carries out one of them by itself.
async fn create_one(tx: &mut Tx, asked: &PlainCreation) -> OpResult<Creation<Execution>> {
    tx.begin_act(asked.act.clone());
    let made = creating::execution_create(tx, &asked.request).await?;
    audit::close(tx).await?;
    Ok(made)
}

/// Carries out many of them by a few statements; `None` for what met a unique index.
async fn create_all(tx: &mut Tx, asked: &[Arc<PlainCreation>]) -> OpResult<Vec<Option<Execution>>> {
    let rows = asked.iter().map(|one| Arc::new(one.request.row.clone())).collect();
    let starting = |rows: &[Arc<NewExecution>], now| {
        let each = rows.iter().zip(asked).enumerate();
        each.filter_map(|(place, (row, one))| {
            let claim = one.request.claim.as_ref()?;
            let starts = creating::places_to_start(std::slice::from_ref(row), Some(claim), now);
            (!starts.is_empty()).then_some((place, claim))
        })
        .collect()
    };
    let made = creating::insert_starting(tx, rows, starting).await?;
    let mut made: HashMap<Uuid, Execution> =
        made.into_iter().map(|execution| (execution.new.execution_id, execution)).collect();
    let answers: Vec<Option<Execution>> =
        asked.iter().map(|one| made.remove(&one.request.row.execution_id)).collect();
    let acts = asked.iter().zip(&answers).filter_map(|(one, made)| {
        let (act, made) = (one.act.as_deref()?, made.as_ref()?);
        let event = NewEvent::from(ExecutionEvent::created(made));
        Some(audit::line_of(act, ActNote::default(), Some(&event)))
    });
    audit::insert(tx, acts.collect()).await?;
    Ok(answers)
}

/// A request for an execution.
type Request = Asked<Arc<PlainCreation>, Creation<Execution>>;

/// Where requests wait for their group.
pub(super) struct Groups(Together<Arc<PlainCreation>, Creation<Execution>>);

impl Groups {
    /// Starts the loop that makes the groups; it ends with the store.
    pub(super) fn start(handle: &Handle, core: &Arc<Core>) -> Self {
        let core = Arc::clone(core);
        let work = move |requests| make(Arc::clone(&core), requests);
        Self(Together::start(handle, Some(PATIENCE), work))
    }

    /// Makes an execution in the next group.
    pub(super) async fn create(&self, asked: PlainCreation) -> StoreResult<Creation<Execution>> {
        self.0.ask(Arc::new(asked)).await
    }
}

async fn make(core: Arc<Core>, requests: Vec<Request>) {
    if requests.len() == 1 {
        for request in requests {
            make_one(&core, request).await;
        }
        return;
    }
    let asked: Vec<_> = requests.iter().map(|request| Arc::clone(&request.question)).collect();
    match write(&core, all_of(asked)).await {
        Ok(made) => {
            for (request, made) in requests.into_iter().zip(made) {
                match made {
                    Some(execution) => request.answer(Ok(Creation::New(execution))),
                    // By itself it is told what is in its way.
                    None => make_one(&core, request).await,
                }
            }
        }
        // It may or may not have been made.
        Err(error @ StoreError::Unavailable(_)) => {
            for request in requests {
                request.answer(Err(error.repeated()));
            }
        }
        // Nothing was: what one asked for spoils no other's.
        Err(error) => {
            tracing::debug!(%error, requests = requests.len(), "a group is made one by one");
            for request in requests {
                make_one(&core, request).await;
            }
        }
    }
}

async fn make_one(core: &Core, request: Request) {
    let made = write(core, one_of(Arc::clone(&request.question))).await;
    request.answer(made);
}

async fn write<T>(core: &Core, work: Op<T>) -> StoreResult<T> {
    let late = |_| StoreError::Unavailable(format!("{NAME} took too long"));
    timeout(STATEMENT_MAX * 2, core.write(NAME, &work)).await.map_err(late)?
}

fn one_of(asked: Arc<PlainCreation>) -> Op<Creation<Execution>> {
    op(move |tx| {
        let asked = Arc::clone(&asked);
        Box::pin(async move { create_one(tx, &asked).await })
    })
}

fn all_of(asked: Vec<Arc<PlainCreation>>) -> Op<Vec<Option<Execution>>> {
    let asked: Arc<[_]> = asked.into();
    op(move |tx| {
        let asked = Arc::clone(&asked);
        Box::pin(async move { create_all(tx, &asked).await })
    })
}
