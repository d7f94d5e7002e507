//! Telling failures apart by the user's rules: pure.
//!
//! A rule names what it fits (`when`: exit codes, HTTP statuses, kinds, a pattern on the message;
//! all that are given must fit) and what such a failure is: transient (tried again within
//! `maxAttempts`), permanent (a dead letter at once) or ignored (the run ends `failed` and nothing
//! follows). The first rule that fits wins over the table of [`TaskError`] and over `retryOn`.
//!
//! Rules are asked about failures of the task, not about lost nodes and interruptions: those are
//! the server's own and charged elsewhere.

use std::time::Duration;

use chrono::{DateTime, Utc};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::domain::options::RetryBudget;
use crate::domain::task::TaskError;
use crate::domain::text_enum;

/// Rules of a schedule at most.
pub const RULES_MAX: usize = 50;
/// Entries of a list in a rule at most.
pub const LIST_MAX: usize = 50;
/// Bytes of a pattern at most.
pub const PATTERN_MAX: usize = 1_000;
/// Bytes of memory that a compiled pattern may take.
const PATTERN_MEMORY: usize = 1 << 20;

/// The kinds that a rule may name: those of a task's own failures.
pub const KINDS: &[&str] = &[
    "exit_code",
    "signal",
    "not_executable",
    "command_not_found",
    "timeout",
    "connection",
    "http_408",
    "http_425",
    "http_429",
    "http_5xx",
    "http_4xx",
    "http_redirect",
    "conductor",
    "function_failed",
    "panic",
    "invalid_config",
    "unknown_function",
    "refused_by_policy",
    "output_too_large",
    "internal",
];

text_enum! {
    /// What a failure is.
    pub enum Class {
        /// Tried again while attempts are left.
        Transient = "transient",
        /// Given up at once, with a dead letter.
        Permanent = "permanent",
        /// Nothing follows: no record, no retry, no dead letter.
        Ignore = "ignore",
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// What it fits.
    pub when: Condition,
    /// What a failure that it fits is.
    pub then: Class,
}

/// What a rule fits: all that is given must.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// The command ended with one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exit_codes: Vec<i64>,
    /// The answer had one of these statuses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http_status: Vec<u16>,
    /// It is of one of these kinds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// Its message matches the pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A failure with what is known of it beside its error.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// What happened.
    pub error: &'a TaskError,
    /// The command's exit code.
    pub exit_code: Option<i64>,
    /// The answer's status.
    pub http_status: Option<u16>,
    /// The wait that the answer asked for.
    pub retry_after: Option<Duration>,
}

impl<'a> Failure<'a> {
    /// A failure of which nothing else is known.
    #[must_use]
    pub const fn of(error: &'a TaskError) -> Self {
        Self { error, exit_code: None, http_status: None, retry_after: None }
    }

    /// The wait that is respected: 429 and 503 may ask for one.
    #[must_use]
    pub fn asked_wait(&self) -> Option<Duration> {
        self.retry_after.filter(|_| matches!(self.http_status, Some(429 | 503)))
    }
}

/// Compiles a pattern, bounded in length and memory; matching takes time linear in the message.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_MAX {
        return Err(format!("a pattern may have {PATTERN_MAX} bytes at most"));
    }
    RegexBuilder::new(pattern)
        .size_limit(PATTERN_MEMORY)
        .dfa_size_limit(PATTERN_MEMORY)
        .build()
        .map_err(|error| error.to_string())
}

impl Condition {
    /// True when it names nothing, and would fit everything by oversight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it fits.
    #[must_use]
    pub fn fits(&self, failure: &Failure<'_>) -> bool {
        let code = failure.exit_code;
        let status = failure.http_status;
        (self.exit_codes.is_empty() || code.is_some_and(|code| self.exit_codes.contains(&code)))
            && (self.http_status.is_empty()
                || status.is_some_and(|s| self.http_status.contains(&s)))
            && (self.kinds.is_empty() || self.kinds.contains(&failure.error.kind))
            && self.message.as_deref().is_none_or(|pattern| {
                compile(pattern).is_ok_and(|regex| regex.is_match(&failure.error.message))
            })
    }
}

/// What the first rule that fits says.
#[must_use]
pub fn classify(rules: &[Rule], failure: &Failure<'_>) -> Option<Class> {
    rules.iter().find(|rule| rule.when.fits(failure)).map(|rule| rule.then)
}

impl RetryBudget {
    /// Takes one retry at `now` from what was `taken` (oldest first) and leaves what still counts.
    /// False when there is none left: then any span of `perMs` has its `maxRetries`.
    pub fn take(&self, taken: &mut Vec<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
        let span = i64::try_from(self.per_ms).unwrap_or(i64::MAX);
        let oldest = chrono::Duration::try_milliseconds(span)
            .and_then(|span| now.checked_sub_signed(span))
            .unwrap_or(DateTime::<Utc>::MIN_UTC);
        taken.retain(|at| *at > oldest);
        let may = taken.len() < usize::try_from(self.max_retries).unwrap_or(usize::MAX);
        if may {
            taken.push(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(when: Condition, then: Class) -> Rule {
        Rule { when, then }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = [
            rule(Condition { exit_codes: vec![75], ..Condition::default() }, Class::Transient),
            rule(
                Condition {
                    kinds: vec!["exit_code".to_owned()],
                    message: Some("(?i)no space".to_owned()),
                    ..Condition::default()
                },
                Class::Permanent,
            ),
            rule(Condition { exit_codes: vec![3, 75], ..Condition::default() }, Class::Ignore),
            rule(Condition { http_status: vec![404], ..Condition::default() }, Class::Transient),
        ];
        let table = [
            ("exit_code", "exit status 75", Some(75), None, Some(Class::Transient)),
            ("exit_code", "exit status 3", Some(3), None, Some(Class::Ignore)),
            ("exit_code", "No space left", Some(3), None, Some(Class::Permanent)),
            ("http_4xx", "status 404", None, Some(404), Some(Class::Transient)),
            ("http_4xx", "status 400", None, Some(400), None),
            ("connection", "no space", None, None, None),
        ];
        for (kind, message, exit_code, http_status, expected) in table {
            let error = TaskError::new(kind, message);
            let failure = Failure { exit_code, http_status, ..Failure::of(&error) };
            assert_eq!(classify(&rules, &failure), expected, "{kind} {message}");
        }
    }

    #[test]
    fn a_pattern_is_bounded() {
        assert!(compile("(a{1000}){1000}").is_err());
        assert!(compile(&"a".repeat(PATTERN_MAX + 1)).is_err());
        assert!(compile("a(").is_err());
    }

    #[test]
    fn only_an_answer_that_asks_to_wait_is_waited_for() {
        let error = TaskError::http_status(503);
        let retry_after = Some(Duration::from_secs(9));
        let of = |http_status| Failure { http_status, retry_after, ..Failure::of(&error) };
        assert_eq!(of(Some(503)).asked_wait(), retry_after);
        assert_eq!(of(Some(429)).asked_wait(), retry_after);
        assert_eq!(of(Some(500)).asked_wait(), None);
        assert_eq!(of(None).asked_wait(), None);
    }

    proptest! {
        #[test]
        fn no_span_has_more_retries_than_its_budget(
            steps in prop::collection::vec(0_i64..2_000, 1..200),
            max_retries in 0_u32..6,
            per_ms in 1_u64..5_000,
        ) {
            let budget = RetryBudget { max_retries, per_ms };
            let mut now = DateTime::<Utc>::UNIX_EPOCH;
            let mut taken = Vec::new();
            let mut granted: Vec<i64> = Vec::new();
            for step in steps {
                now += chrono::Duration::milliseconds(step);
                let at = now.timestamp_millis();
                let in_span = granted.iter().filter(|earlier| at - **earlier < per_ms as i64).count();
                let may = budget.take(&mut taken, now);
                prop_assert_eq!(may, in_span < max_retries as usize);
                if may {
                    granted.push(at);
                }
            }
        }
    }
}
