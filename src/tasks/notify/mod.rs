//! Delivers messages about alerts: webhooks, chats, mail.
//!
//! Everything goes under the egress policy of HTTP tasks: a name is resolved once, its addresses
//! are judged, and one that was judged is connected to. Redirects are failures: a signed message
//! goes where it was meant to. What is told of a failure names the host alone, as the rest of a
//! URL may be a secret.

mod mail;
mod signature;

use std::time::Duration;

use url::Url;

pub use self::mail::is_address;
pub use self::signature::{check_secret, sign};
use super::http::{Outbound, Request};
use crate::clock::Clock;
use crate::domain::alert::channel::ChannelSpec;
use crate::domain::alert::message::Notice;

/// How long one attempt may take.
pub const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);
/// Characters of an error at most.
const ERROR_MAX: usize = 500;

/// Why a message was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyError {
    /// What the receiver answered, if it did.
    pub status: Option<i32>,
    /// What went wrong.
    pub message: String,
}

impl NotifyError {
    fn new(status: Option<i32>, message: impl Into<String>) -> Self {
        let message: String = message.into();
        Self { status, message: message.chars().take(ERROR_MAX).collect() }
    }
}

/// Delivers messages; cheap to clone.
#[derive(Clone)]
pub struct Notifier {
    outbound: Outbound,
    clock: Clock,
}

impl Notifier {
    pub(in crate::tasks) const fn new(outbound: Outbound, clock: Clock) -> Self {
        Self { outbound, clock }
    }

    /// Makes one attempt to deliver the message that receivers know as `webhook_id`; gives what the
    /// receiver answered.
    ///
    /// # Errors
    /// [`NotifyError`] when it was refused, not answered, or not answered in time.
    pub async fn send(
        &self,
        spec: &ChannelSpec,
        webhook_id: &str,
        notice: &Notice,
    ) -> Result<Option<i32>, NotifyError> {
        let attempt = self.attempt(spec, webhook_id, notice);
        tokio::time::timeout(ATTEMPT_LIMIT, attempt).await.unwrap_or_else(|_| {
            let message = format!("no answer within {} s", ATTEMPT_LIMIT.as_secs());
            Err(NotifyError::new(None, message))
        })
    }

    async fn attempt(
        &self,
        spec: &ChannelSpec,
        webhook_id: &str,
        notice: &Notice,
    ) -> Result<Option<i32>, NotifyError> {
        match spec {
            ChannelSpec::Webhook { url, secret } => {
                let body = document(notice)?;
                let timestamp = self.clock.now().timestamp();
                let signature = sign(secret.reveal(), webhook_id, timestamp, &body)
                    .ok_or_else(|| NotifyError::new(None, "the channel's secret is not sound"))?;
                let headers = vec![
                    ("webhook-id".to_owned(), webhook_id.to_owned()),
                    ("webhook-timestamp".to_owned(), timestamp.to_string()),
                    ("webhook-signature".to_owned(), signature),
                ];
                self.post(url.reveal(), headers, body).await
            }
            ChannelSpec::Slack { url } => {
                self.post(url.reveal(), Vec::new(), notice.slack().to_string()).await
            }
            ChannelSpec::Smtp { .. } => mail::send(&self.outbound, spec, webhook_id, notice).await,
        }
    }

    async fn post(
        &self,
        url: &str,
        mut headers: Vec<(String, String)>,
        body: String,
    ) -> Result<Option<i32>, NotifyError> {
        let url = Url::parse(url)
            .map_err(|_| NotifyError::new(None, "the channel's URL is not sound"))?;
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
        let request = Request { method: "POST", url, headers, body: body.into() };
        let answer = self
            .outbound
            .send_once(&request)
            .await
            .map_err(|error| NotifyError::new(None, error.message))?;
        let status = i32::from(answer.status);
        if (200..300).contains(&answer.status) {
            return Ok(Some(status));
        }
        Err(NotifyError::new(Some(status), format!("the receiver answered {status}")))
    }
}

fn document(notice: &Notice) -> Result<String, NotifyError> {
    serde_json::to_string(notice).map_err(|error| NotifyError::new(None, error.to_string()))
}
