-- ports: the ports inside to publish. published: where its node listens for them, once it was made.
ALTER TABLE sandboxes ADD COLUMN ports TEXT NOT NULL DEFAULT '[]';
ALTER TABLE sandboxes ADD COLUMN published TEXT;
