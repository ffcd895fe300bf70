//! One page of a pull: which rows are new here, which changed at the EHR, and which are ours come back (law 8).

use super::{Fence, PullClaim};
use crate::engine::{Tx, args};
use crate::observations::{open_resource, seal_draft, seal_resource, seal_version};
use crate::seal::DataKey;
use crate::{PulledObservation, PulledResult, Result, standing};
use model::{EhrId, ObservationDraft, ObservationId, Timestamp, Value};

pub(super) async fn store(
    tx: &mut Tx,
    claim: &PullClaim,
    key: &DataKey,
    fence: &Fence,
    now: Timestamp,
    rows: Vec<PulledObservation>,
) -> Result<Vec<PulledResult>> {
    let page = Page { claim, key, fence, now };
    let mut results = Vec::with_capacity(rows.len());
    for mut row in rows {
        row.draft.patient_id = claim.patient;
        let known = match page.ours(tx, &row).await? {
            Some(known) => Some(known),
            None => page.by_ehr_id(tx, &row.ehr_id).await?,
        };
        results.push(match known {
            Some(known) if known.ours => page.ours_came_back(tx, &known, &row).await?,
            Some(known) => page.theirs_again(tx, &known, &row).await?,
            None => page.new_row(tx, &row).await?,
        });
    }
    Ok(results)
}

struct Page<'a> {
    claim: &'a PullClaim,
    key: &'a DataKey,
    fence: &'a Fence,
    now: Timestamp,
}

/// What we hold of a row already.
struct Known {
    id: ObservationId,
    ours: bool,
    version: i64,
    draft: ObservationDraft,
    resource: Option<String>,
    ehr_id: Option<EhrId>,
    ehr_version: Option<String>,
    synced_version: Option<i64>,
    settled_at: Option<Timestamp>,
    deleted: bool,
}

macro_rules! known_columns {
    () => {
        "SELECT id, patient_id, source, version, sealed_draft, sealed_resource, ehr_id, ehr_version, ehr_generation, synced_version, \
           settled_at, deleted FROM observations WHERE tenant_id = $1 AND "
    };
}

impl Page<'_> {
    /// Ours by its identifier: an observation of the platform, of this very patient.
    async fn ours(&self, tx: &mut Tx, row: &PulledObservation) -> Result<Option<Known>> {
        let Some(id) = row.ours else { return Ok(None) };
        let sql = concat!(known_columns!(), "id = $2 AND source = 'platform' AND patient_id = $3");
        let row = tx.row(sql, args![&self.claim.tenant, id, self.claim.patient]).await?;
        row.map(|row| self.known(&row)).transpose()
    }

    async fn by_ehr_id(&self, tx: &mut Tx, ehr_id: &EhrId) -> Result<Option<Known>> {
        let sql = concat!(known_columns!(), "ehr_generation = $2 AND ehr_id = $3");
        let row = tx.row(sql, args![&self.claim.tenant, self.fence.generation, ehr_id]).await?;
        let Some(row) = row else { return Ok(None) };
        // A row of ours that is another patient's there by now is left alone: nothing moves to another patient by what an EHR
        // says of it (law 3). Its own patient's whole read sees that it is not there any more.
        self.known(&row).map(Some)
    }

    fn known(&self, row: &crate::engine::Row) -> Result<Known> {
        let (id, version) = (ObservationId(row.uuid("id")?), row.int("version")?);
        let present = row.int_opt("ehr_generation")? == Some(self.fence.generation);
        let sealed = row.bytes_opt("sealed_resource")?.filter(|_| present);
        Ok(Known {
            id,
            ours: row.text("source")? == "platform",
            version,
            draft: self.key.open_json("observations", "sealed_draft", format_args!("{id}/{version}"), &row.bytes("sealed_draft")?)?,
            resource: sealed.map(|sealed| open_resource(self.key, id, &sealed)).transpose()?,
            ehr_id: row.ehr_id_opt("ehr_id")?.filter(|_| present),
            ehr_version: row.text_opt("ehr_version")?.filter(|_| present),
            synced_version: row.int_opt("synced_version")?.filter(|_| present),
            settled_at: row.ts_opt("settled_at")?,
            deleted: row.boolean("deleted")?,
        })
    }

    /// A row that the platform made. Whether it was delivered is its delivery's matter; here only what the EHR shows is kept.
    async fn ours_came_back(&self, tx: &mut Tx, known: &Known, row: &PulledObservation) -> Result<PulledResult> {
        if row.draft.patient_id != known.draft.patient_id {
            return Ok(PulledResult::Unchanged);
        }
        self.seen(tx, known.id).await?;
        let same_version = known.ehr_id.as_ref() == Some(&row.ehr_id) && known.ehr_version.as_deref() == Some(row.ehr_version.as_str());
        // On its way (never sent, unanswered, or a newer version waits): its delivery asks and judges for itself. Settled while
        // this pull was under way: the page may be older than what is known by now.
        let on_its_way = known.synced_version != Some(known.version);
        let settled_since = known.settled_at.is_some_and(|at| at >= self.fence.started_at);
        if same_version || on_its_way || settled_since {
            return Ok(PulledResult::Unchanged);
        }
        if row.mark.is_some_and(|mark| mark < known.version) {
            // An older version of ours over a newer one: its delivery is read again, and repairs it (PROTOCOL §3).
            self.have_it_read(tx, known).await?;
            return Ok(PulledResult::Unchanged);
        }
        // Saved again there, by itself or by our own repeat, and nothing more in it.
        let as_sent = row.mark.is_none_or(|mark| mark == known.version) && same_content(&known.draft, &row.draft) && !row.more;
        if known.resource.as_ref().map_or(as_sent, |shown| *shown == row.resource) {
            return Ok(PulledResult::Unchanged);
        }
        // Somebody changed it there. What we sent stays among the versions; what is shown is what the chart says. Its ETag is
        // not taken for ours: the next update of the platform meets it, and no `PUT` destroys what the hospital wrote.
        let draft = ObservationDraft {
            message_id: known.draft.message_id.clone(),
            external_id: known.draft.external_id.clone(),
            ..row.draft.clone()
        };
        self.write(tx, known.id, known.version, &draft, row, known.ehr_version.as_deref()).await?;
        Ok(PulledResult::Updated)
    }

    async fn have_it_read(&self, tx: &mut Tx, known: &Known) -> Result<()> {
        standing::lock_stream(tx, &self.claim.tenant, self.claim.patient).await?;
        tx.execute(
            "UPDATE deliveries SET audit_at = $4, audit_stage = 0 WHERE tenant_id = $1 AND observation_id = $2 AND version = $3 \
             AND state = 'delivered'",
            args![&self.claim.tenant, known.id, known.version, self.now],
        )
        .await?;
        standing::touch_stream(tx, &self.claim.tenant, self.claim.patient, self.now).await
    }

    async fn theirs_again(&self, tx: &mut Tx, known: &Known, row: &PulledObservation) -> Result<PulledResult> {
        if known.ehr_version.as_deref() == Some(row.ehr_version.as_str()) && !known.deleted {
            self.seen(tx, known.id).await?;
            return Ok(PulledResult::Unchanged);
        }
        let version = known.version + 1;
        tx.execute(
            "UPDATE observations SET version = $3, synced_version = $3, synced_at = $4, deleted = false, patient_id = $5 \
             WHERE tenant_id = $1 AND id = $2",
            args![&self.claim.tenant, known.id, version, self.now, self.claim.patient],
        )
        .await?;
        self.write(tx, known.id, version, &row.draft, row, Some(&row.ehr_version)).await?;
        self.keep_version(tx, known.id, version, &row.draft).await?;
        Ok(PulledResult::Updated)
    }

    async fn new_row(&self, tx: &mut Tx, row: &PulledObservation) -> Result<PulledResult> {
        let id = ObservationId(self.claim.inner.rng.uuid_v7(self.now));
        tx.execute(
            "INSERT INTO observations (tenant_id, id, patient_id, version, source, code, sealed_draft, sealed_resource, interpreted, \
             ehr_id, ehr_version, ehr_generation, synced_version, synced_at, seen_at, created_at, updated_at) \
             VALUES ($1, $2, $3, 1, 'ehr', $4, $5, $6, $7, $8, $9, $10, 1, $11, $11, $11, $11)",
            args![
                &self.claim.tenant,
                id,
                self.claim.patient,
                row.draft.code.clone(),
                seal_draft(self.key, id, 1, &row.draft)?,
                seal_resource(self.key, id, &row.resource)?,
                row.interpreted,
                &row.ehr_id,
                row.ehr_version.as_str(),
                self.fence.generation,
                self.now
            ],
        )
        .await?;
        self.keep_version(tx, id, 1, &row.draft).await?;
        Ok(PulledResult::Created)
    }

    /// What the EHR shows is what is shown here; `known`: the EHR's version that counts as known.
    async fn write(
        &self,
        tx: &mut Tx,
        id: ObservationId,
        version: i64,
        draft: &ObservationDraft,
        row: &PulledObservation,
        known: Option<&str>,
    ) -> Result<()> {
        tx.execute(
            "UPDATE observations SET code = $3, sealed_draft = $4, sealed_resource = $5, interpreted = $6, ehr_id = $7, ehr_version = $8, \
               ehr_generation = $9, seen_at = $10, updated_at = $10 WHERE tenant_id = $1 AND id = $2",
            args![
                &self.claim.tenant,
                id,
                draft.code.clone(),
                seal_draft(self.key, id, version, draft)?,
                seal_resource(self.key, id, &row.resource)?,
                row.interpreted,
                &row.ehr_id,
                known,
                self.fence.generation,
                self.now
            ],
        )
        .await
        .map(drop)
    }

    async fn keep_version(&self, tx: &mut Tx, id: ObservationId, version: i64, draft: &ObservationDraft) -> Result<()> {
        tx.execute(
            "INSERT INTO observation_versions (tenant_id, observation_id, version, sealed_draft, at) VALUES ($1, $2, $3, $4, $5)",
            args![&self.claim.tenant, id, version, seal_version(self.key, id, version, draft)?, self.now],
        )
        .await
        .map(drop)
    }

    async fn seen(&self, tx: &mut Tx, id: ObservationId) -> Result<()> {
        let sql = "UPDATE observations SET seen_at = $3 WHERE tenant_id = $1 AND id = $2";
        tx.execute(sql, args![&self.claim.tenant, id, self.now]).await.map(drop)
    }
}

/// Whether an EHR shows what was sent. Servers rewrite decimals and offsets; neither changes what is said. Words for a code
/// are the server's own (FHIR R4, Coding.display).
fn same_content(sent: &ObservationDraft, shown: &ObservationDraft) -> bool {
    sent.status == shown.status
        && sent.code == shown.code
        && sent.code_system == shown.code_system
        && same_moment(sent.effective.as_deref(), shown.effective.as_deref())
        && match (&sent.value, &shown.value) {
            (None, None) => true,
            (Some(Value::Text(sent)), Some(Value::Text(shown))) => sent == shown,
            (Some(Value::Quantity { value: sent, unit }), Some(Value::Quantity { value: shown, unit: shown_unit })) => {
                sent.same_value(shown) && unit == shown_unit
            }
            _ => false,
        }
}

fn same_moment(sent: Option<&str>, shown: Option<&str>) -> bool {
    let moment = |text: &str| Timestamp::from_rfc3339(text);
    match (sent, shown) {
        (Some(sent), Some(shown)) => sent == shown || (moment(sent).is_some() && moment(sent) == moment(shown)),
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Decimal, PatientId};

    fn draft(value: &str, effective: &str) -> ObservationDraft {
        ObservationDraft {
            patient_id: PatientId(uuid::Uuid::nil()),
            code: Some("38208-5".into()),
            code_system: Some("http://loinc.org".into()),
            display: Some("Pain".into()),
            effective: Some(effective.into()),
            value: Decimal::parse(value).map(|value| Value::Quantity { value, unit: Some("1".into()) }),
            status: "final".into(),
            message_id: None,
            external_id: None,
        }
    }

    #[test]
    fn a_server_that_rewrites_digits_or_offsets_changed_nothing() {
        let sent = draft("1.10", "2026-01-01T10:00:00-03:00");
        assert!(same_content(&sent, &draft("1.1", "2026-01-01T13:00:00Z")));
        assert!(!same_content(&sent, &draft("1.2", "2026-01-01T10:00:00-03:00")));
        assert!(!same_content(&sent, &draft("1.10", "2026-01-01T10:00:00Z")));
        let corrected = ObservationDraft { status: "entered-in-error".into(), ..sent.clone() };
        assert!(!same_content(&sent, &corrected));
    }
}
