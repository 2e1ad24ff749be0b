-- +goose Up
-- A record may wait, held, for its row to be ready. What SQLite checks at every
-- write of a record is spelled out: for a list of more than two values it would
-- build an index of the list each time.

DROP VIEW sync_status;
CREATE TABLE light (
    id              INTEGER PRIMARY KEY AUTOINCREMENT, -- also the order of landing
    origin_id       INTEGER NOT NULL REFERENCES origin (id),
    row_key         TEXT    NOT NULL,
    generation      INTEGER NOT NULL,
    revision        INTEGER NOT NULL,
    content_hash    BLOB    NOT NULL,
    identity_hash   BLOB,
    seen_hash       BLOB,
    day             TEXT,
    lot_id          INTEGER REFERENCES lot (id),
    flow_no         TEXT,
    parking_serial  TEXT,
    state           TEXT    NOT NULL CHECK (state = 'delivered' OR state = 'pending' OR state = 'held'
                                            OR state = 'rejected' OR state = 'invalid' OR state = 'dismissed'),
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at TEXT,             -- NULL: delivered
    last_attempt_at TEXT,             -- NULL: never sent, or delivered by the last attempt
    code            TEXT,
    message         TEXT,
    hint            TEXT,
    seqno           TEXT,
    http_status     INTEGER,
    first_seen_at   TEXT    NOT NULL,
    delivered_at    TEXT,
    errors          TEXT,             -- JSON list of {field, problem}
    note            TEXT              -- why a person dismissed it
);
INSERT INTO light SELECT * FROM record ORDER BY id;
DROP TABLE record;
ALTER TABLE light RENAME TO record;

CREATE UNIQUE INDEX record_row ON record (origin_id, row_key, generation, revision);
-- The platform swallows a second record of one number. A record that was not
-- mapped, or whose number is taken, has none.
CREATE UNIQUE INDEX record_flow_no ON record (flow_no, lot_id);
CREATE INDEX record_day ON record (origin_id, day);
-- Most records are delivered; these hold the few that are not, or are special.
CREATE INDEX record_pending ON record (id) WHERE state = 'pending';
CREATE INDEX record_pending_serial ON record (parking_serial, lot_id, id) WHERE state = 'pending';
CREATE INDEX record_ended ON record (origin_id, state) WHERE state <> 'pending' AND state <> 'delivered';
CREATE INDEX record_remarked ON record (origin_id) WHERE state = 'delivered' AND hint IS NOT NULL;
CREATE INDEX record_changed ON record (origin_id) WHERE seen_hash IS NOT NULL;

-- The cross joins keep the records the outer loop.
CREATE VIEW sync_status AS SELECT
    r.id, o.source, o.table_name, r.generation, r.row_key, r.revision, lower(hex(r.content_hash)) AS content_hash,
    l.park_uuid, r.flow_no, r.parking_serial, r.state, r.attempts, r.next_attempt_at,
    COALESCE(r.last_attempt_at, r.delivered_at) AS last_attempt_at, r.code, r.message, r.hint, r.seqno, r.http_status,
    r.first_seen_at, r.delivered_at, p.columns, p.fields, r.errors, r.note
    FROM record r CROSS JOIN origin o ON o.id = r.origin_id LEFT JOIN lot l ON l.id = r.lot_id LEFT JOIN payload p ON p.id = r.id;

-- +goose Down
-- An older program does not know held records: it lands their rows anew.
DROP VIEW sync_status;
DELETE FROM payload WHERE id IN (SELECT id FROM record WHERE state = 'held');
DELETE FROM record WHERE state = 'held';
CREATE TABLE compact (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    origin_id       INTEGER NOT NULL REFERENCES origin (id),
    row_key         TEXT    NOT NULL,
    generation      INTEGER NOT NULL,
    revision        INTEGER NOT NULL,
    content_hash    BLOB    NOT NULL,
    identity_hash   BLOB,
    seen_hash       BLOB,
    day             TEXT,
    lot_id          INTEGER REFERENCES lot (id),
    flow_no         TEXT,
    parking_serial  TEXT,
    state           TEXT    NOT NULL CHECK (state IN ('pending', 'delivered', 'rejected', 'invalid', 'dismissed')),
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at TEXT,
    last_attempt_at TEXT,
    code            TEXT,
    message         TEXT,
    hint            TEXT,
    seqno           TEXT,
    http_status     INTEGER,
    first_seen_at   TEXT    NOT NULL,
    delivered_at    TEXT,
    errors          TEXT,
    note            TEXT
);
INSERT INTO compact SELECT * FROM record ORDER BY id;
DROP TABLE record;
ALTER TABLE compact RENAME TO record;
CREATE UNIQUE INDEX record_row ON record (origin_id, row_key, generation, revision);
CREATE UNIQUE INDEX record_flow_no ON record (flow_no, lot_id);
CREATE INDEX record_day ON record (origin_id, day);
CREATE INDEX record_pending ON record (id) WHERE state = 'pending';
CREATE INDEX record_pending_serial ON record (parking_serial, lot_id, id) WHERE state = 'pending';
CREATE INDEX record_ended ON record (origin_id, state) WHERE state IN ('rejected', 'invalid', 'dismissed');
CREATE INDEX record_remarked ON record (origin_id) WHERE state = 'delivered' AND hint IS NOT NULL;
CREATE INDEX record_changed ON record (origin_id) WHERE seen_hash IS NOT NULL;
CREATE VIEW sync_status AS SELECT
    r.id, o.source, o.table_name, r.generation, r.row_key, r.revision, lower(hex(r.content_hash)) AS content_hash,
    l.park_uuid, r.flow_no, r.parking_serial, r.state, r.attempts, r.next_attempt_at,
    COALESCE(r.last_attempt_at, r.delivered_at) AS last_attempt_at, r.code, r.message, r.hint, r.seqno, r.http_status,
    r.first_seen_at, r.delivered_at, p.columns, p.fields, r.errors, r.note
    FROM record r CROSS JOIN origin o ON o.id = r.origin_id LEFT JOIN lot l ON l.id = r.lot_id LEFT JOIN payload p ON p.id = r.id;
