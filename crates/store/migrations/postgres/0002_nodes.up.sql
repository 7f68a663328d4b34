CREATE TABLE IF NOT EXISTS nodes (
    id UUID NOT NULL PRIMARY KEY,
    org_id UUID NOT NULL,
    name TEXT NOT NULL,
    hostname TEXT NOT NULL,
    slots_total BIGINT NOT NULL,
    state TEXT NOT NULL,
    version TEXT NOT NULL,
    capabilities JSONB NOT NULL,
    last_seen_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS nodes_by_state ON nodes (state);
