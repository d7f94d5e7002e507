//! From settings to parts: what is built once, in order, before the tree starts.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{Process, ServeError};
use crate::clock::Clock;
use crate::config::{self, Settings};
use crate::domain::event::{NewEvent, Room};
use crate::runtime::conductor::ConductorHealth;
use crate::runtime::events::{Feed, RingLimits};
use crate::runtime::executor::host::{HostWatch, Reserves};
use crate::runtime::executor::launcher::{Launcher, LauncherParts};
use crate::runtime::executor::logs::LogWriter;
use crate::runtime::guard::StoreHealth;
use crate::runtime::meter;
use crate::runtime::nodes::lease::NodeLease;
use crate::runtime::scheduler::status::SchedulerStatus;
use crate::runtime::services::Services;
use crate::runtime::sessions::{LiveSettings, LiveState};
use crate::runtime::system::{Parts, System};
use crate::runtime::tree::{self, Actors};
use crate::store::{Store, StoreLocation, StoreOptions};
use crate::supervision::{Notice, Tree};
use crate::tasks::conductor::ConductorSettings;
use crate::tasks::egress::{EgressMode, EgressPolicy};
use crate::tasks::function::FunctionRegistry;
use crate::tasks::shim::LOST_GRACE;
use crate::tasks::{ControlGroups, Limits, TaskEnvironment, TaskSettings};
use crate::telemetry::host::HostPaths;

/// Threads that drive tasks.
const TASK_THREADS: usize = 2;

/// Where the store is, from the settings.
pub(super) fn store_options(settings: &Settings) -> StoreOptions {
    let location = match settings.database_url() {
        Some(url) => StoreLocation::Postgres(url.to_owned()),
        None => StoreLocation::Sqlite(settings.sqlite_path()),
    };
    StoreOptions {
        location,
        pool_max: settings.database.pool_max,
        acquire: settings.database.acquire_ms.duration(),
    }
}

/// The clock: the database's where nodes share one, the machine's over a file.
pub(super) fn clock(settings: &Settings) -> Clock {
    if settings.database_url().is_some() { Clock::following() } else { Clock::system() }
}

/// What a system stands on.
pub(super) struct Base {
    pub(super) clock: Clock,
    pub(super) store: Store,
    pub(super) process: Process,
    pub(super) functions: FunctionRegistry,
}

/// Builds every part and starts the tree.
pub(super) async fn system(
    settings: &Arc<Settings>,
    base: Base,
) -> Result<Arc<System>, ServeError> {
    let Base { clock, store, process, functions } = base;
    let Process { log, metrics, open_files } = process;
    let clock = &clock;
    let environment = Arc::new(environment(settings, open_files, clock, functions)?);
    let lease = NodeLease::new(node_name(), settings.executor.lease_ms.duration());
    register(&store, &lease).await;
    let live = live(settings, clock, &store, &lease);
    let (logs, writing) = LogWriter::new(store.clone(), settings.executor.output_bytes_max);
    actix_rt::spawn(writing);
    let launcher = Launcher::new(LauncherParts {
        store: store.clone(),
        clock: clock.clone(),
        environment: environment.clone(),
        lease,
        logs,
        live: live.clone(),
        limits: Parts::recovery_limits(settings),
        slots: settings.executor.slots,
        threads: TASK_THREADS,
        log_lines_max: settings.executor.log_lines_max,
        host: Arc::new(host(settings)),
        reserved_high: settings.executor.reserved_high,
    });
    let store_health = Arc::new(StoreHealth::default());
    let services =
        Services::new(store.clone(), clock.clone(), launcher.clone(), store_health.clone());
    environment.install_services(Arc::new(services));
    let parts = Parts {
        settings: settings.clone(),
        clock: clock.clone(),
        store,
        environment,
        launcher,
        live,
        store_health,
        conductor_health: Arc::new(ConductorHealth::default()),
        scheduler_status: Arc::new(SchedulerStatus::default()),
    };
    let actors = Actors::default();
    let wall = clock.clone();
    let tree = Tree::start(tree::spec(&parts, &actors), Arc::new(move || wall.now()))
        .map_err(|error| ServeError::Setup(error.to_string()))?;
    tell_notices(&tree, &parts.store);
    Ok(Arc::new(System::new(parts, actors, tree, log, metrics)))
}

/// The machine, looked at once so that the first claims know it.
fn host(settings: &Settings) -> HostWatch {
    let paths = HostPaths::of(&settings.server.data_dir);
    let reserves = Reserves {
        memory_percent: settings.executor.memory_reserve_percent,
        disk_percent: settings.executor.disk_reserve_percent,
    };
    let host = HostWatch::new(paths, reserves);
    host.look();
    host
}

/// Takes the lease before the tree starts, so that its first pass may claim; the nodes actor
/// takes it when this fails.
async fn register(store: &Store, lease: &NodeLease) {
    let sent = tokio::time::Instant::now();
    match store.node_register(lease.claimant(), lease.length()).await {
        Ok(_) => lease.confirm(sent),
        Err(error) => tracing::warn!(%error, "this node is not registered yet"),
    }
}

fn node_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{name}:{}", std::process::id())
}

/// What the server was told in confidence, which no task's output may show.
fn own_secrets(settings: &Settings) -> Vec<String> {
    let password = settings
        .database_url()
        .and_then(|url| url::Url::parse(url).ok())
        .and_then(|url| url.password().map(str::to_owned));
    let token = settings.conductor.token.reveal().to_owned();
    password.into_iter().chain([token]).filter(|secret| !secret.is_empty()).collect()
}

fn environment(
    settings: &Settings,
    open_files: Option<u64>,
    clock: &Clock,
    functions: FunctionRegistry,
) -> Result<TaskEnvironment, ServeError> {
    let executor = &settings.executor;
    let mut tasks = TaskSettings::new(settings.server.data_dir.clone());
    tasks.limits = Limits {
        output_bytes: executor.output_bytes_max,
        line_bytes: executor.log_line_bytes_max,
        grace: executor.grace_ms.duration(),
        functions: executor.slots,
        task_defaults: settings.limits.defaults(),
        task_maxima: settings.limits.maxima(),
        // The fence is at two thirds of the lease: this leaves half of the rest for the killing.
        lost_grace: LOST_GRACE.min(executor.lease_ms.duration() / 6),
        ..Limits::default()
    };
    tasks.secrets = own_secrets(settings);
    tasks.groups = ControlGroups::of_setting(&settings.limits.cgroup);
    tasks.open_files = open_files;
    tasks.egress = egress(settings)?;
    tasks.conductor = conductor(settings)?;
    let environment = TaskEnvironment::new(tasks, functions, clock.clone())
        .map_err(|error| ServeError::Setup(error.to_string()))?;
    environment.set_own_listeners(vec![settings.server.listen]);
    Ok(environment)
}

fn egress(settings: &Settings) -> Result<EgressPolicy, ServeError> {
    let mode = match settings.egress.mode {
        config::EgressMode::InternalOk => EgressMode::InternalOk,
        config::EgressMode::Strict => EgressMode::Strict,
    };
    let allow = settings
        .egress
        .allow
        .iter()
        .map(|rule| {
            rule.parse().map_err(|error| ServeError::Setup(format!("egress.allow: {error}")))
        })
        .collect::<Result<_, _>>()?;
    Ok(EgressPolicy { mode, allow })
}

fn conductor(settings: &Settings) -> Result<Option<ConductorSettings>, ServeError> {
    let conductor = &settings.conductor;
    if conductor.url.is_empty() {
        return Ok(None);
    }
    let url = conductor
        .url
        .parse()
        .map_err(|error| ServeError::Setup(format!("conductor.url: {error}")))?;
    let token = conductor.token.reveal();
    Ok(Some(ConductorSettings {
        url,
        token: (!token.is_empty()).then(|| token.to_owned()),
        request_timeout: conductor.request_ms.duration(),
    }))
}

fn live(settings: &Settings, clock: &Clock, store: &Store, lease: &NodeLease) -> Arc<LiveState> {
    let socket = &settings.websocket;
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let sessions = LiveSettings {
        heartbeat: socket.heartbeat_ms.duration(),
        ping: socket.ping_ms.duration(),
        idle: socket.idle_ms.duration(),
        grace: socket.grace_ms.duration(),
        window_messages: count(socket.window_messages),
        window_bytes: count(socket.window_bytes),
        message_bytes_max: socket.message_bytes_max,
        sessions_max: socket.sessions_max,
        ..LiveSettings::default()
    };
    let feed = Arc::new(Feed::new(Arc::new(store.clone()), RingLimits::default()));
    Arc::new(LiveState::new(feed, clock.clone(), sessions, lease.clone()))
}

/// Makes events and counts of what the tree tells. The listener must not block the supervisors'
/// thread, so a task of its own stores them; the queue is bounded by the restart limits.
fn tell_notices(tree: &Tree, store: &Store) {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<NewEvent>();
    tree.on_notice(move |notice| {
        // Nobody listens any more only while the process ends.
        drop(sender.send(notice_event(notice)));
    });
    let store = store.clone();
    actix_rt::spawn(async move {
        while let Some(event) = receiver.recv().await {
            let mut wait = Duration::from_millis(100);
            while let Err(error) = store.event_append(vec![event.clone()]).await {
                tracing::debug!(%error, "an actor's event waits for the store");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(5));
            }
        }
    });
}

fn notice_event(notice: &Notice) -> NewEvent {
    let (event_type, payload) = match notice {
        Notice::Restarted { path, generation, restarts } => (
            "actor_restarted",
            json!({ "path": path, "generation": generation, "restarts": restarts }),
        ),
        Notice::Failed { path, crash } => {
            let kind = json!(crash.kind);
            meter::actor_crashed(path, kind.as_str().unwrap_or("unknown"));
            ("actor_failed", json!({ "path": path, "kind": kind, "reason": crash.reason }))
        }
        Notice::GaveUp { reason } => ("actor_failed", json!({ "path": "root", "reason": reason })),
    };
    NewEvent {
        event_type,
        room: Room::Admin,
        schedule_id: None,
        execution_id: None,
        severity: None,
        tags: Vec::new(),
        owner: None,
        payload: payload.to_string(),
    }
}
