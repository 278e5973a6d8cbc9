-- Times are milliseconds since 1970 (UTC), ids of runs UUIDs of version 7, ids of images 'blake3:HEX'.

-- The one row counts every change of anything.
CREATE TABLE meta (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL
) STRICT;
INSERT INTO meta (id, revision) VALUES (1, 0);

CREATE TABLE images (
    id              TEXT    PRIMARY KEY,
    raw_bytes       INTEGER NOT NULL,
    stored_bytes    INTEGER NOT NULL,
    mapped_bytes    INTEGER NOT NULL,
    chunk_bytes     INTEGER NOT NULL,
    index_digest    TEXT    NOT NULL,
    source          TEXT    NOT NULL,
    source_format   TEXT    NOT NULL,
    imported_at     INTEGER NOT NULL,
    partition_table TEXT    NOT NULL,
    boots_bios      INTEGER NOT NULL CHECK (boots_bios IN (0, 1)),
    boots_uefi      INTEGER NOT NULL CHECK (boots_uefi IN (0, 1)),
    sector_bytes    INTEGER NOT NULL
) STRICT;

CREATE TABLE image_partitions (
    image_id    TEXT    NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    start_bytes INTEGER NOT NULL,
    size_bytes  INTEGER NOT NULL,
    type        TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    PRIMARY KEY (image_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE image_names (
    name     TEXT PRIMARY KEY,
    image_id TEXT NOT NULL REFERENCES images (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_names_by_image ON image_names (image_id);

-- Wish and observation of a machine. 'hardware' is a message of the contract (bty.types.v1.Hardware).
CREATE TABLE machines (
    mac                 TEXT    PRIMARY KEY,
    name                TEXT    UNIQUE,
    policy              TEXT    NOT NULL CHECK (policy IN ('local', 'flash-once', 'flash-always', 'inventory')),
    image               TEXT,
    disk                TEXT,
    generation          INTEGER NOT NULL,
    first_seen          INTEGER NOT NULL,
    last_seen           INTEGER,
    address             TEXT    NOT NULL,
    stage               INTEGER NOT NULL,
    stage_at            INTEGER,
    hardware            BLOB,
    hardware_at         INTEGER,
    finished_generation INTEGER NOT NULL,
    flashed_image       TEXT,
    flashed_at          INTEGER,
    run_id              TEXT    REFERENCES runs (id),
    attempts            INTEGER NOT NULL,
    attempt_action      TEXT    CHECK (attempt_action IN ('local', 'flash', 'inventory', 'hold')),
    attempt_paths       TEXT    NOT NULL,
    attempt_at          INTEGER,
    open_boot_id        TEXT,
    disk_turn_at        INTEGER,
    failure_generation  INTEGER,
    failure_reason      TEXT,
    failure_message     TEXT,
    revision            INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX machines_by_first_seen ON machines (first_seen);
CREATE INDEX machines_by_image ON machines (image) WHERE image IS NOT NULL;

-- Runs outlive their machines and images. 'disk' is a message of the contract (bty.types.v1.Disk).
CREATE TABLE runs (
    id              TEXT    PRIMARY KEY,
    mac             TEXT    NOT NULL,
    boot_id         TEXT    NOT NULL,
    action          TEXT    NOT NULL CHECK (action IN ('flash', 'inventory')),
    generation      INTEGER NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'lost')),
    image_id        TEXT    NOT NULL,
    image           TEXT    NOT NULL,
    disk_selector   TEXT    NOT NULL,
    disk            BLOB,
    started_at      INTEGER NOT NULL,
    ended_at        INTEGER,
    heard_at        INTEGER NOT NULL,
    check_ins       INTEGER NOT NULL,
    percent         INTEGER NOT NULL,
    failure_reason  TEXT,
    failure_message TEXT    NOT NULL,
    agent_log       TEXT    NOT NULL,
    kernel_log      TEXT    NOT NULL,
    proved_id       TEXT,
    fetched_bytes   INTEGER NOT NULL,
    written_bytes   INTEGER NOT NULL,
    zeroed_bytes    INTEGER NOT NULL,
    elapsed_ms      INTEGER NOT NULL,
    revision        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_by_machine ON runs (mac, id);
CREATE INDEX runs_running ON runs (image_id) WHERE state = 'running';

CREATE TABLE run_steps (
    run_id      TEXT    NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL,
    name        TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    done_bytes  INTEGER NOT NULL,
    total_bytes INTEGER NOT NULL,
    PRIMARY KEY (run_id, position)
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT: an id is never given twice, even after the newest events were removed.
CREATE TABLE events (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    actor    TEXT    NOT NULL,
    mac      TEXT    NOT NULL,
    run_id   TEXT    NOT NULL,
    image_id TEXT    NOT NULL,
    message  TEXT    NOT NULL
) STRICT;
CREATE INDEX events_by_machine ON events (mac, id) WHERE mac <> '';

CREATE TABLE tokens (
    name         TEXT    PRIMARY KEY,
    role         TEXT    NOT NULL CHECK (role IN ('admin', 'operator', 'viewer')),
    hash         BLOB    NOT NULL UNIQUE,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER
) STRICT, WITHOUT ROWID;

-- How far each reporter of contacts has been heard, so that a repeated report is taken once.
CREATE TABLE reporters (
    reporter TEXT    PRIMARY KEY,
    sequence INTEGER NOT NULL,
    seen_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
