-- on_idle: where it differs from on_timeout. max_snapshot_mb: what the snapshots of an org may take on disk together.
ALTER TABLE sandboxes ADD COLUMN IF NOT EXISTS on_idle TEXT;
ALTER TABLE sandboxes ADD COLUMN IF NOT EXISTS auto_resume BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE org_quotas ADD COLUMN IF NOT EXISTS max_snapshot_mb BIGINT NOT NULL DEFAULT 51200;
