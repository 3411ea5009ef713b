-- Who may call.
CREATE TABLE projects (
    project_id  TEXT PRIMARY KEY,
    domain_id   TEXT NOT NULL,
    domain_name TEXT NOT NULL,
    quota       INTEGER NOT NULL
) STRICT;

CREATE TABLE access_keys (
    ak         TEXT PRIMARY KEY,
    sk         TEXT NOT NULL,
    project_id TEXT NOT NULL REFERENCES projects (project_id)
) STRICT;

CREATE TABLE users (
    name          TEXT PRIMARY KEY,
    password_hash TEXT NOT NULL,
    project_id    TEXT NOT NULL REFERENCES projects (project_id)
) STRICT;

-- Tokens are kept as hashes: who reads the file cannot use them.
-- A session with an instance may only look at that instance.
CREATE TABLE sessions (
    token_hash    BLOB PRIMARY KEY,
    user_name     TEXT NOT NULL,
    project_id    TEXT NOT NULL REFERENCES projects (project_id),
    blockchain_id TEXT,
    expires_ms    INTEGER NOT NULL
) STRICT;

-- What should exist. `network` is null until the names and ports are decided.
CREATE TABLE instances (
    id            TEXT PRIMARY KEY,
    project_id    TEXT NOT NULL REFERENCES projects (project_id),
    name          TEXT NOT NULL,
    created_ns    INTEGER NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'deleting')),
    spec          TEXT NOT NULL,
    network       TEXT,
    password_hash TEXT NOT NULL,
    UNIQUE (project_id, name)
) STRICT;

-- What was done. Records outlive their instance.
CREATE TABLE operations (
    operation_id   TEXT PRIMARY KEY,
    blockchain_id  TEXT NOT NULL,
    project_id     TEXT NOT NULL,
    resource_type  TEXT NOT NULL,
    operation_type TEXT NOT NULL,
    status         TEXT NOT NULL,
    undoing        INTEGER NOT NULL DEFAULT 0,
    started_ns     INTEGER NOT NULL,
    params         TEXT NOT NULL,
    record         TEXT NOT NULL
) STRICT;

-- One change per instance at a time.
CREATE UNIQUE INDEX operations_running ON operations (blockchain_id)
    WHERE status IN ('waiting', 'processing');
CREATE INDEX operations_by_project ON operations (project_id, started_ns);

-- Ports that are given away on this host.
CREATE TABLE ports (
    port          INTEGER PRIMARY KEY,
    blockchain_id TEXT NOT NULL
) STRICT;

-- One row per block that the browser has counted; details are read from a peer.
CREATE TABLE blocks (
    blockchain_id TEXT NOT NULL,
    channel       TEXT NOT NULL,
    number        INTEGER NOT NULL,
    hash          BLOB NOT NULL,
    data_hash     BLOB NOT NULL,
    previous_hash BLOB NOT NULL,
    time_ms       INTEGER NOT NULL,
    tx_count      INTEGER NOT NULL,
    tx_total      INTEGER NOT NULL,
    creators      TEXT NOT NULL,
    PRIMARY KEY (blockchain_id, channel, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX blocks_by_time ON blocks (blockchain_id, channel, time_ms);
