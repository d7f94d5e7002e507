//! The actor of these tests: it does what it is told, and keeps a diary.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture};
use carillon::supervision::{
    ActorRef, ChildSpec, NodeReport, NodeState, RestartLimit, Strategy, SupervisorSpec, Tree,
    Vitals, WallClock,
};
use chrono::{DateTime, Utc};
use parking_lot::Mutex;

/// Longer than anything takes on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Diary = Arc<Mutex<Vec<String>>>;

pub(crate) struct Probe {
    pub(crate) name: &'static str,
    pub(crate) vitals: Vitals,
    pub(crate) diary: Diary,
    seen: u64,
}

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        self.diary.lock().push(format!("start {}", self.name));
        self.vitals.ready();
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.diary.lock().push(format!("stop {}", self.name));
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.diary.lock().push(format!("drop {}", self.name));
    }
}

macro_rules! message {
    ($($name:ident $(($field:ty))? => $result:ty;)*) => {
        $(
            pub(crate) struct $name $((pub(crate) $field))?;
            impl Message for $name { type Result = $result; }
        )*
    };
}

message! {
    // Answers the generation and how many pings this life has seen.
    Ping => (u64, u64);
    Boom => ();
    LateBoom => ();
    SpawnedBoom => ();
    // Panics in the middle of an asynchronous handler.
    AsyncBoom => ();
    Block(std::sync::mpsc::Receiver<()>) => ();
    WaitForever => ();
    Fail => ();
    Quit => ();
    Protect => carillon::supervision::Protection;
}

impl Handler<Ping> for Probe {
    type Result = actix::MessageResult<Ping>;
    fn handle(&mut self, _: Ping, _: &mut Context<Self>) -> Self::Result {
        self.seen += 1;
        actix::MessageResult((self.vitals.generation(), self.seen))
    }
}

impl Handler<Boom> for Probe {
    type Result = ();
    fn handle(&mut self, _: Boom, _: &mut Context<Self>) {
        panic!("boom in {}", self.name);
    }
}

impl Handler<LateBoom> for Probe {
    type Result = ();
    fn handle(&mut self, _: LateBoom, context: &mut Context<Self>) {
        context.run_later(Duration::from_millis(1), |_, _| panic!("boom in a timer"));
    }
}

impl Handler<SpawnedBoom> for Probe {
    type Result = ();
    fn handle(&mut self, _: SpawnedBoom, context: &mut Context<Self>) {
        let boom = async { panic!("boom in a future") };
        context.spawn(boom.into_actor(self));
    }
}

impl Handler<AsyncBoom> for Probe {
    type Result = ResponseActFuture<Self, ()>;
    fn handle(&mut self, _: AsyncBoom, _: &mut Context<Self>) -> Self::Result {
        let boom = async {
            tokio::task::yield_now().await;
            panic!("boom in an answer")
        };
        Box::pin(boom.into_actor(self))
    }
}

impl Handler<Block> for Probe {
    type Result = ();
    fn handle(&mut self, block: Block, _: &mut Context<Self>) {
        let _ = block.0.recv();
    }
}

impl Handler<WaitForever> for Probe {
    type Result = ();
    fn handle(&mut self, _: WaitForever, context: &mut Context<Self>) {
        context.wait(std::future::pending::<()>().into_actor(self));
    }
}

impl Handler<Fail> for Probe {
    type Result = ();
    fn handle(&mut self, _: Fail, _: &mut Context<Self>) {
        self.vitals.fail("cannot go on");
    }
}

impl Handler<Quit> for Probe {
    type Result = ();
    fn handle(&mut self, _: Quit, context: &mut Context<Self>) {
        actix::ActorContext::stop(context);
    }
}

impl Handler<Protect> for Probe {
    type Result = actix::MessageResult<Protect>;
    fn handle(&mut self, _: Protect, _: &mut Context<Self>) -> Self::Result {
        actix::MessageResult(self.vitals.protect())
    }
}

carillon::actor_messages!(
    Probe: Ping, Boom, LateBoom, SpawnedBoom, AsyncBoom, Block, WaitForever, Fail, Quit, Protect
);

/// A diary, and the references of the probes that write it.
#[derive(Default)]
pub(crate) struct Lab {
    pub(crate) diary: Diary,
}

impl Lab {
    /// A probe and its specification.
    pub(crate) fn probe(&self, name: &'static str) -> (ActorRef<Probe>, ChildSpec) {
        let actor = ActorRef::new(16);
        let lab = Self { diary: Arc::clone(&self.diary) };
        let spec = ChildSpec::worker(name, &actor, move |vitals| lab.make(name, vitals));
        (actor, spec)
    }

    /// The actor itself.
    pub(crate) fn make(&self, name: &'static str, vitals: Vitals) -> Probe {
        Probe { name, vitals, diary: Arc::clone(&self.diary), seen: 0 }
    }

    /// What the diary says, with `drop`s left out.
    pub(crate) fn read(&self) -> Vec<String> {
        self.diary.lock().iter().filter(|line| !line.starts_with("drop")).cloned().collect()
    }

    pub(crate) fn clear(&self) {
        self.diary.lock().clear();
    }

    /// How many actors are alive.
    pub(crate) fn alive(&self) -> usize {
        let diary = self.diary.lock();
        let count = |verb: &str| diary.iter().filter(|line| line.starts_with(verb)).count();
        count("start") - count("drop")
    }
}

pub(crate) fn clock() -> WallClock {
    Arc::new(|| DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap())
}

pub(crate) fn supervisor(strategy: Strategy, children: Vec<ChildSpec>) -> SupervisorSpec {
    SupervisorSpec { strategy, limit: RestartLimit::default(), children }
}

/// A started tree that is ready.
pub(crate) async fn grow(strategy: Strategy, children: Vec<ChildSpec>) -> Tree {
    grow_from(supervisor(strategy, children)).await
}

pub(crate) async fn grow_from(spec: SupervisorSpec) -> Tree {
    let tree = Tree::start(spec, clock()).unwrap();
    tree.ready(PATIENCE).await.unwrap();
    tree
}

/// Waits until a node's report is as wanted.
pub(crate) async fn until(
    tree: &Tree,
    path: &str,
    is_so: impl Fn(&NodeReport) -> bool,
) -> NodeReport {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let report = tree.find(path).unwrap();
        if is_so(&report) {
            return report;
        }
        assert!(tokio::time::Instant::now() < deadline, "in vain: {report:#?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until a node runs in a life after `generation`.
pub(crate) async fn runs_after(tree: &Tree, path: &str, generation: u64) -> NodeReport {
    until(tree, path, |node| node.generation > generation && node.state == NodeState::Running).await
}

pub(crate) fn generations(tree: &Tree, paths: &[&str]) -> Vec<u64> {
    paths.iter().map(|path| tree.find(path).unwrap().generation).collect()
}
