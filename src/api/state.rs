//! What every handler may use.

use std::sync::Arc;

use crate::api::auth::Authority;
use crate::api::hook_limits::HookLimits;
use crate::api::once::UnderWay;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::act::Act;
use crate::domain::task::TaskLimits;
use crate::runtime::handles::Handles;
use crate::store::Store;

/// The store, the running system, the clock, the settings and who may come in. Clones share all of
/// it, so every HTTP worker sees the same sessions and the same cache of keys.
#[derive(Clone)]
pub struct ApiState {
    inner: Arc<Inner>,
    /// Carries the act of a request, when it is one.
    store: Store,
}

struct Inner {
    handles: Arc<dyn Handles>,
    clock: Clock,
    settings: Arc<Settings>,
    authority: Authority,
    under_way: UnderWay,
    hook_limits: HookLimits,
}

impl ApiState {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        store: Store,
        handles: Arc<dyn Handles>,
        clock: Clock,
        settings: Arc<Settings>,
    ) -> Self {
        let authority = Authority::new(store.clone(), clock.clone(), &settings);
        let under_way = UnderWay::default();
        let hook_limits = HookLimits::default();
        let inner = Inner { handles, clock, settings, authority, under_way, hook_limits };
        Self { inner: Arc::new(inner), store }
    }

    /// The same, with a store that audits what is written through it as `act`.
    #[must_use]
    pub(crate) fn acting(&self, act: Act) -> Self {
        Self { inner: Arc::clone(&self.inner), store: self.store.acting(act) }
    }

    /// The truth.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The running system.
    #[must_use]
    pub fn handles(&self) -> &dyn Handles {
        &*self.inner.handles
    }

    /// The wall clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// What a shell task may ask for at most.
    #[must_use]
    pub(crate) fn task_maxima(&self) -> TaskLimits {
        self.inner.settings.limits.maxima()
    }

    /// Who may come in.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.inner.authority
    }

    /// The requests with an `Idempotency-Key` that are being carried out.
    #[must_use]
    pub(crate) fn under_way(&self) -> &UnderWay {
        &self.inner.under_way
    }

    /// How often webhooks came in.
    #[must_use]
    pub(crate) fn hook_limits(&self) -> &HookLimits {
        &self.inner.hook_limits
    }
}
