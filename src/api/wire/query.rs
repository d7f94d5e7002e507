//! Reads the query string and collects every fault.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::body::{Word, parse_word, unknown};
use super::instant::parse_instant;
use crate::api::error::ApiError;
use crate::clock::Timestamp;
use crate::domain::fault::Fault;
use crate::store::{KeysetPage, KeysetRequest, PageRequest};

/// Rows of a page at most.
pub(crate) const LIMIT_MAX: i64 = 500;

/// Rows of a page if the client does not say.
pub(crate) const LIMIT_DEFAULT: i64 = 50;

/// Longest text to filter by.
const TEXT_MAX: usize = 200;

/// A query being read, and the faults found so far.
pub(crate) struct Query {
    pairs: HashMap<String, String>,
    faults: Vec<Fault>,
}

impl Query {
    /// Starts reading; parameters that are not in `known`, or come twice, are faults at once.
    pub(crate) fn parse(text: &str, known: &[&str]) -> Self {
        let mut pairs = HashMap::new();
        let mut faults = Vec::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            if !known.contains(&name.as_ref()) {
                faults.push(unknown(&name, known));
            } else if pairs.insert(name.to_string(), value.to_string()).is_some() {
                let message = format!("`{name}` is given twice; use commas for several values");
                faults.push(Fault::new(name.as_ref(), "invalid_value", message));
            }
        }
        Self { pairs, faults }
    }

    /// The value as it is; an empty one is as good as none.
    fn raw(&self, name: &str) -> Option<String> {
        self.pairs.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// A text to filter by.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let text = self.raw(name)?;
        if text.len() > TEXT_MAX || text.contains('\0') {
            let message = format!("`{name}` may have {TEXT_MAX} bytes at most, without U+0000");
            self.faults.push(Fault::new(name, "invalid_value", message));
            return None;
        }
        Some(text)
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        let text = self.raw(name)?;
        let flag = text.parse().ok();
        if flag.is_none() {
            let message = format!("`{name}` must be true or false");
            self.faults.push(Fault::new(name, "invalid_value", message));
        }
        flag
    }

    /// A whole number of a range.
    pub(crate) fn integer(&mut self, name: &str, least: i64, most: i64) -> Option<i64> {
        let text = self.raw(name)?;
        let number = text.parse::<i64>().ok().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let message = match most {
                i64::MAX => format!("`{name}` must be a whole number of at least {least}"),
                _ => format!("`{name}` must be a whole number from {least} to {most}"),
            };
            self.faults.push(Fault::new(name, "out_of_range", message));
        }
        number
    }

    /// A row id to filter by.
    pub(crate) fn id(&mut self, name: &str) -> Option<i64> {
        self.integer(name, 1, i64::MAX)
    }

    /// Words of a closed set, between commas.
    pub(crate) fn words<T: Word>(&mut self, name: &str) -> Vec<T> {
        let Some(text) = self.raw(name) else { return Vec::new() };
        let mut words = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match parse_word(name, word) {
                Ok(value) => words.push(value),
                Err(fault) => self.faults.push(fault),
            }
        }
        words
    }

    /// An instant.
    pub(crate) fn instant(&mut self, name: &str) -> Option<Timestamp> {
        let text = self.raw(name)?;
        let instant = parse_instant(&text);
        if instant.is_none() {
            let message = format!("`{name}` must be an instant such as 2026-11-21T02:00:00Z");
            self.faults.push(Fault::new(name, "invalid_value", message));
        }
        instant
    }

    /// Files a fault.
    pub(crate) fn fault(&mut self, name: &str, code: &'static str, message: impl Into<String>) {
        self.faults.push(Fault::new(name, code, message));
    }

    /// `limit` and `offset`.
    pub(crate) fn page(&mut self) -> PageRequest {
        PageRequest {
            limit: self.integer("limit", 1, LIMIT_MAX).unwrap_or(LIMIT_DEFAULT),
            offset: self.integer("offset", 0, i64::MAX).unwrap_or(0),
        }
    }

    /// `limit` and `cursor`.
    pub(crate) fn keyset(&mut self) -> KeysetRequest {
        let limit = self.integer("limit", 1, LIMIT_MAX).unwrap_or(LIMIT_DEFAULT);
        let text = self.raw("cursor");
        let below = text.as_deref().and_then(parse_cursor);
        if text.is_some() && below.is_none() {
            let message = "`cursor` must be the `nextCursor` of the page before, unchanged";
            self.fault("cursor", "invalid_value", message);
        }
        KeysetRequest { limit, below }
    }

    /// 422 with every fault, if there is one.
    ///
    /// # Errors
    /// 422.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        if self.faults.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.faults)) }
    }
}

/// A cursor: where the next page begins, for nobody to read.
fn cursor(below: i64) -> String {
    URL_SAFE_NO_PAD.encode(format!("below:{below}"))
}

fn parse_cursor(text: &str) -> Option<i64> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    std::str::from_utf8(&bytes).ok()?.strip_prefix("below:")?.parse().ok()
}

/// The answer of a v2 list.
pub(crate) fn keyset_page<T>(page: &KeysetPage<T>, view: impl Fn(&T) -> Value) -> Value {
    let items: Vec<Value> = page.items.iter().map(view).collect();
    json!({ "items": items, "nextCursor": page.next_below.map(cursor) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::execution::ExecutionStatus;

    #[test]
    fn a_page_has_fifty_rows_unless_the_client_says_so() {
        let page = Query::parse("", &["limit", "offset"]).page();
        assert_eq!((page.limit, page.offset), (50, 0));
        let page = Query::parse("limit=500&offset=7", &["limit", "offset"]).page();
        assert_eq!((page.limit, page.offset), (500, 7));
    }

    #[test]
    fn what_is_outside_its_range_is_a_fault() {
        for text in ["limit=0", "limit=501", "limit=x", "offset=-1", "limt=1", "limit=1&limit=2"] {
            let mut query = Query::parse(text, &["limit", "offset"]);
            query.page();
            assert!(query.finish().is_err(), "{text}");
        }
    }

    #[test]
    fn a_cursor_leads_to_the_page_after_and_nothing_else_is_one() {
        let request = Query::parse("limit=2", &["limit", "cursor"]).keyset();
        let page = KeysetPage::of(request, vec![9, 7, 5], |id| *id);
        let body = keyset_page(&page, |id| json!(id));
        assert_eq!(body["items"], json!([9, 7]));
        let next = format!("cursor={}", body["nextCursor"].as_str().unwrap());
        assert_eq!(Query::parse(&next, &["cursor"]).keyset().below, Some(7));
        let last = KeysetPage::of(request, vec![5], |id| *id);
        assert_eq!(keyset_page(&last, |id| json!(id))["nextCursor"], Value::Null);
        let mut query = Query::parse("cursor=7", &["cursor"]);
        query.keyset();
        assert!(query.finish().is_err());
    }

    #[test]
    fn words_take_commas() {
        let mut query = Query::parse("status=failed,timeout", &["status"]);
        let words = query.words::<ExecutionStatus>("status");
        assert_eq!(words, [ExecutionStatus::Failed, ExecutionStatus::Timeout]);
        assert!(query.finish().is_ok());
        let mut query = Query::parse("status=failed,broken", &["status"]);
        query.words::<ExecutionStatus>("status");
        assert!(query.finish().is_err());
    }
}
