//! A delivery's row as the transition function needs it, and the moves that people and newer versions make.

use crate::engine::{Row, Sql, Tx, args};
use crate::{Error, Result, standing};
use model::delivery::{Event, Facts, next};
use model::{DeliveryId, Means, ObservationId, PatientId, ResourceKey, State, TenantId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// One row, with what its attempts leave open.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) id: DeliveryId,
    pub(crate) shard: i64,
    pub(crate) patient: PatientId,
    pub(crate) observation: Option<ObservationId>,
    pub(crate) version: i64,
    pub(crate) seq: i64,
    pub(crate) generation: i64,
    pub(crate) state: State,
    pub(crate) due_at: Option<Timestamp>,
    pub(crate) claims: i64,
    pub(crate) means: Option<Means>,
    pub(crate) sent_before: bool,
    pub(crate) proven_not_applied: bool,
    pub(crate) first_failed_at: Option<Timestamp>,
    pub(crate) delivered_at: Option<Timestamp>,
    /// A newer version of the resource was accepted.
    pub(crate) newer_exists: bool,
    /// Another row of the resource waits (taken for granted of a Patient).
    others_wait: bool,
    own_open_until: Option<Timestamp>,
    resource_open_until: Option<Timestamp>,
}

/// The columns of a delivery `d` that [`Raw::read`] reads.
macro_rules! raw_columns {
    () => {
        "d.id, d.shard, d.patient_id, d.observation_id, d.version, d.seq, d.generation, d.state, d.reason, d.due_at, d.claims, d.means, \
         d.sent_before, d.proven_not_applied, d.first_failed_at, d.delivered_at, \
         CASE WHEN d.observation_id IS NULL \
           THEN EXISTS (SELECT 1 FROM deliveries n WHERE n.tenant_id = d.tenant_id AND n.patient_id = d.patient_id \
             AND n.observation_id IS NULL AND n.seq > d.seq) \
           ELSE EXISTS (SELECT 1 FROM deliveries n WHERE n.tenant_id = d.tenant_id AND n.observation_id = d.observation_id \
             AND n.seq > d.seq) END AS newer_exists, \
         d.observation_id IS NULL OR EXISTS (SELECT 1 FROM deliveries w WHERE w.tenant_id = d.tenant_id AND w.observation_id = d.observation_id \
           AND w.id <> d.id AND w.state IN ('pending', 'retry_scheduled', 'held')) AS others_wait, \
         CASE WHEN d.sent_before THEN (SELECT MAX(CASE WHEN a.class IS NULL THEN 9223372036854775807 ELSE a.settle_until END) FROM attempts a \
           WHERE a.tenant_id = d.tenant_id AND a.resource_id = COALESCE(d.observation_id, d.patient_id) AND a.delivery_id = d.id \
           AND a.is_write AND (a.class IS NULL OR a.class = 'uncertain')) END AS own_open_until, \
         (SELECT MAX(CASE WHEN a.class IS NULL THEN 9223372036854775807 ELSE a.settle_until END) FROM attempts a \
           WHERE a.tenant_id = d.tenant_id AND a.resource_id = COALESCE(d.observation_id, d.patient_id) \
           AND a.is_write AND (a.class IS NULL OR a.class = 'uncertain')) AS resource_open_until"
    };
}
pub(crate) use raw_columns;

impl Raw {
    /// The row with this id.
    pub(crate) async fn load(tx: &mut Tx, tenant: &TenantId, id: DeliveryId) -> Result<Option<Self>> {
        let sql = Sql::from(concat!("SELECT ", raw_columns!(), " FROM deliveries d WHERE d.tenant_id = $1 AND d.id = $2"));
        tx.row(sql, args![tenant, id]).await?.as_ref().map(Self::read).transpose()
    }

    /// The rows with these ids, by one statement, with their patients' streams locked.
    pub(crate) async fn load_locked(tx: &mut Tx, tenant: &TenantId, ids: &[DeliveryId]) -> Result<BTreeMap<DeliveryId, Self>> {
        lock_streams_of(tx, tenant, ids).await?;
        Self::load_all(tx, tenant, ids).await
    }

    async fn load_all(tx: &mut Tx, tenant: &TenantId, ids: &[DeliveryId]) -> Result<BTreeMap<DeliveryId, Self>> {
        let sql = Sql {
            sqlite: concat!(
                "SELECT ",
                raw_columns!(),
                " FROM json_each($2) j CROSS JOIN deliveries d WHERE d.tenant_id = $1 AND d.id = j.value"
            ),
            postgres: concat!(
                "SELECT ",
                raw_columns!(),
                " FROM json_array_elements_text(CAST($2 AS json)) j(value) JOIN deliveries d ON d.tenant_id = $1 AND d.id = j.value"
            ),
        };
        let rows = tx.rows(sql, args![tenant, json_list(ids)]).await?;
        rows.iter().map(|row| Self::read(row).map(|raw| (raw.id, raw))).collect()
    }

    /// Whether anything of its resource may have been overtaken: else there is nothing that [`supersede_older`] would find.
    pub(crate) fn may_be_overtaken(&self) -> bool {
        self.newer_exists || self.others_wait
    }

    /// The newest row of a resource.
    pub(crate) async fn newest(tx: &mut Tx, tenant: &TenantId, resource: ResourceKey) -> Result<Option<Self>> {
        let row = match resource {
            ResourceKey::Observation(id) => {
                let sql = Sql::from(concat!(
                    "SELECT ",
                    raw_columns!(),
                    " FROM deliveries d WHERE d.tenant_id = $1 AND d.observation_id = $2 ORDER BY d.version DESC, d.seq DESC LIMIT 1"
                ));
                tx.row(sql, args![tenant, id]).await?
            }
            ResourceKey::Patient(id) => {
                let sql = Sql::from(concat!(
                    "SELECT ",
                    raw_columns!(),
                    " FROM deliveries d WHERE d.tenant_id = $1 AND d.patient_id = $2 AND d.observation_id IS NULL \
                     ORDER BY d.seq DESC LIMIT 1"
                ));
                tx.row(sql, args![tenant, id]).await?
            }
        };
        row.as_ref().map(Self::read).transpose()
    }

    /// Reads the columns that [`raw_columns`] selects.
    pub(crate) fn read(row: &Row) -> Result<Self> {
        let means = row.text_opt("means")?;
        Ok(Self {
            id: DeliveryId(row.uuid("id")?),
            shard: row.int("shard")?,
            patient: PatientId(row.uuid("patient_id")?),
            observation: row.uuid_opt("observation_id")?.map(ObservationId),
            version: row.int("version")?,
            seq: row.int("seq")?,
            generation: row.int("generation")?,
            state: standing::state_of(row)?,
            due_at: row.ts_opt("due_at")?,
            claims: row.int("claims")?,
            means: means.map(|word| Means::parse(&word).ok_or(Error::Corrupt("deliveries"))).transpose()?,
            sent_before: row.boolean("sent_before")?,
            proven_not_applied: row.boolean("proven_not_applied")?,
            first_failed_at: row.ts_opt("first_failed_at")?,
            delivered_at: row.ts_opt("delivered_at")?,
            newer_exists: row.boolean("newer_exists")?,
            others_wait: row.boolean("others_wait")?,
            own_open_until: row.ts_opt("own_open_until")?,
            resource_open_until: row.ts_opt("resource_open_until")?,
        })
    }

    /// What it brings.
    pub(crate) fn resource(&self) -> ResourceKey {
        self.observation.map_or(ResourceKey::Patient(self.patient), ResourceKey::Observation)
    }

    /// Until when its own attempts without an outcome stay open.
    ///
    /// What is proven not to have been applied is over. For an uncertain row an attempt counts although its settle time is
    /// over: nobody has asked yet. For all others it is over then (PRODUCT, effect ledger, rule 1).
    pub(crate) fn own_settle_until(&self, now: Timestamp) -> Option<Timestamp> {
        if self.proven_not_applied {
            return None;
        }
        let asked_for = matches!(self.state, State::Uncertain | State::InFlight);
        self.own_open_until.filter(|until| asked_for || *until >= now)
    }

    /// Until when attempts on its resource stay open.
    pub(crate) fn resource_settle_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.resource_open_until.filter(|until| *until >= now)
    }

    /// The facts for a transition.
    pub(crate) fn facts(&self, now: Timestamp) -> Facts {
        Facts {
            version: self.version,
            sent_before: self.sent_before,
            proven_not_applied: self.proven_not_applied,
            means: self.means,
            if_match_honoured: true,
            own_settle_until: self.own_settle_until(now),
            read_first: false,
            resource_settle_until: self.resource_settle_until(now),
        }
    }

    /// Moves it to another state and due time, if it still is in the one that was read. Counters follow.
    pub(crate) async fn go(&self, tx: &mut Tx, tenant: &TenantId, now: Timestamp, to: State, due_at: Option<Timestamp>) -> Result<bool> {
        standing::move_state(tx, tenant, now, self.id, self.state, to, due_at).await
    }
}

/// What waits of this resource although a newer version was accepted is superseded, where no byte of it can have been applied.
pub(crate) async fn supersede_older(tx: &mut Tx, tenant: &TenantId, now: Timestamp, resource: ResourceKey) -> Result<()> {
    let rows = match resource {
        ResourceKey::Observation(id) => {
            let sql = Sql::from(concat!(
                "SELECT ",
                raw_columns!(),
                " FROM deliveries d WHERE d.tenant_id = $1 AND d.observation_id = $2 AND d.state IN ('pending', 'retry_scheduled', 'held')"
            ));
            tx.rows(sql, args![tenant, id]).await?
        }
        ResourceKey::Patient(id) => {
            let sql = Sql::from(concat!(
                "SELECT ",
                raw_columns!(),
                " FROM deliveries d WHERE d.tenant_id = $1 AND d.patient_id = $2 AND d.observation_id IS NULL \
                 AND d.state IN ('pending', 'retry_scheduled', 'held')"
            ));
            tx.rows(sql, args![tenant, id]).await?
        }
    };
    for row in &rows {
        let raw = Raw::read(row)?;
        if raw.newer_exists {
            let to = next(raw.state, &raw.facts(now), &Event::NewerAccepted).state;
            if to != raw.state {
                raw.go(tx, tenant, now, to, None).await?;
            }
        }
    }
    Ok(())
}

/// Locks the streams of the patients whose deliveries these are, where others write too.
pub(crate) async fn lock_streams_of(tx: &mut Tx, tenant: &TenantId, deliveries: &[DeliveryId]) -> Result<()> {
    if tx.is_alone() { Ok(()) } else { lock_patients_of(tx, tenant, deliveries).await.map(drop) }
}

/// Locks the streams of the patients whose deliveries these are, in everybody's order, and names the patients.
pub(crate) async fn lock_patients_of(tx: &mut Tx, tenant: &TenantId, deliveries: &[DeliveryId]) -> Result<Vec<PatientId>> {
    let sql = Sql {
        sqlite: "SELECT DISTINCT d.patient_id FROM json_each($2) j CROSS JOIN deliveries d WHERE d.tenant_id = $1 AND d.id = j.value",
        postgres: "SELECT DISTINCT d.patient_id FROM json_array_elements_text(CAST($2 AS json)) j(value) \
                   JOIN deliveries d ON d.tenant_id = $1 AND d.id = j.value",
    };
    let rows = tx.rows(sql, args![tenant, json_list(deliveries)]).await?;
    let patients = rows.iter().map(|row| row.uuid("patient_id").map(PatientId)).collect::<Result<BTreeSet<_>>>()?;
    if !tx.is_alone() {
        for patient in &patients {
            standing::lock_stream(tx, tenant, *patient).await?;
        }
    }
    Ok(patients.into_iter().collect())
}

/// Ids as a JSON array of texts: one parameter for any number of them, on both engines.
pub(crate) fn json_list<'a, Id: std::fmt::Display + 'a>(ids: impl IntoIterator<Item = &'a Id>) -> String {
    let ids: Vec<String> = ids.into_iter().map(|id| format!("\"{id}\"")).collect();
    format!("[{}]", ids.join(","))
}
