//! The node's machine as claims see it: what there is for tasks that declare needs, and whether the
//! machine is so short of something that new work must wait.

use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;

use crate::domain::pressure::{Pressure, Share, plan_pressure};
use crate::runtime::meter;
use crate::store::Capacity;
use crate::telemetry::host::{HostPaths, HostSample, sample};

/// What is kept in reserve, in percent of the whole; 0 for none.
#[derive(Clone, Copy, Debug)]
pub struct Reserves {
    /// Of the memory.
    pub memory_percent: u32,
    /// Of the disk that the data directory is on.
    pub disk_percent: u32,
}

/// What was last seen.
#[derive(Clone, Debug, Default)]
pub struct HostState {
    /// The machine; none before the first look.
    pub sample: Option<HostSample>,
    /// What it takes.
    pub pressure: Pressure,
}

/// Looks at the machine and remembers what it saw.
pub struct HostWatch {
    paths: HostPaths,
    reserves: Reserves,
    state: Mutex<HostState>,
    /// The pressure as a number, for claims: nothing, only high, none.
    level: AtomicU8,
}

impl HostWatch {
    /// A watch that has not looked yet, and holds nothing up.
    #[must_use]
    pub fn new(paths: HostPaths, reserves: Reserves) -> Self {
        Self { paths, reserves, state: Mutex::default(), level: AtomicU8::new(0) }
    }

    /// Takes a sample; reads small files, so that it is called on a thread that may block.
    pub fn look(&self) {
        let host = sample(&self.paths);
        let shares = [
            Share {
                what: "memory",
                free: host.memory_free_mb,
                total: host.memory_mb,
                reserve_percent: f64::from(self.reserves.memory_percent),
            },
            Share {
                what: "disk",
                free: host.disk_free_mb,
                total: host.disk_mb,
                reserve_percent: f64::from(self.reserves.disk_percent),
            },
        ];
        let pressure = plan_pressure(&shares);
        let level = match &pressure {
            Pressure::None => 0,
            Pressure::HighOnly(_) => 1,
            Pressure::Stop(_) => 2,
        };
        let before = self.level.swap(level, Ordering::AcqRel);
        if before != level {
            let reason = pressure.reason().unwrap_or_default();
            match level {
                0 => tracing::info!("the machine has room again, all work is taken"),
                1 => tracing::warn!(reason, "only work of high priority is taken"),
                _ => tracing::error!(reason, "no new work is taken"),
            }
        }
        meter::host(&host, level);
        *self.state.lock() = HostState { sample: Some(host), pressure };
    }

    /// True when only work of high priority may start.
    #[must_use]
    pub fn takes_high_only(&self) -> bool {
        self.level.load(Ordering::Acquire) == 1
    }

    /// True when nothing may start.
    #[must_use]
    pub fn takes_nothing(&self) -> bool {
        self.level.load(Ordering::Acquire) == 2
    }

    /// What was last seen.
    #[must_use]
    pub fn state(&self) -> HostState {
        self.state.lock().clone()
    }

    /// What there is for tasks that declare needs; none before the first look.
    #[must_use]
    pub fn capacity(&self) -> Option<Capacity> {
        let sample = self.state.lock().sample?;
        (sample.memory_mb > 0.0)
            .then_some(Capacity { cpu: sample.cpus, memory_mb: sample.memory_mb })
    }
}
