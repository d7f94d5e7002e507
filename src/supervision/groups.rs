//! The threads that children run on, by group, for the whole tree.
//!
//! A group is pinned to one arbiter (a thread with its own event loop), made when its first child
//! is launched. No thread can be killed, so one that is blocked is abandoned: the group gets a new
//! arbiter with the next epoch, every supervisor sees the move and relaunches its children of the
//! group there, and the old thread ends by itself if it ever comes back.
//!
//! All of this lives on the supervisors' own thread, which never runs a child.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::{Arbiter, ArbiterHandle};
use tokio::sync::watch;

use super::spec::GroupName;

/// How long the tree waits for its threads to end when it is closed; a blocked one is left behind.
const JOIN_DEADLINE: Duration = Duration::from_secs(2);

/// Which life is being run on a thread right now: at most one, as it is one thread.
#[derive(Debug, Default)]
pub(crate) struct Busy(AtomicU64);

impl Busy {
    pub(crate) fn enter(&self, life: u64) {
        self.0.store(life, Ordering::Release);
    }

    pub(crate) fn leave(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// The life that is being run, if any.
    pub(crate) fn owner(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Acquire)).filter(|life| *life != 0)
    }
}

/// A place on a thread.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) handle: ArbiterHandle,
    pub(crate) epoch: u64,
    pub(crate) busy: Arc<Busy>,
}

/// All groups of a tree.
pub(crate) struct Groups {
    current: RefCell<HashMap<GroupName, (Arbiter, Place)>>,
    abandoned: RefCell<Vec<Arbiter>>,
    moves: watch::Sender<u64>,
}

impl Groups {
    pub(crate) fn new() -> Self {
        Self {
            current: RefCell::new(HashMap::new()),
            abandoned: RefCell::new(Vec::new()),
            moves: watch::Sender::new(0),
        }
    }

    /// Sees every move of a group.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }

    /// The place of a group, made when it has none.
    pub(crate) fn place(&self, group: &GroupName) -> io::Result<Place> {
        if let Some((_, place)) = self.current.borrow().get(group) {
            return Ok(place.clone());
        }
        self.renew(group, 1)
    }

    /// Gives a group a new thread, unless somebody has done so since `epoch`.
    pub(crate) fn replace(&self, group: &GroupName, epoch: u64) -> io::Result<Place> {
        if let Some((_, place)) = self.current.borrow().get(group)
            && place.epoch != epoch
        {
            return Ok(place.clone());
        }
        let place = self.renew(group, epoch.saturating_add(1))?;
        self.moves.send_modify(|moves| *moves = moves.wrapping_add(1));
        Ok(place)
    }

    fn renew(&self, group: &GroupName, epoch: u64) -> io::Result<Place> {
        let arbiter = Arbiter::try_new()?;
        let place = Place { handle: arbiter.handle(), epoch, busy: Arc::default() };
        let old = self.current.borrow_mut().insert(group.clone(), (arbiter, place.clone()));
        if let Some((old, _)) = old {
            old.stop();
            self.abandoned.borrow_mut().push(old);
        }
        Ok(place)
    }

    /// The epoch a group is in.
    pub(crate) fn epoch(&self, group: &GroupName) -> Option<u64> {
        self.current.borrow().get(group).map(|(_, place)| place.epoch)
    }

    /// Ends all threads and waits for them; returns how many are blocked and were left behind.
    pub(crate) async fn close(&self) -> usize {
        let current = self.current.take().into_values().map(|(arbiter, _)| arbiter);
        let all: Vec<Arbiter> = current.chain(self.abandoned.take()).collect();
        let mut joins = Vec::new();
        for arbiter in all {
            arbiter.stop();
            let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
            let joiner = std::thread::Builder::new().name("supervision-join".to_owned());
            let spawned = joiner.spawn(move || {
                drop(arbiter.join());
                drop(sender);
            });
            if spawned.is_ok() {
                joins.push(receiver);
            }
        }
        let deadline = tokio::time::Instant::now() + JOIN_DEADLINE;
        let mut left = 0;
        for join in joins {
            if tokio::time::timeout_at(deadline, join).await.is_err() {
                left += 1;
            }
        }
        left
    }
}
