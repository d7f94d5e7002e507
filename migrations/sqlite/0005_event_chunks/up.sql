-- The events of one transaction are one row: `body` is a JSON array with an array an event,
-- [type, room, schedule id, execution id, severity, tags, owner, payload]; the first has the number
-- `first_seq`, the last `last_seq`.
CREATE TABLE event_chunks (
    last_seq INTEGER PRIMARY KEY,
    first_seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
INSERT INTO event_chunks (last_seq, first_seq, at, body)
    SELECT seq, seq, at, json_array(json_array(event_type, room, schedule_id, execution_id,
        severity, json(tags), owner, json(payload))) FROM events ORDER BY seq;
DROP TABLE events;
