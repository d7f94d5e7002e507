//! The column types whose form differs between the back ends, and their Rust values.
//!
//! An instant is `timestamptz` or INTEGER microseconds, a document is `jsonb` or TEXT, an id is
//! `uuid` or TEXT. Instants finer than a microsecond are cut, as both back ends would.

use std::io::Write;

use chrono::{DateTime, Utc};
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::{Sqlite, SqliteValue};
use serde_json::Value;
use uuid::Uuid;

/// The types of the columns.
pub(crate) use carillon_schema::types as sql;

/// An instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, AsExpression, FromSqlRow)]
#[diesel(sql_type = sql::Instant)]
pub(crate) struct Instant(pub(crate) DateTime<Utc>);

/// A JSON document.
#[derive(Clone, Debug, PartialEq, AsExpression, FromSqlRow)]
#[diesel(sql_type = sql::JsonDoc)]
pub(crate) struct JsonDoc(pub(crate) Value);

/// A UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = sql::Uid)]
pub(crate) struct Uid(pub(crate) Uuid);

/// Microseconds from 1970 to 2000, where PostgreSQL's clock starts.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// JSON text without the escape for NUL, which neither a `jsonb` nor a `text` column can hold: the
/// character becomes U+FFFD, also in JSON that is a string inside the JSON.
pub(crate) fn without_nul(text: String) -> String {
    if text.contains("\\u0000") { text.replace("\\u0000", "\\ufffd") } else { text }
}

/// The JSON text of a document.
pub(crate) fn json_text(value: &Value) -> String {
    // Not by `Display`, which costs several times as much; a document cannot fail to be written.
    without_nul(serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()))
}

/// The text of a JSON document, to be written as it is.
#[derive(Clone, Debug, PartialEq, Eq, AsExpression)]
#[diesel(sql_type = sql::JsonDoc)]
pub(crate) struct JsonText(pub(crate) String);

impl JsonText {
    /// A document's text.
    pub(crate) fn of(value: &Value) -> Self {
        Self(json_text(value))
    }

    /// The text of a list of labels.
    pub(crate) fn of_tags(tags: &[String]) -> Self {
        if tags.is_empty() {
            return Self("[]".to_owned());
        }
        Self(without_nul(serde_json::to_string(tags).unwrap_or_else(|_| "[]".to_owned())))
    }
}

impl ToSql<sql::JsonDoc, Pg> for JsonText {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(&[1])?;
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}

impl ToSql<sql::JsonDoc, Sqlite> for JsonText {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.0.as_str());
        Ok(IsNull::No)
    }
}

fn instant_of_micros(micros: i64) -> deserialize::Result<Instant> {
    DateTime::from_timestamp_micros(micros)
        .map(Instant)
        .ok_or_else(|| format!("{micros} microseconds are no instant").into())
}

impl ToSql<sql::Instant, Pg> for Instant {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(&(self.0.timestamp_micros() - POSTGRES_EPOCH).to_be_bytes())?;
        Ok(IsNull::No)
    }
}

impl FromSql<sql::Instant, Pg> for Instant {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let bytes: [u8; 8] = value.as_bytes().try_into()?;
        instant_of_micros(i64::from_be_bytes(bytes).saturating_add(POSTGRES_EPOCH))
    }
}

impl ToSql<sql::Instant, Sqlite> for Instant {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.0.timestamp_micros());
        Ok(IsNull::No)
    }
}

impl FromSql<sql::Instant, Sqlite> for Instant {
    fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        instant_of_micros(<i64 as FromSql<BigInt, Sqlite>>::from_sql(value)?)
    }
}

impl ToSql<sql::JsonDoc, Pg> for JsonDoc {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        // `jsonb` on the wire is a version byte and text.
        out.write_all(&[1])?;
        out.write_all(json_text(&self.0).as_bytes())?;
        Ok(IsNull::No)
    }
}

impl FromSql<sql::JsonDoc, Pg> for JsonDoc {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        match value.as_bytes().split_first() {
            Some((1, text)) => Ok(Self(serde_json::from_slice(text)?)),
            _ => Err("an unknown version of jsonb".into()),
        }
    }
}

impl ToSql<sql::JsonDoc, Sqlite> for JsonDoc {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(json_text(&self.0));
        Ok(IsNull::No)
    }
}

impl FromSql<sql::JsonDoc, Sqlite> for JsonDoc {
    fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        let text = <String as FromSql<Text, Sqlite>>::from_sql(value)?;
        Ok(Self(serde_json::from_str(&text)?))
    }
}

impl ToSql<sql::Uid, Pg> for Uid {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}

impl FromSql<sql::Uid, Pg> for Uid {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(Uuid::from_slice(value.as_bytes())?))
    }
}

impl ToSql<sql::Uid, Sqlite> for Uid {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.0.to_string());
        Ok(IsNull::No)
    }
}

impl FromSql<sql::Uid, Sqlite> for Uid {
    fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        let text = <String as FromSql<Text, Sqlite>>::from_sql(value)?;
        Ok(Self(Uuid::parse_str(&text)?))
    }
}
