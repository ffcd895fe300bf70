//! Observations as they are read: opened, seen from the present generation, each with its delivery in one line.

use super::ObservationFilter;
use crate::engine::{Row, Sql, Tx, args};
use crate::page::page_of;
use crate::reason::{Lens, brief};
use crate::seal::DataKey;
use crate::standing::standing;
use crate::{Error, Page, PageRequest, Result};
use model::{Observation, ObservationDraft, ObservationId, Source, TenantId, Timestamp};

/// Seals the draft of an observation's row.
pub(crate) fn seal_draft(key: &DataKey, id: ObservationId, version: i64, draft: &ObservationDraft) -> Result<Vec<u8>> {
    key.seal_json("observations", "sealed_draft", format_args!("{id}/{version}"), draft)
}

/// Seals the draft of one version, for good.
pub(crate) fn seal_version(key: &DataKey, id: ObservationId, version: i64, draft: &ObservationDraft) -> Result<Vec<u8>> {
    key.seal_json("observation_versions", "sealed_draft", format_args!("{id}/{version}"), draft)
}

/// Opens the draft of one version.
pub(crate) fn open_version(key: &DataKey, id: ObservationId, version: i64, sealed: &[u8]) -> Result<ObservationDraft> {
    key.open_json("observation_versions", "sealed_draft", format_args!("{id}/{version}"), sealed)
}

/// Opens the EHR's own JSON of an observation's row.
pub(crate) fn open_resource(key: &DataKey, id: ObservationId, sealed: &[u8]) -> Result<String> {
    key.open_text("observations", "sealed_resource", id, sealed)
}

/// Seals the EHR's own JSON of an observation's row.
pub(crate) fn seal_resource(key: &DataKey, id: ObservationId, resource: &str) -> Result<Vec<u8>> {
    key.seal_text("observations", "sealed_resource", id, resource)
}

macro_rules! observations_where {
    ($rest:literal) => {
        concat!(
            "SELECT o.id, o.patient_id, o.version, o.source, o.sealed_draft, o.sealed_resource, o.interpreted, o.deleted, o.ehr_id, \
             o.ehr_version, o.ehr_generation, o.synced_version, o.synced_at, o.created_at, o.updated_at FROM observations o \
             WHERE o.tenant_id = $1 ",
            $rest
        )
    };
}
// In the lists: `$3` how many, `$4` withdrawn ones too, `$5` synced or not (NULL: either), `$6` the present generation.
const ALL: &str = observations_where!(
    "AND o.id < $2 AND (NOT o.deleted OR $4) AND ($5 IS NULL OR $5 = \
     (COALESCE(o.synced_version, -1) = o.version AND COALESCE(o.ehr_generation, $6) = $6)) ORDER BY o.id DESC LIMIT $3"
);
const OF_PATIENT: &str = observations_where!(
    "AND o.id < $2 AND (NOT o.deleted OR $4) AND ($5 IS NULL OR $5 = \
     (COALESCE(o.synced_version, -1) = o.version AND COALESCE(o.ehr_generation, $6) = $6)) \
     AND o.patient_id = $7 AND ($8 IS NULL OR o.code = $8) ORDER BY o.id DESC LIMIT $3"
);
const WITH_CODE: &str = observations_where!(
    "AND o.id < $2 AND (NOT o.deleted OR $4) AND ($5 IS NULL OR $5 = \
     (COALESCE(o.synced_version, -1) = o.version AND COALESCE(o.ehr_generation, $6) = $6)) \
     AND o.code = $7 ORDER BY o.id DESC LIMIT $3"
);
const ONE: &str = observations_where!("AND o.id = $2");
/// By the partial index; of a connection that never moved.
const UNSYNCED: &str = observations_where!(
    "AND o.id < $2 AND o.source = 'platform' AND (o.synced_version IS NULL OR o.synced_version <> o.version) \
     AND (NOT o.deleted OR EXISTS (SELECT 1 FROM deliveries d WHERE d.tenant_id = $1 AND d.observation_id = o.id AND d.version = o.version)) \
     ORDER BY o.id DESC LIMIT $3"
);
/// Of a connection that moved: what an older EHR holds the present one does not.
const UNSYNCED_MOVED: &str = observations_where!(
    "AND o.id < $2 AND o.source = 'platform' AND (o.synced_version IS NULL OR o.synced_version <> o.version \
      OR COALESCE(o.ehr_generation, $4) <> $4) \
     AND (NOT o.deleted OR EXISTS (SELECT 1 FROM deliveries d WHERE d.tenant_id = $1 AND d.observation_id = o.id AND d.version = o.version)) \
     ORDER BY o.id DESC LIMIT $3"
);

/// One tenant's observations as they are seen in this transaction.
pub(super) struct View<'a> {
    tenant: &'a TenantId,
    key: &'a DataKey,
    generation: i64,
    lens: Lens,
}

impl<'a> View<'a> {
    pub(super) async fn load(tx: &mut Tx, tenant: &'a TenantId, key: &'a DataKey, now: Timestamp) -> Result<Self> {
        let generation = standing(tx, tenant).await?.generation;
        Self::of(tx, tenant, key, generation, now).await
    }

    /// The same where the present generation is known.
    pub(super) async fn of(tx: &mut Tx, tenant: &'a TenantId, key: &'a DataKey, generation: i64, now: Timestamp) -> Result<Self> {
        Ok(Self { tenant, key, generation, lens: Lens::load(tx, tenant, now).await? })
    }

    pub(super) async fn one(&self, tx: &mut Tx, id: ObservationId) -> Result<Option<Observation>> {
        let row = tx.row(Sql::from(ONE), args![self.tenant, id]).await?;
        let Some(mut observation) = row.map(|row| self.read(&row)).transpose()? else { return Ok(None) };
        self.add_delivery(tx, &mut observation).await?;
        Ok(Some(observation))
    }

    pub(super) async fn list(&self, tx: &mut Tx, filter: &ObservationFilter, page: &PageRequest) -> Result<Page<Observation>> {
        let mut args = args![self.tenant, page.before_text(), page.fetch(), filter.deleted, filter.synced, self.generation];
        let sql = match (filter.patient_id, &filter.code) {
            (Some(patient), code) => {
                args.extend(args![patient, code.as_ref()]);
                OF_PATIENT
            }
            (None, Some(code)) => {
                args.extend(args![code]);
                WITH_CODE
            }
            (None, None) => ALL,
        };
        let rows = tx.rows(Sql::from(sql), args).await?;
        self.page(tx, page, rows).await
    }

    pub(super) async fn unsynced(&self, tx: &mut Tx, page: &PageRequest) -> Result<Page<Observation>> {
        let rows = if self.generation == 1 {
            tx.rows(Sql::from(UNSYNCED), args![self.tenant, page.before_text(), page.fetch()]).await?
        } else {
            tx.rows(Sql::from(UNSYNCED_MOVED), args![self.tenant, page.before_text(), page.fetch(), self.generation]).await?
        };
        self.page(tx, page, rows).await
    }

    async fn page(&self, tx: &mut Tx, page: &PageRequest, rows: Vec<Row>) -> Result<Page<Observation>> {
        let items = rows.iter().map(|row| self.read(row)).collect::<Result<Vec<_>>>()?;
        drop(rows);
        let mut page = page_of(page, items, |observation| observation.id.0);
        for observation in &mut page.items {
            self.add_delivery(tx, observation).await?;
        }
        Ok(page)
    }

    /// Adds its newest delivery, as that is shown.
    pub(super) async fn add_delivery(&self, tx: &mut Tx, observation: &mut Observation) -> Result<()> {
        if observation.source == Source::Platform {
            observation.delivery = brief(tx, &self.lens, self.tenant, observation.id).await?;
        }
        Ok(())
    }

    fn read(&self, row: &Row) -> Result<Observation> {
        let (id, version) = (ObservationId(row.uuid("id")?), row.int("version")?);
        let source = match row.text("source")?.as_str() {
            "platform" => Source::Platform,
            "ehr" => Source::Ehr,
            _ => return Err(Error::Corrupt("observations")),
        };
        // What another EHR held says nothing of the present one.
        let present = row.int_opt("ehr_generation")?.is_none_or(|of| of == self.generation);
        let sealed_resource = row.bytes_opt("sealed_resource")?;
        Ok(Observation {
            id,
            version,
            draft: self.key.open_json("observations", "sealed_draft", format_args!("{id}/{version}"), &row.bytes("sealed_draft")?)?,
            source,
            ehr_id: row.ehr_id_opt("ehr_id")?.filter(|_| present),
            ehr_version: row.text_opt("ehr_version")?.filter(|_| present),
            synced_version: row.int_opt("synced_version")?.filter(|_| present),
            synced_at: row.ts_opt("synced_at")?.filter(|_| present),
            deleted: row.boolean("deleted")?,
            resource: sealed_resource.map(|sealed| open_resource(self.key, id, &sealed)).transpose()?,
            interpreted: row.boolean("interpreted")?,
            delivery: None,
            created_at: row.ts("created_at")?,
            updated_at: row.ts("updated_at")?,
        })
    }
}
