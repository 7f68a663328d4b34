-- ready_at: when the node had it; before that it is being taken.
CREATE TABLE IF NOT EXISTS snapshots (
    id UUID NOT NULL PRIMARY KEY,
    org_id UUID NOT NULL,
    name TEXT,
    node_id UUID NOT NULL,
    sandbox_id UUID NOT NULL,
    image TEXT NOT NULL,
    driver TEXT NOT NULL,
    privilege TEXT NOT NULL,
    network TEXT NOT NULL,
    vcpus BIGINT NOT NULL,
    memory_mb BIGINT NOT NULL,
    disk_mb BIGINT NOT NULL,
    pids BIGINT NOT NULL,
    memory BOOLEAN NOT NULL,
    bytes BIGINT NOT NULL,
    held_us BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ready_at BIGINT
);
CREATE UNIQUE INDEX IF NOT EXISTS snapshots_by_name ON snapshots (org_id, name) WHERE (name IS NOT NULL);
CREATE INDEX IF NOT EXISTS snapshots_by_org ON snapshots (org_id, id);
CREATE INDEX IF NOT EXISTS snapshots_by_node ON snapshots (node_id);
