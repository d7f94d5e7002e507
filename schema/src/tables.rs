//! The tables, once for both back ends: [`types`](crate::types) has the types that differ.
//!
//! Kept in step with `migrations/` by hand; the conformance suite reads and writes every table.

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    task_schedules (id) {
        id -> BigInt,
        name -> Text,
        description -> Nullable<Text>,
        task_type -> Text,
        task_config -> JsonDoc,
        schedule_type -> Text,
        schedule_config -> JsonDoc,
        enabled -> Bool,
        priority_rank -> SmallInt,
        timeout_ms -> Nullable<BigInt>,
        max_concurrent -> Nullable<Integer>,
        overlap_policy -> Text,
        misfire_policy -> Text,
        misfire_grace_ms -> BigInt,
        catchup_window_ms -> BigInt,
        catchup_max -> Integer,
        catchup_per_minute -> Nullable<Integer>,
        retry_policy -> JsonDoc,
        severity -> Text,
        cost_per_hour -> Nullable<Double>,
        start_at -> Nullable<Instant>,
        end_at -> Nullable<Instant>,
        max_executions -> Nullable<BigInt>,
        tags -> JsonDoc,
        owner -> Nullable<Text>,
        next_run_at -> Nullable<Instant>,
        last_run_at -> Nullable<Instant>,
        fired -> BigInt,
        paused_at -> Nullable<Instant>,
        resumed_at -> Nullable<Instant>,
        catch_up_at -> Nullable<Instant>,
        created_at -> Instant,
        updated_at -> Instant,
        version -> BigInt,
        options -> JsonDoc,
        settled_at -> Nullable<Instant>,
        paused_until -> Nullable<Instant>,
        pause_reason -> Nullable<Text>,
        failure_streak -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Nullable, Text};
    use crate::types::{Instant, JsonDoc};

    calendars (id) {
        id -> BigInt,
        name -> Text,
        description -> Nullable<Text>,
        timezone -> Text,
        entries -> JsonDoc,
        created_at -> Instant,
        updated_at -> Instant,
        version -> BigInt,
    }
}

diesel::table! {
    schedule_calendars (schedule_id, calendar_id) {
        schedule_id -> BigInt,
        calendar_id -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
    use crate::types::Instant;

    backfills (id) {
        id -> BigInt,
        schedule_id -> BigInt,
        schedule_name -> Text,
        from_at -> Instant,
        to_at -> Instant,
        run_order -> Text,
        again -> Bool,
        per_minute -> Nullable<Integer>,
        max_concurrent -> Integer,
        status -> Text,
        position -> Nullable<Instant>,
        planned -> BigInt,
        made -> BigInt,
        left_out -> BigInt,
        next_start_at -> Nullable<Instant>,
        created_by -> Nullable<Text>,
        created_at -> Instant,
        updated_at -> Instant,
        ended_at -> Nullable<Instant>,
        reason -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    task_executions (id) {
        id -> BigInt,
        execution_id -> Uid,
        chain_id -> Uid,
        schedule_id -> Nullable<BigInt>,
        schedule_name -> Nullable<Text>,
        trigger -> Text,
        task_type -> Text,
        task_config -> JsonDoc,
        timeout_ms -> Nullable<BigInt>,
        retry_policy -> JsonDoc,
        severity -> Text,
        cost_per_hour -> Nullable<Double>,
        tags -> JsonDoc,
        owner -> Nullable<Text>,
        priority_rank -> SmallInt,
        attempt -> Integer,
        retry_of -> Nullable<BigInt>,
        scheduled_at -> Instant,
        available_at -> Instant,
        failures_before -> Integer,
        crashes_before -> Integer,
        dead_letter_id -> Nullable<BigInt>,
        dedup_key -> Nullable<Text>,
        traceparent -> Nullable<Text>,
        created_by -> Nullable<Text>,
        status -> Text,
        created_at -> Instant,
        started_at -> Nullable<Instant>,
        completed_at -> Nullable<Instant>,
        duration_ms -> Nullable<BigInt>,
        lateness_ms -> Nullable<BigInt>,
        result -> Nullable<JsonDoc>,
        error -> Nullable<JsonDoc>,
        node_id -> Nullable<Text>,
        lease_owner -> Nullable<Uid>,
        cancel_requested_at -> Nullable<Instant>,
        conductor_thread_id -> Nullable<Text>,
        conductor_status -> Nullable<Text>,
        cost -> Nullable<Double>,
        usage -> Nullable<JsonDoc>,
        options -> Nullable<JsonDoc>,
        queue -> Nullable<Text>,
        concurrency_key -> Nullable<Text>,
        target -> Nullable<Text>,
        gated -> Bool,
        held_reason -> Nullable<Text>,
        held_by -> Text,
        rank_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    task_queues (id) {
        id -> BigInt,
        name -> Text,
        max_concurrent -> Nullable<Integer>,
        rate_per_minute -> Nullable<Integer>,
        paused_at -> Nullable<Instant>,
        pause_reason -> Nullable<Text>,
        paused_by -> Nullable<Text>,
        created_at -> Instant,
        updated_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    chain_deadlines (chain_id) {
        chain_id -> Uid,
        schedule_id -> Nullable<BigInt>,
        schedule_name -> Nullable<Text>,
        execution_id -> BigInt,
        deadline_at -> Instant,
        risk_at -> Nullable<Instant>,
        expected_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    execution_logs (execution_id, line) {
        execution_id -> BigInt,
        line -> BigInt,
        at -> Instant,
        stream -> Text,
        text -> Text,
        continues -> Bool,
        dropped_lines -> Nullable<BigInt>,
        dropped_bytes -> Nullable<BigInt>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    error_records (id) {
        id -> BigInt,
        chain_id -> Uid,
        error_type -> Text,
        severity -> Text,
        recovery_status -> Text,
        execution_id -> BigInt,
        schedule_id -> Nullable<BigInt>,
        schedule_name -> Nullable<Text>,
        kind -> Text,
        message -> Text,
        fingerprint -> Text,
        recovery_attempts -> Integer,
        max_retry_attempts -> Integer,
        next_retry_at -> Nullable<Instant>,
        resolved_at -> Nullable<Instant>,
        resolution_notes -> Nullable<Text>,
        created_at -> Instant,
        updated_at -> Instant,
        assignee -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    dead_letters (id) {
        id -> BigInt,
        error_id -> BigInt,
        chain_id -> Uid,
        schedule_id -> Nullable<BigInt>,
        schedule_name -> Nullable<Text>,
        task -> JsonDoc,
        cause -> Text,
        attempts -> JsonDoc,
        status -> Text,
        resubmitted_chain_id -> Nullable<Uid>,
        resubmitted_at -> Nullable<Instant>,
        discard_reason -> Nullable<Text>,
        created_at -> Instant,
        updated_at -> Instant,
        fingerprint -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    schedule_ledger (id) {
        id -> BigInt,
        schedule_id -> BigInt,
        from_at -> Instant,
        to_at -> Instant,
        instants -> BigInt,
        reason -> Text,
        created_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    event_counter (id) {
        id -> Integer,
        last -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    event_chunks (last_seq) {
        last_seq -> BigInt,
        first_seq -> BigInt,
        at -> Instant,
        body -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    nodes (boot_id) {
        boot_id -> Uid,
        node_id -> Text,
        started_at -> Instant,
        lease_until -> Instant,
        stopped_at -> Nullable<Instant>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    idempotency_keys (key) {
        key -> Text,
        body_hash -> Text,
        status -> Integer,
        body -> Text,
        created_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    system_state (key) {
        key -> Text,
        value -> JsonDoc,
        updated_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    api_keys (id) {
        id -> BigInt,
        prefix -> Text,
        secret_hash -> Text,
        name -> Text,
        role -> Text,
        created_at -> Instant,
        expires_at -> Nullable<Instant>,
        last_used_at -> Nullable<Instant>,
        revoked_at -> Nullable<Instant>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    websocket_sessions (session_id) {
        session_id -> Uid,
        boot_id -> Uid,
        key_name -> Nullable<Text>,
        client_info -> JsonDoc,
        subscriptions -> Nullable<JsonDoc>,
        connected_at -> Instant,
        closed_at -> Nullable<Instant>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    breakers (id) {
        id -> BigInt,
        key -> Text,
        state -> Text,
        recent -> Text,
        in_a_row -> Integer,
        policy_failures -> Integer,
        policy_window -> Integer,
        policy_open_ms -> BigInt,
        opened_at -> Nullable<Instant>,
        probe_at -> Nullable<Instant>,
        probe_id -> Nullable<BigInt>,
        forced -> Nullable<Text>,
        forced_until -> Nullable<Instant>,
        forced_by -> Nullable<Text>,
        forced_reason -> Nullable<Text>,
        created_at -> Instant,
        updated_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    breaker_history (id) {
        id -> BigInt,
        breaker_id -> BigInt,
        at -> Instant,
        from_state -> Text,
        to_state -> Text,
        cause -> Text,
        execution_id -> Nullable<BigInt>,
        by_whom -> Nullable<Text>,
        reason -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    error_groups (id) {
        id -> BigInt,
        fingerprint -> Text,
        error_type -> Text,
        task_type -> Text,
        kind -> Text,
        exit_code -> Nullable<BigInt>,
        pattern -> Text,
        message -> Text,
        occurrences -> BigInt,
        first_seen_at -> Instant,
        last_seen_at -> Instant,
        last_execution_id -> BigInt,
        last_schedule_id -> Nullable<BigInt>,
        status -> Text,
        resolved_at -> Nullable<Instant>,
        resolved_by -> Nullable<Text>,
        resolution_notes -> Nullable<Text>,
        regressed_at -> Nullable<Instant>,
        regressions -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    retry_budgets (key) {
        key -> Text,
        taken -> JsonDoc,
        updated_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    audit_log (id) {
        id -> BigInt,
        at -> Instant,
        who -> Text,
        key_id -> Nullable<BigInt>,
        role -> Text,
        action -> Text,
        subject_kind -> Text,
        subject_id -> Nullable<Text>,
        reason -> Nullable<Text>,
        before -> Nullable<JsonDoc>,
        after -> Nullable<JsonDoc>,
        request_id -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    execution_acts (execution_id) {
        execution_id -> BigInt,
        paused_at -> Nullable<Instant>,
        paused_by -> Nullable<Text>,
        pause_reason -> Nullable<Text>,
        outcome -> Nullable<Text>,
        outcome_by -> Nullable<Text>,
        outcome_at -> Nullable<Instant>,
        outcome_reason -> Nullable<Text>,
        outcome_result -> Nullable<JsonDoc>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    alert_channels (id) {
        id -> BigInt,
        name -> Text,
        settings -> JsonDoc,
        version -> BigInt,
        created_at -> Instant,
        updated_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    alert_rules (id) {
        id -> BigInt,
        name -> Text,
        enabled -> Bool,
        spec -> JsonDoc,
        from_seq -> BigInt,
        version -> BigInt,
        created_at -> Instant,
        updated_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    alert_cursor (id) {
        id -> Integer,
        seq -> BigInt,
        stamp -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    alerts (id) {
        id -> BigInt,
        rule_id -> BigInt,
        rule_name -> Text,
        group_key -> Text,
        state -> Text,
        severity -> Text,
        title -> Text,
        schedule_id -> Nullable<BigInt>,
        schedule_name -> Nullable<Text>,
        count -> BigInt,
        first_at -> Instant,
        last_at -> Instant,
        raised_at -> Nullable<Instant>,
        due_at -> Nullable<Instant>,
        next_at -> Nullable<Instant>,
        delivered_at -> Nullable<Instant>,
        deliveries -> Integer,
        held -> Bool,
        news -> Bool,
        follows -> Bool,
        samples -> JsonDoc,
        recent -> JsonDoc,
        acknowledged_at -> Nullable<Instant>,
        acknowledged_by -> Nullable<Text>,
        acknowledge_reason -> Nullable<Text>,
        cleared_at -> Nullable<Instant>,
        created_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    alert_subjects (subject, alert_id) {
        subject -> Text,
        alert_id -> BigInt,
        ripe_at -> Nullable<Instant>,
        severity -> Text,
        sample -> JsonDoc,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    alert_messages (id) {
        id -> BigInt,
        webhook_id -> Text,
        kind -> Text,
        channel_id -> BigInt,
        channel_name -> Text,
        rule_name -> Nullable<Text>,
        body -> JsonDoc,
        state -> Text,
        attempts -> Integer,
        next_at -> Nullable<Instant>,
        created_at -> Instant,
        ended_at -> Nullable<Instant>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    alert_deliveries (id) {
        id -> BigInt,
        message_id -> BigInt,
        webhook_id -> Text,
        kind -> Text,
        channel_name -> Text,
        rule_name -> Nullable<Text>,
        attempt -> Integer,
        outcome -> Text,
        status -> Nullable<Integer>,
        error -> Nullable<Text>,
        started_at -> Instant,
        duration_ms -> Nullable<BigInt>,
        next_attempt_at -> Nullable<Instant>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    task_executions,
    execution_acts,
    nodes,
    error_records,
    websocket_sessions
);
diesel::allow_tables_to_appear_in_same_query!(calendars, schedule_calendars, task_schedules);

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    event_inbox (id) {
        id -> BigInt,
        kind -> Text,
        name -> Text,
        keys -> JsonDoc,
        payload -> JsonDoc,
        depth -> Integer,
        traceparent -> Nullable<Text>,
        created_by -> Nullable<Text>,
        dedup_key -> Nullable<Text>,
        source_execution_id -> Nullable<BigInt>,
        occurred_at -> Instant,
        created_at -> Instant,
        handled_at -> Nullable<Instant>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    event_listeners (source, schedule_id) {
        source -> Text,
        schedule_id -> BigInt,
        of_execution -> Bool,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    event_deliveries (id) {
        id -> BigInt,
        event_id -> BigInt,
        schedule_id -> BigInt,
        replay -> Text,
        outcome -> Text,
        execution_id -> Nullable<BigInt>,
        dedup_hash -> Nullable<Text>,
        size -> BigInt,
        at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    inbound_webhooks (id) {
        id -> BigInt,
        hook_id -> Uid,
        name -> Text,
        scheme -> Text,
        secrets -> JsonDoc,
        enabled -> Bool,
        created_at -> Instant,
        updated_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text};
    use crate::types::{Instant, JsonDoc, Uid};

    inbound_requests (id) {
        id -> BigInt,
        webhook_id -> BigInt,
        message_id -> Nullable<Text>,
        outcome -> Text,
        event_id -> Nullable<BigInt>,
        size -> BigInt,
        at -> Instant,
    }
}
