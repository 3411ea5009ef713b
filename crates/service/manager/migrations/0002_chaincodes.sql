-- What was said when a chaincode was installed. Whether it is there, only the peers know.
CREATE TABLE chaincodes (
    blockchain_id TEXT NOT NULL,
    name          TEXT NOT NULL,
    version       TEXT NOT NULL,
    package_id    TEXT NOT NULL,
    language      TEXT NOT NULL,
    description   TEXT NOT NULL,
    install_ns    INTEGER NOT NULL,
    update_ns     INTEGER NOT NULL,
    PRIMARY KEY (blockchain_id, name, version)
) STRICT, WITHOUT ROWID;

-- The last attempt to instantiate a chaincode in a channel, when it failed.
CREATE TABLE failed_instantiations (
    blockchain_id TEXT NOT NULL,
    channel       TEXT NOT NULL,
    name          TEXT NOT NULL,
    version       TEXT NOT NULL,
    code          TEXT NOT NULL,
    reason        TEXT NOT NULL,
    detail        TEXT NOT NULL,
    PRIMARY KEY (blockchain_id, channel, name)
) STRICT, WITHOUT ROWID;
