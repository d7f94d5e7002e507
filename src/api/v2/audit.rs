//! The audit log: who did what to which subject, when and why.

use crate::api::call::{Call, ok};
use crate::api::error::Answer;
use crate::api::wire::interventions;
use crate::api::wire::query::keyset_page;
use crate::store::AuditFilter;

/// `GET /audit?who=&action=&subject=&since=&limit=&cursor=`; a subject is `schedule` or
/// `schedule:7`.
pub(crate) async fn list(call: Call) -> Answer {
    let mut query = call.query(&["who", "action", "subject", "since", "limit", "cursor"]);
    let subject = query.text("subject");
    let (subject_kind, subject_id) = match subject {
        None => (None, None),
        Some(subject) => match subject.split_once(':') {
            None => (Some(subject), None),
            Some((kind, id)) => (Some(kind.to_owned()), Some(id.to_owned())),
        },
    };
    let filter = AuditFilter {
        who: query.text("who"),
        action: query.text("action"),
        subject_kind,
        subject_id,
        since: query.instant("since"),
    };
    let page = query.keyset();
    query.finish()?;
    let found = call.state.store().audit_list(filter, page).await?;
    ok(&keyset_page(&found, interventions::audit_entry))
}
