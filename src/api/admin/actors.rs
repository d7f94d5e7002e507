//! The supervision tree: look, restart, stop, start, and (for tests) crash.

use crate::api::call::{Call, accepted, ok};
use crate::api::error::{Answer, ApiError};
use crate::api::v1::executions::nothing_in;
use crate::api::wire::body::Fields;
use crate::runtime::handles::{ActorCommand, CrashMode};

/// `GET /actors`.
pub(crate) async fn tree(call: Call) -> Answer {
    call.no_query()?;
    ok(&call.state.handles().tree_report().await)
}

/// `GET /actors/{path}`.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    ok(&call.state.handles().actor_report(call.param("path")).await?)
}

/// `POST /actors/{path}/restart`.
pub(crate) async fn restart(call: Call) -> Answer {
    command(call, ActorCommand::Restart).await
}

/// `POST /actors/{path}/stop`.
pub(crate) async fn stop(call: Call) -> Answer {
    command(call, ActorCommand::Stop).await
}

/// `POST /actors/{path}/start`.
pub(crate) async fn start(call: Call) -> Answer {
    command(call, ActorCommand::Start).await
}

async fn command(call: Call, command: ActorCommand) -> Answer {
    call.no_query()?;
    nothing_in(&call)?;
    let state = call.state.handles().actor_command(call.param("path"), command).await?;
    accepted(&state)
}

/// `POST /actors/{path}/crash`: exists only with `admin.fault_injection`.
pub(crate) async fn crash(call: Call) -> Answer {
    if !call.state.settings().admin.fault_injection {
        return Err(ApiError::not_found("there is no such route"));
    }
    call.no_query()?;
    let body = call.json()?;
    let mut fields = Fields::of(&body, &["mode", "message"], &[])?;
    let message = fields.text("message", 100);
    let mode = match fields.needed_text("mode", 20).as_deref() {
        Some("panic") => Some(CrashMode::Panic),
        Some("hang") => Some(CrashMode::Hang),
        Some("stop") => Some(CrashMode::Stop),
        Some(_) => {
            fields.fault("mode", "invalid_value", "`mode` is one of panic, hang, stop");
            None
        }
        None => None,
    };
    if message.is_some() && mode.is_some_and(|mode| mode != CrashMode::Panic) {
        fields.fault("message", "invalid_value", "`message` goes with the mode panic alone");
    }
    let mode = fields.finish_with(mode)?;
    if let Some(message) = message {
        return accepted(&call.state.handles().crash_at_message(call.param("path"), &message)?);
    }
    let command = ActorCommand::Crash(mode);
    accepted(&call.state.handles().actor_command(call.param("path"), command).await?)
}
