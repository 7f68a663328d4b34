ALTER TABLE snapshots DROP COLUMN egress;
ALTER TABLE sandboxes DROP COLUMN egress;
