//! The composition root: the only place that knows everyone. Start order and stop order.
//!
//! Start: bind (`/livez` answers from here on, all else 503), open the store (an absent PostgreSQL
//! is waited for), build the parts, start the tree, open up after its first pass. Stop: ready is
//! off at once, no new claims, what runs gets `executor.drain_ms` and is then interrupted (beats go
//! on until the last task ended), sessions close, the tree stops in reverse, HTTP closes last.

mod build;
mod embed;
mod start;

pub use embed::Embedded;
pub use start::allow_open_files;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{self, ApiState};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::event::{NewEvent, Room};
use crate::runtime::handles::{Handles, Phase};
use crate::runtime::system::System;
use crate::store::{Store, StoreError};
use crate::tasks::function::FunctionRegistry;
use crate::tasks::shim;
use crate::telemetry::{LogControl, Metrics};

/// How long interrupted tasks may take to be gone: the grace of a shell task, then KILL.
const INTERRUPT_WAIT: Duration = Duration::from_secs(10);
/// How long sessions may take to close.
const SESSIONS_WAIT: Duration = Duration::from_secs(2);
/// How long a last word to the store may take.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How often the gauges are read.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// Why the server ended other than by a signal.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("the data directory {path} cannot be used: {source}")]
    DataDir { path: std::path::PathBuf, source: std::io::Error },
    #[error("{0}")]
    Setup(String),
    #[error("the store cannot be used: {0}")]
    Store(StoreError),
    #[error("the supervision tree gave up; see the log for the crashes before this line")]
    GaveUp,
}

/// Runs the server until SIGTERM or SIGINT. `say` gets the one line for whoever started it: where
/// it listens.
///
/// # Errors
/// A sentence for a person: why it could not start, or that the supervision tree gave up.
pub fn serve(settings: Settings, say: impl Fn(&str)) -> Result<(), String> {
    let log = LogControl::install(&settings.log).map_err(|error| error.to_string())?;
    crate::supervision::install_panic_hook();
    let open_files = start::allow_open_files();
    if let Err(error) = shim::hide_from_tasks().and_then(|()| shim::adopt_orphans()) {
        tracing::warn!(%error, "this process could not be set up as its tasks' keeper");
    }
    let metrics = Metrics::install().map_err(|error| error.to_string())?;
    // The ring provider is the only one in the tree; a second installation changes nothing.
    drop(rustls::crypto::ring::default_provider().install_default());
    let ended =
        actix_rt::System::new().block_on(run(settings, Process { log, metrics, open_files }, say));
    ended.map_err(|error| {
        tracing::error!(%error, "the server ended");
        error.to_string()
    })
}

/// Brings the database of the settings to this version.
///
/// # Errors
/// A sentence for a person.
pub fn migrate(settings: &Settings) -> Result<String, String> {
    if settings.database_url().is_none() {
        start::make_data_dir(settings).map_err(|error| error.to_string())?;
    }
    actix_rt::System::new().block_on(async {
        let options = build::store_options(settings);
        let store =
            Store::open(options, Clock::system()).await.map_err(|error| error.to_string())?;
        let name = store.backend_name();
        store.close().await;
        Ok(format!("the {name} database is up to date"))
    })
}

/// Reaches the database of the settings and changes nothing.
///
/// # Errors
/// A sentence for a person.
pub fn check_database(settings: &Settings) -> Result<String, String> {
    actix_rt::System::new()
        .block_on(Store::probe(&build::store_options(settings)))
        .map_err(|error| error.to_string())
}

/// What was set up for the whole process.
struct Process {
    log: LogControl,
    metrics: Metrics,
    /// The limit of open files that it was started with.
    open_files: Option<u64>,
}

async fn run(settings: Settings, process: Process, say: impl Fn(&str)) -> Result<(), ServeError> {
    let mut stop = StopSignal::install()?;
    start::make_data_dir(&settings)?;
    let listener = api::bind(&settings)
        .map_err(|source| ServeError::Listen { address: settings.server.listen, source })?;
    let settings = Arc::new(start::with_real_port(settings, &listener)?);
    say(&format!("carillon listens on http://{}", settings.server.listen));
    start::announce(&settings);
    let waiting = start::answer_while_starting(&listener)?;
    let clock = build::clock(&settings);
    let opened = tokio::select! {
        opened = start::open_store(&settings, &clock) => opened,
        () = stop.wait() => return Ok(()),
    };
    let store = opened?;
    let functions = FunctionRegistry::with_builtin();
    let base = build::Base { clock: clock.clone(), store: store.clone(), process, functions };
    let system = build::system(&settings, base).await?;
    start::write_admin_key(&store, &settings).await?;
    let state = ApiState::new(store, system.clone(), clock, settings.clone());
    let server = start_http(listener, state, &system)?;
    let http = server.handle();
    actix_rt::spawn(server);
    waiting.stop(true).await;
    let ended = attend(&system, &mut stop).await;
    shut_down(&system, &settings).await;
    http.stop(true).await;
    system.parts().store.close().await;
    system.parts().launcher.stop_threads();
    tracing::info!("stopped");
    ended
}

fn start_http(
    listener: TcpListener,
    state: ApiState,
    system: &Arc<System>,
) -> Result<actix_web::dev::Server, ServeError> {
    let address = state.settings().server.listen;
    api::serve(listener, state, system.parts().live.clone())
        .map_err(|source| ServeError::Listen { address, source })
}

/// Waits for the first pass, opens up, and stays until it is time to stop.
async fn attend(system: &Arc<System>, stop: &mut StopSignal) -> Result<(), ServeError> {
    let opening = system.clone();
    actix_rt::spawn(async move {
        // The tree waits out an absent database, however long.
        while opening.tree().ready(Duration::from_secs(60)).await.is_err() {}
        opening.enter(Phase::Running);
        tracing::info!("ready");
    });
    let measured = system.clone();
    let measuring = actix_rt::spawn(async move {
        loop {
            tokio::time::sleep(MEASURE_EVERY).await;
            measured.measure().await;
        }
    });
    let ended = tokio::select! {
        () = stop.wait() => {
            tracing::info!("told to stop");
            Ok(())
        }
        () = system.tree().gave_up() => Err(ServeError::GaveUp),
    };
    measuring.abort();
    ended
}

async fn shut_down(system: &Arc<System>, settings: &Settings) {
    system.drain().await;
    let launcher = &system.parts().launcher;
    if !launcher.idle(settings.executor.drain_ms.duration()).await {
        tracing::warn!(
            running = launcher.running().len(),
            "the drain deadline passed; what runs is interrupted and will be retried"
        );
        launcher.interrupt_all();
        if !launcher.idle(INTERRUPT_WAIT).await {
            tracing::error!(running = launcher.running().len(), "tasks could not be ended in time");
        }
    }
    system.enter(Phase::Stopping);
    let store = &system.parts().store;
    let farewell = NewEvent {
        event_type: "server_shutdown",
        room: Room::Admin,
        schedule_id: None,
        execution_id: None,
        severity: None,
        tags: Vec::new(),
        owner: None,
        payload: json!({ "nodeId": launcher.lease().claimant().node_id }).to_string(),
    };
    last_word("the shutdown event", store.event_append(vec![farewell])).await;
    system.parts().live.close_all(SESSIONS_WAIT).await;
    leave(system).await;
}

/// Stops the tree and gives the lease back: what still runs is another node's at once.
async fn leave(system: &System) {
    system.tree().shutdown().await;
    let boot_id = system.parts().launcher.lease().claimant().boot_id;
    last_word("the node's goodbye", system.parts().store.node_stop(boot_id)).await;
}

/// A write that is worth a second, not a failed stop.
async fn last_word(what: &str, write: impl Future<Output = Result<(), StoreError>>) {
    match tokio::time::timeout(LAST_WORD, write).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(what, %error, "not stored"),
        Err(_) => tracing::warn!(what, "not stored in time"),
    }
}

/// SIGTERM and SIGINT; a second one during the drain is not heeded (KILL ends a process at once).
struct StopSignal {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignal {
    fn install() -> Result<Self, ServeError> {
        let setup = |error: std::io::Error| ServeError::Setup(format!("signals: {error}"));
        // A limit on file sizes is an error of the write that meets it, not the end of the server.
        drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map_err(setup)?);
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(setup)?,
            interrupt: signal(SignalKind::interrupt()).map_err(setup)?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
