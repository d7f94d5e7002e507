//! Start and stop: order, readiness, and that nothing is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use carillon::supervision::{
    AskError, ChildSpec, NodeKind, NodeState, SendError, StartError, Strategy, Tree,
};

use super::probe::*;

/// The threads of this process whose names begin like those of a tree.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("supervision") || name.starts_with("actix-rt")).count()
}

#[tokio::test]
async fn children_start_in_order_and_stop_in_reverse_and_nothing_is_left() {
    let lab = Lab::default();
    let (_a, a) = lab.probe("a");
    let (_b, b) = lab.probe("b");
    let (_c, c) = lab.probe("c");
    let inner = supervisor(Strategy::OneForOne, vec![b, c.on("other")]);
    let before = threads();
    let tree = grow(Strategy::OneForOne, vec![a, ChildSpec::supervisor("inner", inner)]).await;
    assert_eq!(lab.read(), ["start a", "start b", "start c"]);
    assert!(threads() > before);
    lab.clear();
    tree.shutdown().await;
    assert_eq!(lab.read(), ["stop c", "stop b", "stop a"]);
    let dropped = lab.diary.lock().iter().filter(|line| line.starts_with("drop")).count();
    assert_eq!(dropped, 3);
    // A joined thread may stay listed for an instant.
    for _ in 0..1_000 {
        if threads() == before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(threads(), before);
    assert_eq!(tree.report().state, NodeState::Stopped);
    tree.shutdown().await;
}

#[tokio::test]
async fn dropping_the_last_handle_aborts_the_tree() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    drop(tree);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while lab.alive() > 0 || actor.try_send(Ping) != Err(SendError::Gone) {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Ready when told, which is also when its successor may start.
struct Gate(carillon::supervision::Vitals, Arc<tokio::sync::Notify>);

carillon::actor_messages!(Gate:);

impl actix::Actor for Gate {
    type Context = actix::Context<Self>;
    fn started(&mut self, context: &mut Self::Context) {
        use actix::{ActorFutureExt, AsyncContext, WrapFuture};
        let gate = Arc::clone(&self.1);
        let opened = async move { gate.notified().await }.into_actor(self);
        context.wait(opened.map(|(), gate: &mut Self, _| gate.0.ready()));
    }
}

#[tokio::test]
async fn a_child_waits_for_the_first_pass_of_those_before_it() {
    let lab = Lab::default();
    let gate = Arc::new(tokio::sync::Notify::new());
    let gate_ref = carillon::supervision::ActorRef::new(1);
    let opener = Arc::clone(&gate);
    let first =
        ChildSpec::worker("gate", &gate_ref, move |vitals| Gate(vitals, Arc::clone(&opener)));
    let (_b, b) = lab.probe("b");
    let tree = Tree::start(supervisor(Strategy::OneForOne, vec![first, b]), clock()).unwrap();
    until(&tree, "gate", |node| node.generation == 1).await;
    let waiting = tree.ready(Duration::from_millis(50)).await.unwrap_err().waiting;
    assert_eq!(waiting, ["b", "gate", "root"]);
    assert_eq!(lab.read(), [""; 0]);
    gate.notify_one();
    tree.ready(PATIENCE).await.unwrap();
    assert_eq!(lab.read(), ["start b"]);
    tree.shutdown().await;
}

#[tokio::test]
async fn nobody_waits_for_a_child_that_is_not_waited_for() {
    let lab = Lab::default();
    let gate_ref = carillon::supervision::ActorRef::new(1);
    let never = Arc::new(tokio::sync::Notify::new());
    let first =
        ChildSpec::worker("gate", &gate_ref, move |vitals| Gate(vitals, Arc::clone(&never)))
            .waits_for_ready(false);
    let (_b, b) = lab.probe("b");
    let tree = grow(Strategy::OneForOne, vec![first, b]).await;
    assert_eq!(lab.read(), ["start b"]);
    tree.shutdown().await;
}

#[tokio::test]
async fn a_child_that_does_not_stop_is_aborted_at_its_deadline() {
    let lab = Lab::default();
    let stubborn = carillon::supervision::ActorRef::new(1);
    let dropped = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&dropped);
    let first = ChildSpec::worker("stubborn", &stubborn, move |vitals| {
        Stubborn(vitals, Arc::clone(&counter))
    })
    .shutdown(Duration::from_millis(50));
    let (_b, b) = lab.probe("b");
    let tree = grow(Strategy::OneForOne, vec![b, first]).await;
    tree.shutdown().await;
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    assert_eq!(lab.read(), ["start b", "stop b"]);
}

struct Stubborn(carillon::supervision::Vitals, Arc<AtomicUsize>);

carillon::actor_messages!(Stubborn:);

impl actix::Actor for Stubborn {
    type Context = actix::Context<Self>;
    fn started(&mut self, _: &mut Self::Context) {
        self.0.ready();
    }
    fn stopping(&mut self, _: &mut Self::Context) -> actix::Running {
        actix::Running::Continue
    }
}

impl Drop for Stubborn {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn after_the_shutdown_everything_is_refused_at_once() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = grow(Strategy::OneForOne, vec![spec]).await;
    tree.shutdown().await;
    assert_eq!(actor.try_send(Ping), Err(SendError::Gone));
    assert_eq!(actor.ask(Ping, PATIENCE).await, Err(AskError::Gone));
    let refused = tree.restart("a").await.unwrap_err();
    assert_eq!(refused, carillon::supervision::ControlError::Closed);
}

#[test]
fn a_bad_name_is_refused() {
    let lab = Lab::default();
    for (one, other) in [("a", "a"), ("", "b"), ("a.b", "b"), ("root", "b")] {
        let children = vec![lab.probe(one).1, lab.probe(other).1];
        let refused = Tree::start(supervisor(Strategy::OneForOne, children), clock());
        assert!(matches!(refused, Err(StartError::BadName(_))), "{one:?}");
    }
}

#[tokio::test]
async fn a_report_has_the_documented_shape() {
    let lab = Lab::default();
    let (_a, a) = lab.probe("scheduler");
    let inner = supervisor(Strategy::RestForOne, vec![a.describe("fires on time").on("core")]);
    let tree = grow(Strategy::OneForOne, vec![ChildSpec::supervisor("time", inner)]).await;
    assert_eq!(tree.paths(), ["root", "time", "time.scheduler"]);
    tree.crash("time.scheduler", carillon::supervision::CrashMode::Panic).await.unwrap();
    runs_after(&tree, "time.scheduler", 1).await;
    let root = serde_json::to_value(tree.report()).unwrap();
    assert_eq!(root["path"], "root");
    assert_eq!(root["kind"], "supervisor");
    let time = &root["children"][0];
    assert_eq!(time["strategy"], "rest_for_one");
    assert_eq!(time["intensity"], serde_json::json!({"restarts": 10, "withinMs": 60_000}));
    assert_eq!(time["restartsInWindow"], 1);
    let scheduler = &time["children"][0];
    assert_eq!(scheduler["path"], "time.scheduler");
    assert_eq!(scheduler["state"], "running");
    assert_eq!(scheduler["restarts"], 1);
    assert_eq!(scheduler["mailboxDepth"], 0);
    assert!(scheduler["lastBeatMs"].is_u64());
    assert_eq!(scheduler["description"], "fires on time");
    assert_eq!(scheduler["lastCrash"]["kind"], "panic");
    assert_eq!(scheduler["lastCrash"]["at"], "2027-01-15T08:00:00Z");
    assert_eq!(tree.find("time.scheduler").unwrap().kind, NodeKind::Worker);
    assert_eq!(tree.find("nobody"), None);
    tree.shutdown().await;
}

#[test]
fn a_tree_works_from_any_thread_and_runtime() {
    let lab = Lab::default();
    let (actor, spec) = lab.probe("a");
    let tree = Tree::start(supervisor(Strategy::OneForOne, vec![spec]), clock()).unwrap();
    let (first, second) = (tree.clone(), tree);
    let one = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            first.ready(PATIENCE).await.unwrap();
            first.restart("a").await.unwrap()
        })
    });
    assert_eq!(one.join().unwrap().generation, 2);
    actix::System::new().block_on(async move {
        assert_eq!(actor.ask(Ping, PATIENCE).await, Ok((2, 1)));
        second.shutdown().await;
    });
}
