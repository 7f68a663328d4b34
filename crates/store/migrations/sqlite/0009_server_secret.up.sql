-- One row: what signatures and tokens of this installation are made with.
CREATE TABLE IF NOT EXISTS server_secret (
    id BIGINT NOT NULL PRIMARY KEY,
    secret BLOB NOT NULL
);
