//! The tables of the store and the types of their columns, for diesel.
//!
//! A crate of its own because the compiler takes a minute to check that the implementations diesel
//! writes for each column do not overlap; here it does so once, and not with each edit.

pub mod tables;

/// The column types whose form differs between the back ends.
pub mod types {
    /// `timestamptz` or INTEGER microseconds since 1970.
    #[derive(Clone, Copy, Debug, diesel::sql_types::SqlType, diesel::query_builder::QueryId)]
    #[diesel(postgres_type(oid = 1184, array_oid = 1185), sqlite_type(name = "Long"))]
    pub struct Instant;

    /// `jsonb` or TEXT.
    #[derive(Clone, Copy, Debug, diesel::sql_types::SqlType, diesel::query_builder::QueryId)]
    #[diesel(postgres_type(oid = 3802, array_oid = 3807), sqlite_type(name = "Text"))]
    pub struct JsonDoc;

    /// `uuid` or TEXT.
    #[derive(Clone, Copy, Debug, diesel::sql_types::SqlType, diesel::query_builder::QueryId)]
    #[diesel(postgres_type(oid = 2950, array_oid = 2951), sqlite_type(name = "Text"))]
    pub struct Uid;
}
