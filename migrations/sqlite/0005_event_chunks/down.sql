CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    room TEXT NOT NULL CHECK (room IN ('tasks', 'workflows', 'alerts', 'admin')),
    schedule_id INTEGER,
    execution_id INTEGER,
    severity TEXT,
    tags TEXT NOT NULL,
    owner TEXT,
    payload TEXT NOT NULL
) STRICT;
INSERT INTO events (seq, at, event_type, room, schedule_id, execution_id, severity, tags, owner,
    payload)
    SELECT c.first_seq + e.key, c.at, e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3,
        e.value ->> 4, e.value -> 5, e.value ->> 6, e.value -> 7
    FROM event_chunks AS c, json_each(c.body) AS e ORDER BY 1;
DROP TABLE event_chunks;
