-- egress: where it may connect, {"allow": […], "deny": […]}.
ALTER TABLE sandboxes ADD COLUMN egress TEXT NOT NULL DEFAULT '{}';
ALTER TABLE snapshots ADD COLUMN egress TEXT NOT NULL DEFAULT '{}';
