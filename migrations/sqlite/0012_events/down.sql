DROP TABLE inbound_requests;
DROP TABLE inbound_webhooks;
DROP TABLE event_deliveries;
DROP TABLE event_listeners;
DROP TABLE event_inbox;
