ALTER TABLE org_quotas DROP COLUMN max_volume_mb;
ALTER TABLE snapshots DROP COLUMN volumes;
ALTER TABLE sandboxes DROP COLUMN volumes;
DROP TABLE IF EXISTS volumes;
