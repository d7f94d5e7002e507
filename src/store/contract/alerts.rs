//! The contract: alert channels, alert rules, alerts and their deliveries.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::domain::alert::Alert;
use crate::domain::alert::channel::{AlertChannel, ChannelSpec};
use crate::domain::alert::kinds::Step;
use crate::domain::alert::rule::AlertRule;
use crate::store::{
    AlertAdvance, AlertDelivery, AlertFilter, AlertRuleChange, AlertRules, AlertScan, AlertsDone,
    ClaimedMessage, Creation, DeliveryEnd, DeliveryFilter, Idempotency, KeysetPage, KeysetRequest,
    NewAlertChannel, NewAlertRule, Store, StoreResult, run,
};

impl Store {
    /// Makes a channel; `Duplicate{name}`, `WrongState{too_many}`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_channel_create(
        &self,
        channel: NewAlertChannel,
        idempotency: Option<Idempotency<AlertChannel>>,
    ) -> StoreResult<Creation<AlertChannel>> {
        run!(self, write, alert_channels::alert_channel_create(channel, idempotency))
    }

    /// All channels, newest first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_channel_list(&self) -> StoreResult<Vec<AlertChannel>> {
        run!(self, read, alert_channels::alert_channel_list())
    }

    /// The channel of that name, or `NotFound`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_channel_get(&self, name: String) -> StoreResult<AlertChannel> {
        run!(self, read, alert_channels::alert_channel_get(name))
    }

    /// Changes a channel from the version `expected`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_channel_update(
        &self,
        name: String,
        expected: i64,
        spec: ChannelSpec,
    ) -> StoreResult<AlertChannel> {
        run!(self, write, alert_channels::alert_channel_update(name, expected, spec))
    }

    /// Deletes a channel that no rule names; `WrongState{in_use}`. What waits for it is given up.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_channel_delete(&self, name: String) -> StoreResult<()> {
        run!(self, write, alert_channels::alert_channel_delete(name))
    }

    /// Adds a message that tries a channel; gives its id and its name for the receiver.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_channel_test(&self, name: String) -> StoreResult<(i64, String)> {
        run!(self, write, alert_messages::alert_channel_test(name))
    }

    /// Makes a rule that looks at events from now on; `WrongState{unknown_channel}`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_rule_create(
        &self,
        rule: NewAlertRule,
        idempotency: Option<Idempotency<AlertRule>>,
    ) -> StoreResult<Creation<AlertRule>> {
        run!(self, write, alert_rules::alert_rule_create(rule, idempotency))
    }

    /// The rule, or `NotFound`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_rule_get(&self, id: i64) -> StoreResult<AlertRule> {
        run!(self, read, alert_rules::alert_rule_get(id))
    }

    /// A page of rules, newest id first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_rule_list(&self, page: KeysetRequest) -> StoreResult<KeysetPage<AlertRule>> {
        run!(self, read, alert_rules::alert_rule_list(page))
    }

    /// Changes a rule. One that comes into force looks at events from now on; one that leaves it
    /// ends its alerts.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_rule_update(&self, change: AlertRuleChange) -> StoreResult<AlertRule> {
        run!(self, write, alert_rules::alert_rule_update(change))
    }

    /// Deletes a rule and ends its alerts.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_rule_delete(&self, id: i64) -> StoreResult<()> {
        run!(self, write, alert_rules::alert_rule_delete(id))
    }

    /// Looks at events after `after` with rules that are known.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_scan(&self, known: Arc<AlertRules>, after: i64) -> StoreResult<AlertScan> {
        run!(self, read, alert_watch::alert_scan(known, after))
    }

    /// Makes alerts of events and moves the cursor; `None`, and nothing done, when cursor or rules
    /// are not what the events were looked at with.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_advance(&self, advance: AlertAdvance) -> StoreResult<Option<AlertsDone>> {
        run!(self, write, alert_watch::alert_advance(advance))
    }

    /// Does what is due by now, some alerts a call.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_tick(&self) -> StoreResult<AlertsDone> {
        run!(self, write, alert_watch::alert_tick())
    }

    /// What the events after `after` mean to a rule, the number of the last one looked at, and
    /// whether there are more.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_look_back(
        &self,
        rule: AlertRule,
        after: i64,
    ) -> StoreResult<(Vec<Step>, i64, bool)> {
        run!(self, read, alert_watch::alert_look_back(rule, after))
    }

    /// The number before the first kept event written at or after `at`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_events_before(&self, at: Timestamp) -> StoreResult<i64> {
        run!(self, read, alert_watch::alert_events_before(at))
    }

    /// The alert, or `NotFound`; pending ones are not found.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_get(&self, id: i64) -> StoreResult<Alert> {
        run!(self, read, alerts::alert_get(id))
    }

    /// A page of alerts, newest id first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_list(
        &self,
        filter: AlertFilter,
        page: KeysetRequest,
    ) -> StoreResult<KeysetPage<Alert>> {
        run!(self, read, alerts::alert_list(filter, page))
    }

    /// Notes that a person knows; `WrongState` unless it fires.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_acknowledge(
        &self,
        id: i64,
        by: String,
        reason: Option<String>,
    ) -> StoreResult<Alert> {
        run!(self, write, alerts::alert_acknowledge(id, by, reason))
    }

    /// When a message is due next, and the store's clock.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_message_next(&self) -> StoreResult<(Option<Timestamp>, Timestamp)> {
        run!(self, read, alert_messages::alert_message_next())
    }

    /// Claims due messages under [`DELIVERY_LEASE`](crate::store::DELIVERY_LEASE): at most `each` a
    /// channel, less what `busy` says, and at most `limit`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_message_claim(
        &self,
        busy: HashMap<i64, i64>,
        each: i64,
        limit: usize,
    ) -> StoreResult<Vec<ClaimedMessage>> {
        run!(self, write, alert_messages::alert_message_claim(busy, each, limit))
    }

    /// Notes how an attempt to deliver ended.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_message_end(&self, end: DeliveryEnd) -> StoreResult<()> {
        run!(self, write, alert_messages::alert_message_end(end))
    }

    /// A page of the delivery log, newest id first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_delivery_list(
        &self,
        filter: DeliveryFilter,
        page: KeysetRequest,
    ) -> StoreResult<KeysetPage<AlertDelivery>> {
        run!(self, read, alert_messages::alert_delivery_list(filter, page))
    }

    /// An attempt to deliver, or `NotFound`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn alert_delivery_get(&self, id: i64) -> StoreResult<AlertDelivery> {
        run!(self, read, alert_messages::alert_delivery_get(id))
    }
}
