DROP TABLE IF EXISTS deletions;
CREATE TABLE IF NOT EXISTS idempotency_keys_next (
    org_id BLOB NOT NULL,
    idem_key TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    status TEXT NOT NULL,
    response_status BIGINT,
    response_body BLOB,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (org_id, idem_key)
);
INSERT INTO idempotency_keys_next (org_id, idem_key, request_hash, status, response_status, response_body, created_at)
    SELECT org_id, idem_key, request_hash, status, response_status, response_body, created_at FROM idempotency_keys;
DROP TABLE idempotency_keys;
ALTER TABLE idempotency_keys_next RENAME TO idempotency_keys;
CREATE INDEX IF NOT EXISTS idempotency_keys_by_age ON idempotency_keys (created_at);
DROP INDEX IF EXISTS sandboxes_living;
DROP INDEX IF EXISTS sandboxes_living_by_node;
DROP INDEX IF EXISTS sandboxes_queued;
DROP INDEX IF EXISTS sandboxes_by_parent;
DROP INDEX IF EXISTS sandboxes_by_name;
CREATE UNIQUE INDEX IF NOT EXISTS sandboxes_by_name ON sandboxes (org_id, name) WHERE (ended_at IS NULL);
CREATE INDEX IF NOT EXISTS sandboxes_by_org_state ON sandboxes (org_id, state);
CREATE INDEX IF NOT EXISTS sandboxes_by_node ON sandboxes (node_id, state);
CREATE INDEX IF NOT EXISTS sandboxes_by_state ON sandboxes (state, queued_at, id);
CREATE INDEX IF NOT EXISTS sandboxes_by_parent ON sandboxes (forked_from);
