//! The turns that have come in a lane, each with all that a decision about it needs.

use super::{CLAIMS_MAX, Lane, PatientWork, WorkRow};
use crate::engine::{Row, Sql, Tx, args};
use crate::ledger::Content;
use crate::ledger::raw::{Raw, raw_columns};
use crate::seal::DataKey;
use crate::{Error, Result};
use model::{Class, LinkState, Patient, PatientId, ResourceKey, State, Timestamp};

pub(super) async fn work(tx: &mut Tx, lane: &Lane, key: &DataKey, now: Timestamp, limit: u32) -> Result<Vec<PatientWork>> {
    let generation = tx
        .row("SELECT generation FROM connections WHERE tenant_id = $1", args![&lane.tenant])
        .await?
        .map_or(Ok(1), |row| row.int("generation"))?;
    let mut work = Vec::new();
    for (patient, blocked) in whose_turn(tx, lane, now, limit).await? {
        let patient = crate::patients::load(tx, &lane.tenant, key, generation, patient).await?.ok_or(Error::Corrupt("patients"))?;
        let Shown { fresh, more, rows } = rows_of(tx, lane, key, now, generation, &patient).await?;
        if !rows.is_empty() {
            work.push(PatientWork { patient, blocked, fresh, more, rows });
        }
    }
    Ok(work)
}

/// Patients with something due, and whether they are blocked: the freshest and those that wait longest by turns.
async fn whose_turn(tx: &mut Tx, lane: &Lane, now: Timestamp, limit: u32) -> Result<Vec<(PatientId, bool)>> {
    let fresh = tx
        .rows(
            // `+`: by the index that gives the order.
            "SELECT patient_id, blocked FROM streams WHERE tenant_id = $1 AND shard = $2 AND head_due IS NOT NULL AND fresh_at > 0 \
             AND + head_due <= $3 ORDER BY fresh_at DESC, head_due, patient_id LIMIT CAST($4 AS BIGINT)",
            args![&lane.tenant, lane.shard, now, limit],
        )
        .await?;
    let waiting = tx
        .rows(
            "SELECT patient_id, blocked FROM streams WHERE tenant_id = $1 AND shard = $2 AND head_due IS NOT NULL AND head_due <= $3 \
             ORDER BY head_due, patient_id LIMIT CAST($4 AS BIGINT)",
            args![&lane.tenant, lane.shard, now, limit],
        )
        .await?;
    let mut chosen: Vec<(PatientId, bool)> = Vec::new();
    let longest = fresh.len().max(waiting.len());
    for at in 0..longest {
        for row in [fresh.get(at), waiting.get(at)].into_iter().flatten() {
            let patient = PatientId(row.uuid("patient_id")?);
            if chosen.len() < limit as usize && chosen.iter().all(|(known, _)| *known != patient) {
                chosen.push((patient, row.text_opt("blocked")?.is_some()));
            }
        }
    }
    Ok(chosen)
}

// The order of a CROSS JOIN is SQLite's own: without it the few chosen ones are looked for among all the tenant's deliveries. By
// `seq + 0` no index offers the order, so that the Patient's few rows are found without its observations.
// Of each kind eight at most are shown of one patient, and of those that wait the first, for nothing passes it. A limit that is
// bound has SQLite plan anew each time.
macro_rules! rows {
    ($unsettled:literal) => {
        concat!(
            "WITH chosen AS ( SELECT id FROM (SELECT id FROM ",
            $unsettled,
            " WHERE tenant_id = $1 AND patient_id = $2 AND state IN ('in_flight', 'uncertain') \
                 ORDER BY CASE WHEN due_at IS NULL THEN 1 ELSE 0 END, due_at, seq LIMIT 8) asked \
               UNION ALL SELECT id FROM (SELECT id FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 AND observation_id IS NULL \
                 AND state IN ('pending', 'retry_scheduled', 'held') ORDER BY seq + 0 LIMIT 8) own \
               UNION ALL SELECT id FROM (SELECT w.id FROM deliveries w WHERE w.tenant_id = $1 AND w.patient_id = $2 \
                 AND w.state IN ('pending', 'retry_scheduled') AND w.observation_id IS NOT NULL \
                 AND NOT EXISTS (SELECT 1 FROM deliveries h WHERE h.tenant_id = $1 AND h.observation_id = w.observation_id \
                   AND h.state = 'held' AND h.seq < w.seq) ORDER BY w.seq LIMIT 1) waiting \
               UNION ALL SELECT id FROM (SELECT id FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 AND audit_at IS NOT NULL \
                 AND state = 'delivered' AND audit_at <= $3 ORDER BY audit_at LIMIT 8) audited) \
             SELECT ",
            raw_columns!(),
            ", d.backlog, d.tries, d.round_tries, d.match_etag, d.audit_at, d.audit_stage, d.down_ms_then, d.created_at, \
             CASE WHEN d.sent_before OR d.observation_id IS NULL THEN (SELECT a.class FROM attempts a WHERE a.tenant_id = $1 AND a.delivery_id = d.id \
               ORDER BY a.at DESC, a.id DESC LIMIT 1) END AS last_class, \
             o.ehr_id AS resource_ehr_id, o.ehr_version AS resource_ehr_version, o.ehr_generation AS resource_generation, \
             o.synced_version AS resource_synced, v.sealed_draft AS sealed_content, \
             CASE WHEN d.observation_id IS NULL THEN (SELECT MAX(p.version) FROM deliveries p WHERE p.tenant_id = $1 AND p.patient_id = $2 \
               AND p.observation_id IS NULL AND p.generation = $4 AND p.state = 'delivered') END AS patient_synced, \
             (SELECT CASE WHEN n.backlog THEN - n.seq ELSE n.seq END FROM deliveries n WHERE n.tenant_id = $1 AND n.patient_id = $2 \
               AND n.state IN ('pending', 'retry_scheduled') ORDER BY n.seq DESC LIMIT 1) AS newest_waiting \
             FROM chosen c CROSS JOIN deliveries d \
             LEFT JOIN observations o ON o.tenant_id = $1 AND o.id = d.observation_id \
             LEFT JOIN observation_versions v ON v.tenant_id = $1 AND v.observation_id = d.observation_id AND v.version = d.version \
             WHERE d.tenant_id = $1 AND d.id = c.id"
        )
    };
}

// SQLite would look for the patient's few among all of the tenant's that are at the EHR just now.
const ROWS: Sql = Sql { sqlite: rows!("deliveries INDEXED BY deliveries_unsettled"), postgres: rows!("deliveries") };

/// What is shown of one patient.
struct Shown {
    /// The newest that waits is fresh.
    fresh: bool,
    /// Something waits behind the first.
    more: bool,
    /// What is open (its own Patient first, then in the order of acceptance), and what is to be read once more.
    rows: Vec<WorkRow>,
}

async fn rows_of(tx: &mut Tx, lane: &Lane, key: &DataKey, now: Timestamp, generation: i64, patient: &Patient) -> Result<Shown> {
    let rows = tx.rows(ROWS, args![&lane.tenant, patient.id, now, generation]).await?;
    // The sequence of the newest that waits; below zero where it is of a backlog.
    let newest = rows.first().map_or(Ok(None), |row| row.int_opt("newest_waiting"))?;
    let mut rows: Vec<WorkRow> = rows.iter().map(|row| read(row, key, now, generation, patient)).collect::<Result<_>>()?;
    rows.sort_by_key(|row| (row.state == State::Delivered, matches!(row.resource, ResourceKey::Observation(_)), row.seq));
    let open = rows.iter().filter(|row| !row.state.is_final());
    let more = open.clone().count() > 1 || newest.is_some_and(|newest| open.clone().all(|row| row.seq < newest.abs()));
    Ok(Shown { fresh: newest.is_some_and(|newest| newest > 0), more, rows })
}

fn read(row: &Row, key: &DataKey, now: Timestamp, generation: i64, patient: &Patient) -> Result<WorkRow> {
    let raw = Raw::read(row)?;
    let resource = raw.resource();
    let linked = patient.link.state == LinkState::Linked;
    let (ehr_id, ehr_version, synced_version, content) = match resource {
        ResourceKey::Patient(_) => (
            patient.link.ehr_id.clone().filter(|_| linked),
            patient.link.ehr_version.clone().filter(|_| linked),
            row.int_opt("patient_synced")?,
            Content::Patient(patient.draft.clone()),
        ),
        ResourceKey::Observation(id) => {
            let present = row.int_opt("resource_generation")? == Some(generation);
            let sealed = row.bytes_opt("sealed_content")?.ok_or(Error::Corrupt("observation_versions"))?;
            (
                row.ehr_id_opt("resource_ehr_id")?.filter(|_| present),
                row.text_opt("resource_ehr_version")?.filter(|_| present),
                row.int_opt("resource_synced")?.filter(|_| present),
                Content::Observation(crate::observations::open_version(key, id, raw.version, &sealed)?),
            )
        }
    };
    let own_settle_until = raw.own_settle_until(now);
    // What has killed the process again and again is asked about, never repeated: it is due when nothing is open any more.
    let due_at = match own_settle_until {
        Some(until) if raw.state == State::Uncertain && raw.claims >= CLAIMS_MAX && until >= now => Some(until.plus_ms(1)),
        _ => raw.due_at,
    };
    Ok(WorkRow {
        id: raw.id,
        resource,
        version: raw.version,
        seq: raw.seq,
        state: raw.state,
        backlog: row.boolean("backlog")?,
        due_at,
        claims: u32::try_from(raw.claims).unwrap_or(u32::MAX),
        tries: row.count("tries")?,
        round_tries: row.count("round_tries")?,
        means: raw.means,
        sent_before: raw.sent_before,
        proven_not_applied: raw.proven_not_applied,
        match_etag: row.text_opt("match_etag")?,
        ehr_id,
        ehr_version,
        synced_version,
        own_settle_until,
        resource_settle_until: raw.resource_settle_until(now),
        newer_exists: raw.newer_exists,
        audit_at: row.ts_opt("audit_at")?,
        audit_stage: row.count("audit_stage")?,
        last_class: row.text_opt("last_class")?.map(|word| Class::parse(&word).ok_or(Error::Corrupt("attempts"))).transpose()?,
        first_failed_at: raw.first_failed_at,
        down_ms_then: row.int("down_ms_then")?,
        created_at: row.ts("created_at")?,
        content,
    })
}
