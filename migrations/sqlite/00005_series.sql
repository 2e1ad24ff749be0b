-- +goose Up
-- One row a table of a series, and for each time that it was emptied and filled
-- again: where reading of it stands. Who may move it says the source's row in
-- high_water_mark, and that one's journal where the series begins.
CREATE TABLE table_mark (
    source     TEXT    NOT NULL,
    table_name TEXT    NOT NULL,
    generation INTEGER NOT NULL,             -- of its records: this one's or a higher one, up to the next row's
    period     TEXT    NOT NULL,             -- yyyyMM or yyyy: what the table was for
    mark       TEXT    NOT NULL DEFAULT '',  -- '': before the first row
    floor      TEXT    NOT NULL DEFAULT '',
    journal    TEXT    NOT NULL DEFAULT '',
    seen       TEXT    NOT NULL DEFAULT '',
    version    INTEGER NOT NULL DEFAULT 0,   -- compared and swapped by each landing; 0: never read
    moved_at   TEXT,
    old_rows   TEXT    NOT NULL DEFAULT '',  -- up to here last year's rows are still in it; '': there are none
    closed_at  TEXT,                         -- it was read to its end, and nothing more comes; NULL: it is read on
    gone_at    TEXT,                         -- when it was found to be no longer there
    PRIMARY KEY (source, table_name, generation)
);

-- +goose Down
DROP TABLE table_mark;
