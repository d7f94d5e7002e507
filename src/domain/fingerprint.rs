//! Which failures are one: a message without what differs between two occurrences, and its hash.
//!
//! Quoted text, paths and URLs, UUIDs, hex runs and whatever holds a digit are taken out, so that
//! ids, times, names and addresses do not tell two occurrences apart. The hash is over the task's
//! type, the kind, the exit code and what is left.

use std::sync::LazyLock;

use regex::Regex;
use sha2::{Digest, Sha256};

use crate::domain::classification::Failure;

/// Characters of a pattern at most.
const PATTERN_CHARS: usize = 200;
/// Bytes of a message that are looked at: what tells causes apart stands in front.
const MESSAGE_BYTES: usize = 2_000;

/// What is taken out, in this order, and what is put in its place.
const TAKEN_OUT: [(&str, &str); 7] = [
    (r#""[^"]*"|`[^`]*`"#, "\"*\""),
    (r"(^|[\s(\[{=:,])'[^']*'", "$1\"*\""),
    (r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "#"),
    (r#"(?:\w+:)?[~.\w@-]*/(?:[^\s,;)\]"]*[^\s,;:.)\]"])?"#, "/*"),
    (r"(?i)\b[0-9a-f]{8,}\b", "#"),
    (r"\b\w*\d\w*\b", "#"),
    (r"#(?:[.:,+-]#)+", "#"),
];

static STEPS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    TAKEN_OUT.iter().filter_map(|(regex, by)| Some((Regex::new(regex).ok()?, *by))).collect()
});

/// The message without what differs between two occurrences.
#[must_use]
pub fn pattern_of(message: &str) -> String {
    let end = message.floor_char_boundary(MESSAGE_BYTES);
    let mut text = message.get(..end).unwrap_or_default().to_owned();
    for (regex, by) in STEPS.iter() {
        text = regex.replace_all(&text, *by).into_owned();
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(PATTERN_CHARS).collect()
}

/// A hash that is equal for failures of the same cause.
#[must_use]
pub fn fingerprint(task_type: &str, failure: &Failure<'_>, pattern: &str) -> String {
    let code = failure.exit_code.map(|code| code.to_string()).unwrap_or_default();
    let mut hash = Sha256::new();
    for part in [task_type, &failure.error.kind, &code, &pattern.to_lowercase()] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::task::TaskError;

    #[test]
    fn what_differs_between_two_occurrences_is_taken_out() {
        assert_eq!(STEPS.len(), TAKEN_OUT.len());
        let table = [
            ("exit status 3", "exit status #"),
            ("cannot open /var/lib/x.db: denied", "cannot open /*: denied"),
            ("GET https://a.example/x?y=1 failed", "GET /* failed"),
            ("no user \"bob smith\", can't go on", "no user \"*\", can't go on"),
            ("key 'abc' is missing", "key \"*\" is missing"),
            ("job 550e8400-e29b-41d4-a716-446655440000 died", "job # died"),
            ("object deadbeefcafe is gone", "object # is gone"),
            ("10.0.0.1:8080 refused at 2026-11-21T02:00:00Z", "# refused at #"),
            ("worker-7  took 30s", "worker-# took #"),
        ];
        for (message, expected) in table {
            assert_eq!(pattern_of(message), expected);
        }
        assert_eq!(pattern_of(&"ä ".repeat(5_000)).chars().count(), PATTERN_CHARS);
    }

    #[test]
    fn the_same_cause_has_the_same_fingerprint_whatever_its_numbers() {
        let of = |kind: &str, code, message: &str| {
            let error = TaskError::new(kind, message);
            let failure = Failure { exit_code: code, ..Failure::of(&error) };
            fingerprint("shell_command", &failure, &pattern_of(message))
        };
        assert_eq!(of("exit_code", Some(1), "PID 7 died"), of("exit_code", Some(1), "pid 99 died"));
        assert_ne!(
            of("exit_code", Some(1), "exit status 1"),
            of("exit_code", Some(2), "exit status 2")
        );
        assert_ne!(of("exit_code", None, "pid 7 died"), of("signal", None, "pid 7 died"));
        assert_ne!(of("exit_code", None, "disk full"), of("exit_code", None, "no memory"));
    }
}
