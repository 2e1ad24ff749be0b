-- +goose Up
-- A record's status is kept apart from the row as read and the fields as sent:
-- when those are wiped, whole pages of the file become free for new ones. What
-- many records have in common is kept once. sync_status is the whole again, to
-- read.

CREATE TABLE origin (
    id         INTEGER PRIMARY KEY,
    source     TEXT NOT NULL,
    table_name TEXT NOT NULL,
    UNIQUE (source, table_name)
);
INSERT INTO origin (source, table_name) SELECT DISTINCT source, table_name FROM sync_status;

CREATE TABLE lot (
    id        INTEGER PRIMARY KEY,
    park_uuid TEXT NOT NULL UNIQUE
);
INSERT INTO lot (park_uuid) SELECT DISTINCT park_uuid FROM sync_status WHERE park_uuid IS NOT NULL;

CREATE TABLE record (
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
    state           TEXT    NOT NULL CHECK (state IN ('pending', 'delivered', 'rejected', 'invalid', 'dismissed')),
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
INSERT INTO record SELECT s.id, o.id, s.row_key, s.generation, s.revision,
    unhex(s.content_hash, ':'), unhex(s.identity_hash, ':'), unhex(s.seen_hash, ':'), s.day, l.id, s.flow_no, s.parking_serial,
    s.state, s.attempts, CASE s.state WHEN 'delivered' THEN NULL ELSE s.next_attempt_at END,
    CASE WHEN s.last_attempt_at = s.delivered_at THEN NULL ELSE s.last_attempt_at END,
    s.code, s.message, s.hint, s.seqno, s.http_status, s.first_seen_at, s.delivered_at, s.errors, s.note
    FROM sync_status s JOIN origin o ON o.source = s.source AND o.table_name = s.table_name LEFT JOIN lot l ON l.park_uuid = s.park_uuid;

-- The row as read and the fields as mapped, JSON. No row: wiped.
CREATE TABLE payload (
    id      INTEGER PRIMARY KEY REFERENCES record (id),
    columns TEXT,
    fields  TEXT                      -- NULL: it does not map
);
INSERT INTO payload SELECT id, columns, fields FROM sync_status WHERE columns IS NOT NULL OR fields IS NOT NULL;

DROP TABLE sync_status;

CREATE UNIQUE INDEX record_row ON record (origin_id, row_key, generation, revision);
-- The platform swallows a second record of one number. A record that was not
-- mapped, or whose number is taken, has none.
CREATE UNIQUE INDEX record_flow_no ON record (flow_no, lot_id);
CREATE INDEX record_day ON record (origin_id, day);
-- Most records are delivered; these hold the few that are not, or are special.
CREATE INDEX record_pending ON record (id) WHERE state = 'pending';
CREATE INDEX record_pending_serial ON record (parking_serial, lot_id, id) WHERE state = 'pending';
CREATE INDEX record_ended ON record (origin_id, state) WHERE state IN ('rejected', 'invalid', 'dismissed');
CREATE INDEX record_remarked ON record (origin_id) WHERE state = 'delivered' AND hint IS NOT NULL;
CREATE INDEX record_changed ON record (origin_id) WHERE seen_hash IS NOT NULL;

-- The cross joins keep the records the outer loop.
CREATE VIEW sync_status AS SELECT
    r.id, o.source, o.table_name, r.generation, r.row_key, r.revision, lower(hex(r.content_hash)) AS content_hash,
    l.park_uuid, r.flow_no, r.parking_serial, r.state, r.attempts, r.next_attempt_at,
    COALESCE(r.last_attempt_at, r.delivered_at) AS last_attempt_at, r.code, r.message, r.hint, r.seqno, r.http_status,
    r.first_seen_at, r.delivered_at, p.columns, p.fields, r.errors, r.note
    FROM record r CROSS JOIN origin o ON o.id = r.origin_id LEFT JOIN lot l ON l.id = r.lot_id LEFT JOIN payload p ON p.id = r.id;

-- Runs that found nothing and did nothing are one row.
ALTER TABLE sync_run ADD COLUMN runs INTEGER NOT NULL DEFAULT 1;
ALTER TABLE sync_run ADD COLUMN first_started_at TEXT; -- of several runs; NULL: of one

-- A dry run keeps nothing.
ALTER TABLE reconcile_run DROP COLUMN dry_run;

-- +goose Down
ALTER TABLE reconcile_run ADD COLUMN dry_run INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sync_run DROP COLUMN first_started_at;
ALTER TABLE sync_run DROP COLUMN runs;
CREATE TABLE whole (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    source          TEXT    NOT NULL,
    table_name      TEXT    NOT NULL,
    generation      INTEGER NOT NULL DEFAULT 1,
    row_key         TEXT    NOT NULL,
    revision        INTEGER NOT NULL DEFAULT 0,
    content_hash    TEXT    NOT NULL,
    park_uuid       TEXT,
    flow_no         TEXT,
    parking_serial  TEXT,
    state           TEXT    NOT NULL CHECK (state IN ('pending', 'delivered', 'rejected', 'invalid', 'dismissed')),
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at TEXT    NOT NULL,
    last_attempt_at TEXT,
    code            TEXT,
    message         TEXT,
    hint            TEXT,
    seqno           TEXT,
    http_status     INTEGER,
    first_seen_at   TEXT    NOT NULL,
    delivered_at    TEXT,
    columns         TEXT,
    fields          TEXT,
    errors          TEXT,
    note            TEXT,
    seen_hash       TEXT,
    identity_hash   TEXT,
    day             TEXT
);
INSERT INTO whole SELECT s.id, s.source, s.table_name, s.generation, s.row_key, s.revision,
    substr(s.content_hash, 1, 8) || ':' || substr(s.content_hash, 9), s.park_uuid, s.flow_no, s.parking_serial, s.state, s.attempts,
    COALESCE(s.next_attempt_at, s.first_seen_at), s.last_attempt_at, s.code, s.message, s.hint, s.seqno, s.http_status, s.first_seen_at, s.delivered_at,
    s.columns, s.fields, s.errors, s.note,
    lower(substr(hex(r.seen_hash), 1, 8)) || ':' || lower(substr(hex(r.seen_hash), 9)),
    lower(substr(hex(r.identity_hash), 1, 8)) || ':' || lower(substr(hex(r.identity_hash), 9)), r.day
    FROM sync_status s JOIN record r ON r.id = s.id;
UPDATE whole SET seen_hash = NULL WHERE seen_hash = ':';
UPDATE whole SET identity_hash = NULL WHERE identity_hash = ':';
DROP VIEW sync_status;
DROP TABLE payload;
DROP TABLE record;
DROP TABLE lot;
DROP TABLE origin;
ALTER TABLE whole RENAME TO sync_status;
CREATE UNIQUE INDEX sync_status_row ON sync_status (source, table_name, row_key, generation, revision);
CREATE UNIQUE INDEX sync_status_flow_no ON sync_status (flow_no, park_uuid);
CREATE INDEX sync_status_state ON sync_status (source, state);
CREATE INDEX sync_status_pending ON sync_status (id) WHERE state = 'pending';
CREATE INDEX sync_status_pending_serial ON sync_status (parking_serial, park_uuid, id) WHERE state = 'pending';
CREATE INDEX sync_status_remarked ON sync_status (source) WHERE state = 'delivered' AND hint IS NOT NULL;
CREATE INDEX sync_status_retained ON sync_status (delivered_at) WHERE state = 'delivered' AND columns IS NOT NULL;
CREATE INDEX sync_status_changed ON sync_status (source) WHERE seen_hash IS NOT NULL;
CREATE INDEX sync_status_day ON sync_status (source, day, state);
