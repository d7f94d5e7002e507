//! What makes a schedule fire beside the clock: read and written.

use serde_json::{Map, Value, json};

use crate::api::wire::body::Fields;
use crate::domain::fault::Fault;
use crate::domain::options::{BatchOptions, EventOptions};
use crate::domain::trigger::{COLLECTED_MAX, PATH_MAX, is_path};

/// The fields read here.
pub(super) const FIELDS: &[&str] =
    &["dedupKey", "dedupWindowMs", "debounceMs", "maxWaitMs", "batch"];

const WEEK_MS: i64 = 7 * 86_400_000;
const DAY_MS: i64 = 86_400_000;
const BATCH_WAIT_DEFAULT_MS: i64 = 60_000;

/// Reads them.
pub(super) fn read(fields: &mut Fields<'_>) -> EventOptions {
    let is_event = fields.value("scheduleType").and_then(Value::as_str) == Some("event");
    for field in FIELDS {
        if fields.value(field).is_some() && !is_event {
            let fault = format!("`{field}` is for schedules of type `event`; leave it out");
            faults_of(fields, field, &fault);
        }
    }
    let dedup_key = fields.text("dedupKey", PATH_MAX);
    if dedup_key.as_deref().is_some_and(|path| !is_path(path)) {
        faults_of(fields, "dedupKey", "`dedupKey` is a path into the payload, such as order.id");
    }
    let options = EventOptions {
        dedup_window_ms: fields.integer("dedupWindowMs", 1..=WEEK_MS),
        debounce_ms: fields.integer("debounceMs", 1..=DAY_MS),
        max_wait_ms: fields.integer("maxWaitMs", 1..=DAY_MS),
        batch: read_batch(fields),
        dedup_key,
    };
    if options.dedup_window_ms.is_some() && options.dedup_key.is_none() {
        faults_of(fields, "dedupWindowMs", "`dedupWindowMs` goes with `dedupKey`");
    }
    if options.max_wait_ms.is_some() && options.debounce_ms.is_none() {
        faults_of(fields, "maxWaitMs", "`maxWaitMs` goes with `debounceMs`; `batch` has its own");
    }
    if options.debounce_ms.is_some() && options.batch.is_some() {
        faults_of(fields, "batch", "`batch` and `debounceMs` both collect; give one of them");
    }
    options
}

fn faults_of(fields: &mut Fields<'_>, field: &str, message: &str) {
    fields.file(Fault::new(field, "invalid_value", message));
}

fn read_batch(fields: &mut Fields<'_>) -> Option<BatchOptions> {
    let value = fields.value("batch")?;
    let most = i64::try_from(COLLECTED_MAX).unwrap_or(i64::MAX);
    let mut inner = match Fields::of(value, &["size", "maxWaitMs"], &[]) {
        Ok(inner) => inner,
        Err(_) => {
            fields.fault("batch", "invalid_type", "`batch` is an object {size, maxWaitMs}");
            return None;
        }
    };
    inner.needed("size");
    let size = inner.integer("size", 1..=most);
    let max_wait_ms = inner.integer("maxWaitMs", 1..=DAY_MS).unwrap_or(BATCH_WAIT_DEFAULT_MS);
    let batch = size.map(|size| BatchOptions { size, max_wait_ms });
    match inner.finish_with(batch) {
        Ok(batch) => Some(batch),
        Err(_) => {
            let message =
                format!("`batch` is {{size (1 to {most}), maxWaitMs (1 to {DAY_MS}, 60000)}}");
            fields.fault("batch", "invalid_value", message);
            None
        }
    }
}

/// Writes them, every field there.
pub(super) fn write(options: &EventOptions, body: &mut Map<String, Value>) {
    let batch =
        options.batch.map(|batch| json!({"size": batch.size, "maxWaitMs": batch.max_wait_ms}));
    let fields = [
        ("dedupKey", json!(options.dedup_key)),
        ("dedupWindowMs", json!(options.dedup_window_ms)),
        ("debounceMs", json!(options.debounce_ms)),
        ("maxWaitMs", json!(options.max_wait_ms)),
        ("batch", json!(batch)),
    ];
    body.extend(fields.map(|(name, value)| (name.to_owned(), value)));
}
