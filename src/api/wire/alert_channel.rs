//! Alert channels: read with their secrets, shown without.

use serde_json::{Value, json};
use url::Url;

use super::body::Fields;
use super::definition::NAME_MAX;
use crate::api::error::ApiError;
use crate::domain::alert::channel::{AlertChannel, ChannelSpec, MASK, Secret, SmtpTls};
use crate::domain::event::instant_text;
use crate::store::NewAlertChannel;
use crate::tasks::notify::{check_secret, is_address};

/// Bytes of a URL at most.
const URL_MAX: usize = 2_000;
/// Addresses of a mail at most.
const TO_MAX: usize = 50;
/// The fields of each kind, beside `name` and `kind`.
const WEBHOOK: &[&str] = &["url", "secret"];
const SLACK: &[&str] = &["url"];
const SMTP: &[&str] = &["host", "port", "tls", "user", "password", "from", "to"];

/// Reads a channel; what is left out, or sent as it is shown, stays as it was `before`.
///
/// # Errors
/// 422 with every fault.
pub(crate) fn parse(
    value: &Value,
    before: Option<&AlertChannel>,
) -> Result<NewAlertChannel, ApiError> {
    let whole = before.map_or_else(|| value.clone(), |before| merge(before, value));
    let kind = whole.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let own = match kind.as_str() {
        "webhook" => WEBHOOK,
        "slack" => SLACK,
        "smtp" => SMTP,
        _ => &[WEBHOOK, SMTP].concat(),
    };
    let known: Vec<&str> = ["name", "kind"].iter().chain(own).copied().collect();
    let mut fields = Fields::of(&whole, &known, &[])?;
    let name = fields.needed_text("name", NAME_MAX);
    let is_plain =
        |name: &String| name.chars().all(|one| one.is_alphanumeric() || "-_.".contains(one));
    if name.as_ref().is_some_and(|name| !is_plain(name)) {
        let message = "a channel's name has letters, digits, `-`, `_` and `.` alone";
        fields.fault("name", "invalid_value", message);
    }
    if name.as_ref().zip(before).is_some_and(|(name, before)| *name != before.name) {
        fields.fault("name", "invalid_value", "a channel keeps its name, as rules tell it by name");
    }
    fields.needed("kind");
    let spec = match kind.as_str() {
        "webhook" => read_webhook(&mut fields),
        "slack" => url(&mut fields).map(|url| ChannelSpec::Slack { url }),
        "smtp" => read_smtp(&mut fields),
        _ => {
            fields.fault("kind", "invalid_value", "`kind` is one of webhook, slack, smtp");
            None
        }
    };
    fields.finish_with(name.zip(spec).map(|(name, spec)| NewAlertChannel { name, spec }))
}

/// The stored channel with a body laid over it. What is sent masked is what is stored.
fn merge(before: &AlertChannel, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let shown = view(before);
    let mut whole = serde_json::to_value(&before.spec).unwrap_or_default();
    let is_other = patch.get("kind").is_some_and(|kind| Some(kind) != whole.get("kind"));
    if is_other {
        whole = json!({});
    }
    if let Some(fields) = whole.as_object_mut() {
        fields.insert("name".to_owned(), json!(before.name));
        for (name, value) in patch {
            if is_other || shown.get(name) != Some(value) {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
    whole
}

fn url(fields: &mut Fields<'_>) -> Option<Secret> {
    let text = fields.needed_text("url", URL_MAX)?;
    let parsed = Url::parse(&text).ok();
    let is_sound = parsed
        .as_ref()
        .is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
    if !is_sound {
        fields.fault("url", "invalid_value", "`url` must be an http or https URL");
        return None;
    }
    if parsed.is_some_and(|url| !url.username().is_empty() || url.password().is_some()) {
        let message = "leave user and password out of the URL; receivers check the signature";
        fields.fault("url", "invalid_value", message);
        return None;
    }
    Some(Secret::new(text))
}

fn read_webhook(fields: &mut Fields<'_>) -> Option<ChannelSpec> {
    let url = url(fields);
    let secret = fields.needed_text("secret", NAME_MAX);
    if secret.as_ref().is_some_and(|secret| !check_secret(secret)) {
        let message = "`secret` must be whsec_ and 24 to 64 bytes in base64, such as \
                       whsec_ with the output of `openssl rand -base64 32`";
        fields.fault("secret", "invalid_value", message);
    }
    Some(ChannelSpec::Webhook { url: url?, secret: Secret::new(secret?) })
}

fn read_smtp(fields: &mut Fields<'_>) -> Option<ChannelSpec> {
    let host = fields.needed_text("host", NAME_MAX);
    let bare = host.as_deref().unwrap_or("a");
    let is_host = Url::parse(&format!("http://{bare}/")).is_ok_and(|url| url.path() == "/")
        && !bare.contains(['/', '@', '?', '#'])
        || bare.parse::<std::net::IpAddr>().is_ok();
    if !is_host || bare.parse::<std::net::Ipv6Addr>().is_err() && bare.contains(':') {
        fields.fault(
            "host",
            "invalid_value",
            "`host` must be a name or an address, without a port",
        );
    }
    let tls = fields.word("tls").unwrap_or(SmtpTls::Starttls);
    let default_port = match tls {
        SmtpTls::Starttls => 587,
        SmtpTls::Tls => 465,
        SmtpTls::None => 25,
    };
    let port = fields.integer("port", 1..=65_535).unwrap_or(default_port);
    let user = fields.text("user", NAME_MAX);
    let password = fields.text("password", NAME_MAX).map(Secret::new);
    if user.is_some() != password.is_some() {
        let field = if user.is_some() { "password" } else { "user" };
        fields.fault(field, "required", "`user` and `password` come together");
    }
    if user.is_some() && tls == SmtpTls::None {
        fields.fault(
            "tls",
            "invalid_value",
            "a password is not sent in clear; use starttls or tls",
        );
    }
    let from = fields.needed_text("from", NAME_MAX);
    if from.as_ref().is_some_and(|from| !is_address(from)) {
        fields.fault("from", "invalid_value", "`from` must be a mail address");
    }
    let to = addresses(fields);
    Some(ChannelSpec::Smtp {
        host: host?,
        port: u16::try_from(port).ok()?,
        tls,
        user,
        password,
        from: from?,
        to,
    })
}

fn addresses(fields: &mut Fields<'_>) -> Vec<String> {
    let Some(value) = fields.needed("to") else { return Vec::new() };
    let Some(items) = value.as_array().filter(|items| (1..=TO_MAX).contains(&items.len())) else {
        fields.fault(
            "to",
            "invalid_type",
            format!("`to` must be a list of 1 to {TO_MAX} addresses"),
        );
        return Vec::new();
    };
    let mut addresses = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match item.as_str().filter(|text| text.len() <= NAME_MAX && is_address(text)) {
            Some(text) => addresses.push(text.to_owned()),
            None => {
                fields.fault(&format!("to.{index}"), "invalid_value", "this is no mail address");
            }
        }
    }
    addresses
}

/// A channel as it is shown: no secret in it.
pub(crate) fn view(channel: &AlertChannel) -> Value {
    let mut shown = match &channel.spec {
        ChannelSpec::Webhook { url, .. } => json!({ "url": origin(url), "secret": MASK }),
        ChannelSpec::Slack { .. } => json!({ "url": MASK }),
        ChannelSpec::Smtp { host, port, tls, user, password, from, to } => json!({
            "host": host,
            "port": port,
            "tls": tls,
            "user": user,
            "password": password.as_ref().map(|_| MASK),
            "from": from,
            "to": to,
        }),
    };
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("id".to_owned(), json!(channel.id));
        fields.insert("name".to_owned(), json!(channel.name));
        fields.insert("kind".to_owned(), json!(channel.spec.kind()));
        fields.insert("version".to_owned(), json!(channel.version));
        fields.insert("createdAt".to_owned(), json!(instant_text(channel.created_at)));
        fields.insert("updatedAt".to_owned(), json!(instant_text(channel.updated_at)));
    }
    shown
}

/// Where a URL leads to, without its path and query: either may be the secret.
fn origin(url: &Secret) -> String {
    match Url::parse(url.reveal()) {
        Ok(parsed) if parsed.path() == "/" && parsed.query().is_none() => url.reveal().to_owned(),
        Ok(parsed) => format!("{}/{MASK}", parsed.origin().ascii_serialization()),
        Err(_) => MASK.to_owned(),
    }
}
