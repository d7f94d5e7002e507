//! Questions that wait while others are answered are answered together.
//!
//! One loop a kind of question: it takes what waits, has it answered, takes what came meanwhile. A
//! question that is alone is taken at once.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::store::{StoreError, StoreResult};

/// Questions answered together at most: bounds how long the first of them waits.
const TOGETHER_MAX: usize = 256;
/// Questions that may wait; who asks for more waits to be heard.
const WAITING_MAX: usize = 1_024;

/// A question and where its answer goes.
pub(super) struct Asked<Question, Answer> {
    pub(super) question: Question,
    answer: oneshot::Sender<StoreResult<Answer>>,
}

impl<Question, Answer> Asked<Question, Answer> {
    /// Answers it.
    pub(super) fn answer(self, result: StoreResult<Answer>) {
        // A caller that went away does not want its answer.
        drop(self.answer.send(result));
    }
}

/// Where questions wait for their turn.
pub(super) struct Together<Question, Answer> {
    asked: mpsc::Sender<Asked<Question, Answer>>,
}

impl<Question: Send + 'static, Answer: Send + 'static> Together<Question, Answer> {
    /// Starts the loop, which ends with this. With `patience` it waits so long at most for company:
    /// until as many are here as were answered or waited when the last were. Who was just answered
    /// may ask again in less, and would else be one of a second group.
    pub(super) fn start<Work, Done>(handle: &Handle, patience: Option<Duration>, work: Work) -> Self
    where
        Work: Fn(Vec<Asked<Question, Answer>>) -> Done + Send + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        let (asked, mut waiting) = mpsc::channel(WAITING_MAX);
        let own = handle.clone();
        handle.spawn(async move {
            let (mut group, mut enough) = (Vec::new(), 0);
            while waiting.recv_many(&mut group, TOGETHER_MAX).await > 0 {
                if let Some(patience) = patience {
                    gather(&mut waiting, &mut group, enough, patience).await;
                }
                let count = group.len();
                // A task of its own: what panics there ends neither this loop nor the next groups.
                if let Err(error) = own.spawn(work(std::mem::take(&mut group))).await {
                    tracing::error!(%error, count, "requests to the store were not answered");
                }
                enough = count + waiting.len();
            }
        });
        Self { asked }
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(&self, question: Question) -> StoreResult<Answer> {
        let closed = || StoreError::Unavailable("the store is closed".into());
        let (answer, answered) = oneshot::channel();
        self.asked.send(Asked { question, answer }).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }
}

/// Waits until the group has `enough`, as long as there is patience.
async fn gather<T>(
    waiting: &mut mpsc::Receiver<T>,
    group: &mut Vec<T>,
    enough: usize,
    patience: Duration,
) {
    let enough = enough.min(TOGETHER_MAX);
    let all_come = async {
        while group.len() < enough {
            let room = TOGETHER_MAX - group.len();
            if waiting.recv_many(group, room).await == 0 {
                return;
            }
        }
    };
    // What came is in the group, whether it is enough or not.
    let _is_enough = timeout(patience, all_come).await;
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(2);

    #[tokio::test(start_paused = true)]
    async fn a_group_waits_for_those_who_may_come_and_no_longer_than_a_moment() {
        let (sender, mut waiting) = mpsc::channel(8);
        let began = Instant::now();
        let mut group = vec![1];
        gather(&mut waiting, &mut group, 1, PATIENCE).await;
        assert_eq!((began.elapsed(), group.len()), (Duration::ZERO, 1), "alone");
        for number in 2..=3 {
            sender.send(number).await.unwrap();
        }
        gather(&mut waiting, &mut group, 3, PATIENCE).await;
        assert_eq!((began.elapsed(), group.len()), (Duration::ZERO, 3), "they are here");
        sender.send(4).await.unwrap();
        gather(&mut waiting, &mut group, 5, PATIENCE).await;
        assert_eq!((began.elapsed(), group.len()), (PATIENCE, 4), "one does not come");
    }

    #[tokio::test]
    async fn what_waits_is_answered_together_and_a_panic_ends_one_group_alone() {
        let handle = Handle::current();
        let work = |asked: Vec<Asked<u32, usize>>| async move {
            tokio::task::yield_now().await;
            assert!(asked.iter().all(|one| one.question > 0), "zero is refused");
            let count = asked.len();
            asked.into_iter().for_each(|one| one.answer(Ok(count)));
        };
        let together = Together::start(&handle, None, work);
        assert_eq!(together.ask(1).await.unwrap(), 1);
        assert!(matches!(together.ask(0).await, Err(StoreError::Unavailable(_))));
        let (a, b, c) = tokio::join!(together.ask(1), together.ask(2), together.ask(3));
        let most = [a, b, c].into_iter().map(Result::unwrap).max();
        assert!(most >= Some(2), "{most:?}");
    }
}
