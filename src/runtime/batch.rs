//! Group commit without a thread of its own.
//!
//! Callers that arrive while an operation is under way wait together and go into the next one.
//! Whoever finds nobody leading leads: it takes everything that waits, runs the operation once,
//! hands out the answers and passes the lead on. The caller says what the leader waits for before
//! it takes what waits; by itself a batcher adds no delay, and there is no
//! background task that could die: a leader that panics or is dropped leaves its batch answered
//! with [`Abandoned`] and the lead to the next one.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The leader of the batch went away before it answered; the operation may have taken effect.
#[derive(Debug, thiserror::Error)]
#[error("the batch was abandoned by its leader")]
pub struct Abandoned;

/// Collects requests into batches of at most `max`.
pub struct Batcher<Request, Answer> {
    queue: Arc<Mutex<Queue<Request, Answer>>>,
    max: usize,
}

struct Queue<Request, Answer> {
    waiting: VecDeque<Waiting<Request, Answer>>,
    led: bool,
}

struct Waiting<Request, Answer> {
    request: Request,
    turn: oneshot::Sender<Turn<Request, Answer>>,
}

enum Turn<Request, Answer> {
    Done(Answer),
    /// Lead: the request comes back to go into the batch.
    Lead(Request, Lead<Request, Answer>),
}

/// The right to lead. Dropping it passes it on, also when the leader panics, is dropped, or was
/// dropped before it learned that it leads.
struct Lead<Request, Answer>(Arc<Mutex<Queue<Request, Answer>>>);

impl<Request, Answer> Drop for Lead<Request, Answer> {
    fn drop(&mut self) {
        let next = {
            let mut queue = self.0.lock();
            let next = queue.waiting.pop_front();
            queue.led = next.is_some();
            next
        };
        if let Some(next) = next {
            // A waiter that is gone drops the lead it was sent, which passes it on again.
            drop(next.turn.send(Turn::Lead(next.request, Self(self.0.clone()))));
        }
    }
}

impl<Request, Answer> Batcher<Request, Answer> {
    /// A batcher of batches of at most `max` requests.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let queue = Queue { waiting: VecDeque::new(), led: false };
        Self { queue: Arc::new(Mutex::new(queue)), max: max.max(1) }
    }

    /// Puts `request` into a batch; `operate` runs the batch and gives one answer a request, in
    /// order. Before, the leader awaits `ready`, which is told how many requests are here and may
    /// wait for more. Every caller must pass the same two.
    ///
    /// # Errors
    /// [`Abandoned`] when the leader of the batch went away.
    pub async fn submit<Ready, Operate>(
        &self,
        request: Request,
        ready: Ready,
        operate: Operate,
    ) -> Result<Answer, Abandoned>
    where
        Ready: AsyncFnOnce(usize),
        Operate: AsyncFnOnce(Vec<Request>) -> Vec<Answer>,
    {
        let (request, lead) = match self.enter(request) {
            Ok(leading) => leading,
            Err(turn) => match turn.await.map_err(|_| Abandoned)? {
                Turn::Done(answer) => return Ok(answer),
                Turn::Lead(request, lead) => (request, lead),
            },
        };
        let here = self.queue.lock().waiting.len() + 1;
        ready(here).await;
        let mut requests = vec![request];
        let mut turns = Vec::new();
        {
            let mut queue = self.queue.lock();
            let count = queue.waiting.len().min(self.max - 1);
            for waiting in queue.waiting.drain(..count) {
                requests.push(waiting.request);
                turns.push(waiting.turn);
            }
        }
        let mut answers = operate(requests).await.into_iter();
        let own = answers.next();
        drop(lead);
        for (turn, answer) in turns.into_iter().zip(answers) {
            // The caller may have gone away; its answer has no other use.
            drop(turn.send(Turn::Done(answer)));
        }
        own.ok_or(Abandoned)
    }

    fn enter(
        &self,
        request: Request,
    ) -> Result<Leading<Request, Answer>, NextTurn<Request, Answer>> {
        let mut queue = self.queue.lock();
        if !queue.led {
            queue.led = true;
            return Ok((request, Lead(self.queue.clone())));
        }
        let (turn, answer) = oneshot::channel();
        queue.waiting.push_back(Waiting { request, turn });
        Err(answer)
    }
}

type Leading<Request, Answer> = (Request, Lead<Request, Answer>);
type NextTurn<Request, Answer> = oneshot::Receiver<Turn<Request, Answer>>;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn requests_that_wait_share_one_operation_and_each_gets_its_own_answer() {
        let batcher = Arc::new(Batcher::<u32, u32>::new(100));
        let operations = Arc::new(AtomicUsize::new(0));
        let mut callers = Vec::new();
        for n in 0..50_u32 {
            let (batcher, operations) = (batcher.clone(), operations.clone());
            callers.push(tokio::spawn(async move {
                batcher
                    .submit(
                        n,
                        async |_| (),
                        async |batch| {
                            operations.fetch_add(1, Ordering::Relaxed);
                            tokio::task::yield_now().await;
                            batch.into_iter().map(|n| n * 2).collect()
                        },
                    )
                    .await
                    .unwrap()
            }));
        }
        for (n, caller) in callers.into_iter().enumerate() {
            assert_eq!(caller.await.unwrap() as usize, n * 2);
        }
        assert!(operations.load(Ordering::Relaxed) <= 3);
    }

    #[tokio::test]
    async fn what_comes_while_the_leader_waits_is_in_its_batch() {
        let batcher = Batcher::<u32, usize>::new(100);
        let second = tokio::sync::Notify::new();
        let first = batcher.submit(
            1,
            async |here| {
                assert_eq!(here, 1);
                second.notified().await;
            },
            async |batch| vec![batch.len(); batch.len()],
        );
        let late = async {
            let late = batcher.submit(2, async |_| (), async |_| Vec::new());
            second.notify_one();
            late.await
        };
        let (first, late) = tokio::join!(first, late);
        assert_eq!((first.unwrap(), late.unwrap()), (2, 2));
    }

    #[tokio::test]
    async fn a_leader_that_panics_leaves_the_lead_to_the_next() {
        let batcher = Arc::new(Batcher::<u32, u32>::new(1));
        let first = batcher.clone();
        let leader = tokio::spawn(async move {
            first.submit(1, async |_| (), async |_| panic!("the leader dies")).await
        });
        assert!(leader.await.is_err());
        assert_eq!(batcher.submit(2, async |_| (), async |batch| batch).await.unwrap(), 2);
    }
}
