//! Every route on one screen, and the least role it asks for.
//!
//! Nothing else registers a route of the API, so nothing can be reached past the checks of
//! `serve.rs`: a route that forgets to name its access does not compile. `GET` routes answer
//! `HEAD` too; they never change anything.

use std::future::Future;
use std::pin::Pin;

use crate::api::call::Call;
use crate::api::error::Answer;
use crate::api::{admin, v1, v2};
use crate::domain::key::Role;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Public,
    /// Anybody when `server.metrics_public` is set, else every key.
    Metrics,
    /// A key of at least this role.
    Key(Role),
}

/// What calling a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Reads.
    Read,
    /// Changes something; refused while the server stops.
    Write,
    /// Creates something that is no work; likewise. Takes an `Idempotency-Key`.
    Make,
    /// Makes work; refused from the moment the server drains. Takes an `Idempotency-Key`.
    Work,
}

/// Where a path starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// At the root.
    Root,
    /// `/api/v1` and `/api`.
    V1,
    /// `/api/v2`.
    V2,
    /// `/api/admin`.
    Admin,
}

/// A future that stays on its HTTP worker.
pub(crate) type LocalFuture = Pin<Box<dyn Future<Output = Answer>>>;

/// One method of one path.
pub struct Route {
    /// Where the path starts.
    pub base: Base,
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// The rest of the path, parameters in braces.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// What it does.
    pub effect: Effect,
    /// What answers.
    pub(crate) handler: fn(Call) -> LocalFuture,
}

impl Route {
    /// The full paths under which it answers.
    #[must_use]
    pub fn full_paths(&self) -> Vec<String> {
        let starts: &[&str] = match self.base {
            Base::Root => &[""],
            Base::V1 => &["/api/v1", "/api"],
            Base::V2 => &["/api/v2"],
            Base::Admin => &["/api/admin"],
        };
        starts.iter().map(|start| format!("{start}{}", self.path)).collect()
    }
}

const PUBLIC: Access = Access::Public;
const METRICS: Access = Access::Metrics;
const VIEWER: Access = Access::Key(Role::Viewer);
const OPERATOR: Access = Access::Key(Role::Operator);
const ADMIN: Access = Access::Key(Role::Admin);

macro_rules! routes {
    ($($base:ident $method:ident $path:literal $access:ident $effect:ident $($handler:ident)::+;)+) => {
        /// Every route there is.
        pub static ROUTES: &[Route] = &[$(Route {
            base: Base::$base,
            method: stringify!($method),
            path: $path,
            access: $access,
            effect: Effect::$effect,
            handler: |call| Box::pin($($handler)::+(call)),
        },)+];
    };
}

routes! {
    Root  GET    "/livez"                                  PUBLIC   Read  v1::health::live;
    Root  GET    "/readyz"                                 PUBLIC   Read  v1::health::ready;
    Root  GET    "/metrics"                                METRICS  Read  v1::health::metrics;

    V1    POST   "/session"                                PUBLIC   Read  v1::session::open;
    V1    GET    "/session"                                VIEWER   Read  v1::session::show;
    V1    DELETE "/session"                                VIEWER   Read  v1::session::close;

    V1    GET    "/scheduler/schedules"                    VIEWER   Read  v1::schedules::list;
    V1    POST   "/scheduler/schedules"                    OPERATOR Make  v1::schedules::create;
    V1    POST   "/scheduler/schedules/preview"            VIEWER   Read  v1::schedules::preview;
    V1    GET    "/scheduler/schedules/{id}"               VIEWER   Read  v1::schedules::show;
    V1    PUT    "/scheduler/schedules/{id}"               OPERATOR Write v1::schedules::update;
    V1    DELETE "/scheduler/schedules/{id}"               OPERATOR Write v1::schedules::delete;
    V1    GET    "/scheduler/schedules/{id}/ledger"        VIEWER   Read  v1::ledger::show;
    V1    POST   "/scheduler/schedules/{id}/trigger"       OPERATOR Work  v1::schedules::trigger;
    V1    POST   "/scheduler/schedules/{id}/pause"         OPERATOR Write v1::schedules::pause;
    V1    POST   "/scheduler/schedules/{id}/resume"        OPERATOR Write v1::schedules::resume;
    V1    POST   "/scheduler/start"                        OPERATOR Write v1::scheduler::start;
    V1    POST   "/scheduler/stop"                         OPERATOR Write v1::scheduler::stop;
    V1    GET    "/scheduler/status"                       VIEWER   Read  v1::scheduler::status;
    V1    GET    "/scheduler/jobs"                         VIEWER   Read  v1::scheduler::jobs;
    V1    GET    "/scheduler/jobs/{id}"                    VIEWER   Read  v1::scheduler::job;

    V1    GET    "/execution/executions"                   VIEWER   Read  v1::executions::list;
    V1    POST   "/execution/executions"                   OPERATOR Work  v1::executions::create;
    V1    GET    "/execution/executions/{id}"              VIEWER   Read  v1::executions::show;
    V1    GET    "/execution/executions/{id}/logs"         VIEWER   Read  v1::executions::logs;
    V1    POST   "/execution/executions/{id}/cancel"       OPERATOR Write v1::executions::cancel;
    V1    POST   "/execution/executions/{id}/retry"        OPERATOR Work  v1::executions::retry;
    V1    GET    "/tasks/{id}"                             VIEWER   Read  v1::executions::brief;
    V1    GET    "/functions"                              VIEWER   Read  v1::parts::functions;

    V1    GET    "/errors/errors"                          VIEWER   Read  v1::errors::list;
    V1    GET    "/errors/errors/{id}"                     VIEWER   Read  v1::errors::show;
    V1    POST   "/errors/errors/{id}/retry"               OPERATOR Work  v1::errors::retry;
    V1    POST   "/errors/errors/{id}/resolve"             OPERATOR Write v1::errors::resolve;
    V1    POST   "/errors/errors/{id}/ignore"              OPERATOR Write v1::errors::ignore;
    V1    POST   "/errors/errors/{id}/escalate"            OPERATOR Write v1::errors::escalate;

    V1    GET    "/dlq"                                    VIEWER   Read  v1::dead_letters::list;
    V1    GET    "/dlq/stats"                              VIEWER   Read  v1::dead_letters::stats;
    V1    POST   "/dlq/{id}/resubmit"                      OPERATOR Work  v1::dead_letters::resubmit;
    V1    POST   "/dlq/{id}/discard"                       OPERATOR Write v1::dead_letters::discard;

    V1    GET    "/circuitbreaker/status"                  VIEWER   Read  v2::breakers::status;
    V1    POST   "/circuitbreaker/{key}/reset"             OPERATOR Write v2::breakers::reset;

    V1    GET    "/websocket/stats"                        VIEWER   Read  v1::parts::websocket;
    V1    GET    "/conductor/workers"                      VIEWER   Read  v1::parts::conductor;
    V1    GET    "/health"                                 VIEWER   Read  v1::health::report;

    V2    GET    "/attention"                              VIEWER   Read  v2::attention::show;
    V2    GET    "/audit"                                  OPERATOR Read  v2::audit::list;
    V2    GET    "/errors"                                 VIEWER   Read  v2::errors::list;
    V2    GET    "/errors/groups"                          VIEWER   Read  v2::error_groups::list;
    V2    GET    "/errors/groups/{fingerprint}"            VIEWER   Read  v2::error_groups::show;
    V2    POST   "/errors/groups/{fingerprint}/resolve"    OPERATOR Write v2::error_groups::resolve;
    V2    GET    "/errors/{id}"                            VIEWER   Read  v2::errors::show;
    V2    POST   "/errors/{id}/retry"                      OPERATOR Work  v1::errors::retry;
    V2    POST   "/errors/{id}/assign"                     OPERATOR Write v2::errors::assign;
    V2    POST   "/errors/{id}/resolve"                    OPERATOR Write v1::errors::resolve;
    V2    POST   "/errors/{id}/ignore"                     OPERATOR Write v1::errors::ignore;
    V2    POST   "/errors/{id}/escalate"                   OPERATOR Write v2::errors::escalate;
    V2    GET    "/executions/{id}"                        VIEWER   Read  v1::executions::show;
    V2    POST   "/executions/{id}/skip"                   OPERATOR Write v2::executions::skip;
    V2    POST   "/executions/{id}/pause"                  OPERATOR Write v2::executions::pause;
    V2    POST   "/executions/{id}/resume"                 OPERATOR Write v2::executions::resume;
    V2    POST   "/executions/{id}/succeed"                OPERATOR Write v2::executions::succeed;
    V2    POST   "/executions/{id}/fail"                   OPERATOR Write v2::executions::fail;

    V2    GET    "/forecast"                               VIEWER   Read  v2::forecast::show;
    V2    POST   "/forecast/spread"                        OPERATOR Write v2::forecast::spread;
    V2    GET    "/resources"                              VIEWER   Read  v2::resources::show;
    V2    GET    "/schedules/{id}/recommendations"         VIEWER   Read  v2::resources::recommend;
    V2    GET    "/queues"                                 VIEWER   Read  v2::queues::list;
    V2    GET    "/queues/{name}"                          VIEWER   Read  v2::queues::show;
    V2    PUT    "/queues/{name}"                          OPERATOR Write v2::queues::put;
    V2    DELETE "/queues/{name}"                          OPERATOR Write v2::queues::delete;
    V2    POST   "/queues/{name}/pause"                    OPERATOR Write v2::queues::pause;
    V2    POST   "/queues/{name}/resume"                   OPERATOR Write v2::queues::resume;
    V2    PUT    "/executions/{id}/priority"               OPERATOR Write v2::priority::set;
    V2    POST   "/executions/{id}/priority"               OPERATOR Write v2::priority::set;
    V2    GET    "/breakers"                               VIEWER   Read  v2::breakers::list;
    V2    GET    "/breakers/{key}"                         VIEWER   Read  v2::breakers::show;
    V2    POST   "/breakers/{key}/probe"                   OPERATOR Write v2::breakers::probe;
    V2    POST   "/breakers/{key}/force-open"              OPERATOR Write v2::breakers::force_open;
    V2    POST   "/breakers/{key}/force-close"             OPERATOR Write v2::breakers::force_close;
    V2    POST   "/breakers/{key}/reset"                   OPERATOR Write v2::breakers::reset;
    V2    GET    "/dead-letters"                           VIEWER   Read  v2::dead_letters::list;
    V2    GET    "/dead-letters/groups"                    VIEWER   Read  v2::dead_letters::groups;
    V2    POST   "/dead-letters/resubmit"                  OPERATOR Work  v2::dead_letters::resubmit;
    V2    POST   "/dead-letters/discard"                   OPERATOR Write v2::dead_letters::discard;
    V2    POST   "/schedules/{id}/pause"                   OPERATOR Write v1::schedules::pause;
    V2    POST   "/schedules/{id}/resume"                  OPERATOR Write v1::schedules::resume;
    V2    POST   "/schedules/{id}/skip-next"               OPERATOR Write v2::schedules::skip_next;
    V2    POST   "/schedules/{id}/catch-up-preview"        VIEWER   Read  v2::backfills::catch_up;
    V2    POST   "/schedules/{id}/backfills"               OPERATOR Work  v2::backfills::create;
    V2    GET    "/backfills"                              VIEWER   Read  v2::backfills::list;
    V2    GET    "/backfills/{id}"                         VIEWER   Read  v2::backfills::show;
    V2    POST   "/backfills/{id}/stop"                    OPERATOR Write v2::backfills::stop;
    V2    GET    "/calendars"                              VIEWER   Read  v2::calendars::list;
    V2    POST   "/calendars"                              OPERATOR Make  v2::calendars::create;
    V2    GET    "/calendars/{id}"                         VIEWER   Read  v2::calendars::show;
    V2    PUT    "/calendars/{id}"                         OPERATOR Write v2::calendars::update;
    V2    DELETE "/calendars/{id}"                         OPERATOR Write v2::calendars::delete;

    V2    GET    "/alert-channels"                         OPERATOR Read  v2::alert_channels::list;
    V2    POST   "/alert-channels"                         ADMIN    Make  v2::alert_channels::create;
    V2    GET    "/alert-channels/{name}"                  OPERATOR Read  v2::alert_channels::show;
    V2    PUT    "/alert-channels/{name}"                  ADMIN    Write v2::alert_channels::update;
    V2    DELETE "/alert-channels/{name}"                  ADMIN    Write v2::alert_channels::delete;
    V2    POST   "/alert-channels/{name}/test"             ADMIN    Write v2::alert_channels::test;
    V2    GET    "/alert-rules"                            VIEWER   Read  v2::alert_rules::list;
    V2    POST   "/alert-rules"                            ADMIN    Make  v2::alert_rules::create;
    V2    POST   "/alert-rules/preview"                    OPERATOR Read  v2::alert_rules::preview;
    V2    GET    "/alert-rules/{id}"                       VIEWER   Read  v2::alert_rules::show;
    V2    PUT    "/alert-rules/{id}"                       ADMIN    Write v2::alert_rules::update;
    V2    DELETE "/alert-rules/{id}"                       ADMIN    Write v2::alert_rules::delete;
    V2    GET    "/alerts"                                 VIEWER   Read  v2::alerts::list;
    V2    GET    "/alerts/{id}"                            VIEWER   Read  v2::alerts::show;
    V2    POST   "/alerts/{id}/acknowledge"                OPERATOR Write v2::alerts::acknowledge;
    V2    GET    "/alert-deliveries"                       VIEWER   Read  v2::alerts::deliveries;
    V2    GET    "/alert-deliveries/{id}"                  VIEWER   Read  v2::alerts::show_delivery;
    V2    POST   "/events"                                 OPERATOR Work  v2::events::create;
    V2    GET    "/events"                                 VIEWER   Read  v2::events::list;
    V2    GET    "/events/{id}"                            VIEWER   Read  v2::events::show;
    V2    GET    "/schedules/{id}/deliveries"              VIEWER   Read  v2::events::deliveries;
    V2    POST   "/schedules/{id}/replay"                  OPERATOR Write v2::events::replay;
    V2    GET    "/webhooks"                               VIEWER   Read  v2::webhooks::list;
    V2    POST   "/webhooks"                               ADMIN    Write v2::webhooks::create;
    V2    GET    "/webhooks/{id}"                          VIEWER   Read  v2::webhooks::show;
    V2    DELETE "/webhooks/{id}"                          ADMIN    Write v2::webhooks::delete;
    V2    POST   "/webhooks/{id}/rotate"                   ADMIN    Write v2::webhooks::rotate;
    V2    POST   "/webhooks/{id}/enable"                   ADMIN    Write v2::webhooks::enable;
    V2    POST   "/webhooks/{id}/disable"                  ADMIN    Write v2::webhooks::disable;
    V2    GET    "/webhooks/{id}/deliveries"               VIEWER   Read  v2::webhooks::deliveries;
    V2    POST   "/hooks/{id}"                             PUBLIC   Write v2::hooks::receive;

    Admin GET    "/actors"                                 ADMIN    Read  admin::actors::tree;
    Admin GET    "/actors/{path}"                          ADMIN    Read  admin::actors::show;
    Admin POST   "/actors/{path}/restart"                  ADMIN    Write admin::actors::restart;
    Admin POST   "/actors/{path}/stop"                     ADMIN    Write admin::actors::stop;
    Admin POST   "/actors/{path}/start"                    ADMIN    Write admin::actors::start;
    Admin POST   "/actors/{path}/crash"                    ADMIN    Write admin::actors::crash;
    Admin GET    "/log-level"                              ADMIN    Read  admin::system::log_level;
    Admin PUT    "/log-level"                              ADMIN    Write admin::system::set_log_level;
    Admin POST   "/drain"                                  ADMIN    Write admin::system::drain;
    Admin GET    "/system"                                 ADMIN    Read  admin::system::show;
    Admin GET    "/keys"                                   ADMIN    Read  admin::keys::list;
    Admin POST   "/keys"                                   ADMIN    Write admin::keys::create;
    Admin DELETE "/keys/{id}"                              ADMIN    Write admin::keys::revoke;
}
