-- ports: the ports inside to publish. published: where its node listens for them, once it was made.
ALTER TABLE sandboxes ADD COLUMN IF NOT EXISTS ports JSONB NOT NULL DEFAULT '[]';
ALTER TABLE sandboxes ADD COLUMN IF NOT EXISTS published TEXT;
