-- removed_at: from when on nobody may use it; its node still has it.
CREATE TABLE IF NOT EXISTS volumes (
    id UUID NOT NULL PRIMARY KEY,
    org_id UUID NOT NULL,
    name TEXT NOT NULL,
    node_id UUID NOT NULL,
    size_mb BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    removed_at BIGINT
);
CREATE UNIQUE INDEX IF NOT EXISTS volumes_by_name ON volumes (org_id, name) WHERE (removed_at IS NULL);
CREATE INDEX IF NOT EXISTS volumes_by_org ON volumes (org_id, id);
CREATE INDEX IF NOT EXISTS volumes_by_node ON volumes (node_id);
-- volumes: [{"volume": id, "name": …, "path": where inside}]. max_volume_mb: what the volumes of an org may hold together.
ALTER TABLE sandboxes ADD COLUMN IF NOT EXISTS volumes JSONB NOT NULL DEFAULT '[]';
ALTER TABLE snapshots ADD COLUMN IF NOT EXISTS volumes JSONB NOT NULL DEFAULT '[]';
ALTER TABLE org_quotas ADD COLUMN IF NOT EXISTS max_volume_mb BIGINT NOT NULL DEFAULT 51200;
