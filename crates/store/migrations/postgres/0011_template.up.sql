-- template: the name of the one it was made from. keep_paused: paused, its age limit does not count. resumed_at: when it last ran again; its age counts from there.
-- step_number: of the step that a build is at, from 1.
ALTER TABLE sandboxes ADD COLUMN IF NOT EXISTS template TEXT;
ALTER TABLE sandboxes ADD COLUMN IF NOT EXISTS keep_paused BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE sandboxes ADD COLUMN IF NOT EXISTS resumed_at BIGINT;
ALTER TABLE builds ADD COLUMN IF NOT EXISTS step_number BIGINT;
