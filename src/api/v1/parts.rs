//! What the running system tells of its parts.

use crate::api::call::{Call, ok};
use crate::api::error::Answer;

/// `GET /functions`.
#[expect(clippy::unused_async, reason = "every handler has this form")]
pub(crate) async fn functions(call: Call) -> Answer {
    call.no_query()?;
    ok(&call.state.handles().functions())
}

/// `GET /websocket/stats`.
#[expect(clippy::unused_async, reason = "every handler has this form")]
pub(crate) async fn websocket(call: Call) -> Answer {
    call.no_query()?;
    ok(&call.state.handles().websocket_stats())
}

/// `GET /conductor/workers`.
#[expect(clippy::unused_async, reason = "every handler has this form")]
pub(crate) async fn conductor(call: Call) -> Answer {
    call.no_query()?;
    ok(&call.state.handles().conductor_workers())
}
