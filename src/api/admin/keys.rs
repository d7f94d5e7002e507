//! API keys: list, make (shown once), revoke.

use serde_json::{Value, json};

use crate::api::auth::make_key;
use crate::api::call::{Call, created, no_content, ok};
use crate::api::error::{Answer, ApiError};
use crate::api::v1::executions::nothing_in;
use crate::api::wire::body::Fields;
use crate::api::wire::definition::NAME_MAX;
use crate::api::wire::views;
use crate::clock::Timestamp;
use crate::domain::key::Role;
use crate::store::{ApiKeyRow, NewApiKey};

/// `GET /keys`.
pub(crate) async fn list(call: Call) -> Answer {
    let mut query = call.query(&["limit", "offset"]);
    let page = query.page();
    query.finish()?;
    let mut rows = call.state.store().key_list().await?;
    rows.sort_by_key(|row| std::cmp::Reverse(row.id));
    let skip = usize::try_from(page.offset).unwrap_or(usize::MAX);
    let take = usize::try_from(page.limit).unwrap_or(usize::MAX);
    ok(&json!({
        "items": rows.iter().skip(skip).take(take).map(views::key).collect::<Vec<_>>(),
        "total": rows.len(),
        "limit": page.limit,
        "offset": page.offset,
    }))
}

/// `POST /keys {name, role, expiresAt?}`: the only answer that ever holds the token.
pub(crate) async fn create(call: Call) -> Answer {
    call.no_query()?;
    if call.headers.contains_key("idempotency-key") {
        let message = "a token is shown once, so no answer with one is kept; leave the header \
                       out, and if an answer was lost, revoke the key it made and make another";
        return Err(ApiError::invalid_field("Idempotency-Key", "not_supported_yet", message));
    }
    let body = call.json()?;
    let mut fields = Fields::of(&body, &["name", "role", "expiresAt"], &["scopes"])?;
    let name = fields.needed_text("name", NAME_MAX);
    fields.needed("role");
    let role = fields.word::<Role>("role");
    let expires_at = fields.instant("expiresAt");
    if expires_at.is_some_and(|end| end <= call.state.clock().now()) {
        fields.fault("expiresAt", "in_the_past", "this instant has passed");
    }
    let (name, role) = fields.finish_with(name.zip(role))?;
    let key = make_key()?;
    let row = NewApiKey {
        prefix: key.prefix().to_owned(),
        secret_hash: key.secret_hash(),
        name,
        role: role.as_str().to_owned(),
        expires_at,
    };
    let row = call.state.store().key_create(row).await?;
    let mut view = views::key(&row);
    if let Value::Object(object) = &mut view {
        object.insert("token".to_owned(), Value::String(key.reveal().to_owned()));
    }
    created(&view, format!("/api/admin/keys/{}", row.id))
}

/// `DELETE /keys/{id}`. The last key that may make keys stays: without it nobody could come back.
pub(crate) async fn revoke(call: Call) -> Answer {
    call.no_query()?;
    nothing_in(&call)?;
    let id = call.id()?;
    let rows = call.state.store().key_list().await?;
    let now = call.state.clock().now();
    let mut admins = rows.iter().filter(|row| is_admin(row, now));
    if admins.clone().any(|row| row.id == id) && admins.all(|row| row.id == id) {
        let detail = "this is the last admin key; make another first";
        return Err(ApiError::conflict("last_admin_key", detail));
    }
    call.state.store().key_revoke(id).await?;
    call.state.authority().forget(id);
    no_content()
}

/// Whether a key works and is an admin's. One that will end counts: it can still make another.
fn is_admin(row: &ApiKeyRow, now: Timestamp) -> bool {
    let is_over = row.expires_at.is_some_and(|end| end <= now);
    row.role == Role::Admin.as_str() && row.revoked_at.is_none() && !is_over
}
