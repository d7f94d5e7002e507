//! Supervisors as children: limits, escalation, giving up, crashes of their own.

use std::time::Duration;

use carillon::supervision::{
    Backoff, ChildSpec, CrashKind, CrashMode, NodeState, RestartLimit, SendError, Strategy,
    SupervisorSpec,
};

use super::probe::*;

fn hasty(spec: ChildSpec) -> ChildSpec {
    let first = Duration::from_millis(1);
    spec.backoff(Backoff { first, max: first, ..Backoff::default() })
}

fn limited(restarts: usize, children: Vec<ChildSpec>) -> SupervisorSpec {
    let limit = RestartLimit { restarts, within: Duration::from_secs(60) };
    SupervisorSpec { strategy: Strategy::OneForOne, limit, children }
}

#[tokio::test]
async fn a_supervisor_over_its_limit_is_restarted_by_its_parent_with_all_its_children() {
    let lab = Lab::default();
    let (a_ref, a) = lab.probe("a");
    let (b_ref, b) = lab.probe("b");
    let (c_ref, c) = lab.probe("c");
    let inner = ChildSpec::supervisor("inner", limited(2, vec![hasty(a), b]));
    let tree = grow(Strategy::OneForOne, vec![inner, c]).await;
    for generation in 1..=3 {
        a_ref.try_send(Boom).unwrap();
        runs_after(&tree, "inner.a", generation).await;
    }
    let inner = runs_after(&tree, "inner", 1).await;
    let crash = inner.last_crash.unwrap();
    assert_eq!(crash.kind, CrashKind::Panic);
    assert!(crash.reason.contains("more than 2 restarts"), "{}", crash.reason);
    assert!(crash.reason.contains("inner.a: boom in a"), "{}", crash.reason);
    assert_eq!(b_ref.ask(Ping, PATIENCE).await, Ok((2, 1)));
    assert_eq!(c_ref.ask(Ping, PATIENCE).await, Ok((1, 1)));
    assert_eq!(tree.report().restarts_in_window, Some(1));
    tree.shutdown().await;
    assert_eq!(lab.alive(), 0);
}

#[tokio::test]
async fn a_root_over_its_limit_gives_up_and_leaves_nothing_running() {
    let lab = Lab::default();
    let (a_ref, a) = lab.probe("a");
    let (b_ref, b) = lab.probe("b");
    let tree = grow_from(limited(1, vec![hasty(a), b])).await;
    a_ref.try_send(Boom).unwrap();
    runs_after(&tree, "a", 1).await;
    a_ref.try_send(Boom).unwrap();
    tokio::time::timeout(PATIENCE, tree.gave_up()).await.unwrap();
    let root = until(&tree, "root", |node| node.state == NodeState::Failed).await;
    assert!(root.last_crash.unwrap().reason.contains("more than 1 restarts"));
    assert_eq!(b_ref.try_send(Ping), Err(SendError::Gone));
    tree.shutdown().await;
    assert_eq!(lab.alive(), 0);
}

#[tokio::test]
async fn a_supervisor_survives_an_injected_crash_in_every_mode() {
    let lab = Lab::default();
    let (a_ref, a) = lab.probe("a");
    let (b_ref, b) = lab.probe("b");
    let inner = ChildSpec::supervisor("inner", supervisor(Strategy::OneForOne, vec![a]));
    let inner = inner.heartbeat(Duration::from_millis(300));
    let tree = grow(Strategy::OneForOne, vec![inner, b]).await;
    for (generation, mode) in [(1, CrashMode::Panic), (2, CrashMode::Hang), (3, CrashMode::Stop)] {
        tree.crash("inner", mode).await.unwrap();
        runs_after(&tree, "inner", generation).await;
        assert_eq!(a_ref.ask(Ping, PATIENCE).await, Ok((generation + 1, 1)), "{mode:?}");
        assert_eq!(lab.alive(), 2, "{mode:?}");
    }
    assert_eq!(b_ref.ask(Ping, PATIENCE).await, Ok((1, 1)));
    tree.shutdown().await;
    assert_eq!(lab.alive(), 0);
}

#[tokio::test]
async fn a_root_that_crashes_is_restarted_with_everything() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    tree.crash("root", CrashMode::Panic).await.unwrap();
    runs_after(&tree, "root", 1).await;
    assert_eq!(actor.ask(Ping, PATIENCE).await, Ok((2, 1)));
    tree.shutdown().await;
    assert_eq!(lab.alive(), 0);
}

#[tokio::test]
async fn a_crash_of_a_supervisor_frees_its_children_from_a_blocked_thread() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let inner = ChildSpec::supervisor("inner", supervisor(Strategy::OneForOne, vec![spec]));
    let tree = grow(Strategy::OneForOne, vec![inner]).await;
    let (release, block) = std::sync::mpsc::channel();
    actor.try_send(Block(block)).unwrap();
    until(&tree, "inner.a", |node| node.handled == Some(1)).await;
    tree.crash("inner", CrashMode::Panic).await.unwrap();
    assert_eq!(actor.ask(Ping, PATIENCE).await, Ok((2, 1)));
    drop(release);
    tree.shutdown().await;
}
