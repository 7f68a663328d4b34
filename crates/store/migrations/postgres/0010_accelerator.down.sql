ALTER TABLE sandboxes DROP COLUMN IF EXISTS accelerator;
