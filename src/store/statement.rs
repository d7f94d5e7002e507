//! Statements by hand whose text never changes: prepared once a connection.
//!
//! `diesel::sql_query` is prepared anew for each run. On the hot path that costs more than the
//! work, so its statements are types of their own: text and typed parameters in order, known to
//! diesel's cache by their type.

/// Declares a statement for the back end's `Db`: pieces of text, each followed by a parameter, then
/// the end of the text. With `=> Type`, rows of that SQL type come back.
macro_rules! statement {
    (
        $(#[$doc:meta])*
        $name:ident<$lt:lifetime> $(=> $row:ty)? {
            $($text:expr, $field:ident: $rust:ty as $sql:ty;)*
            => $end:expr
        }
    ) => {
        $(#[$doc])*
        struct $name<$lt> {
            $($field: $rust,)*
            of: ::std::marker::PhantomData<&$lt ()>,
        }

        impl ::diesel::query_builder::QueryId for $name<'_> {
            type QueryId = $name<'static>;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl ::diesel::query_builder::QueryFragment<Db> for $name<'_> {
            fn walk_ast<'b>(
                &'b self,
                mut out: ::diesel::query_builder::AstPass<'_, 'b, Db>,
            ) -> ::diesel::QueryResult<()> {
                $(
                    out.push_sql($text);
                    out.push_bind_param::<$sql, _>(&self.$field)?;
                )*
                out.push_sql($end);
                Ok(())
            }
        }

        $(
            impl ::diesel::query_builder::Query for $name<'_> {
                type SqlType = $row;
            }
        )?

        impl<C> ::diesel::query_dsl::RunQueryDsl<C> for $name<'_> {}
    };
}
pub(crate) use statement;

/// The columns of `task_executions` that an insert writes, from an `Execution` named `$row`: name,
/// SQL type, Rust type, value. `$then` is a macro that makes of them what its back end needs.
macro_rules! execution_columns {
    ($then:ident, $row:ident, $lt:lifetime) => {
        $then! {
            $row, $lt;
            execution_id: sql::Uid, Uid = Uid($row.new.execution_id);
            chain_id: sql::Uid, Uid = Uid($row.new.chain_id);
            schedule_id: Nullable<BigInt>, Option<i64> = $row.new.schedule_id;
            schedule_name: Nullable<Text>, Option<&$lt str> = $row.new.schedule_name.as_deref();
            trigger: Text, &$lt str = $row.new.trigger.as_str();
            task_type: Text, &$lt str = $row.new.task.task_type.as_str();
            task_config: sql::JsonDoc, JsonText = JsonText::of(&$row.new.task.task_config);
            timeout_ms: Nullable<BigInt>, Option<i64> = $row.new.task.timeout_ms;
            retry_policy: sql::JsonDoc, JsonText = JsonText::of(&$row.new.task.retry_policy);
            severity: Text, &$lt str = $row.new.task.severity.as_str();
            cost_per_hour: Nullable<Double>, Option<f64> = $row.new.task.cost_per_hour;
            tags: sql::JsonDoc, JsonText = JsonText::of_tags(&$row.new.task.tags);
            owner: Nullable<Text>, Option<&$lt str> = $row.new.task.owner.as_deref();
            priority_rank: SmallInt, i16 = $row.new.priority.rank();
            attempt: Integer, i32 = $row.new.attempt;
            retry_of: Nullable<BigInt>, Option<i64> = $row.new.retry_of;
            scheduled_at: sql::Instant, Instant = Instant($row.new.scheduled_at);
            available_at: sql::Instant, Instant = Instant($row.new.available_at);
            failures_before: Integer, i32 = $row.new.failures_before;
            crashes_before: Integer, i32 = $row.new.crashes_before;
            dead_letter_id: Nullable<BigInt>, Option<i64> = $row.new.dead_letter_id;
            dedup_key: Nullable<Text>, Option<&$lt str> = $row.new.dedup_key.as_deref();
            traceparent: Nullable<Text>, Option<&$lt str> = $row.new.traceparent.as_deref();
            created_by: Nullable<Text>, Option<&$lt str> = $row.new.created_by.as_deref();
            options: Nullable<sql::JsonDoc>, Option<JsonText> = $row.new.task.options.document().as_ref().map(JsonText::of);
            queue: Nullable<Text>, Option<&$lt str> = $row.new.gates.queue.as_deref();
            concurrency_key: Nullable<Text>, Option<&$lt str> = $row.new.gates.concurrency_key.as_deref();
            target: Nullable<Text>, Option<&$lt str> = $row.new.gates.target.as_deref();
            gated: Bool, bool = $row.new.gates.is_gated;
            rank_at: sql::Instant, Instant = Instant($row.new.rank_at());
            status: Text, &$lt str = $row.status.as_str();
            created_at: sql::Instant, Instant = Instant($row.created_at);
            started_at: Nullable<sql::Instant>, Option<Instant> = $row.started_at.map(Instant);
            lateness_ms: Nullable<BigInt>, Option<i64> = $row.lateness_ms;
            node_id: Nullable<Text>, Option<&$lt str> = $row.node_id.as_deref();
            lease_owner: Nullable<sql::Uid>, Option<Uid> = $row.lease_owner.map(Uid);
        }
    };
}
pub(crate) use execution_columns;

/// Every column of `task_executions` in the order of [`ExecutionRow`](super::models::ExecutionRow).
macro_rules! execution_row {
    () => {
        "\"id\", \"execution_id\", \"chain_id\", \"schedule_id\", \"schedule_name\", \
     \"trigger\", \"task_type\", \"task_config\", \"timeout_ms\", \"retry_policy\", \
     \"severity\", \"cost_per_hour\", \"tags\", \"owner\", \"priority_rank\", \
     \"attempt\", \"retry_of\", \"scheduled_at\", \"available_at\", \
     \"failures_before\", \"crashes_before\", \"dead_letter_id\", \"dedup_key\", \
     \"traceparent\", \"created_by\", \"status\", \"created_at\", \"started_at\", \
     \"completed_at\", \"duration_ms\", \"lateness_ms\", \"result\", \"error\", \
     \"node_id\", \"lease_owner\", \"cancel_requested_at\", \"conductor_thread_id\", \
     \"conductor_status\", \"cost\", \"usage\", \"options\", \"queue\", \"concurrency_key\", \
     \"target\", \"gated\", \"held_reason\""
    };
}
pub(crate) use execution_row;

#[cfg(test)]
mod tests {
    use diesel::prelude::*;

    use crate::store::models::ExecutionRow;
    use crate::store::schema::task_executions;

    #[test]
    fn the_columns_by_hand_are_those_of_the_row_in_its_order() {
        let query = task_executions::table
            .select(<ExecutionRow as SelectableHelper<diesel::sqlite::Sqlite>>::as_select());
        let text = diesel::debug_query::<diesel::sqlite::Sqlite, _>(&query).to_string();
        let by_hand = super::execution_row!().replace('"', "");
        let by_diesel = text.replace("`task_executions`.", "").replace('`', "");
        assert!(by_diesel.starts_with(&format!("SELECT {by_hand} FROM")), "{by_diesel}");
    }
}
