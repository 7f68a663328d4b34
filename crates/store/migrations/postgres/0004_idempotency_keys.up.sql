CREATE TABLE IF NOT EXISTS idempotency_keys (
    org_id UUID NOT NULL,
    idem_key TEXT NOT NULL,
    request_hash BYTEA NOT NULL,
    status TEXT NOT NULL,
    response_status BIGINT,
    response_body BYTEA,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (org_id, idem_key)
);
CREATE INDEX IF NOT EXISTS idempotency_keys_by_age ON idempotency_keys (created_at);
