-- template: the name of the one it was made from. keep_paused: paused, its age limit does not count. resumed_at: when it last ran again; its age counts from there.
-- step_number: of the step that a build is at, from 1.
CREATE TABLE IF NOT EXISTS sandboxes_next (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL,
    node_id BLOB,
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
    metadata TEXT NOT NULL,
    env_names TEXT NOT NULL,
    forked_from BLOB,
    fork_root BLOB NOT NULL,
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
    updated_at BIGINT NOT NULL,
    on_idle TEXT,
    auto_resume BOOLEAN NOT NULL DEFAULT FALSE,
    accelerator TEXT,
    template TEXT,
    keep_paused BOOLEAN NOT NULL DEFAULT FALSE,
    resumed_at BIGINT
);
INSERT INTO sandboxes_next (id, org_id, node_id, name, project, region, image, image_digest, profile, vcpus, memory_mb, disk_mb, pids, wanted_driver, wanted_isolation, wanted_privilege, driver, isolation, privilege, network, storage, disk_quota, limits, fork_kind, boot_us, state, failure_reason, failure_message, metadata, env_names, forked_from, fork_root, fork_depth, fork_count, ttl_seconds, idle_seconds, on_timeout, expires_at, ttl_warned, last_active_at, queue_timeout_seconds, queued_at, created_at, started_at, ended_at, deleted_at, updated_at, on_idle, auto_resume, accelerator)
    SELECT id, org_id, node_id, name, project, region, image, image_digest, profile, vcpus, memory_mb, disk_mb, pids, wanted_driver, wanted_isolation, wanted_privilege, driver, isolation, privilege, network, storage, disk_quota, limits, fork_kind, boot_us, state, failure_reason, failure_message, metadata, env_names, forked_from, fork_root, fork_depth, fork_count, ttl_seconds, idle_seconds, on_timeout, expires_at, ttl_warned, last_active_at, queue_timeout_seconds, queued_at, created_at, started_at, ended_at, deleted_at, updated_at, on_idle, auto_resume, accelerator FROM sandboxes;
DROP TABLE sandboxes;
ALTER TABLE sandboxes_next RENAME TO sandboxes;
CREATE INDEX IF NOT EXISTS sandboxes_by_org ON sandboxes (org_id, id);
CREATE INDEX IF NOT EXISTS sandboxes_by_root ON sandboxes (fork_root, id);
CREATE INDEX IF NOT EXISTS sandboxes_living ON sandboxes (org_id, id) WHERE (ended_at IS NULL);
CREATE INDEX IF NOT EXISTS sandboxes_living_by_node ON sandboxes (node_id) WHERE (ended_at IS NULL);
CREATE INDEX IF NOT EXISTS sandboxes_queued ON sandboxes (queued_at, id) WHERE (state = 'queued');
CREATE INDEX IF NOT EXISTS sandboxes_by_parent ON sandboxes (forked_from) WHERE (forked_from IS NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS sandboxes_by_name ON sandboxes (org_id, name) WHERE ((ended_at IS NULL) AND (name IS NOT NULL));
CREATE TABLE IF NOT EXISTS builds_next (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL,
    template_id BLOB NOT NULL,
    tags TEXT NOT NULL,
    status TEXT NOT NULL,
    step TEXT,
    reason TEXT,
    owner TEXT NOT NULL,
    sandbox_id BLOB,
    snapshot_id BLOB,
    defaults TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    step_number BIGINT
);
INSERT INTO builds_next (id, org_id, template_id, tags, status, step, reason, owner, sandbox_id, snapshot_id, defaults, created_at, started_at, ended_at)
    SELECT id, org_id, template_id, tags, status, step, reason, owner, sandbox_id, snapshot_id, defaults, created_at, started_at, ended_at FROM builds;
DROP TABLE builds;
ALTER TABLE builds_next RENAME TO builds;
CREATE INDEX IF NOT EXISTS builds_by_template ON builds (template_id, id);
CREATE INDEX IF NOT EXISTS builds_open ON builds (owner, id) WHERE (ended_at IS NULL);
