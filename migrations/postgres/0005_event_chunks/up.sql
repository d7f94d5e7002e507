-- The events of one transaction are one row: `body` is a JSON array with an array an event,
-- [type, room, schedule id, execution id, severity, tags, owner, payload]; the first has the number
-- `first_seq`, the last `last_seq`. Not compressed: it is written far more often than read.
CREATE TABLE event_chunks (
    last_seq bigint PRIMARY KEY,
    first_seq bigint NOT NULL,
    at timestamptz NOT NULL,
    body text NOT NULL
);
ALTER TABLE event_chunks ALTER COLUMN body SET STORAGE EXTERNAL;
INSERT INTO event_chunks (last_seq, first_seq, at, body)
    SELECT seq, seq, at, json_build_array(json_build_array(event_type, room, schedule_id,
        execution_id, severity, tags, owner, payload::json))::text FROM events ORDER BY seq;
DROP TABLE events;
