-- public: seen by other orgs too; none is yet.
CREATE TABLE IF NOT EXISTS templates (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL,
    name TEXT NOT NULL,
    public BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS templates_by_name ON templates (org_id, name);
-- tags: what it shall be found under. owner: the control process that builds it. defaults: of a finished one, without values of variables.
CREATE TABLE IF NOT EXISTS builds (
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
    ended_at BIGINT
);
CREATE INDEX IF NOT EXISTS builds_by_template ON builds (template_id, id);
CREATE INDEX IF NOT EXISTS builds_open ON builds (owner, id) WHERE (ended_at IS NULL);
CREATE TABLE IF NOT EXISTS template_tags (
    template_id BLOB NOT NULL,
    tag TEXT NOT NULL,
    org_id BLOB NOT NULL,
    build_id BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (template_id, tag)
);
CREATE TABLE IF NOT EXISTS build_log (
    build_id BLOB NOT NULL,
    seq BIGINT NOT NULL,
    org_id BLOB NOT NULL,
    ts BIGINT NOT NULL,
    level TEXT NOT NULL,
    step TEXT,
    message TEXT NOT NULL,
    PRIMARY KEY (build_id, seq)
);
-- Snapshots that builds took, by the digest of all that led to them.
CREATE TABLE IF NOT EXISTS layers (
    snapshot_id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL,
    layer_key BLOB NOT NULL,
    defaults TEXT NOT NULL,
    used_at BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS layers_by_content ON layers (org_id, layer_key);
