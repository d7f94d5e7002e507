//! The dashboard's session: a key for a cookie.

use actix_web::HttpResponse;
use actix_web::cookie::time::Duration as CookieDuration;
use actix_web::cookie::{Cookie, SameSite};
use serde_json::json;

use crate::api::auth::SESSION_COOKIE;
use crate::api::call::{Call, ok};
use crate::api::error::Answer;
use crate::api::wire::body::Fields;
use crate::domain::event::instant_text;

/// Longest token that is looked at.
const TOKEN_MAX: usize = 200;

/// `POST /session {token}`.
pub(crate) async fn open(call: Call) -> Answer {
    call.no_query()?;
    let body = call.json()?;
    let mut fields = Fields::of(&body, &["token"], &[])?;
    let token = fields.needed_text("token", TOKEN_MAX);
    let token = fields.finish_with(token)?;
    let authority = call.state.authority();
    let session = authority.open_session(&call.request, &token).await?;
    let length = i64::try_from(session.length.as_secs()).unwrap_or(i64::MAX);
    let cookie = cookie(&call, session.id, CookieDuration::seconds(length));
    let body = json!({
        "name": session.principal.name,
        "role": session.principal.role,
        "expiresAt": instant_text(session.expires_at),
    });
    Ok(HttpResponse::Ok().cookie(cookie).content_type("application/json").body(body.to_string()))
}

/// `GET /session`: who asks, by key or by cookie.
#[expect(clippy::unused_async, reason = "every handler has this form")]
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    let principal = call.principal()?;
    ok(&json!({ "name": principal.name, "role": principal.role, "keyId": principal.key_id }))
}

/// `DELETE /session`.
#[expect(clippy::unused_async, reason = "every handler has this form")]
pub(crate) async fn close(call: Call) -> Answer {
    call.no_query()?;
    if let Some(cookie) = call.request.cookie(SESSION_COOKIE) {
        call.state.authority().close_session(cookie.value());
    }
    let gone = cookie(&call, String::new(), CookieDuration::ZERO);
    Ok(HttpResponse::NoContent().cookie(gone).finish())
}

fn cookie(call: &Call, value: String, max_age: CookieDuration) -> Cookie<'static> {
    Cookie::build(SESSION_COOKIE, value)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(call.state.authority().is_secure())
        .max_age(max_age)
        .finish()
}
