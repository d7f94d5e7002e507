//! The stored state of the scheduler: whether it fires, and when it last did not.

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::domain::event::instant_text;

/// Whether the scheduler fires, and the last time it was stopped; stored for the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopWindow {
    /// It fires.
    pub running: bool,
    /// When it was last stopped.
    pub stopped_at: Option<Timestamp>,
    /// When it was started after that.
    pub started_at: Option<Timestamp>,
}

impl Default for StopWindow {
    fn default() -> Self {
        Self { running: true, stopped_at: None, started_at: None }
    }
}

impl StopWindow {
    /// Reads the stored state; a missing one means that the scheduler was never stopped.
    #[must_use]
    pub fn from_state(state: Option<&Value>) -> Self {
        let Some(state) = state else { return Self::default() };
        let instant = |name: &str| state.get(name)?.as_str()?.parse::<Timestamp>().ok();
        Self {
            running: state.get("running").and_then(Value::as_bool).unwrap_or(true),
            stopped_at: instant("stoppedAt"),
            started_at: instant("startedAt"),
        }
    }

    /// The state after somebody started (`true`) or stopped (`false`) the scheduler at `now`;
    /// itself when that changes nothing.
    #[must_use]
    pub fn switched(self, running: bool, now: Timestamp) -> Self {
        match (self.running, running) {
            (true, false) => Self { running, stopped_at: Some(now), started_at: None },
            (false, true) => Self { running, started_at: Some(now), ..self },
            (true, true) | (false, false) => self,
        }
    }

    /// What is stored.
    #[must_use]
    pub fn to_state(self) -> Value {
        json!({
            "running": self.running,
            "stoppedAt": self.stopped_at.map(instant_text),
            "startedAt": self.started_at.map(instant_text),
        })
    }

    /// True when the scheduler was stopped at the instant.
    #[must_use]
    pub fn covers(self, instant: Timestamp) -> bool {
        self.stopped_at.is_some_and(|from| from <= instant)
            && self.started_at.is_none_or(|to| instant <= to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn a_stop_covers_what_lies_between_stop_and_start() {
        let window = StopWindow::default().switched(false, at(10)).switched(true, at(20));
        assert!(!window.covers(at(9)));
        assert!(window.covers(at(15)));
        assert!(!window.covers(at(21)));
        assert_eq!(StopWindow::from_state(Some(&window.to_state())), window);
    }

    #[test]
    fn stopping_twice_keeps_the_first_instant() {
        let window = StopWindow::default().switched(false, at(10)).switched(false, at(15));
        assert_eq!(window.stopped_at, Some(at(10)));
    }
}
