//! The conformance suite: the laws of the store's contract, each tried on both back ends.
//!
//! A law is an async function of a [`Bench`]; its name is listed once, below, and becomes a test a
//! back end.

mod acts;
mod admission;
mod alerts;
mod breakers;
mod errors;
mod executions;
pub(crate) mod fixtures;
mod groups;
mod inbox;
mod ledger;
mod migrations;
mod models;
mod month;
mod outages;
mod places;
mod plans;
mod policies;
mod schedules;
mod system;

use fixtures::Bench;

macro_rules! laws {
    ($($file:ident { $($law:ident,)+ })+) => {
        mod sqlite {
            $(mod $file {
                $(#[tokio::test]
                async fn $law() {
                    let bench = crate::store::Bench::sqlite().await;
                    crate::store::$file::$law(&bench).await;
                    bench.store.close().await;
                })+
            })+
        }

        mod postgres {
            $(mod $file {
                $(#[tokio::test]
                async fn $law() {
                    let bench = crate::store::Bench::postgres().await;
                    crate::store::$file::$law(&bench).await;
                    bench.store.close().await;
                })+
            })+
        }
    };
}

laws! {
    alerts {
        without_a_rule_no_event_is_looked_at,
        a_rule_looks_at_what_comes_after_it,
        of_racing_advances_one_makes_the_alerts,
        a_rule_that_changed_refuses_what_was_matched_before,
        a_count_that_is_not_reached_is_forgotten,
        an_alert_becomes_one_message_and_clears_with_its_errors,
        an_acknowledged_alert_is_not_told_again,
        disabling_a_rule_ends_its_alerts,
        a_channel_that_a_rule_tells_stays,
        a_message_is_claimed_once_until_its_lease_is_over,
        a_busy_channel_leaves_room_for_others,
        a_clock_that_was_set_back_delays_no_alert,
        many_dead_letters_in_a_while_raise_one_alert,
        an_alert_about_what_was_deleted_clears_by_itself,
        what_is_over_is_deleted_in_its_time,
    }
    schedules {
        a_schedule_reads_back_as_it_was_written,
        a_name_is_unique_until_its_schedule_is_deleted,
        an_edit_from_an_old_version_changes_nothing,
        pausing_again_is_no_event,
        lists_filter_and_count,
        an_idempotency_key_gives_the_first_answer_again,
        a_firing_moves_the_schedule_and_makes_its_rows,
        a_reader_that_knows_a_schedule_gets_what_moves,
        of_racing_firings_one_wins,
        an_instant_that_ran_is_left_out_of_a_firing,
        overlap_goes_to_the_ledger,
        the_rate_of_a_catch_up_outlives_its_firing,
        an_exhausted_schedule_is_paused,
        a_firing_from_an_old_plan_changes_nothing,
        deleting_cancels_what_waits_and_keeps_history,
        statistics_count_by_status,
    }
    policies {
        a_newer_instant_cancels_what_waits_and_what_runs,
        an_instant_that_gave_way_does_not_spend_the_last_execution,
        a_pause_with_an_end_ends_by_itself,
        failed_chains_in_a_row_pause_a_schedule_that_asks,
        skipped_instants_are_in_the_ledger_before_they_come,
        a_calendar_reads_back_and_is_kept_while_it_is_used,
        an_edited_calendar_plans_its_schedules_anew,
        a_backfill_runs_each_instant_once_and_no_more_than_it_may,
        a_stopped_backfill_makes_nothing_more,
        lateness_is_measured_from_the_due_instant_plus_jitter,
    }
    executions {
        an_execution_reads_back_as_it_was_written,
        an_execution_is_claimed_by_at_most_one_claimant,
        claims_go_by_priority_then_age,
        rows_made_here_start_here_up_to_the_slots,
        a_lost_lease_changes_nothing,
        an_end_writes_result_duration_and_cost,
        a_batch_of_ends_keeps_its_order,
        a_dedup_key_waits_or_runs_once,
        of_racing_creations_with_one_key_one_is_made,
        of_racing_requests_with_one_idempotency_key_one_is_carried_out,
        a_kept_answer_says_that_the_run_was_there_before,
        a_limit_refuses_another_run,
        creations_asked_for_together_are_each_answered_for_themselves,
        cancelling_ends_what_waits_and_marks_what_runs,
        lists_filter_by_status_schedule_and_chain,
        every_set_of_states_lists_its_own,
        leases_expire_with_their_node,
        log_lines_are_kept_once_and_in_order,
        a_trim_and_its_gap_are_one_change,
    }
    admission {
        rows_with_limits_are_left_out_of_other_claims,
        a_key_runs_up_to_its_limit_in_order,
        racing_claimants_never_exceed_a_limit,
        a_paused_queue_holds_its_own_and_nobody_else,
        a_queue_has_limits_of_its_own,
        a_rate_counts_the_starts_that_are_stored,
        the_runs_of_a_schedule_that_queue_go_one_after_the_other,
        what_does_not_fit_its_node_waits_and_says_so,
        slots_are_shared_by_rank_with_what_has_no_limits,
        what_is_less_urgent_is_late_by_no_more_than_its_bound,
        an_operator_moves_what_waits,
        a_queue_is_told_of_and_forgotten_when_empty,
        a_deadline_is_met_or_told_of_once,
        a_deadline_is_in_doubt_when_the_run_has_not_begun_in_time,
        a_row_that_waits_for_its_instant_is_looked_for_then,
    }
    ledger {
        a_random_history_leaves_every_planned_instant_one_outcome,
        an_edit_of_the_cadence_settles_what_was_planned,
        an_instant_that_fired_meanwhile_refuses_an_edit,
        outcomes_come_in_the_order_of_time,
    }
    models {
        random_histories_agree_with_the_model,
    }
    errors {
        a_first_failure_opens_one_record_and_plans_its_retry,
        a_retry_that_succeeds_resolves_the_record,
        a_stale_retry_start_is_left_out,
        an_operators_retry_happens_once_for_a_key,
        a_letter_is_resubmitted_once_for_a_key,
        spent_attempts_escalate_and_leave_a_letter,
        a_permanent_failure_is_unresolved_with_a_letter,
        resolving_withdraws_the_retry_and_the_letter,
        escalating_adds_one_letter,
        a_failure_overtakes_a_verdict_given_while_the_retry_ran,
        cancelling_a_retry_ends_the_chain,
        a_letter_leaves_the_queue_when_its_new_chain_succeeds,
        a_discarded_letter_stays_discarded,
        deleting_a_schedule_withdraws_its_retries,
    }
    breakers {
        five_failures_open_a_breaker_and_hold_what_waits,
        a_retry_that_comes_due_while_a_breaker_is_open_waits,
        a_probe_closes_a_breaker_or_opens_it_again,
        what_a_broken_target_held_does_not_start_all_at_once,
        a_probe_that_fails_uses_no_attempt_of_its_chain,
        a_probe_that_never_reports_frees_its_place,
        of_racing_claims_one_gets_the_probe,
        an_operator_opens_closes_probes_and_resets_a_breaker,
        a_breaker_goes_by_the_thresholds_of_who_reports,
        success_on_a_target_that_is_well_writes_nothing,
        a_breaker_survives_a_restart,
        a_retry_past_its_budget_is_a_dead_letter,
        an_ignored_failure_leaves_nothing_behind,
        retention_forgets_breakers_that_are_quiet,
    }
    groups {
        failures_of_one_cause_are_counted_as_one_group,
        a_resolved_group_that_comes_back_has_regressed,
        letters_are_grouped_by_cause_and_chosen_by_filter,
        letters_are_resubmitted_together_and_apart_in_time,
        growing_letters_raise_one_alert_a_window,
    }
    acts {
        an_act_and_its_audit_row_are_one_change,
        the_audit_log_is_listed_by_who_what_and_when,
        an_answer_given_again_is_audited_once,
        a_waiting_execution_is_skipped_and_its_chain_ends,
        a_running_command_is_marked_paused_until_it_is_resumed,
        only_what_has_processes_is_paused,
        a_failed_chain_marked_as_succeeded_needs_nobody,
        a_chain_marked_as_failed_is_tried_no_more,
        the_letter_of_a_chain_marked_as_failed_is_discarded,
        only_a_chain_that_failed_or_waits_is_given_an_outcome,
        an_error_is_given_to_somebody_and_listed_by_them,
        the_facts_say_what_is_late_broken_and_paused,
        the_facts_name_open_breakers_and_causes_that_came_back,
    }
    inbox {
        a_posted_event_fires_each_schedule_that_listens_once,
        an_event_with_a_known_key_is_the_same_event,
        an_end_that_nobody_listens_to_leaves_no_event,
        an_end_fires_those_who_listen_exactly_once,
        a_failed_attempt_is_told_of_as_an_attempt_and_as_an_end,
        keys_within_the_window_are_one,
        overlap_pause_and_bounds_are_recorded,
        a_batch_fires_when_it_is_full_or_old_enough,
        events_wait_while_the_scheduler_is_stopped,
        a_schedule_that_sets_itself_off_is_stopped_by_its_depth,
        a_replay_runs_past_events_again_and_says_so_first,
        an_edit_changes_what_is_heard,
        a_webhook_takes_each_id_once,
        events_are_kept_for_seven_days_and_held_ones_until_they_ran,
    }
    month {
        a_month_of_failures_recovers_by_itself,
    }
    system {
        events_are_dense_under_concurrent_writers,
        what_fails_beside_others_takes_none_of_them_along,
        an_event_reads_back_as_it_was_written,
        a_beat_extends_a_lease_until_it_is_past,
        a_stopped_node_holds_no_leases,
        state_is_kept_by_key,
        keys_are_found_by_prefix_and_revoked_once,
        stale_sessions_are_closed,
        sessions_follow_their_node_to_a_new_boot,
        a_clock_that_was_set_back_holds_nothing_up,
        retention_deletes_what_is_past_its_time_alone,
        a_dropped_future_is_whole_or_not_at_all,
        a_planned_fault_strikes_before_or_after_the_commit,
        a_store_opens_again_with_what_it_held,
    }
}
