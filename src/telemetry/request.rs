//! The ids that follow a request: `X-Request-Id` and W3C `traceparent`.
//!
//! Both come from outside, so both are taken over only when well formed; otherwise the server
//! makes its own. Parsing is pure.

use std::fmt;

use rand::RngExt;
use uuid::Uuid;

/// The longest request id that is taken over.
const REQUEST_ID_MAX: usize = 128;

/// The id of one request, safe to put into a header, a log line and JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// Takes over a client's id: 1 to 128 letters, digits, `-`, `_`, `.`, `:`, `/`, `+`, `=`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
        let is_well_formed =
            !text.is_empty() && text.len() <= REQUEST_ID_MAX && text.bytes().all(is_plain);
        is_well_formed.then(|| Self(text.to_owned()))
    }

    /// A new random id.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::new_v4().to_string())
    }

    /// The client's id if it is well formed, else a new one.
    #[must_use]
    pub fn take_over(header: Option<&str>) -> Self {
        header.and_then(Self::parse).unwrap_or_else(Self::generate)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A W3C trace context: which trace a piece of work belongs to, and which span caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
}

impl TraceParent {
    /// Reads a `traceparent` header; later versions are read as far as this one goes, as the
    /// recommendation asks.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('-');
        let version = hex(fields.next()?, 2)?;
        let trace_id = hex(fields.next()?, 32)?;
        let parent_id = u64::try_from(hex(fields.next()?, 16)?).ok()?;
        let flags = u8::try_from(hex(fields.next()?, 2)?).ok()?;
        let is_known = version != 0xff && (version != 0 || fields.next().is_none());
        (is_known && trace_id != 0 && parent_id != 0).then_some(Self { trace_id, parent_id, flags })
    }

    /// A new trace of its own; sampled.
    #[must_use]
    pub fn generate() -> Self {
        let mut random = rand::rng();
        Self::new(random.random(), random.random())
    }

    /// A sampled context of these ids; zero, which the recommendation forbids, becomes one.
    #[must_use]
    pub fn new(trace_id: u128, parent_id: u64) -> Self {
        Self { trace_id: trace_id.max(1), parent_id: parent_id.max(1), flags: 1 }
    }

    /// The same trace with another span as the cause.
    #[must_use]
    pub fn with_parent(self, parent_id: u64) -> Self {
        Self { parent_id: parent_id.max(1), ..self }
    }

    /// The client's context if its header is well formed, else a new one.
    #[must_use]
    pub fn take_over(header: Option<&str>) -> Self {
        header.and_then(Self::parse).unwrap_or_else(Self::generate)
    }

    /// The id of the trace, 32 hex digits.
    #[must_use]
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

/// Reads exactly `length` lower-case hex digits.
fn hex(text: &str, length: usize) -> Option<u128> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_field = text.len() == length && text.bytes().all(is_hex);
    is_field.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_well_formed_request_id_is_taken_over_and_any_other_is_replaced() {
        assert_eq!(RequestId::take_over(Some("abc-1.2")).as_str(), "abc-1.2");
        let long = "a".repeat(129);
        for bad in ["", "a b", "a\nb", "caf\u{e9}", "<script>", &long] {
            assert_eq!(RequestId::parse(bad), None, "{bad:?}");
            assert!(RequestId::parse(RequestId::take_over(Some(bad)).as_str()).is_some());
        }
    }

    #[test]
    fn a_trace_goes_on_under_a_new_span() {
        let trace = TraceParent::parse(GOOD).unwrap();
        assert_eq!(trace.to_string(), GOOD);
        assert_eq!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let child = trace.with_parent(0xab);
        assert_eq!(child.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000ab-01");
    }

    #[test]
    fn a_malformed_trace_context_is_not_taken_over() {
        let later = GOOD.replacen("00", "01", 1);
        assert!(TraceParent::parse(&later).is_some());
        assert!(TraceParent::parse(&format!("{later}-more")).is_some());
        let bad = [
            String::new(),
            GOOD.to_uppercase(),
            GOOD.replacen("00", "ff", 1),
            GOOD.replace("00f067aa0ba902b7", "0000000000000000"),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            format!("{GOOD}-more"),
            format!(" {GOOD}"),
            GOOD.replace("-01", ""),
            GOOD.replace("-01", "-+1"),
        ];
        for text in bad {
            assert_eq!(TraceParent::parse(&text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(trace in any::<u128>(), parent in any::<u64>()) {
            let context = TraceParent::new(trace, parent);
            prop_assert_eq!(TraceParent::parse(&context.to_string()), Some(context));
        }
    }
}
