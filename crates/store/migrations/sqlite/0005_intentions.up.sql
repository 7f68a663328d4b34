-- What was asked to go and may not be gone.
CREATE TABLE IF NOT EXISTS deletions (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL,
    reason TEXT NOT NULL,
    asked_at BIGINT NOT NULL
);

-- subject: the id of what the request makes. owner: who will end it; none when that process died.
CREATE TABLE IF NOT EXISTS idempotency_keys_next (
    org_id BLOB NOT NULL,
    idem_key TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    status TEXT NOT NULL,
    response_status BIGINT,
    response_body BLOB,
    created_at BIGINT NOT NULL,
    subject BLOB,
    owner TEXT,
    PRIMARY KEY (org_id, idem_key)
);
INSERT INTO idempotency_keys_next (org_id, idem_key, request_hash, status, response_status, response_body, created_at)
    SELECT org_id, idem_key, request_hash, status, response_status, response_body, created_at FROM idempotency_keys;
DROP TABLE idempotency_keys;
ALTER TABLE idempotency_keys_next RENAME TO idempotency_keys;
CREATE INDEX IF NOT EXISTS idempotency_keys_by_age ON idempotency_keys (created_at);

-- Indexes for those that live are smaller, and a change of state writes none of them.
DROP INDEX IF EXISTS sandboxes_by_org_state;
DROP INDEX IF EXISTS sandboxes_by_node;
DROP INDEX IF EXISTS sandboxes_by_state;
DROP INDEX IF EXISTS sandboxes_by_parent;
DROP INDEX IF EXISTS sandboxes_by_name;
CREATE INDEX IF NOT EXISTS sandboxes_living ON sandboxes (org_id, id) WHERE (ended_at IS NULL);
CREATE INDEX IF NOT EXISTS sandboxes_living_by_node ON sandboxes (node_id) WHERE (ended_at IS NULL);
CREATE INDEX IF NOT EXISTS sandboxes_queued ON sandboxes (queued_at, id) WHERE (state = 'queued');
CREATE INDEX IF NOT EXISTS sandboxes_by_parent ON sandboxes (forked_from) WHERE (forked_from IS NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS sandboxes_by_name ON sandboxes (org_id, name) WHERE ((ended_at IS NULL) AND (name IS NOT NULL));
