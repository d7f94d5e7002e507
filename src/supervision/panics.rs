//! Catching panics with all that can be known of them.
//!
//! `catch_unwind` alone gives the payload; the place and the backtrace are known only to the panic
//! hook. So a hook, installed once for the process, files both in a thread-local while the thread
//! is inside [`guard`], and passes every other panic on to the hook that was there before.
//!
//! It guarantees that a supervised panic prints nothing by itself: who catches it reports it.
//! It cannot help against a panic inside a panic, a stack overflow or an abort.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Once, OnceLock};
use std::task::{Context, Poll};

/// Longer panic messages are cut.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// Longer backtraces are cut.
const BACKTRACE_BYTES_MAX: usize = 16 * 1024;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<PanicReport>> = const { RefCell::new(None) };
}

/// What is known of a panic that was caught.
#[derive(Clone, Debug)]
pub(crate) struct PanicReport {
    pub(crate) message: String,
    /// `file:line:column`, when the hook saw the panic.
    pub(crate) location: Option<String>,
    pub(crate) trace: Option<Trace>,
}

/// A backtrace whose symbols are looked up when somebody reads it: the look-up can take longer
/// than a restart may.
#[derive(Clone, Debug)]
pub(crate) struct Trace(Arc<(Backtrace, OnceLock<String>)>);

impl Trace {
    fn capture() -> Self {
        Self(Arc::new((Backtrace::force_capture(), OnceLock::new())))
    }

    /// The backtrace as text, cut to a limit.
    pub(crate) fn text(&self) -> &str {
        self.0.1.get_or_init(|| cut(self.0.0.to_string(), BACKTRACE_BYTES_MAX))
    }
}

/// Installs the panic hook of supervised threads; further calls do nothing. Panics outside
/// supervised code still reach the hook that was installed before.
pub fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if GUARDED.try_with(Cell::get).unwrap_or(false) {
                file(info);
            } else {
                previous(info);
            }
        }));
    });
}

fn file(info: &PanicHookInfo<'_>) {
    let report = PanicReport {
        message: message(info.payload()),
        location: info.location().map(ToString::to_string),
        trace: Some(Trace::capture()),
    };
    // A hook must not panic; on a thread that is being torn down the report is lost.
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = Some(report);
        }
    });
}

fn message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "panic with a payload that is not text".to_owned()
    };
    cut(text, MESSAGE_BYTES_MAX)
}

fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let mut end = bytes_max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(" [cut]");
    }
    text
}

/// Runs `work` and turns a panic in it into a report.
pub(crate) fn guard<T>(work: impl FnOnce() -> T) -> Result<T, PanicReport> {
    let outer = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    outcome.map_err(|payload| {
        let filed = LAST.with_borrow_mut(Option::take);
        let report = filed.unwrap_or_else(|| PanicReport {
            message: message(&*payload),
            location: None,
            trace: None,
        });
        // A payload may panic when it is dropped; it is not worth a second crash.
        drop(catch_unwind(AssertUnwindSafe(|| drop(payload))));
        report
    })
}

/// A future whose panics become its output. After a panic it must not be polled again.
pub(crate) struct Guarded<F>(Pin<Box<F>>);

impl<F: Future> Guarded<F> {
    pub(crate) fn new(future: F) -> Self {
        Self(Box::pin(future))
    }
}

impl<F: Future> Future for Guarded<F> {
    type Output = Result<F::Output, PanicReport>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match guard(|| self.0.as_mut().poll(context)) {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(report) => Poll::Ready(Err(report)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caught_panic_tells_its_message_place_and_backtrace() {
        install_panic_hook();
        let report = guard(|| panic!("the {} broke", "axle")).unwrap_err();
        assert_eq!(report.message, "the axle broke");
        assert!(report.location.unwrap().contains("panics.rs:"));
        assert!(!report.trace.unwrap().text().is_empty());
    }

    #[test]
    fn a_guard_within_a_guard_restores_the_outer_one() {
        install_panic_hook();
        let outer = guard(|| {
            let inner = guard(|| panic!("inner"));
            assert_eq!(inner.unwrap_err().message, "inner");
            panic!("outer");
        });
        assert_eq!(outer.unwrap_err().message, "outer");
        assert!(!GUARDED.get());
    }

    #[test]
    fn an_oversized_message_is_cut_visibly() {
        install_panic_hook();
        let report = guard(|| panic!("{}", "ü".repeat(MESSAGE_BYTES_MAX))).unwrap_err();
        assert!(report.message.ends_with(" [cut]"));
        assert!(report.message.len() < MESSAGE_BYTES_MAX + 16);
    }
}
