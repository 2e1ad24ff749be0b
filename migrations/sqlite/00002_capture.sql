-- +goose Up
-- What a row was when it was last seen at the source, where that is not what its
-- record holds: it was changed after it had been delivered.
ALTER TABLE sync_status ADD COLUMN seen_hash TEXT;
-- The hash of the columns by which a key that was given to another row is known.
ALTER TABLE sync_status ADD COLUMN identity_hash TEXT;
-- The day of operate_time in the source's zone, yyyy-MM-dd; NULL: it does not map.
ALTER TABLE sync_status ADD COLUMN day TEXT;

DROP INDEX sync_status_row;
CREATE UNIQUE INDEX sync_status_row ON sync_status (source, table_name, row_key, generation, revision);
CREATE INDEX sync_status_changed ON sync_status (source) WHERE seen_hash IS NOT NULL;
CREATE INDEX sync_status_day ON sync_status (source, day, state);

-- What the last poll saw of the source beside its rows, JSON.
ALTER TABLE high_water_mark ADD COLUMN seen TEXT NOT NULL DEFAULT '';
-- Where the lease's holder runs, and until when the lease lasts by itself.
ALTER TABLE high_water_mark ADD COLUMN lease_host TEXT;
ALTER TABLE high_water_mark ADD COLUMN lease_until TEXT;

-- One row a reconcile of a source's window.
CREATE TABLE reconcile_run (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    source      TEXT    NOT NULL,
    started_at  TEXT    NOT NULL,
    finished_at TEXT    NOT NULL,
    dry_run     INTEGER NOT NULL,
    error       TEXT
);
CREATE INDEX reconcile_run_source ON reconcile_run (source, id);

-- One row a day of it. day is yyyy-MM-dd; '': rows whose operate_time does not map.
CREATE TABLE reconcile_day (
    run_id      INTEGER NOT NULL REFERENCES reconcile_run (id) ON DELETE CASCADE,
    day         TEXT    NOT NULL,
    source_rows INTEGER NOT NULL,
    ledger      INTEGER NOT NULL,
    delivered   INTEGER NOT NULL,
    missing     INTEGER NOT NULL,
    changed     INTEGER NOT NULL,
    healed      INTEGER NOT NULL,
    deleted     INTEGER NOT NULL,
    PRIMARY KEY (run_id, day)
);

-- +goose Down
DROP TABLE reconcile_day;
DROP TABLE reconcile_run;
ALTER TABLE high_water_mark DROP COLUMN lease_until;
ALTER TABLE high_water_mark DROP COLUMN lease_host;
ALTER TABLE high_water_mark DROP COLUMN seen;
DROP INDEX sync_status_day;
DROP INDEX sync_status_changed;
DROP INDEX sync_status_row;
CREATE UNIQUE INDEX sync_status_row ON sync_status (source, table_name, generation, row_key, revision);
ALTER TABLE sync_status DROP COLUMN day;
ALTER TABLE sync_status DROP COLUMN identity_hash;
ALTER TABLE sync_status DROP COLUMN seen_hash;
