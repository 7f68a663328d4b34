-- public_ports: its ports are reached without a key.
ALTER TABLE sandboxes ADD COLUMN IF NOT EXISTS public_ports BOOLEAN NOT NULL DEFAULT FALSE;
