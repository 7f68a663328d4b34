ALTER TABLE sandboxes DROP COLUMN IF EXISTS public_ports;
