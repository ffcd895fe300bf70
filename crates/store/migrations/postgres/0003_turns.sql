-- Who claims looks only at what has its turn: a lane whose moment has come is marked once, and its tenant with it.

ALTER TABLE lanes ADD COLUMN ripe BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE tenants ADD COLUMN ripe BOOLEAN NOT NULL DEFAULT false;
CREATE INDEX lanes_ripening ON lanes (due_at) WHERE lease_until IS NULL AND NOT ripe;
CREATE INDEX tenants_ripe ON tenants (served_at, tenant_id) WHERE ripe;
