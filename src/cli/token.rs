//! `carillon token`: API keys.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Connection;
use super::client::{Client, ClientError, segment};
use super::output::{Answer, cell, table};
use super::task::put;
use super::values::{format_instant, parse_instant, parse_span};
use crate::clock::Clock;

#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(flatten)]
    pub(super) connection: Connection,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Makes a key; it is shown once.
    #[command(
        after_help = "Example:\n  carillon token new deploy-bot --role operator --expires 90d"
    )]
    New {
        /// A name to know it by.
        name: String,
        /// What it may do.
        #[arg(long, default_value = "viewer", value_parser = ["viewer", "operator", "admin"])]
        role: String,
        /// When it ends: a span from now (90d) or an instant in RFC 3339.
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
    },
    /// Lists the keys, without their secrets.
    #[command(after_help = "Example:\n  carillon token list --json")]
    List,
    /// Ends a key.
    #[command(after_help = "Example:\n  carillon token revoke 3")]
    Revoke {
        /// The key's number in the list.
        id: String,
    },
}

const COLUMNS: &[(&str, &str)] = &[
    ("ID", "id"),
    ("NAME", "name"),
    ("ROLE", "role"),
    ("PREFIX", "prefix"),
    ("CREATED", "createdAt"),
    ("EXPIRES", "expiresAt"),
    ("LAST USED", "lastUsedAt"),
    ("REVOKED", "revokedAt"),
];

impl Verb {
    pub(super) async fn run(self, client: &Client) -> Result<Answer, ClientError> {
        match self {
            Self::New { name, role, expires } => {
                let mut body = Map::new();
                put(&mut body, "name", Some(json!(name)));
                put(&mut body, "role", Some(json!(role)));
                let expires = expires.map(|text| expiry(&text)).transpose();
                let expires = expires.map_err(ClientError::Misused)?;
                put(&mut body, "expiresAt", expires.map(Value::from));
                let answer = client.post("/api/admin/keys", Value::Object(body)).await?;
                let names = ["token", "key"].map(|name| cell(&answer, name));
                let key = names.into_iter().find(|text| text != "-").unwrap_or_default();
                Ok(Answer::new(answer, key))
            }
            Self::List => {
                let answer = client.get("/api/admin/keys").await?;
                let text = table(&answer, COLUMNS, "no keys");
                Ok(Answer::new(answer, text))
            }
            Self::Revoke { id } => {
                let answer = client.delete(&format!("/api/admin/keys/{}", segment(&id))).await?;
                Ok(Answer::new(answer, format!("key {id} is revoked")))
            }
        }
    }
}

fn expiry(text: &str) -> Result<String, String> {
    let Ok(span) = parse_span(text) else { return parse_instant(text) };
    let span = i64::try_from(span).ok().and_then(chrono::Duration::try_milliseconds);
    let instant = span.and_then(|span| Clock::system().now().checked_add_signed(span));
    Ok(format_instant(instant.ok_or("that is too far away")?))
}
