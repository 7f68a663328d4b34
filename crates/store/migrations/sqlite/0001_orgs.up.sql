CREATE TABLE IF NOT EXISTS orgs (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    slug TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

-- 0 means no limit for the three rates.
CREATE TABLE IF NOT EXISTS org_quotas (
    org_id BLOB NOT NULL PRIMARY KEY,
    max_concurrent_sandboxes BIGINT NOT NULL,
    max_ttl_seconds BIGINT NOT NULL,
    max_exec_seconds BIGINT NOT NULL,
    idle_timeout_seconds BIGINT NOT NULL,
    max_fork_depth BIGINT NOT NULL,
    max_forks_per_sandbox BIGINT NOT NULL,
    creates_per_minute BIGINT NOT NULL,
    execs_per_minute BIGINT NOT NULL,
    reads_per_minute BIGINT NOT NULL,
    artifact_retention_days BIGINT NOT NULL,
    replay_retention_days BIGINT NOT NULL
);

CREATE TABLE IF NOT EXISTS api_keys (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    key_hash BLOB NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT
);
CREATE INDEX IF NOT EXISTS api_keys_by_org ON api_keys (org_id, id);
