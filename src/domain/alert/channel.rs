//! A channel: where alerts are delivered. Its secrets are stored, used, and never shown again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::{Timestamp, text_enum};

/// What stands for a secret wherever a channel is shown.
pub const MASK: &str = "***";

/// A text that is never written to a log or an answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a text into confidence.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, to be used.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

text_enum! {
    /// How a mail server is spoken to.
    pub enum SmtpTls {
        /// In clear first, encrypted before anything is said; refused when the server cannot.
        Starttls = "starttls",
        /// Encrypted from the first byte.
        Tls = "tls",
        /// In clear.
        None = "none",
    }
}

/// How and where a channel delivers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ChannelSpec {
    /// A JSON document, posted and signed by Standard Webhooks.
    Webhook {
        /// Where to; its path and query may be a secret and are shown masked.
        url: Secret,
        /// `whsec_` and the key in base64.
        secret: Secret,
    },
    /// A message to an incoming webhook of Slack, or of what takes the same (Mattermost, Rocket).
    Slack {
        /// The URL, a secret as a whole.
        url: Secret,
    },
    /// A mail.
    Smtp {
        /// The mail server.
        host: String,
        /// Its port.
        port: u16,
        /// How it is spoken to.
        tls: SmtpTls,
        /// Who we are to it.
        user: Option<String>,
        /// And the password.
        password: Option<Secret>,
        /// The sender's address.
        from: String,
        /// Addresses.
        to: Vec<String>,
    },
}

impl ChannelSpec {
    /// `webhook`, `slack` or `smtp`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Slack { .. } => "slack",
            Self::Smtp { .. } => "smtp",
        }
    }
}

/// A channel.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertChannel {
    /// Row id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// How and where it delivers.
    pub spec: ChannelSpec,
    /// Goes up with each edit.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last edited.
    pub updated_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_in_what_is_logged() {
        let secret = || Secret::new("tell-nobody".to_owned());
        let specs = [
            ChannelSpec::Webhook { url: secret(), secret: secret() },
            ChannelSpec::Slack { url: secret() },
            ChannelSpec::Smtp {
                host: "mail.example".to_owned(),
                port: 587,
                tls: SmtpTls::Starttls,
                user: Some("me".to_owned()),
                password: Some(secret()),
                from: "a@example".to_owned(),
                to: vec!["b@example".to_owned()],
            },
        ];
        for spec in specs {
            assert!(!format!("{spec:?}").contains("tell-nobody"));
            let stored = serde_json::to_value(&spec).unwrap();
            assert_eq!(stored["kind"], spec.kind());
            assert_eq!(serde_json::from_value::<ChannelSpec>(stored).unwrap(), spec);
        }
    }
}
