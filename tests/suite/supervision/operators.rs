//! Operators: restart, stop, start, crash, and what is refused.

use carillon::supervision::{
    AskError, ChildSpec, ControlError, CrashMode, NodeState, Notice, SendError, Strategy,
};
use parking_lot::Mutex;
use std::sync::Arc;

use super::probe::*;

#[tokio::test]
async fn a_restart_gives_a_fresh_actor_and_is_not_counted() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    for generation in 2..20 {
        assert_eq!(tree.restart("a").await.unwrap().generation, generation);
        assert_eq!(actor.ask(Ping, PATIENCE).await, Ok((generation, 1)));
    }
    assert_eq!(tree.report().restarts_in_window, Some(0));
    tree.shutdown().await;
}

#[tokio::test]
async fn a_stopped_actor_refuses_at_once_until_it_is_started() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    assert_eq!(tree.stop("a").await.unwrap().state, NodeState::Stopped);
    assert_eq!(lab.alive(), 0);
    assert_eq!(actor.try_send(Ping), Err(SendError::Gone));
    assert_eq!(actor.ask(Ping, PATIENCE).await, Err(AskError::Gone));
    let refused = tree.stop("a").await.unwrap_err();
    assert!(matches!(refused, ControlError::WrongState { state: NodeState::Stopped, .. }));
    let refused = tree.crash("a", CrashMode::Panic).await.unwrap_err();
    assert!(matches!(refused, ControlError::WrongState { .. }));
    assert_eq!(tree.start_node("a").await.unwrap().generation, 2);
    assert_eq!(actor.ask(Ping, PATIENCE).await, Ok((2, 1)));
    let refused = tree.start_node("a").await.unwrap_err();
    assert!(matches!(refused, ControlError::WrongState { .. }));
    tree.shutdown().await;
}

#[tokio::test]
async fn what_waits_when_an_actor_is_stopped_is_answered_gone() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    let (release, block) = std::sync::mpsc::channel();
    actor.try_send(Block(block)).unwrap();
    until(&tree, "a", |node| node.handled == Some(1)).await;
    let asked = tokio::spawn({
        let actor = actor.clone();
        async move { actor.ask(Ping, PATIENCE).await }
    });
    until(&tree, "a", |node| node.mailbox_depth == 1).await;
    let stopped = tokio::spawn({
        let tree = tree.clone();
        async move { tree.stop("a").await }
    });
    assert_eq!(asked.await.unwrap(), Err(AskError::Gone));
    drop(release);
    assert_eq!(stopped.await.unwrap().unwrap().state, NodeState::Stopped);
    tree.shutdown().await;
}

#[tokio::test]
async fn a_subtree_stops_and_starts_as_one_and_a_held_child_stays_down() {
    let lab = Lab::default();
    let (a_ref, a) = lab.probe("a");
    let (b_ref, b) = lab.probe("b");
    let inner = ChildSpec::supervisor("inner", supervisor(Strategy::OneForOne, vec![a, b]));
    let tree = grow(Strategy::OneForOne, vec![inner]).await;
    tree.stop("inner.a").await.unwrap();
    lab.clear();
    tree.stop("inner").await.unwrap();
    assert_eq!(tree.find("inner.b").unwrap().state, NodeState::Stopped);
    assert_eq!(b_ref.try_send(Ping), Err(SendError::Gone));
    let refused = tree.restart("inner.b").await.unwrap_err();
    assert!(matches!(refused, ControlError::WrongState { .. }), "{refused:?}");
    tree.start_node("inner").await.unwrap();
    until(&tree, "inner", |node| node.state == NodeState::Running).await;
    assert_eq!(b_ref.ask(Ping, PATIENCE).await, Ok((2, 1)));
    assert_eq!(a_ref.try_send(Ping), Err(SendError::Gone));
    assert_eq!(tree.find("inner.a").unwrap().state, NodeState::Stopped);
    tree.restart("inner.a").await.unwrap();
    assert_eq!(a_ref.ask(Ping, PATIENCE).await, Ok((2, 1)));
    tree.shutdown().await;
}

#[tokio::test]
async fn the_root_can_be_restarted() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    assert_eq!(tree.restart("root").await.unwrap().generation, 2);
    tree.ready(PATIENCE).await.unwrap();
    assert_eq!(actor.ask(Ping, PATIENCE).await, Ok((2, 1)));
    tree.shutdown().await;
    assert_eq!(lab.alive(), 0);
}

#[tokio::test]
async fn an_unknown_path_is_refused_with_those_that_are_known() {
    let lab = Lab::default();
    let (_a, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    let refused = tree.restart("b").await.unwrap_err();
    let known = vec!["a".to_owned(), "root".to_owned()];
    assert_eq!(refused, ControlError::UnknownPath { path: "b".to_owned(), known });
    tree.shutdown().await;
}

#[tokio::test]
async fn crashes_and_restarts_are_announced() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    tree.on_notice(move |notice| ear.lock().push(notice.clone()));
    tree.on_notice(|_| panic!("a listener's panic is its own affair"));
    actor.try_send(Boom).unwrap();
    runs_after(&tree, "a", 1).await;
    let heard = heard.lock().clone();
    assert!(
        matches!(&heard[0], Notice::Failed { path, crash } if path == "a" && crash.reason == "boom in a")
    );
    let restarted = Notice::Restarted { path: "a".to_owned(), generation: 2, restarts: 1 };
    assert_eq!(heard[1], restarted);
    tree.shutdown().await;
}
