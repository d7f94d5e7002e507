DROP TABLE alert_deliveries;
DROP TABLE alert_messages;
DROP TABLE alert_subjects;
DROP TABLE alerts;
DROP TABLE alert_cursor;
DROP TABLE alert_rules;
DROP TABLE alert_channels;
