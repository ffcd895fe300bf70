-- A change of a delivery's state goes through fewer indexes, and writes its stream once.

-- `deliveries_unsettled`, `deliveries_waiting` and `deliveries_held` answer per patient what these two did.
DROP INDEX deliveries_open;
DROP INDEX deliveries_due;
-- Ids rise with time, so the first of each open state in `deliveries_by_state` is what has waited longest.
DROP INDEX deliveries_oldest;

ALTER TABLE streams DROP COLUMN open_count;
-- When the EHR last took something of the patient.
ALTER TABLE streams ADD COLUMN delivered_at BIGINT;
DROP INDEX streams_fresh;
CREATE INDEX streams_fresh ON streams (tenant_id, shard, fresh_at) WHERE head_due IS NOT NULL AND fresh_at > 0;

-- What is due later, or never, is not looked at by who claims.
DROP INDEX lanes_due;
CREATE INDEX lanes_due ON lanes (due_at) WHERE lease_until IS NULL;
CREATE INDEX lanes_leased ON lanes (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX connections_resting ON connections (not_before) WHERE not_before IS NOT NULL;
