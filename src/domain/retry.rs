//! How often and how soon a failed attempt is repeated: pure.

use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::fault::Fault;
use crate::domain::fields::Fields;

/// Failures that may be retried, by the names of `retryOn`.
pub const RETRY_CLASSES: &[&str] = &[
    "timeout",
    "connection",
    "http_5xx",
    "http_429",
    "exit_code",
    "conductor",
    "panic",
    "node_lost",
];
/// Attempts at most.
pub const MAX_ATTEMPTS_LIMIT: u64 = 100;
/// Longest delay in milliseconds: a week.
pub const DELAY_LIMIT_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Largest factor.
pub const FACTOR_LIMIT: f64 = 100.0;

const KNOWN: &[&str] = &["maxAttempts", "baseMs", "factor", "maxMs", "jitter", "retryOn"];
const PATH: &str = "retryPolicy";

/// When a failed attempt is repeated. The delay before attempt n+1 is
/// `min(maxMs, baseMs * factor^(n-1)) * (1 ± jitter)`.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts at most, the first one included; 1 is no retry.
    pub max_attempts: u32,
    /// Delay before the second attempt, milliseconds.
    pub base_ms: u64,
    /// How much longer each delay is than the one before.
    pub factor: f64,
    /// Longest delay before jitter, milliseconds.
    pub max_ms: u64,
    /// Spread of the delay, `0.0..=1.0`; 0.1 is plus or minus a tenth. Above 0.5 the order of
    /// delays is lost in noise.
    pub jitter: f64,
    /// Which failures are retried, by the names in [`RETRY_CLASSES`].
    pub retry_on: Vec<&'static str>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 4,
            base_ms: 1_000,
            factor: 2.0,
            max_ms: 60_000,
            jitter: 0.1,
            retry_on: RETRY_CLASSES.to_vec(),
        }
    }
}

impl RetryPolicy {
    /// Parses a `retryPolicy`; `null` and absent fields mean the default.
    ///
    /// # Errors
    /// Every fault, with paths such as `retryPolicy.maxAttempts`.
    pub fn parse(value: &Value) -> Result<Self, Vec<Fault>> {
        let default = Self::default();
        if value.is_null() {
            return Ok(default);
        }
        let Some(object) = value.as_object() else {
            let message = "a retry policy is an object, such as {\"maxAttempts\": 4}";
            return Err(vec![Fault::new(PATH, "invalid_type", message)]);
        };
        let mut fields = Fields::of(object, PATH, KNOWN);
        let max_attempts = fields.integer("maxAttempts", 1, MAX_ATTEMPTS_LIMIT);
        let base_ms = fields.integer("baseMs", 0, DELAY_LIMIT_MS).unwrap_or(default.base_ms);
        let max_ms = fields.integer("maxMs", 0, DELAY_LIMIT_MS).unwrap_or(default.max_ms);
        let factor = number(&mut fields, "factor", 1.0, FACTOR_LIMIT).unwrap_or(default.factor);
        let jitter = number(&mut fields, "jitter", 0.0, 1.0).unwrap_or(default.jitter);
        let retry_on = retry_on(&mut fields);
        let policy = Self {
            max_attempts: max_attempts
                .and_then(|attempts| u32::try_from(attempts).ok())
                .unwrap_or(default.max_attempts),
            base_ms,
            factor,
            max_ms,
            jitter,
            retry_on: retry_on.unwrap_or(default.retry_on),
        };
        fields.finish(Some(policy))
    }

    /// Reads a policy that was validated before it was stored.
    #[must_use]
    pub fn from_stored(value: &Value) -> Self {
        Self::parse(value).unwrap_or_default()
    }

    /// The policy with every default filled in.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "maxAttempts": self.max_attempts,
            "baseMs": self.base_ms,
            "factor": self.factor,
            "maxMs": self.max_ms,
            "jitter": self.jitter,
            "retryOn": self.retry_on,
        })
    }

    /// Whether failures of the class are retried.
    #[must_use]
    pub fn retries(&self, class: &str) -> bool {
        self.retry_on.contains(&class)
    }

    /// The delay after `failures` failures (1 is the first). `random` in `0.0..1.0` places it
    /// within the jitter. Never overflows, whatever the count.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "delays are far below 2^53 ms")]
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let exponent = f64::from(failures.saturating_sub(1));
        // An overflow is infinity, which the cap takes back.
        let raw = (self.base_ms as f64 * self.factor.powf(exponent)).min(self.max_ms as f64);
        let spread = 1.0 + self.jitter * (2.0 * random.clamp(0.0, 1.0) - 1.0);
        Duration::from_secs_f64((raw * spread).max(0.0) / 1000.0)
    }
}

fn number(fields: &mut Fields<'_>, name: &str, low: f64, high: f64) -> Option<f64> {
    let value = fields.value(name)?;
    let number = value.as_f64().filter(|number| (low..=high).contains(number));
    if number.is_none() {
        fields.fault(name, "out_of_range", format!("`{name}` is a number from {low} to {high}"));
    }
    number
}

fn retry_on(fields: &mut Fields<'_>) -> Option<Vec<&'static str>> {
    let names = fields.strings("retryOn", RETRY_CLASSES.len(), 40)?;
    let mut classes = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match RETRY_CLASSES.iter().find(|class| *class == name) {
            Some(class) => classes.push(*class),
            None => fields.fault(
                &format!("retryOn.{index}"),
                "invalid_value",
                format!("`{name}` is not one of {}", RETRY_CLASSES.join(", ")),
            ),
        }
    }
    Some(classes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let policy = RetryPolicy::default();
        let delays: Vec<u128> =
            (1..=8).map(|failures| policy.delay(failures, 0.5).as_millis()).collect();
        assert_eq!(delays, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    }

    #[test]
    fn every_fault_of_a_policy_is_told_at_once() {
        let value = json!({"maxAttempts": 0, "jitter": 2, "retryOn": ["tiemout"], "base": 1});
        let faults = RetryPolicy::parse(&value).unwrap_err();
        let mut fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        fields.sort_unstable();
        assert_eq!(
            fields,
            [
                "retryPolicy.base",
                "retryPolicy.jitter",
                "retryPolicy.maxAttempts",
                "retryPolicy.retryOn.0"
            ]
        );
    }

    #[test]
    fn a_policy_survives_being_stored() {
        let policy =
            RetryPolicy { max_attempts: 2, retry_on: vec!["timeout"], ..Default::default() };
        assert_eq!(RetryPolicy::from_stored(&policy.to_json()), policy);
    }

    proptest! {
        #[test]
        fn a_delay_stays_within_its_jitter_for_any_attempt(
            failures in 0_u32..=u32::MAX,
            random in 0.0_f64..1.0,
            jitter in 0.0_f64..=1.0,
            factor in 1.0_f64..=100.0,
        ) {
            let policy = RetryPolicy { jitter, factor, ..RetryPolicy::default() };
            let delay = policy.delay(failures, random).as_secs_f64();
            prop_assert!(delay <= 60.0 * (1.0 + jitter) + 0.001);
            prop_assert!(delay >= 1.0 * (1.0 - jitter) - 0.001);
        }
    }
}
