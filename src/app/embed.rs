//! The system without its HTTP side: for benchmarks, which drive the parts themselves.

use std::sync::Arc;
use std::time::Duration;

use super::{Process, ServeError, build, leave, start};
use crate::config::Settings;
use crate::runtime::handles::{Handles, Phase};
use crate::runtime::system::System;
use crate::store::Store;
use crate::tasks::function::FunctionRegistry;
use crate::telemetry::{LogControl, Metrics};

/// How long the tree may take to its first pass.
const READY_WAIT: Duration = Duration::from_secs(60);

/// A running system whose parts are at hand.
pub struct Embedded {
    system: Arc<System>,
}

impl Embedded {
    /// Opens the store of the settings and starts the tree; returns after its first pass.
    ///
    /// # Errors
    /// A sentence for a person.
    pub async fn start(settings: Settings) -> Result<Self, String> {
        Self::start_with(settings, FunctionRegistry::with_builtin()).await
    }

    /// Likewise, with functions of the caller's choice.
    ///
    /// # Errors
    /// A sentence for a person.
    pub async fn start_with(
        settings: Settings,
        functions: FunctionRegistry,
    ) -> Result<Self, String> {
        Self::begin(settings, functions).await.map_err(|error| error.to_string())
    }

    async fn begin(settings: Settings, functions: FunctionRegistry) -> Result<Self, ServeError> {
        let setup = |error: String| ServeError::Setup(error);
        let log = LogControl::install(&settings.log).map_err(|error| setup(error.to_string()))?;
        let metrics = Metrics::install().map_err(|error| setup(error.to_string()))?;
        start::make_data_dir(&settings)?;
        let clock = build::clock(&settings);
        let store = Store::open(build::store_options(&settings), clock.clone())
            .await
            .map_err(ServeError::Store)?;
        let process = Process { log, metrics, open_files: None };
        let base = build::Base { clock, store, process, functions };
        let system = build::system(&Arc::new(settings), base).await?;
        system.tree().ready(READY_WAIT).await.map_err(|error| setup(error.to_string()))?;
        system.enter(Phase::Running);
        Ok(Self { system })
    }

    /// The system.
    #[must_use]
    pub fn system(&self) -> &Arc<System> {
        &self.system
    }

    /// Lets what runs end, stops the tree and closes the store.
    pub async fn stop(self) {
        self.system.drain().await;
        self.system.parts().launcher.idle(READY_WAIT).await;
        self.system.enter(Phase::Stopping);
        leave(&self.system).await;
        self.system.parts().store.close().await;
        self.system.parts().launcher.stop_threads();
    }
}
