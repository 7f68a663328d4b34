-- egress: where it may connect, {"allow": […], "deny": […]}.
ALTER TABLE sandboxes ADD COLUMN IF NOT EXISTS egress JSONB NOT NULL DEFAULT '{}';
ALTER TABLE snapshots ADD COLUMN IF NOT EXISTS egress JSONB NOT NULL DEFAULT '{}';
