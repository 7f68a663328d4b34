-- A build with an id that nobody has said yet how it is done; until: from then on it is none.
CREATE TABLE IF NOT EXISTS promises (
    build_id UUID NOT NULL PRIMARY KEY,
    org_id UUID NOT NULL,
    template_id UUID NOT NULL,
    name TEXT NOT NULL,
    tags JSONB NOT NULL,
    vcpus BIGINT,
    memory_mb BIGINT,
    until BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS promises_by_org ON promises (org_id);
