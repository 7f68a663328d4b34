ALTER TABLE org_quotas DROP COLUMN IF EXISTS max_snapshot_mb;
ALTER TABLE sandboxes DROP COLUMN IF EXISTS auto_resume;
ALTER TABLE sandboxes DROP COLUMN IF EXISTS on_idle;
