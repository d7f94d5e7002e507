//! The server's own log.
//!
//! Text for people or JSON for collectors, on standard error. The level can be changed while the
//! server runs ([`LogControl`]). Every event is exactly one line: line breaks, other control
//! characters and characters that turn the writing direction are escaped in both forms, because a
//! name, a header or an error text may come from anybody.

use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::{Log, LogFormat, parse_log_level};

/// A log level that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LevelError(String);

/// Shows and changes the log level of the running process; cheap to clone.
#[derive(Clone, Debug)]
pub struct LogControl {
    handle: reload::Handle<EnvFilter, Registry>,
    level: Arc<Mutex<String>>,
}

impl LogControl {
    /// Starts the log of this process. If the process has one already (tests), that one stays
    /// and the answer changes nothing that is visible.
    ///
    /// # Errors
    /// [`LevelError`] when the level is not one.
    pub fn install(settings: &Log) -> Result<Self, LevelError> {
        let filter = parse_log_level(&settings.level).map_err(LevelError)?;
        let (filter, handle) = reload::Layer::new(filter);
        let lines = fmt::layer().with_ansi(false).with_writer(OneLine(io::stderr));
        let registry = tracing_subscriber::registry().with(filter);
        // A second log in one process is refused by tracing; the first one serves.
        drop(match settings.format {
            LogFormat::Text => registry.with(lines).try_init(),
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        });
        Ok(Self { handle, level: Arc::new(Mutex::new(settings.level.clone())) })
    }

    /// The level in force, as it was set.
    #[must_use]
    pub fn level(&self) -> String {
        self.level.lock().clone()
    }

    /// Changes the level until the process ends.
    ///
    /// # Errors
    /// [`LevelError`] when the text is not a level; the old one stays in force.
    pub fn set_level(&self, text: &str) -> Result<(), LevelError> {
        let filter = parse_log_level(text).map_err(LevelError)?;
        let mut level = self.level.lock();
        self.handle.reload(filter).map_err(|error| LevelError(error.to_string()))?;
        text.clone_into(&mut level);
        Ok(())
    }
}

/// Makes each event one line, whatever its fields hold.
struct OneLine<M>(M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for OneLine<M> {
    type Writer = OneLine<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }
}

/// The subscriber hands over one whole event, line end included, in one call.
impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let mut line = escape_line(text.strip_suffix('\n').unwrap_or(&text));
        line.push('\n');
        self.0.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Escapes what could forge or hide a part of a line, in a form that stays valid inside JSON.
#[must_use]
pub fn escape_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            _ if character.is_control() || turns_direction(character) => {
                line.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => line.push(character),
        }
    }
    line
}

/// Line and paragraph separators, and the marks that reorder what is shown.
const fn turns_direction(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log_of(format: LogFormat, text: &str) -> String {
        let captured = Captured::default();
        let sink = captured.clone();
        let lines = fmt::layer().with_ansi(false).with_writer(OneLine(move || sink.clone()));
        let emit = || tracing::info!(name = %text, "greeted {text}");
        match format {
            LogFormat::Text => {
                tracing::subscriber::with_default(Registry::default().with(lines), emit);
            }
            LogFormat::Json => {
                let lines = lines.json().flatten_event(true);
                tracing::subscriber::with_default(Registry::default().with(lines), emit);
            }
        }
        let bytes = captured.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_text_with_line_breaks_stays_one_line() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let log = log_of(format, "a\r\nERROR forged\u{1b}[31m\u{202e}\u{85}");
            assert_eq!(log.matches('\n').count(), 1, "{log}");
            assert!(!log.contains(['\r', '\u{1b}', '\u{202e}', '\u{85}']), "{log}");
        }
    }

    #[test]
    fn a_level_can_be_changed_and_a_wrong_one_changes_nothing() {
        let log = LogControl::install(&Log::default()).unwrap();
        assert_eq!(log.level(), "info");
        log.set_level("warn,carillon::store=debug").unwrap();
        assert!(log.set_level("loud").unwrap_err().to_string().contains("'loud' is not a level"));
        assert_eq!(log.level(), "warn,carillon::store=debug");
    }

    proptest! {
        #[test]
        fn a_json_line_stays_json(text in any::<String>()) {
            let log = log_of(LogFormat::Json, &text);
            let value: serde_json::Value = serde_json::from_str(&log).unwrap();
            prop_assert_eq!(value["name"].as_str(), Some(text.as_str()));
        }
    }
}
