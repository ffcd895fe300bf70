-- The first shape of the house's data. Times are ms since the epoch; ids are UUID text; sealed_* and data keys are
-- XChaCha20-Poly1305 (see seal.rs). The same file stands in both engines' folders; only the type of bytes differs.

-- Where this database lives, and what a person said of it (PRODUCT, "A moved hospital, a restored database").
CREATE TABLE installation (
  id          BIGINT PRIMARY KEY CHECK (id = 1),
  home        TEXT   NOT NULL,
  state       TEXT   NOT NULL CHECK (state IN ('running', 'paused', 'copy')),
  changed_at  BIGINT NOT NULL
);

CREATE TABLE tenants (
  tenant_id   TEXT   PRIMARY KEY,
  key_id      TEXT   NOT NULL,
  data_key    BYTEA NOT NULL,
  created_at  BIGINT NOT NULL,
  served_at   BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX tenants_served ON tenants (served_at);

-- The original's table, its columns and defaults first; what is new stands behind them.
CREATE TABLE fhir_integration_configs (
  id                 TEXT    PRIMARY KEY,
  tenant_id          TEXT    UNIQUE NOT NULL REFERENCES tenants (tenant_id),
  enabled            BOOLEAN NOT NULL DEFAULT false,
  base_url           TEXT    NOT NULL,
  auth_type          TEXT    NOT NULL CHECK (auth_type IN ('oauth2', 'basic', 'apikey')),
  auth_config        TEXT    NOT NULL,
  sync_direction     TEXT    NOT NULL DEFAULT 'bidirectional' CHECK (sync_direction IN ('push', 'pull', 'bidirectional')),
  sync_frequency     TEXT    NOT NULL DEFAULT 'hourly' CHECK (sync_frequency IN ('realtime', 'hourly', 'daily')),
  max_retries        BIGINT  NOT NULL DEFAULT 3,
  initial_delay      BIGINT  NOT NULL DEFAULT 1000,
  max_delay          BIGINT  NOT NULL DEFAULT 30000,
  backoff_multiplier DOUBLE PRECISION NOT NULL DEFAULT 2.0,
  last_sync_at       BIGINT,
  last_error         TEXT,
  metadata           TEXT,
  created_at         BIGINT  NOT NULL,
  updated_at         BIGINT  NOT NULL,
  secret_updated_at  BIGINT  NOT NULL,
  revision           BIGINT  NOT NULL DEFAULT 1,
  settings           TEXT    NOT NULL DEFAULT '{}',
  max_concurrency    BIGINT  NOT NULL DEFAULT 4
);

-- What is known of a tenant's EHR; outlives the configuration. Breaker and failure round are of the connection,
-- or eight lanes would send eight probes.
CREATE TABLE connections (
  tenant_id       TEXT   PRIMARY KEY REFERENCES tenants (tenant_id),
  generation      BIGINT NOT NULL DEFAULT 1,
  base_url        TEXT   NOT NULL,
  plan            TEXT   NOT NULL DEFAULT '{}',
  failures        BIGINT NOT NULL DEFAULT 0,
  not_before      BIGINT,
  circuit_open    BOOLEAN NOT NULL DEFAULT false,
  auth_refused    BOOLEAN NOT NULL DEFAULT false,
  last_class      TEXT,
  down_since      BIGINT,
  down_total_ms   BIGINT NOT NULL DEFAULT 0,
  probe_until     BIGINT,
  last_push_at    BIGINT,
  last_pull_at    BIGINT
);

CREATE TABLE patients (
  tenant_id      TEXT   NOT NULL REFERENCES tenants (tenant_id),
  id             TEXT   NOT NULL,
  version        BIGINT NOT NULL,
  sealed_draft   BYTEA NOT NULL,
  cpf_hmac       TEXT,
  cns_hmac       TEXT,
  external_hmac  TEXT,
  link_state     TEXT   NOT NULL DEFAULT 'unlinked' CHECK (link_state IN ('unlinked', 'linked', 'held')),
  ehr_patient_id TEXT,
  link_generation BIGINT,
  link_by        TEXT,
  link_at        BIGINT,
  link_problem   TEXT,
  sealed_candidates BYTEA,
  verified_at    BIGINT,
  ehr_version    TEXT,
  last_sync_at   BIGINT,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX patients_cpf ON patients (tenant_id, cpf_hmac) WHERE cpf_hmac IS NOT NULL;
CREATE UNIQUE INDEX patients_cns ON patients (tenant_id, cns_hmac) WHERE cns_hmac IS NOT NULL;
CREATE UNIQUE INDEX patients_external ON patients (tenant_id, external_hmac) WHERE external_hmac IS NOT NULL;
CREATE INDEX patients_held ON patients (tenant_id) WHERE link_state = 'held';
CREATE INDEX patients_ehr ON patients (tenant_id, ehr_patient_id) WHERE ehr_patient_id IS NOT NULL;

CREATE TABLE observations (
  tenant_id      TEXT    NOT NULL REFERENCES tenants (tenant_id),
  id             TEXT    NOT NULL,
  patient_id     TEXT    NOT NULL,
  version        BIGINT  NOT NULL,
  source         TEXT    NOT NULL CHECK (source IN ('platform', 'ehr')),
  code           TEXT,
  sealed_draft   BYTEA  NOT NULL,
  sealed_resource BYTEA,
  interpreted    BOOLEAN NOT NULL DEFAULT true,
  deleted        BOOLEAN NOT NULL DEFAULT false,
  ehr_id         TEXT,
  ehr_version    TEXT,
  ehr_generation BIGINT,
  synced_version BIGINT,
  synced_at      BIGINT,
  seen_at        BIGINT,
  settled_at     BIGINT,
  created_at     BIGINT  NOT NULL,
  updated_at     BIGINT  NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, patient_id) REFERENCES patients (tenant_id, id)
);
CREATE INDEX observations_by_patient ON observations (tenant_id, patient_id, id);
CREATE INDEX observations_by_code ON observations (tenant_id, code, id);
CREATE UNIQUE INDEX observations_ehr ON observations (tenant_id, ehr_generation, ehr_id) WHERE ehr_id IS NOT NULL;
CREATE INDEX observations_unsynced ON observations (tenant_id, id) WHERE source = 'platform' AND (synced_version IS NULL OR synced_version <> version);

-- Every version ever accepted: what a delivery brings, and the history that neither PATCH nor DELETE forgets.
CREATE TABLE observation_versions (
  tenant_id      TEXT   NOT NULL,
  observation_id TEXT   NOT NULL,
  version        BIGINT NOT NULL,
  sealed_draft   BYTEA NOT NULL,
  at             BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, observation_id, version)
);

-- A lane = tenant x shard is what a worker leases.
CREATE TABLE lanes (
  tenant_id   TEXT   NOT NULL REFERENCES tenants (tenant_id),
  shard       BIGINT NOT NULL,
  due_at      BIGINT,
  lease_until BIGINT,
  owner       TEXT,
  epoch       BIGINT NOT NULL DEFAULT 0,
  served_at   BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, shard)
);
CREATE INDEX lanes_due ON lanes (served_at) WHERE due_at IS NOT NULL OR lease_until IS NOT NULL;

-- A stream = one patient's deliveries, in the order of their acceptance (a serial id does not follow commit order).
CREATE TABLE streams (
  tenant_id  TEXT   NOT NULL,
  patient_id TEXT   NOT NULL,
  shard      BIGINT NOT NULL,
  next_seq   BIGINT NOT NULL DEFAULT 1,
  head_due   BIGINT,
  fresh_at   BIGINT NOT NULL DEFAULT 0,
  blocked    TEXT,
  open_count BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, patient_id)
);
CREATE INDEX streams_due ON streams (tenant_id, shard, head_due) WHERE head_due IS NOT NULL;
CREATE INDEX streams_fresh ON streams (tenant_id, shard, fresh_at) WHERE head_due IS NOT NULL;
CREATE INDEX streams_blocked ON streams (tenant_id) WHERE blocked IS NOT NULL;

-- The effect ledger.
CREATE TABLE deliveries (
  tenant_id      TEXT    NOT NULL REFERENCES tenants (tenant_id),
  id             TEXT    NOT NULL,
  shard          BIGINT  NOT NULL,
  patient_id     TEXT    NOT NULL,
  observation_id TEXT,
  version        BIGINT  NOT NULL,
  seq            BIGINT  NOT NULL,
  generation     BIGINT  NOT NULL,
  state          TEXT    NOT NULL CHECK (state IN ('pending', 'in_flight', 'retry_scheduled', 'held', 'uncertain', 'delivered', 'dead', 'superseded', 'canceled')),
  reason         TEXT,
  backlog        BOOLEAN NOT NULL DEFAULT false,
  due_at         BIGINT,
  claims         BIGINT  NOT NULL DEFAULT 0,
  tries          BIGINT  NOT NULL DEFAULT 0,
  round_tries    BIGINT  NOT NULL DEFAULT 0,
  means          TEXT,
  sent_before    BOOLEAN NOT NULL DEFAULT false,
  proven_not_applied BOOLEAN NOT NULL DEFAULT false,
  match_etag     TEXT,
  ehr_id         TEXT,
  ehr_version    TEXT,
  sealed_message BYTEA,
  audit_at       BIGINT,
  audit_stage    BIGINT  NOT NULL DEFAULT 0,
  first_failed_at BIGINT,
  down_ms_then   BIGINT  NOT NULL DEFAULT 0,
  created_at     BIGINT  NOT NULL,
  updated_at     BIGINT  NOT NULL,
  delivered_at   BIGINT,
  PRIMARY KEY (tenant_id, id),
  CHECK ((state = 'held') = (reason IS NOT NULL)),
  UNIQUE (tenant_id, patient_id, seq)
);
CREATE INDEX deliveries_open ON deliveries (tenant_id, patient_id, seq) WHERE state IN ('pending', 'in_flight', 'retry_scheduled', 'held', 'uncertain');
CREATE INDEX deliveries_due ON deliveries (tenant_id, patient_id, due_at) WHERE state IN ('pending', 'in_flight', 'retry_scheduled', 'uncertain') AND due_at IS NOT NULL;
-- The three questions of standing.rs, each answered without a scan: who waits for an answer, who is next, whom does a person hold.
CREATE INDEX deliveries_unsettled ON deliveries (tenant_id, patient_id) WHERE state IN ('in_flight', 'uncertain');
CREATE INDEX deliveries_waiting ON deliveries (tenant_id, patient_id, seq) WHERE state IN ('pending', 'retry_scheduled');
CREATE INDEX deliveries_held ON deliveries (tenant_id, patient_id, seq) WHERE state = 'held';
CREATE INDEX deliveries_audit ON deliveries (tenant_id, patient_id, audit_at) WHERE audit_at IS NOT NULL;
-- What waits for a sweep, and what has waited longest.
CREATE INDEX deliveries_swept ON deliveries (tenant_id, shard) WHERE state IN ('pending', 'retry_scheduled') AND due_at IS NULL;
CREATE INDEX deliveries_oldest ON deliveries (tenant_id, created_at) WHERE state IN ('pending', 'in_flight', 'retry_scheduled', 'held', 'uncertain');
CREATE INDEX deliveries_by_state ON deliveries (tenant_id, state, id);
CREATE INDEX deliveries_by_observation ON deliveries (tenant_id, observation_id, version) WHERE observation_id IS NOT NULL;
-- The Patient's own create is one row per connection and patient (PROTOCOL §3).
CREATE UNIQUE INDEX deliveries_one_patient_create ON deliveries (tenant_id, patient_id, generation, version) WHERE observation_id IS NULL;

-- One row a try; appended before any byte leaves.
CREATE TABLE attempts (
  tenant_id      TEXT   NOT NULL,
  id             TEXT   NOT NULL,
  delivery_id    TEXT   NOT NULL,
  shard          BIGINT NOT NULL,
  resource_id    TEXT   NOT NULL,
  epoch          BIGINT NOT NULL,
  at             BIGINT NOT NULL,
  ended_at       BIGINT,
  request        TEXT   NOT NULL,
  means          TEXT,
  status         BIGINT,
  class          TEXT,
  is_write       BOOLEAN NOT NULL,
  settle_until   BIGINT,
  sealed_message BYTEA,
  late_at        BIGINT,
  late_status    BIGINT,
  late_ehr_id    TEXT,
  late_ehr_version TEXT,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX attempts_by_delivery ON attempts (tenant_id, delivery_id, at);
-- Open: a write whose outcome nobody knows (yet).
CREATE INDEX attempts_open ON attempts (tenant_id, resource_id) WHERE is_write AND (class IS NULL OR class = 'uncertain');
-- What pruning looks for.
CREATE INDEX attempts_said ON attempts (at) WHERE sealed_message IS NOT NULL;
CREATE INDEX attempts_by_age ON attempts (at);
CREATE INDEX deliveries_said ON deliveries (delivered_at) WHERE state = 'delivered' AND sealed_message IS NOT NULL;
CREATE INDEX attempts_flying ON attempts (tenant_id, shard) WHERE class IS NULL;

-- Kept counters: rows by state, per lane, written by whoever writes the lane.
CREATE TABLE counters (
  tenant_id TEXT   NOT NULL,
  shard     BIGINT NOT NULL,
  state     TEXT   NOT NULL,
  n         BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, shard, state)
);

-- A pull of one patient: its watermark, its checkpoint while it runs, what the last one brought.
CREATE TABLE pulls (
  tenant_id    TEXT   NOT NULL,
  patient_id   TEXT   NOT NULL,
  generation   BIGINT NOT NULL,
  due_at       BIGINT,
  lease_until  BIGINT,
  owner        TEXT,
  epoch        BIGINT NOT NULL DEFAULT 0,
  requested_at BIGINT,
  watermark    BIGINT,
  sealed_checkpoint BYTEA,
  started_at   BIGINT,
  finished_at  BIGINT,
  last_full_at BIGINT,
  failures     BIGINT NOT NULL DEFAULT 0,
  outcome      TEXT,
  sealed_message BYTEA,
  created_n    BIGINT NOT NULL DEFAULT 0,
  updated_n    BIGINT NOT NULL DEFAULT 0,
  unchanged_n  BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, patient_id)
);
CREATE INDEX pulls_due ON pulls (due_at) WHERE due_at IS NOT NULL OR lease_until IS NOT NULL;

CREATE TABLE runs (
  tenant_id    TEXT   NOT NULL,
  id           TEXT   NOT NULL,
  kind         TEXT   NOT NULL CHECK (kind IN ('sync_all', 'replay', 'check')),
  state        TEXT   NOT NULL CHECK (state IN ('running', 'finished', 'failed')),
  by_whom      TEXT   NOT NULL,
  total        BIGINT NOT NULL DEFAULT 0,
  sealed_input BYTEA,
  sealed_result BYTEA,
  lease_until  BIGINT,
  owner        TEXT,
  created_at   BIGINT NOT NULL,
  finished_at  BIGINT,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX runs_waiting ON runs (created_at) WHERE state = 'running' AND kind = 'check';
CREATE TABLE run_items (
  tenant_id   TEXT NOT NULL,
  run_id      TEXT NOT NULL,
  delivery_id TEXT NOT NULL,
  PRIMARY KEY (tenant_id, run_id, delivery_id)
);

-- Once over all nodes: a schedule is claimed like a lane, there is no leader.
CREATE TABLE schedules (
  name        TEXT   PRIMARY KEY,
  cron        TEXT   NOT NULL,
  next_run_at BIGINT NOT NULL,
  last_run_at BIGINT
);

-- `Idempotency-Key`, written in the transaction that it protects.
CREATE TABLE idempotency_keys (
  tenant_id   TEXT   NOT NULL,
  key_hmac    TEXT   NOT NULL,
  fingerprint TEXT   NOT NULL,
  status      BIGINT,
  sealed_body BYTEA,
  created_at  BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, key_hmac)
);

CREATE TABLE audit (
  tenant_id TEXT   NOT NULL,
  id        TEXT   NOT NULL,
  at        BIGINT NOT NULL,
  actor     TEXT   NOT NULL,
  action    TEXT   NOT NULL,
  target    TEXT   NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
