-- The values of a sandbox's environment are only on its node; here are the names.
CREATE TABLE IF NOT EXISTS sandboxes (
    id UUID NOT NULL PRIMARY KEY,
    org_id UUID NOT NULL,
    node_id UUID,
    name TEXT,
    project TEXT,
    region TEXT NOT NULL,
    image TEXT NOT NULL,
    image_digest TEXT,
    profile TEXT,
    vcpus BIGINT NOT NULL,
    memory_mb BIGINT NOT NULL,
    disk_mb BIGINT NOT NULL,
    pids BIGINT NOT NULL,
    wanted_driver TEXT,
    wanted_isolation TEXT,
    wanted_privilege TEXT,
    driver TEXT,
    isolation TEXT,
    privilege TEXT,
    network TEXT NOT NULL,
    storage TEXT,
    disk_quota BOOLEAN,
    limits BOOLEAN,
    fork_kind TEXT,
    boot_us BIGINT,
    state TEXT NOT NULL,
    failure_reason TEXT,
    failure_message TEXT,
    metadata JSONB NOT NULL,
    env_names JSONB NOT NULL,
    forked_from UUID,
    fork_root UUID NOT NULL,
    fork_depth BIGINT NOT NULL,
    fork_count BIGINT NOT NULL,
    ttl_seconds BIGINT NOT NULL,
    idle_seconds BIGINT NOT NULL,
    on_timeout TEXT NOT NULL,
    expires_at BIGINT,
    ttl_warned BOOLEAN NOT NULL,
    last_active_at BIGINT NOT NULL,
    queue_timeout_seconds BIGINT NOT NULL,
    queued_at BIGINT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    deleted_at BIGINT,
    updated_at BIGINT NOT NULL
);
-- A name stands for one living sandbox of an org.
CREATE UNIQUE INDEX IF NOT EXISTS sandboxes_by_name ON sandboxes (org_id, name) WHERE (ended_at IS NULL);
CREATE INDEX IF NOT EXISTS sandboxes_by_org ON sandboxes (org_id, id);
CREATE INDEX IF NOT EXISTS sandboxes_by_org_state ON sandboxes (org_id, state);
CREATE INDEX IF NOT EXISTS sandboxes_by_node ON sandboxes (node_id, state);
CREATE INDEX IF NOT EXISTS sandboxes_by_state ON sandboxes (state, queued_at, id);
CREATE INDEX IF NOT EXISTS sandboxes_by_parent ON sandboxes (forked_from);
CREATE INDEX IF NOT EXISTS sandboxes_by_root ON sandboxes (fork_root, id);
