//! Crashes of workers: what is caught, what survives, who goes down with whom.

use carillon::supervision::{
    ActorRef, AskError, ChildSpec, CrashKind, CrashMode, NodeState, Restart, SendError, Strategy,
};

use super::probe::*;

#[tokio::test]
async fn the_message_in_flight_is_answered_with_an_error_and_the_queued_ones_after_the_restart() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    let (boom, one, two, three) = tokio::join!(
        actor.ask(Boom, PATIENCE),
        actor.ask(Ping, PATIENCE),
        actor.ask(Ping, PATIENCE),
        actor.ask(Ping, PATIENCE),
    );
    assert_eq!(boom, Err(AskError::Crashed));
    assert_eq!([one, two, three], [Ok((2, 1)), Ok((2, 2)), Ok((2, 3))]);
    let node = tree.find("a").unwrap();
    assert_eq!((node.restarts, node.mailbox_depth, node.handled), (1, 0, Some(4)));
    tree.shutdown().await;
}

#[tokio::test]
async fn panics_are_caught_wherever_they_happen() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    for (generation, text) in [
        (1, "boom in a"),
        (2, "boom in a timer"),
        (3, "boom in a future"),
        (4, "boom in an answer"),
    ] {
        match generation {
            1 => actor.try_send(Boom).unwrap(),
            2 => actor.try_send(LateBoom).unwrap(),
            3 => actor.try_send(SpawnedBoom).unwrap(),
            _ => assert_eq!(actor.ask(AsyncBoom, PATIENCE).await, Err(AskError::Crashed)),
        }
        let node = runs_after(&tree, "a", generation).await;
        let crash = node.last_crash.unwrap();
        assert_eq!((crash.kind, crash.reason.as_str()), (CrashKind::Panic, text));
        assert!(crash.location.unwrap().contains("probe.rs:"));
        assert!(!crash.backtrace.unwrap().is_empty());
        assert_eq!(crash.generation, generation);
    }
    assert_eq!(tree.find("a").unwrap().crashes.unwrap().len(), 4);
    assert!(tree.report().children[0].last_crash.as_ref().unwrap().backtrace.is_none());
    tree.shutdown().await;
}

#[tokio::test]
async fn an_actor_may_fail_without_a_panic() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    actor.try_send(Fail).unwrap();
    let crash = runs_after(&tree, "a", 1).await.last_crash.unwrap();
    assert_eq!((crash.kind, crash.reason.as_str()), (CrashKind::Panic, "cannot go on"));
    tree.shutdown().await;
}

#[tokio::test]
async fn a_panic_in_the_factory_is_a_failed_start_that_is_tried_again() {
    let lab = Lab::default();
    let (actor, _) = lab.probe("a");
    let diary = lab.diary.clone();
    let spec = ChildSpec::worker("a", &actor, move |vitals| {
        assert!(vitals.generation() > 2, "not yet");
        let lab = Lab { diary: diary.clone() };
        lab.make("a", vitals)
    });
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    let node = tree.find("a").unwrap();
    assert_eq!((node.generation, node.state), (3, NodeState::Running));
    let crash = node.last_crash.unwrap();
    assert_eq!((crash.kind, crash.reason.as_str()), (CrashKind::StartFailed, "not yet"));
    assert_eq!(actor.ask(Ping, PATIENCE).await, Ok((3, 1)));
    tree.shutdown().await;
}

#[tokio::test]
async fn a_start_that_does_not_become_ready_in_time_is_a_failed_start() {
    let actor: ActorRef<Slow> = ActorRef::new(1);
    let spec = ChildSpec::worker("slow", &actor, Slow)
        .start_deadline(std::time::Duration::from_millis(30));
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    let node = tree.find("slow").unwrap();
    assert_eq!((node.generation, node.last_crash.unwrap().kind), (2, CrashKind::StartFailed));
    tree.shutdown().await;
}

/// Becomes ready in its second life only.
struct Slow(carillon::supervision::Vitals);

carillon::actor_messages!(Slow:);

impl actix::Actor for Slow {
    type Context = actix::Context<Self>;
    fn started(&mut self, _: &mut Self::Context) {
        if self.0.generation() > 1 {
            self.0.ready();
        }
    }
}

#[tokio::test]
async fn strategies_decide_who_goes_down_with_the_crashed() {
    for (strategy, expected, told) in [
        (Strategy::OneForOne, vec![1, 2, 1], vec!["start b"]),
        (Strategy::RestForOne, vec![1, 2, 2], vec!["stop c", "start b", "start c"]),
        (
            Strategy::OneForAll,
            vec![2, 2, 2],
            vec!["stop c", "stop a", "start a", "start b", "start c"],
        ),
    ] {
        let lab = Lab::default();
        let (_a, a) = lab.probe("a");
        let (b_ref, b) = lab.probe("b");
        let (_c, c) = lab.probe("c");
        let tree = grow(strategy, vec![a, b, c]).await;
        lab.clear();
        b_ref.try_send(Boom).unwrap();
        runs_after(&tree, "b", 1).await;
        let paths = ["a", "b", "c"];
        for (path, generation) in paths.iter().zip(&expected) {
            runs_after(&tree, path, generation - 1).await;
        }
        assert_eq!(generations(&tree, &paths), expected, "{strategy:?}");
        let lines: Vec<_> = lab.read().into_iter().filter(|line| line != "stop b").collect();
        assert_eq!(lines, told, "{strategy:?}");
        tree.shutdown().await;
    }
}

#[tokio::test]
async fn restart_policies_decide_who_comes_back() {
    for (restart, crash, state) in [
        (Restart::Permanent, false, NodeState::Running),
        (Restart::Transient, true, NodeState::Running),
        (Restart::Transient, false, NodeState::Stopped),
        (Restart::Temporary, true, NodeState::Failed),
        (Restart::Temporary, false, NodeState::Stopped),
    ] {
        let lab = Lab::default();
        let (actor, spec) = lab.probe("a");
        let tree = grow(Strategy::OneForOne, vec![spec.restart(restart)]).await;
        if crash { actor.try_send(Boom) } else { actor.try_send(Quit) }.unwrap();
        let comes_back = state == NodeState::Running;
        until(&tree, "a", |node| {
            node.state == state && node.generation == if comes_back { 2 } else { 1 }
        })
        .await;
        let answer = actor.ask(Ping, PATIENCE).await;
        assert_eq!(answer.is_ok(), comes_back, "{restart:?} crash={crash}: {answer:?}");
        tree.shutdown().await;
    }
}

#[tokio::test]
async fn siblings_on_the_same_thread_go_on() {
    let lab = Lab::default();
    let (a_ref, a) = lab.probe("a");
    let (b_ref, b) = lab.probe("b");
    let tree = grow(Strategy::OneForOne, vec![a.on("shared"), b.on("shared")]).await;
    assert_eq!(b_ref.ask(Ping, PATIENCE).await, Ok((1, 1)));
    assert_eq!(a_ref.ask(Boom, PATIENCE).await, Err(AskError::Crashed));
    runs_after(&tree, "a", 1).await;
    assert_eq!(b_ref.ask(Ping, PATIENCE).await, Ok((1, 2)));
    tree.shutdown().await;
}

#[tokio::test]
async fn a_mailbox_is_bounded_and_counts_what_it_refuses() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    assert_eq!(actor.try_send(Ping), Err(SendError::Gone), "not started yet");
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    let (release, block) = std::sync::mpsc::channel();
    actor.try_send(Block(block)).unwrap();
    until(&tree, "a", |node| node.handled == Some(1)).await;
    for _ in 0..16 {
        actor.try_send(Ping).unwrap();
    }
    assert_eq!(actor.try_send(Ping), Err(SendError::Full));
    assert_eq!(actor.ask(Ping, PATIENCE).await, Err(AskError::Full));
    let node = tree.find("a").unwrap();
    assert_eq!((node.mailbox_depth, node.rejected), (16, Some(3)));
    drop(release);
    until(&tree, "a", |node| node.mailbox_depth == 0).await;
    assert_eq!(actor.ask(Ping, PATIENCE).await, Ok((1, 17)));
    tree.shutdown().await;
}

#[tokio::test]
async fn a_question_that_is_not_answered_in_time_times_out_and_is_skipped() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    let (release, block) = std::sync::mpsc::channel();
    actor.try_send(Block(block)).unwrap();
    let short = std::time::Duration::from_millis(10);
    assert_eq!(actor.ask(Ping, short).await, Err(AskError::Timeout));
    drop(release);
    assert_eq!(actor.ask(Ping, PATIENCE).await, Ok((1, 1)));
    tree.shutdown().await;
}

#[tokio::test]
async fn a_worker_survives_an_injected_crash_in_every_mode() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let spec = spec.heartbeat(std::time::Duration::from_millis(300));
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    for (generation, mode) in [(1, CrashMode::Panic), (2, CrashMode::Hang), (3, CrashMode::Stop)] {
        tree.crash("a", mode).await.unwrap();
        runs_after(&tree, "a", generation).await;
        let answer = actor.ask(Ping, PATIENCE).await;
        assert!(answer.is_ok_and(|(life, _)| life > generation), "{mode:?}: {answer:?}");
    }
    tree.shutdown().await;
    assert_eq!(lab.alive(), 0);
}

#[tokio::test]
async fn a_crashed_actor_is_back_within_a_second() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    let mut quickest = PATIENCE;
    for _ in 0..3 {
        let begin = std::time::Instant::now();
        actor.try_send(Boom).unwrap();
        actor.ask(Ping, PATIENCE).await.unwrap();
        quickest = quickest.min(begin.elapsed());
        // Forgets the crash, so that the back-off is that of the first one again.
        tree.restart("a").await.unwrap();
    }
    assert!(quickest < std::time::Duration::from_secs(1), "{quickest:?}");
    tree.shutdown().await;
}

#[tokio::test]
async fn a_panic_is_injected_at_the_next_message_of_a_type_and_answered_as_a_crash() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    let listed = tree.find("a").unwrap().messages.unwrap();
    assert!(listed.contains(&"Ping".to_owned()) && listed.len() == 10, "{listed:?}");
    assert!(tree.crash_at("a", "Nonsense").is_err() && tree.crash_at("nobody", "Ping").is_err());
    tree.crash_at("a", "Ping").unwrap();
    // Another message passes.
    assert!(actor.ask(Protect, PATIENCE).await.is_ok());
    assert_eq!(actor.ask(Ping, PATIENCE).await, Err(AskError::Crashed));
    // Once, and what was sent meanwhile is answered by the next life.
    assert_eq!(actor.ask(Ping, PATIENCE).await, Ok((2, 1)));
    let crash = tree.find("a").unwrap().last_crash.unwrap();
    assert_eq!(crash.reason, "injected panic at a message Ping");
    tree.shutdown().await;
}
