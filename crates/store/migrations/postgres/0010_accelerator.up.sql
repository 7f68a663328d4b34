-- accelerator: what runs a guest's instructions, kvm or tcg; nothing where there is no guest.
ALTER TABLE sandboxes ADD COLUMN IF NOT EXISTS accelerator TEXT;
