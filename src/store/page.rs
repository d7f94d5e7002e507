//! Pages of lists: by offset in v1, by key in v2.

/// A page of a v1 list, newest `id` first.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest {
    /// Rows at most, 1 to 500.
    pub limit: i64,
    /// Rows to leave out first.
    pub offset: i64,
}

/// Where counting for `total` stops.
pub const TOTAL_CAP: i64 = 10_000;

/// One page and the count of all rows that match, exact up to [`TOTAL_CAP`].
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// All that match, at most [`TOTAL_CAP`].
    pub total: i64,
    /// True when more than [`TOTAL_CAP`] match.
    pub total_capped: bool,
}

/// A page of a v2 list, newest `id` first: rows below a key, so that pages stay whole while rows
/// are inserted.
#[derive(Clone, Copy, Debug)]
pub struct KeysetRequest {
    /// Rows at most, 1 to 500.
    pub limit: i64,
    /// Only rows with a smaller id; all without.
    pub below: Option<i64>,
}

/// One page of a v2 list.
#[derive(Clone, Debug)]
pub struct KeysetPage<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Below which id the next page lies; `None` when there is no more.
    pub next_below: Option<i64>,
}

impl<T> KeysetPage<T> {
    /// The page of `request` from rows that were read with one more than its limit.
    #[must_use]
    pub fn of(request: KeysetRequest, mut rows: Vec<T>, id: impl Fn(&T) -> i64) -> Self {
        let limit = usize::try_from(request.limit).unwrap_or(0);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next_below = if has_more { rows.last().map(id) } else { None };
        Self { items: rows, next_below }
    }
}
