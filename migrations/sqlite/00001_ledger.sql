-- +goose Up
-- Marks the file as a ledger ("PKBR"), so that no other database is taken for one.
PRAGMA application_id = 1347109458;

-- Times are UTC text of fixed width, yyyy-MM-ddTHH:mm:ss.SSSZ, so that they sort.

-- One row a record: one release, and what became of it.
CREATE TABLE sync_status (
    id              INTEGER PRIMARY KEY AUTOINCREMENT, -- also the order of landing
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
    last_attempt_at TEXT,             -- NULL: never sent
    code            TEXT,
    message         TEXT,
    hint            TEXT,
    seqno           TEXT,
    http_status     INTEGER,
    first_seen_at   TEXT    NOT NULL,
    delivered_at    TEXT,
    columns         TEXT,             -- the row as read, JSON; NULL: wiped
    fields          TEXT,             -- as mapped, JSON; NULL: invalid or wiped
    errors          TEXT,             -- JSON list of {field, problem}
    note            TEXT              -- why a person dismissed it
);

CREATE UNIQUE INDEX sync_status_row ON sync_status (source, table_name, generation, row_key, revision);
-- The platform swallows a second record of one number. A record that was not
-- mapped, or whose number is taken, has none.
CREATE UNIQUE INDEX sync_status_flow_no ON sync_status (flow_no, park_uuid);
CREATE INDEX sync_status_state ON sync_status (source, state);
CREATE INDEX sync_status_pending ON sync_status (id) WHERE state = 'pending';
CREATE INDEX sync_status_pending_serial ON sync_status (parking_serial, park_uuid, id) WHERE state = 'pending';
CREATE INDEX sync_status_remarked ON sync_status (source) WHERE state = 'delivered' AND hint IS NOT NULL;
CREATE INDEX sync_status_retained ON sync_status (delivered_at) WHERE state = 'delivered' AND columns IS NOT NULL;

-- One row a source: where reading stands, and who may move it.
CREATE TABLE high_water_mark (
    source       TEXT    PRIMARY KEY,
    mark         TEXT    NOT NULL DEFAULT '', -- '': before the first row
    floor        TEXT    NOT NULL DEFAULT '',
    journal      TEXT    NOT NULL DEFAULT '',
    fingerprint  TEXT    NOT NULL DEFAULT '',
    config_hash  TEXT    NOT NULL DEFAULT '',
    version      INTEGER NOT NULL DEFAULT 1,  -- compared and swapped by each landing
    lease_holder TEXT,
    lease_token  INTEGER NOT NULL DEFAULT 0,  -- the fencing number
    moved_at     TEXT
);

-- One row a run of a source.
CREATE TABLE sync_run (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    source      TEXT    NOT NULL,
    started_at  TEXT    NOT NULL,
    finished_at TEXT,
    read_rows   INTEGER NOT NULL DEFAULT 0,
    landed      INTEGER NOT NULL DEFAULT 0,
    delivered   INTEGER NOT NULL DEFAULT 0,
    rejected    INTEGER NOT NULL DEFAULT 0,
    invalid     INTEGER NOT NULL DEFAULT 0,
    error       TEXT
);
CREATE INDEX sync_run_source ON sync_run (source, id);
CREATE INDEX sync_run_open ON sync_run (source) WHERE finished_at IS NULL;

-- What the bridge knows of the gate, beyond any one record. One row.
CREATE TABLE sink_state (
    id               INTEGER PRIMARY KEY CHECK (id = 1),
    state            TEXT NOT NULL CHECK (state IN ('ok', 'failing', 'blocked')),
    reason           TEXT NOT NULL DEFAULT '',
    since            TEXT NOT NULL DEFAULT '',
    retry_at         TEXT NOT NULL DEFAULT '', -- a Retry-After that still runs
    last_accepted_at TEXT NOT NULL DEFAULT '',
    rejected_run     TEXT NOT NULL DEFAULT '[]' -- ids of the 400s since the last acceptance
);
INSERT INTO sink_state (id, state) VALUES (1, 'ok');

-- +goose Down
DROP TABLE sink_state;
DROP TABLE sync_run;
DROP TABLE high_water_mark;
DROP TABLE sync_status;
