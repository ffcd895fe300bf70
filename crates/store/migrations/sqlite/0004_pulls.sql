-- Who claims a pull looks neither at all that are due nor at all that there are.

DROP INDEX pulls_due;
CREATE INDEX pulls_due ON pulls (due_at, tenant_id, patient_id) WHERE lease_until IS NULL AND due_at IS NOT NULL;
CREATE INDEX pulls_due_of ON pulls (tenant_id, due_at, patient_id) WHERE lease_until IS NULL AND due_at IS NOT NULL;
CREATE INDEX pulls_leased ON pulls (tenant_id, lease_until) WHERE lease_until IS NOT NULL;
