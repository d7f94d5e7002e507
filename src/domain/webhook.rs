//! Inbound webhooks: whether a request is from whom it says, by the scheme of its sender.
//!
//! - `standard`: Standard Webhooks 1.0 (`webhook-id`, `webhook-timestamp` within five minutes,
//!   `webhook-signature` with one or more `v1,<base64>` over `id.timestamp.body`).
//! - `github`: `X-Hub-Signature-256` over the body, `X-GitHub-Delivery` as the id. GitHub signs no
//!   time, so that only the id keeps a request from being played again.
//! - `token`: the secret itself in `X-Carillon-Token`, for senders that cannot sign; `webhook-id`
//!   is its id when it sends one.
//!
//! Signatures are over the raw body and compared in constant time. All live secrets are tried, so
//! that one can be changed without a gap. What is wrong is for the owner's log: a stranger learns
//! only that it was refused.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use ring::hmac;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::domain::text_enum;

/// How far a request's time may lie from ours, in seconds.
pub const TOLERANCE_SECONDS: i64 = 300;
/// Bytes of a request's id at most.
pub const ID_MAX: usize = 200;
/// Signatures of one request that are tried.
const SIGNATURES_MAX: usize = 10;
/// Random bytes of a secret that is made here.
pub const SECRET_BYTES: usize = 32;
/// Bytes of a secret that is given: fewer can be guessed.
const SECRET_LEAST: usize = 16;
const SECRET_MOST: usize = 512;
const PREFIX: &str = "whsec_";

text_enum! {
    /// How a webhook's sender proves itself.
    pub enum Scheme {
        /// Standard Webhooks 1.0.
        Standard = "standard",
        /// GitHub's.
        Github = "github",
        /// A token in a header.
        Token = "token",
    }
}

text_enum! {
    /// What was wrong with a request, for the webhook's owner.
    pub enum Refusal {
        /// A header that the scheme needs is missing or cannot be read.
        Malformed = "malformed",
        /// Its time is too far from ours.
        Stale = "stale",
        /// No live secret made its signature.
        BadSignature = "bad_signature",
    }
}

/// A secret of a webhook, as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSecret {
    /// The text as the sender has it; of the scheme `token` its SHA-256.
    pub text: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends; set when another took its place.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<DateTime<Utc>>,
}

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WebhookSecret").field("expires_at", &self.expires_at).finish()
    }
}

/// What of a request is looked at: headers by their names in lower case, and the raw body.
#[derive(Clone, Copy)]
pub struct SignedRequest<'a> {
    /// Finds a header.
    pub header: &'a dyn Fn(&str) -> Option<String>,
    /// The body as it came.
    pub body: &'a [u8],
}

/// Makes a secret of random bytes, in the form that senders of the scheme take.
#[must_use]
pub fn make_secret(scheme: Scheme, random: &[u8; SECRET_BYTES]) -> String {
    match scheme {
        Scheme::Standard => format!("{PREFIX}{}", STANDARD.encode(random)),
        Scheme::Github | Scheme::Token => URL_SAFE_NO_PAD.encode(random),
    }
}

/// Checks a secret that was given.
///
/// # Errors
/// A sentence for a person.
pub fn check_secret(scheme: Scheme, text: &str) -> Result<(), String> {
    let length = match scheme {
        Scheme::Standard => key_of_standard(text).map_or(0, |key| key.len()),
        Scheme::Github | Scheme::Token => text.len(),
    };
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain && (SECRET_LEAST..=SECRET_MOST).contains(&length) {
        return Ok(());
    }
    Err(match scheme {
        Scheme::Standard => format!("give `whsec_` and base64 of {SECRET_LEAST} bytes or more"),
        Scheme::Github | Scheme::Token => {
            format!("give {SECRET_LEAST} to {SECRET_MOST} printable ASCII characters")
        }
    })
}

/// What is stored of a secret: a token only has to be known again, a signing key is needed whole.
#[must_use]
pub fn stored_form(scheme: Scheme, text: &str) -> String {
    match scheme {
        Scheme::Token => hash_of(text),
        Scheme::Standard | Scheme::Github => text.to_owned(),
    }
}

fn hash_of(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key_of_standard(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or(text)).ok()
}

/// Checks a request; its id, if it has one.
///
/// # Errors
/// What was wrong, for the owner alone.
pub fn verify(
    scheme: Scheme,
    secrets: &[WebhookSecret],
    request: SignedRequest<'_>,
    now: DateTime<Utc>,
) -> Result<Option<String>, Refusal> {
    let live = || secrets.iter().filter(|one| one.expires_at.is_none_or(|end| now < end));
    match scheme {
        Scheme::Standard => {
            let id = needed_id(request, "webhook-id")?;
            let stamp = (request.header)("webhook-timestamp").ok_or(Refusal::Malformed)?;
            let given = (request.header)("webhook-signature").ok_or(Refusal::Malformed)?;
            let seconds: i64 = stamp.parse().map_err(|_| Refusal::Malformed)?;
            if (now.timestamp().saturating_sub(seconds)).abs() > TOLERANCE_SECONDS {
                return Err(Refusal::Stale);
            }
            let mut signed = format!("{id}.{stamp}.").into_bytes();
            signed.extend_from_slice(request.body);
            let tags: Vec<Vec<u8>> = given
                .split(' ')
                .filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok())
                .take(SIGNATURES_MAX)
                .collect();
            let keys = live().filter_map(|secret| key_of_standard(&secret.text));
            accept(signs(keys, &signed, &tags), Some(id))
        }
        Scheme::Github => {
            let id = needed_id(request, "x-github-delivery")?;
            let given = (request.header)("x-hub-signature-256").ok_or(Refusal::Malformed)?;
            let tag = given.strip_prefix("sha256=").and_then(unhex).ok_or(Refusal::Malformed)?;
            let keys = live().map(|secret| secret.text.clone().into_bytes());
            accept(signs(keys, request.body, &[tag]), Some(id))
        }
        Scheme::Token => {
            let given = (request.header)("x-carillon-token").ok_or(Refusal::Malformed)?;
            let given = hash_of(&given);
            let known = live()
                .map(|secret| given.as_bytes().ct_eq(secret.text.as_bytes()))
                .reduce(|known, one| known | one)
                .is_some_and(bool::from);
            let id = (request.header)("webhook-id").map(checked_id).transpose()?;
            accept(known, id)
        }
    }
}

fn accept(is_signed: bool, id: Option<String>) -> Result<Option<String>, Refusal> {
    if is_signed { Ok(id) } else { Err(Refusal::BadSignature) }
}

fn needed_id(request: SignedRequest<'_>, header: &str) -> Result<String, Refusal> {
    (request.header)(header).ok_or(Refusal::Malformed).and_then(checked_id)
}

fn checked_id(id: String) -> Result<String, Refusal> {
    let is_plain = id.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain && (1..=ID_MAX).contains(&id.len()) { Ok(id) } else { Err(Refusal::Malformed) }
}

/// Whether any of the keys made any of the tags; every pair is tried whatever came of the others.
fn signs(keys: impl Iterator<Item = Vec<u8>>, message: &[u8], tags: &[Vec<u8>]) -> bool {
    let mut found = false;
    for key in keys {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        for tag in tags {
            found |= hmac::verify(&key, message, tag).is_ok();
        }
    }
    found
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
