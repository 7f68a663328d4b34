-- What was asked to go and may not be gone.
CREATE TABLE IF NOT EXISTS deletions (
    id UUID NOT NULL PRIMARY KEY,
    org_id UUID NOT NULL,
    reason TEXT NOT NULL,
    asked_at BIGINT NOT NULL
);

-- subject: the id of what the request makes. owner: who will end it; none when that process died.
ALTER TABLE idempotency_keys ADD COLUMN IF NOT EXISTS subject UUID;
ALTER TABLE idempotency_keys ADD COLUMN IF NOT EXISTS owner TEXT;

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
