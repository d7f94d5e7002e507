//! The contract: events that set schedules off, and webhooks.

use uuid::Uuid;

use crate::domain::trigger::InboxEvent;
use crate::store::{
    ClaimHere, Creation, DeliveryRow, Dispatched, EventPost, InboundRequest, InboundRow,
    InboxFilter, KeysetPage, KeysetRequest, NewWebhook, Posted, Received, ReplayRequest, Replayed,
    Store, StoreResult, WebhookChange, WebhookRow, run,
};

impl Store {
    /// Stores a named event and gives it to the schedules that listen, in one transaction. One of
    /// the same name and key is there: `Existing`, and nothing is made. While the scheduler is
    /// stopped it waits.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn event_post(&self, request: EventPost) -> StoreResult<Creation<Posted>> {
        run!(self, write, inbox::event_post(request))
    }

    /// Whether anything waits in the inbox or to be collected: a cheap look before
    /// [`inbox_dispatch`](Self::inbox_dispatch).
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn inbox_waits(&self) -> StoreResult<bool> {
        run!(self, read, triggers::inbox_waits())
    }

    /// Gives up to `limit` events that wait to the schedules that listen, and makes the runs of
    /// collected events that are due; one transaction, each event once.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn inbox_dispatch(
        &self,
        claim: Option<ClaimHere>,
        limit: i64,
    ) -> StoreResult<Dispatched> {
        run!(self, write, triggers::inbox_dispatch(claim, limit))
    }

    /// Stored events, newest first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn inbox_list(
        &self,
        filter: InboxFilter,
        page: KeysetRequest,
    ) -> StoreResult<KeysetPage<InboxEvent>> {
        run!(self, read, inbox::inbox_list(filter, page))
    }

    /// An event and what became of it (500 schedules at most), or `NotFound`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn inbox_get(&self, id: i64) -> StoreResult<(InboxEvent, Vec<DeliveryRow>)> {
        run!(self, read, inbox::inbox_get(id))
    }

    /// What became of events at a schedule, newest first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn delivery_list(
        &self,
        schedule_id: i64,
        page: KeysetRequest,
    ) -> StoreResult<KeysetPage<DeliveryRow>> {
        run!(self, read, triggers::delivery_list(schedule_id, page))
    }

    /// Sets a schedule off again by stored events. `WrongState` when they are too many, or the
    /// schedule is not of type `event`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn event_replay(&self, request: ReplayRequest) -> StoreResult<Creation<Replayed>> {
        run!(self, write, replay::event_replay(request))
    }

    /// Makes a webhook. `Duplicate{name}` when the name is taken.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn webhook_create(&self, new: NewWebhook) -> StoreResult<WebhookRow> {
        run!(self, write, webhooks::webhook_create(new))
    }

    /// Webhooks, newest first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn webhook_list(&self, page: KeysetRequest) -> StoreResult<KeysetPage<WebhookRow>> {
        run!(self, read, webhooks::webhook_list(page))
    }

    /// A webhook, or `NotFound`.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn webhook_get(&self, id: i64) -> StoreResult<WebhookRow> {
        run!(self, read, webhooks::webhook_get(id))
    }

    /// The webhook of an address.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn webhook_find(&self, hook_id: Uuid) -> StoreResult<Option<WebhookRow>> {
        run!(self, read, webhooks::webhook_find(hook_id))
    }

    /// Lets in or refuses what comes, or changes the secret.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn webhook_change(&self, id: i64, change: WebhookChange) -> StoreResult<WebhookRow> {
        run!(self, write, webhooks::webhook_change(id, change))
    }

    /// Removes a webhook; its log stays until it is past its time.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn webhook_delete(&self, id: i64) -> StoreResult<()> {
        run!(self, write, webhooks::webhook_delete(id))
    }

    /// Takes a request of a webhook: notes it, and makes its event unless its id was there before.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn webhook_receive(&self, request: InboundRequest) -> StoreResult<Received> {
        run!(self, write, webhooks::webhook_receive(request))
    }

    /// What came in by a webhook, newest first.
    ///
    /// # Errors
    /// See [`StoreError`](crate::store::StoreError).
    pub async fn webhook_requests(
        &self,
        webhook_id: i64,
        page: KeysetRequest,
    ) -> StoreResult<KeysetPage<InboundRow>> {
        run!(self, read, webhooks::webhook_requests(webhook_id, page))
    }
}
