//! Runs a shell task under a shim, from the server's side.
//!
//! The shim decides when the task is over; here its output is drained, its lines and progress are
//! passed on, and cancel, drain and lease are told to the shim. A shim that does not do as it is
//! told within its time is killed and what it left is hunted down, so a run always ends.

mod delegated;
pub(super) mod event_file;
pub(super) mod group;
pub(super) mod progress;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::SecondsFormat;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use self::event_file::EventFile;
use self::group::TaskGroup;
use self::progress::ProgressFile;
use super::control::{StopReason, TaskControl};
use super::environment::{Limits, TaskEnvironment};
use super::outcome::{Cut, LogStream, Outcome, OutcomeExtra, TaskContext, TaskSink, Usage};
use super::output::{Capture, HeadAndTail, OutputBudget, Secrets};
use super::shim::protocol::{self, Command, End, Report, Spec, boot_millis};
use super::shim::{LOST_GRACE, Shimmed};
use crate::clock::Clock;
use crate::domain::task::{RunAs, ShellTask, TaskError, TaskLimits};

/// How much longer than planned a shim may take before it is taken for lost.
const SHIM_MARGIN: Duration = Duration::from_secs(3);
/// The longest that a paused task stands still; then it goes on by itself.
pub const PAUSE_MAX: Duration = Duration::from_hours(24);
/// How often the progress file is looked at.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

static WARNED_OF_ROOT: AtomicBool = AtomicBool::new(false);

/// What the streams of a task held.
struct Captured {
    stdout: HeadAndTail,
    stderr: HeadAndTail,
    limits: TaskLimits,
}

/// Where lines of output go.
#[derive(Clone)]
pub(super) struct Listener {
    pub(super) sink: Arc<dyn TaskSink>,
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    pub(super) secrets: Arc<Secrets>,
}

impl Listener {
    /// What becomes of a stream of which `keep` bytes are kept, in a file in `spool` when many.
    pub(super) fn capture<'a>(
        &'a self,
        stream: LogStream,
        keep: usize,
        spool: Option<&'a Path>,
    ) -> Capture<'a> {
        Capture {
            stream,
            sink: &*self.sink,
            clock: &self.clock,
            secrets: Arc::clone(&self.secrets),
            line_limit: self.limits.line_bytes,
            keep,
            spool,
            budget: None,
        }
    }
}

/// Runs `task`; the answer comes when no process of it is alive.
pub(super) async fn run(
    environment: &TaskEnvironment,
    task: &ShellTask,
    context: &TaskContext,
    control: &TaskControl,
    listener: Listener,
) -> Outcome {
    if task.run_as.is_none() {
        warn_of_root();
    }
    let progress = match environment.progress_file(context) {
        Ok(progress) => progress,
        Err(error) => return internal("the progress file could not be made", &error),
    };
    let event = match environment.event_file(context).transpose() {
        Ok(event) => event,
        Err(error) => return internal("the event's file could not be made", &error),
    };
    let limits = environment.limits();
    let limits = task.limits.within(limits.task_defaults, limits.task_maxima);
    let limits = match limits {
        Ok(limits) => limits,
        Err(faults) => {
            let messages: Vec<_> = faults.into_iter().map(|fault| fault.message).collect();
            return Outcome::failed(TaskError::new("invalid_config", messages.join("; ")));
        }
    };
    let mark = format!("CARILLON_EXECUTION_ID={}", context.execution_id);
    // Before the plan, so that no later change of the lease is missed.
    let lease = control.lease();
    let lease_end = *lease.borrow();
    let group = environment.groups().map(|parent| {
        let name = context.execution_id.to_string();
        parent.make(&name, limits)
    });
    let group = match group.transpose() {
        Ok(group) => group,
        Err(error) => return internal("the command's control group could not be made", &error),
    };
    let cgroup = group.as_ref().map(TaskGroup::path);
    let mut spec = Spec {
        limits: limits_of(limits),
        cgroup,
        ..plan(environment, task, context, lease_end, &progress)
    };
    add_event(&mut spec, context, event.as_ref());
    let started = Shimmed::start(environment.shims(), &spec, Some(mark)).await;
    let (shimmed, pipes) = match started {
        Ok(started) => started,
        Err(error) => return internal("the command's shim could not be started", &error),
    };
    let (over, is_over) = watch::channel(false);
    let watchdog = Duration::from_millis(spec.grace_ms) + SHIM_MARGIN;
    let budget = OutputBudget::new(limits.output_bytes);
    let supervised = async {
        let plan =
            Supervised { control, lease, timeout: context.timeout, watchdog, budget: &budget };
        let ended = supervise(shimmed, plan).await;
        over.send_replace(true);
        ended
    };
    let (keep, spool) = (environment.limits().output_bytes, Some(environment.output_directory()));
    let capture =
        |stream| Capture { budget: Some(&budget), ..listener.capture(stream, keep, spool) };
    let ((report, cut, swept), stdout, stderr, ()) = tokio::join!(
        supervised,
        capture(LogStream::Stdout).drain(pipes.stdout, is_over.clone()),
        capture(LogStream::Stderr).drain(pipes.stderr, is_over.clone()),
        follow_progress(progress, &listener, is_over),
    );
    // Many large results at once would cost more memory than the tasks themselves.
    let is_large = stdout.is_large() || stderr.is_large();
    let held = if is_large { environment.hold_result().await } else { None };
    let mut outcome = conclude(report, cut, swept, &Captured { stdout, stderr, limits });
    outcome.hold(held);
    outcome
}

fn warn_of_root() {
    if rustix::process::geteuid().is_root() && !WARNED_OF_ROOT.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            "shell tasks without `runAs` run as root; run the server as a user of its own, or give \
             each schedule a `runAs`"
        );
    }
}

fn internal(what: &str, error: &std::io::Error) -> Outcome {
    Outcome::failed(TaskError::new("internal", format!("{what}: {error}")))
}

/// Writes down what the shim is to run.
fn plan(
    environment: &TaskEnvironment,
    task: &ShellTask,
    context: &TaskContext,
    lease: Option<Instant>,
    progress: &ProgressFile,
) -> Spec {
    let (program, args) = match &task.args {
        Some(args) => (task.command.clone(), args.clone()),
        None => ("/bin/sh".to_owned(), vec!["-c".to_owned(), task.command.clone()]),
    };
    let mut env = environment.base_environment().to_vec();
    let declared_from = env.len();
    env.extend(task.env.iter().cloned());
    env.extend(variables(context));
    env.push(("CARILLON_PROGRESS_FILE".to_owned(), progress.path().display().to_string()));
    Spec {
        program,
        args,
        cwd: task.cwd.clone(),
        env,
        declared_from,
        lost_grace_ms: Some(milliseconds(environment.limits().lost_grace)),
        run_as: task.run_as.clone().map(|RunAs { user, group }| protocol::RunAs { user, group }),
        progress_file: Some(progress.path().display().to_string()),
        grace_ms: task.grace_ms.unwrap_or_else(|| milliseconds(environment.limits().grace)),
        timeout_ms: Some(milliseconds(context.timeout)),
        lease_until_ms: lease.map(|until| boot_millis(until.into_std())),
        process_limit: environment.limits().processes,
        open_files: environment.open_files(),
        ..Spec::default()
    }
}

/// What of the limits is the shim's: output is counted here.
const fn limits_of(limits: TaskLimits) -> protocol::Limits {
    let TaskLimits { memory_mb, cpu_ms, processes, open_files, output_bytes: _ } = limits;
    protocol::Limits { memory_mb, cpu_ms, processes, open_files }
}

/// Tells the command of the event that set it off.
fn add_event(spec: &mut Spec, context: &TaskContext, event: Option<&EventFile>) {
    let Some(event) = event else { return };
    spec.event_file = Some(event.path());
    spec.env.push(("CARILLON_EVENT_FILE".to_owned(), event.path()));
    let name = context.event_name().unwrap_or_default().to_owned();
    spec.env.push(("CARILLON_EVENT_NAME".to_owned(), name));
}

/// What a task is told about itself.
fn variables(context: &TaskContext) -> Vec<(String, String)> {
    let scheduled_at = context.scheduled_at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let mut variables = vec![
        ("CARILLON_EXECUTION_ID".to_owned(), context.execution_id.to_string()),
        ("CARILLON_CHAIN_ID".to_owned(), context.chain_id.to_string()),
        ("CARILLON_ATTEMPT".to_owned(), context.attempt.to_string()),
        ("CARILLON_SCHEDULED_AT".to_owned(), scheduled_at),
        ("CARILLON_FENCING_TOKEN".to_owned(), context.fencing_token.to_string()),
    ];
    let schedule =
        context.schedule_id.map(|id| ("CARILLON_SCHEDULE_ID".to_owned(), id.to_string()));
    let trace = context.traceparent.clone().map(|trace| ("TRACEPARENT".to_owned(), trace));
    variables.extend(schedule.into_iter().chain(trace));
    variables
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How a shim is steered.
pub(super) struct Supervised<'a> {
    pub(super) control: &'a TaskControl,
    pub(super) lease: watch::Receiver<Option<Instant>>,
    pub(super) timeout: Duration,
    /// How much longer than asked the shim may take.
    pub(super) watchdog: Duration,
    /// What the task may still write.
    pub(super) budget: &'a OutputBudget,
}

/// Steers the shim until it has reported or is lost. Answers with its report, the reason for which
/// the task was cut off here, and how many processes had to be killed without the shim.
pub(super) async fn supervise(
    mut shimmed: Shimmed,
    plan: Supervised<'_>,
) -> (Option<Report>, Option<Cut>, u32) {
    let mut line = Vec::new();
    let mut cut = None;
    let Supervised { control, mut lease, timeout, watchdog, budget } = plan;
    let mut patience = Instant::now() + timeout + watchdog;
    let (mut was_woken, mut killed) = (false, 0);
    let mut paused = control.paused();
    // A pause that came before the start is obeyed too.
    paused.mark_changed();
    let mut still_since: Option<Instant> = None;
    let report = loop {
        tokio::select! {
            report = shimmed.report(&mut line) => break report,
            reason = control.stopped(), if cut.is_none() => {
                let (command, why) = match reason {
                    StopReason::Cancel => (Command::Cancel, Cut::Cancel),
                    StopReason::Interrupt => (Command::Interrupt, Cut::Interrupt),
                    StopReason::Preempt => (Command::Interrupt, Cut::Preempt),
                };
                shimmed.tell(command).await;
                cut = Some(why);
                patience = patience.min(Instant::now() + watchdog);
            }
            Ok(()) = paused.changed(), if cut.is_none() => {
                let is_paused = *paused.borrow_and_update();
                match (is_paused, still_since) {
                    (true, None) => {
                        shimmed.tell(Command::Pause { limit_ms: milliseconds(PAUSE_MAX) }).await;
                        still_since = Some(Instant::now());
                        patience += PAUSE_MAX;
                    }
                    (false, Some(since)) => {
                        shimmed.tell(Command::Resume).await;
                        still_since = None;
                        patience -= PAUSE_MAX.saturating_sub(since.elapsed());
                    }
                    _ => {}
                }
            }
            Ok(()) = lease.changed() => {
                let until = *lease.borrow_and_update();
                if let Some(until) = until {
                    shimmed.tell(Command::Lease { until_ms: boot_millis(until.into_std()) }).await;
                }
            }
            () = budget.spent() => {
                shimmed.tell(Command::Output).await;
                patience = patience.min(Instant::now() + watchdog);
            }
            // The shim ends the task by itself; this is for one that does not.
            () = control.lease_lost(), if cut != Some(Cut::Lease) => {
                cut = Some(Cut::Lease);
                patience = patience.min(Instant::now() + LOST_GRACE + SHIM_MARGIN);
            }
            () = tokio::time::sleep_until(patience) => {
                cut = cut.or(Some(Cut::Timeout));
                // It may be stopped, or slow on a machine that has much to do: a shim that can
                // still prove the end of its tree is not given up lightly.
                if was_woken {
                    killed = shimmed.end_from_outside().await;
                    break None;
                }
                shimmed.wake_shim();
                was_woken = true;
                patience = Instant::now() + SHIM_MARGIN;
            }
        }
    };
    let swept = shimmed.finish(report.is_some()).await;
    (report, cut, swept.saturating_add(killed))
}

async fn follow_progress(
    mut file: ProgressFile,
    listener: &Listener,
    mut is_over: watch::Receiver<bool>,
) {
    let mut pass_on = || {
        if let Some(progress) = file.read() {
            listener.sink.progress(progress);
        }
    };
    while tokio::time::timeout(PROGRESS_EVERY, is_over.wait_for(|over| *over)).await.is_err() {
        pass_on();
    }
    pass_on();
}

/// Turns what the shim reported into an outcome.
fn conclude(report: Option<Report>, cut: Option<Cut>, swept: u32, captured: &Captured) -> Outcome {
    let Some(report) = report else {
        let extra = OutcomeExtra { killed: swept, ..OutcomeExtra::default() };
        let result = Some(result_of(None, captured));
        if let Some(cut) = cut {
            return cut.outcome(result, extra);
        }
        let error = TaskError::new("internal", "the command's shim was killed");
        return Outcome::Failed { error, result, extra };
    };
    let usage = Usage { peak_memory_bytes: report.peak_memory_bytes, cpu_ms: report.cpu_ms };
    let extra =
        OutcomeExtra { killed: report.killed, usage: Some(usage), ..OutcomeExtra::default() };
    let result = result_of(report.exit_code, captured);
    let error = match (report.end, report.exit_code, report.signal) {
        (End::Timeout, ..) => return Cut::Timeout.outcome(Some(result), extra),
        (End::Cancel, ..) => return Cut::Cancel.outcome(Some(result), extra),
        (End::Interrupt, ..) => {
            // The shim does not ask what it is interrupted for.
            let why = cut.filter(|cut| *cut == Cut::Preempt).unwrap_or(Cut::Interrupt);
            return why.outcome(Some(result), extra);
        }
        (End::Lease | End::ServerLost, ..) => return Cut::Lease.outcome(Some(result), extra),
        (end @ (End::Memory | End::Cpu | End::Processes | End::Output), ..) => {
            over_limit(end, captured.limits)
        }
        (End::NotStarted, ..) => {
            let fault = report.fault.map_or_else(
                || TaskError::new("internal", "the command could not be started"),
                |fault| TaskError::new(fault.kind, fault.message),
            );
            return Outcome::Failed { error: fault, result: None, extra };
        }
        (End::Exited, Some(0), _) => return Outcome::Completed { result, extra },
        (End::Exited, Some(code), _) => TaskError::exit_code(code),
        (End::Exited, None, Some(signal)) => {
            TaskError::new("signal", format!("the command was ended by signal {signal}"))
        }
        (End::Exited, None, None) => TaskError::new("internal", "the command left no status"),
    };
    Outcome::Failed { error, result: Some(result), extra }
}

/// The error of a task that used more than it may; the message names the limit and its value.
fn over_limit(end: End, limits: TaskLimits) -> TaskError {
    let (kind, what, name, limit, unit) = match end {
        End::Memory => ("signal", "more memory", "memoryMb", limits.memory_mb, " MiB"),
        End::Cpu => ("signal", "more processor time", "cpuMs", limits.cpu_ms, " ms"),
        End::Processes => ("signal", "more processes", "processes", limits.processes, ""),
        _ => ("output_too_large", "more output", "outputBytes", limits.output_bytes, " bytes"),
    };
    let limit = limit.unwrap_or_default();
    let message = format!(
        "the command was ended: it used {what} than its limit of {limit}{unit} (`limits.{name}`)"
    );
    TaskError::new(kind, message)
}

fn result_of(exit_code: Option<i32>, captured: &Captured) -> Value {
    json!({
        "exitCode": exit_code,
        "stdout": captured.stdout.text(),
        "stderr": captured.stderr.text(),
        "truncated": captured.stdout.missing() > 0 || captured.stderr.missing() > 0,
    })
}
