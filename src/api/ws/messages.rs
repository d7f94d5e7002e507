//! The words of the socket: client messages parsed, server messages written.

use bytestring::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::filter::{INVALID_SUBSCRIPTION, Refusal, Subscriptions};
use crate::clock::Timestamp;
use crate::domain::event::instant_text;

/// The code of a message that is no message.
pub(super) const MALFORMED: &str = "malformed";
/// The code of a message of a type there is not.
pub(super) const UNKNOWN_TYPE: &str = "unknown_type";

/// What a client may say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ClientMessage {
    /// Answer with a pong.
    Ping,
    /// Hear this from now on.
    Subscribe(Box<Subscriptions>),
    /// Hear everything after this number.
    Resume(i64),
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal { code: MALFORMED, detail: detail.into() }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe {
    #[serde(rename = "type")]
    _type: String,
    #[serde(default)]
    subscriptions: Subscriptions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resume {
    #[serde(rename = "type")]
    _type: String,
    after: i64,
}

/// Reads a client's message.
pub(super) fn parse(text: &str) -> Result<ClientMessage, Refusal> {
    let value: Value = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    let Some(name) = value.get("type").and_then(Value::as_str) else {
        return Err(malformed("a message is an object with a `type`"));
    };
    match name {
        "ping" => Ok(ClientMessage::Ping),
        // serde would take a list for the fields in their order.
        "subscribe" if value.get("subscriptions").is_some_and(|wanted| !wanted.is_object()) => {
            let detail = "`subscriptions` is an object".to_owned();
            Err(Refusal { code: INVALID_SUBSCRIPTION, detail })
        }
        "subscribe" => serde_path_to_error::deserialize(value)
            .map(|message: Subscribe| ClientMessage::Subscribe(Box::new(message.subscriptions)))
            .map_err(|error| Refusal { code: INVALID_SUBSCRIPTION, detail: error.to_string() }),
        "resume" => {
            let message: Resume = serde_path_to_error::deserialize(value)
                .map_err(|error| malformed(error.to_string()))?;
            if message.after < 0 {
                return Err(malformed("`after` is an event's number, 0 at least"));
            }
            Ok(ClientMessage::Resume(message.after))
        }
        other => {
            let shown: String = other.chars().take(40).collect();
            Err(Refusal { code: UNKNOWN_TYPE, detail: format!("there is no type `{shown}`") })
        }
    }
}

/// A server message: its type, the instant, and what `fields` adds.
pub(super) fn message(name: &'static str, at: Timestamp, fields: Value) -> ByteString {
    let mut value = json!({"type": name, "timestamp": instant_text(at)});
    if let (Value::Object(message), Value::Object(fields)) = (&mut value, fields) {
        message.extend(fields);
    }
    value.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read() {
        assert_eq!(parse(r#"{"type":"ping"}"#), Ok(ClientMessage::Ping));
        assert_eq!(parse(r#"{"type":"resume","after":7}"#), Ok(ClientMessage::Resume(7)));
        let everything = ClientMessage::Subscribe(Box::default());
        assert_eq!(parse(r#"{"type":"subscribe"}"#), Ok(everything.clone()));
        assert_eq!(parse(r#"{"type":"subscribe","subscriptions":{}}"#), Ok(everything));
    }

    #[test]
    fn bad_messages_are_told_apart() {
        let code = |text| parse(text).unwrap_err().code;
        for text in ["", "{", "[]", "7", "{}", r#"{"type":7}"#, r#"{"type":"resume"}"#] {
            assert_eq!(code(text), MALFORMED, "{text}");
        }
        assert_eq!(code(r#"{"type":"resume","after":-1}"#), MALFORMED);
        assert_eq!(code(r#"{"type":"resume","after":"7"}"#), MALFORMED);
        assert_eq!(code(r#"{"type":"dance"}"#), UNKNOWN_TYPE);
        assert_eq!(
            code(r#"{"type":"subscribe","subscriptions":{"room":[]}}"#),
            INVALID_SUBSCRIPTION
        );
        assert_eq!(code(r#"{"type":"subscribe","rooms":[]}"#), INVALID_SUBSCRIPTION);
        assert_eq!(code(r#"{"type":"subscribe","subscriptions":[[1]]}"#), INVALID_SUBSCRIPTION);
    }

    #[test]
    fn nested_json_does_not_overflow_the_stack() {
        let deep = "[".repeat(60_000);
        assert_eq!(parse(&deep).unwrap_err().code, MALFORMED);
    }
}
