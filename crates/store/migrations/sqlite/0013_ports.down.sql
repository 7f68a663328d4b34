ALTER TABLE sandboxes DROP COLUMN published;
ALTER TABLE sandboxes DROP COLUMN ports;
