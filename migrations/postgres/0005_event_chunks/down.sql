CREATE TABLE events (
    seq bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    event_type text NOT NULL,
    room text NOT NULL CHECK (room IN ('tasks', 'workflows', 'alerts', 'admin')),
    schedule_id bigint,
    execution_id bigint,
    severity text,
    tags jsonb NOT NULL,
    owner text,
    payload text NOT NULL
);
INSERT INTO events (seq, at, event_type, room, schedule_id, execution_id, severity, tags, owner,
    payload)
    SELECT c.first_seq + e.place - 1, c.at, e.value ->> 0, e.value ->> 1, (e.value ->> 2)::bigint,
        (e.value ->> 3)::bigint, e.value ->> 4, (e.value -> 5)::jsonb, e.value ->> 6,
        (e.value -> 7)::text
    FROM event_chunks AS c, json_array_elements(c.body::json) WITH ORDINALITY AS e(value, place);
DROP TABLE event_chunks;
