//! When an execution may start, beside a free slot: read and written.

use serde_json::{Map, Value, json};

use crate::api::error::ApiError;
use crate::api::wire::body::{Fields, inside};
use crate::domain::options::{AdmissionOptions, RateLimit, ResourceNeeds};

/// The fields read here.
pub(super) const FIELDS: &[&str] = &[
    "queue",
    "concurrencyKey",
    "concurrencyLimit",
    "rateLimit",
    "order",
    "slaMs",
    "resources",
    "preemptible",
];

/// Bytes of a queue's name and of a key.
pub(crate) const NAME_MAX: usize = 200;
/// How many may run at once.
pub(crate) const CONCURRENT_MAX: i64 = 10_000;
/// Starts in a span.
const RATE_MAX: i64 = 10_000;
const DAY_MS: i64 = 86_400_000;
const SLA_MAX_MS: i64 = 31 * DAY_MS;
const CPU_MAX: f64 = 1_024.0;
const MEMORY_MAX_MB: i64 = 16 * 1_024 * 1_024;
/// The fine order reaches this far both ways.
pub(crate) const ORDER_MAX: i64 = 100;

/// Reads them.
pub(super) fn read(fields: &mut Fields<'_>) -> AdmissionOptions {
    let queue = read_name(fields, "queue");
    let concurrency_key = read_name(fields, "concurrencyKey");
    let limit = fields.integer("concurrencyLimit", 1..=CONCURRENT_MAX).map(small);
    let rate_limit = read_rate(fields);
    for name in ["concurrencyLimit", "rateLimit"] {
        if concurrency_key.is_none() && fields.value(name).is_some() {
            let message = format!("`{name}` is a limit of a key; name one in `concurrencyKey`");
            fields.fault(name, "invalid_value", message);
        }
    }
    AdmissionOptions {
        queue,
        concurrency_key,
        concurrency_limit: limit,
        rate_limit,
        overlap_limit: None,
        preemptible: fields.flag("preemptible").unwrap_or(false),
        preempted: 0,
        away: None,
        order: fields.integer("order", -ORDER_MAX..=ORDER_MAX).map(small),
        sla_ms: fields.integer("slaMs", 1..=SLA_MAX_MS),
        resources: read_resources(fields),
    }
}

/// A number whose range was checked and fits.
fn small(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn read_name(fields: &mut Fields<'_>, name: &str) -> Option<String> {
    fields.value(name)?;
    fields.needed_text(name, NAME_MAX)
}

fn read_rate(fields: &mut Fields<'_>) -> Option<RateLimit> {
    inside(fields, "rateLimit", &["count", "perMs"], |inner| {
        inner.needed("count");
        inner.needed("perMs");
        let count = inner.integer("count", 1..=RATE_MAX).map(small);
        let per_ms = inner.integer("perMs", 1..=DAY_MS);
        count.zip(per_ms).map(|(count, per_ms)| RateLimit { count, per_ms })
    })
}

fn read_resources(fields: &mut Fields<'_>) -> Option<ResourceNeeds> {
    inside(fields, "resources", &["cpu", "memoryMb"], |inner| {
        let needs = ResourceNeeds {
            cpu: inner.number("cpu", 0.01..=CPU_MAX),
            memory_mb: inner.integer("memoryMb", 1..=MEMORY_MAX_MB),
        };
        (needs != ResourceNeeds::default()).then_some(needs)
    })
}

/// Writes them, every field there.
pub(super) fn write(options: &AdmissionOptions, body: &mut Map<String, Value>) {
    let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
    put("queue", json!(options.queue));
    put("concurrencyKey", json!(options.concurrency_key));
    put("concurrencyLimit", json!(options.concurrency_limit));
    put("rateLimit", json!(options.rate_limit));
    put("order", json!(options.order));
    put("slaMs", json!(options.sla_ms));
    put("resources", json!(options.resources));
    put("preemptible", json!(options.preemptible));
}

/// A queue's name in a path.
///
/// # Errors
/// 422 when it cannot be one.
pub(crate) fn queue_name(text: &str) -> Result<String, ApiError> {
    if text.trim().is_empty() || text.len() > NAME_MAX {
        let message = format!("a queue's name has 1 to {NAME_MAX} bytes");
        return Err(ApiError::invalid_field("name", "out_of_range", message));
    }
    Ok(text.to_owned())
}
