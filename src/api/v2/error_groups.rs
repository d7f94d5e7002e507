//! Groups of errors: list, read, resolve.

use serde_json::json;

use crate::api::call::{Call, ok};
use crate::api::error::Answer;
use crate::api::v1::errors::notes_of;
use crate::api::wire::groups::{LETTERS_MAX, error_group};
use crate::api::wire::query::keyset_page;
use crate::runtime::handles::Wake;
use crate::store::{ErrorGroupFilter, GroupResolution};

/// `GET /api/v2/errors/groups`.
pub(crate) async fn list(call: Call) -> Answer {
    let mut query = call.query(&["status", "since", "limit", "cursor"]);
    let filter =
        ErrorGroupFilter { statuses: query.words("status"), since: query.instant("since") };
    let page = query.keyset();
    query.finish()?;
    let found = call.state.store().error_group_list(filter, page).await?;
    ok(&keyset_page(&found, error_group))
}

/// `GET /api/v2/errors/groups/{fingerprint}`.
pub(crate) async fn show(call: Call) -> Answer {
    call.no_query()?;
    let fingerprint = call.param("fingerprint").to_owned();
    ok(&error_group(&call.state.store().error_group_get(fingerprint).await?))
}

/// `POST /api/v2/errors/groups/{fingerprint}/resolve`: the group and its records, 500 a call.
pub(crate) async fn resolve(call: Call) -> Answer {
    call.no_query()?;
    let notes = notes_of(&call)?;
    let order = GroupResolution {
        fingerprint: call.param("fingerprint").to_owned(),
        by: call.principal()?.name.clone(),
        notes,
        limit: LETTERS_MAX,
    };
    let (group, records) = call.state.store().error_group_resolve(order).await?;
    call.state.handles().wake(Wake::Recovery);
    let mut body = error_group(&group);
    if let Some(object) = body.as_object_mut() {
        object.insert("resolvedErrors".to_owned(), json!(records.items.len()));
        object.insert("remaining".to_owned(), json!(records.remaining));
    }
    ok(&body)
}
