//! The steps of the start, one function each.

use std::net::TcpListener;
use std::time::Duration;

use actix_web::dev::ServerHandle;

use super::{ServeError, build};
use crate::api;
use crate::clock::Clock;
use crate::config::Settings;
use crate::store::{Store, StoreError};

/// First wait before an absent database is tried again; doubles up to `database.reconnect_max_ms`.
const OPEN_RETRY: Duration = Duration::from_millis(250);

/// Lets this process open as many files as it may: each live session is one. Answers with the limit
/// that it was started with, which its tasks are to have.
pub fn allow_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    limit.current
}

/// Makes the data directory, readable by its owner only.
pub(super) fn make_data_dir(settings: &Settings) -> Result<(), ServeError> {
    use std::os::unix::fs::DirBuilderExt;
    let path = &settings.server.data_dir;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| ServeError::DataDir { path: path.clone(), source })
}

/// The settings with the port that was really bound (port 0 picks a free one).
pub(super) fn with_real_port(
    mut settings: Settings,
    listener: &TcpListener,
) -> Result<Settings, ServeError> {
    let address = settings.server.listen;
    settings.server.listen =
        api::local_address(listener).map_err(|source| ServeError::Listen { address, source })?;
    Ok(settings)
}

/// Tells the log where it listens.
pub(super) fn announce(settings: &Settings) {
    tracing::info!(
        listen = %settings.server.listen,
        data_dir = %settings.server.data_dir.display(),
        version = env!("CARGO_PKG_VERSION"),
        "starting"
    );
}

/// Answers `/livez` and nothing else until the server proper takes over the listener.
pub(super) fn answer_while_starting(listener: &TcpListener) -> Result<ServerHandle, ServeError> {
    let server = listener
        .try_clone()
        .and_then(api::serve_starting)
        .map_err(|error| ServeError::Setup(format!("the listener: {error}")))?;
    let handle = server.handle();
    actix_rt::spawn(server);
    Ok(handle)
}

/// Opens the store; an absent PostgreSQL is waited for, anything else ends the start.
pub(super) async fn open_store(settings: &Settings, clock: &Clock) -> Result<Store, ServeError> {
    let longest = settings.database.reconnect_max_ms.duration();
    let mut wait = OPEN_RETRY;
    loop {
        match Store::open(build::store_options(settings), clock.clone()).await {
            Ok(store) => {
                // The first answer sets a clock that follows the database's.
                if let Err(error) = store.now().await {
                    tracing::warn!(%error, "the database's clock was not read yet");
                }
                return arm(store, settings);
            }
            Err(StoreError::Unavailable(reason)) => {
                tracing::warn!(reason, "the database is not there yet; waiting");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(longest);
            }
            Err(error) => return Err(ServeError::Store(error)),
        }
    }
}

/// Plans the crash that the settings ask for.
fn arm(store: Store, settings: &Settings) -> Result<Store, ServeError> {
    let text = &settings.admin.kill_at;
    if !text.is_empty() {
        tracing::warn!(at = text, "this process will kill itself at that commit");
        store
            .faults()
            .kill_at(text)
            .map_err(|error| ServeError::Setup(format!("admin.kill_at: {error}")))?;
    }
    Ok(store)
}

/// Makes the first admin key when there is none.
pub(super) async fn write_admin_key(store: &Store, settings: &Settings) -> Result<(), ServeError> {
    let made = api::auth::ensure_admin_key(store, &settings.server.data_dir)
        .await
        .map_err(|error| ServeError::Setup(format!("the first admin key: {error}")))?;
    if let Some(path) = made {
        tracing::info!(path = %path.display(), "an admin key was made and written to a file");
    }
    Ok(())
}
