//! Hangs: told from slowness, ended without killing a thread, moved as a group.

use std::time::{Duration, Instant};

use carillon::supervision::{AskError, CrashKind, NodeState, Strategy};

use super::probe::*;

const HEARTBEAT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_context_that_waits_forever_is_restarted_and_its_queue_answered() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec.heartbeat(HEARTBEAT)]).await;
    actor.try_send(WaitForever).unwrap();
    assert_eq!(actor.ask(Ping, PATIENCE).await, Ok((2, 1)));
    let crash = tree.find("a").unwrap().last_crash.unwrap();
    assert_eq!(crash.kind, CrashKind::Hang);
    tree.shutdown().await;
    assert_eq!(lab.alive(), 0);
}

#[tokio::test]
async fn a_blocked_thread_moves_its_whole_group_and_charges_only_the_culprit() {
    let lab = Lab::default();
    let (a_ref, a) = lab.probe("a");
    let (b_ref, b) = lab.probe("b");
    let (c_ref, c) = lab.probe("c");
    let shared = |spec: carillon::supervision::ChildSpec| spec.heartbeat(HEARTBEAT).on("shared");
    let inner = supervisor(Strategy::OneForOne, vec![shared(b)]);
    let inner = carillon::supervision::ChildSpec::supervisor("inner", inner);
    let tree = grow(Strategy::OneForOne, vec![shared(a), inner, c.on("apart")]).await;
    let (release, block) = std::sync::mpsc::channel();
    let blocked = tokio::spawn({
        let a_ref = a_ref.clone();
        async move { a_ref.ask(Block(block), PATIENCE).await }
    });
    until(&tree, "a", |node| node.handled == Some(1)).await;
    let (waiting, neighbour) = tokio::join!(a_ref.ask(Ping, PATIENCE), b_ref.ask(Ping, PATIENCE));
    assert_eq!((waiting, neighbour), (Ok((2, 1)), Ok((2, 1))));
    assert_eq!(tree.find("a").unwrap().last_crash.unwrap().kind, CrashKind::Hang);
    assert_eq!(tree.find("inner.b").unwrap().last_crash, None);
    assert_eq!(tree.find("inner").unwrap().restarts_in_window, Some(0));
    assert_eq!(c_ref.ask(Ping, PATIENCE).await, Ok((1, 1)));

    // The stale life wakes up and finds that it is over: its answer is lost, its queue not its.
    drop(release);
    let late = blocked.await.unwrap();
    assert!(matches!(late, Ok(()) | Err(AskError::Crashed)), "{late:?}");
    assert_eq!(a_ref.ask(Ping, PATIENCE).await, Ok((2, 2)));
    tree.shutdown().await;
    assert_eq!(lab.alive(), 0);
}

#[tokio::test]
async fn a_thread_that_stays_blocked_does_not_hold_up_the_shutdown() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let spec = spec.shutdown(Duration::from_millis(50));
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    let (release, block) = std::sync::mpsc::channel();
    actor.try_send(Block(block)).unwrap();
    until(&tree, "a", |node| node.handled == Some(1)).await;
    tokio::time::timeout(PATIENCE, tree.shutdown()).await.unwrap();
    drop(release);
}

#[tokio::test]
async fn a_protected_wait_is_no_hang() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec.heartbeat(HEARTBEAT)]).await;
    let guard = actor.ask(Protect, PATIENCE).await.unwrap();
    actor.try_send(WaitForever).unwrap();
    let begin = Instant::now();
    while begin.elapsed() < HEARTBEAT * 3 {
        let node = tree.find("a").unwrap();
        assert_eq!((node.generation, node.state), (1, NodeState::Running));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(guard);
    runs_after(&tree, "a", 1).await;
    tree.shutdown().await;
}

#[tokio::test]
async fn an_actor_that_promised_passes_and_makes_none_is_hung() {
    let lab = Lab::default();
    let (_actor, spec) = lab.probe("a");
    let spec = spec.pass_deadline(Duration::from_millis(200));
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    let crash = runs_after(&tree, "a", 1).await.last_crash.unwrap();
    assert_eq!(crash.kind, CrashKind::Hang);
    assert!(crash.reason.starts_with("no pass"), "{}", crash.reason);
    tree.shutdown().await;
}
