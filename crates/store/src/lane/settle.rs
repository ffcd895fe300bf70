//! Results: the attempt's outcome, the delivery's standing, and what it says of its resource, in one transaction.

use super::{CLAIMS_MAX, Settlement};
use crate::engine::{Tx, args};
use crate::ledger::raw::{Raw, lock_patients_of, supersede_older};
use crate::seal::DataKey;
use crate::{Error, Inner, Result, standing};
use model::delivery::{Action, Event, Facts, next};
use model::{AttemptId, Class, DeliveryId, EhrId, HeldReason, LateAnswer, ObservationId, PatientId, State, TenantId, Timestamp};
use std::collections::BTreeMap;

/// What the tenant is told of a row that has killed the process again and again.
const KILLED: &str =
    "Sending this stopped Ponte five times, so it is not sent any more. This is a mistake of Ponte: report it, then replay it.";

/// What settling depends on beside the row.
pub(super) struct Settling<'a> {
    inner: &'a Inner,
    tenant: &'a TenantId,
    key: &'a DataKey,
    now: Timestamp,
    generation: i64,
    /// The connection's down time so far, ms.
    down_ms: i64,
}

impl<'a> Settling<'a> {
    pub(super) async fn load(tx: &mut Tx, inner: &'a Inner, tenant: &'a TenantId, key: &'a DataKey, now: Timestamp) -> Result<Self> {
        let row = tx.row("SELECT generation, down_since, down_total_ms FROM connections WHERE tenant_id = $1", args![tenant]).await?;
        let (generation, down_ms) = match row {
            Some(row) => {
                let down_now = row.ts_opt("down_since")?.map_or(0, |since| now.ms_since(since).max(0));
                (row.int("generation")?, row.int("down_total_ms")?.saturating_add(down_now))
            }
            None => (0, 0),
        };
        Ok(Self { inner, tenant, key, now, generation, down_ms })
    }

    /// Writes them all.
    pub(super) async fn settle(&self, tx: &mut Tx, settlements: &[Settlement]) -> Result<()> {
        let ids: Vec<DeliveryId> = settlements.iter().map(|settlement| settlement.delivery).collect();
        let mut known = Raw::load_locked(tx, self.tenant, &ids).await?;
        let mut touched: BTreeMap<PatientId, Option<Timestamp>> = known.values().map(|raw| (raw.patient, None)).collect();
        // Of one patient's rows each may change what is known of the next.
        if touched.len() < settlements.len() {
            known.clear();
        }
        for settlement in settlements {
            let raw = match known.remove(&settlement.delivery) {
                Some(raw) => raw,
                None => Raw::load(tx, self.tenant, settlement.delivery).await?.ok_or(Error::Corrupt("deliveries"))?,
            };
            if settlement.state == State::Delivered {
                touched.insert(raw.patient, Some(self.now));
            }
            self.settle_one(tx, settlement, raw).await?;
        }
        standing::touch_delivered(tx, self.tenant, touched, self.now).await
    }

    async fn settle_one(&self, tx: &mut Tx, settlement: &Settlement, raw: Raw) -> Result<()> {
        let was_write = self.end_attempt(tx, settlement).await?;
        let claims = if was_write { 0 } else { raw.claims };
        match self.standing_after(&raw, settlement, was_write) {
            After::Stays => self.read_again(tx, &raw).await?,
            After::As(state) if claims >= CLAIMS_MAX && may_be_sent_next(state) => self.bury(tx, &raw, state).await?,
            After::As(state) => self.write_standing(tx, &raw, settlement, state, claims).await?,
        }
        match raw.observation {
            Some(id) => self.keep_observation(tx, &raw, id, settlement).await?,
            None => self.keep_patient(tx, &raw, settlement).await?,
        }
        if raw.may_be_overtaken() {
            supersede_older(tx, self.tenant, self.now, raw.resource()).await?;
        }
        Ok(())
    }

    /// Writes the attempt's outcome; whether it was a write.
    async fn end_attempt(&self, tx: &mut Tx, settlement: &Settlement) -> Result<bool> {
        let Some(outcome) = &settlement.outcome else {
            return Ok(false);
        };
        let message = self.seal("attempts", outcome.attempt.0, outcome.message.as_deref())?;
        let row = tx
            .row(
                "UPDATE attempts SET ended_at = $4, status = $5, class = $6, settle_until = $7, sealed_message = COALESCE($8, sealed_message) \
                 WHERE tenant_id = $1 AND id = $2 AND delivery_id = $3 RETURNING is_write",
                args![
                    self.tenant,
                    outcome.attempt,
                    settlement.delivery,
                    self.now,
                    outcome.status,
                    outcome.class.word(),
                    outcome.settle_until,
                    message
                ],
            )
            .await?;
        row.ok_or(Error::Corrupt("attempts"))?.boolean("is_write")
    }

    /// The owner decided over what it read; what came in between wins where it must.
    fn standing_after(&self, raw: &Raw, settlement: &Settlement, was_write: bool) -> After {
        let to = settlement.state;
        match raw.state {
            // A person, or a newer version, has ended it.
            State::Superseded | State::Canceled => After::Stays,
            // Another attempt of it proved that it is there: this one settles only itself (PROTOCOL §3, "late 2xx").
            State::Delivered if to != State::Delivered && was_write => After::Stays,
            State::Delivered if !matches!(to, State::Delivered | State::RetryScheduled | State::Held(_)) => After::Stays,
            _ => After::As(to),
        }
    }

    /// A delivered row whose other attempt has just ended is read once more, when nothing on its resource is open.
    async fn read_again(&self, tx: &mut Tx, raw: &Raw) -> Result<()> {
        if raw.state != State::Delivered {
            return Ok(());
        }
        let Some(raw) = Raw::load(tx, self.tenant, raw.id).await? else { return Ok(()) };
        let at = raw.resource_settle_until(self.now).map_or(self.now, |until| until.plus_ms(1));
        tx.execute("UPDATE deliveries SET audit_at = $3, audit_stage = 0 WHERE tenant_id = $1 AND id = $2", args![self.tenant, raw.id, at])
            .await
            .map(drop)
    }

    async fn write_standing(&self, tx: &mut Tx, raw: &Raw, settlement: &Settlement, state: State, claims: i64) -> Result<()> {
        let due_at = settlement.due_at.filter(|_| !state.is_final() && !matches!(state, State::Held(_)));
        let reason = match state {
            State::Held(reason) => Some(reason.word()),
            _ => None,
        };
        let message = self.seal("deliveries", raw.id.0, settlement.message.as_deref())?;
        let tried = i64::from(settlement.counts_try);
        let (first_failed_at, down_then) = match (settlement.counts_try, raw.first_failed_at) {
            (true, None) => (Some(self.now), Some(self.down_ms)),
            _ => (None, None),
        };
        let delivered_at = (state == State::Delivered && raw.delivered_at.is_none()).then_some(self.now);
        let (audit_at, audit_stage) = settlement.audit.map_or((None, 0), |(at, stage)| (Some(at), stage));
        // What kept it so far is over: nobody reads a refusal beside what has arrived.
        let arrives = state == State::Delivered && raw.state != State::Delivered;
        let written = tx.execute(
            "UPDATE deliveries SET state = $17, reason = $18, due_at = $19, \
               claims = $3, tries = tries + $4, round_tries = CASE WHEN $5 THEN $4 ELSE round_tries + $4 END, \
               proven_not_applied = COALESCE($6, proven_not_applied), ehr_id = COALESCE($7, ehr_id), ehr_version = COALESCE($8, ehr_version), \
               first_failed_at = COALESCE(first_failed_at, $9), down_ms_then = COALESCE($10, down_ms_then), \
               delivered_at = COALESCE(delivered_at, $11), audit_at = $12, audit_stage = $13, \
               sealed_message = CASE WHEN $20 THEN $14 ELSE COALESCE($14, sealed_message) END, updated_at = $15 \
             WHERE tenant_id = $1 AND id = $2 AND state = CAST($16 AS TEXT)",
            args![
                self.tenant,
                raw.id,
                claims,
                tried,
                settlement.new_round,
                settlement.proven_not_applied,
                settlement.ehr_id.clone(),
                settlement.ehr_version.clone(),
                first_failed_at,
                down_then,
                delivered_at,
                audit_at,
                audit_stage,
                message,
                self.now,
                raw.state.word(),
                state.word(),
                reason,
                due_at,
                arrives
            ],
        )
        .await?;
        if written == 0 {
            return Err(Error::Corrupt("deliveries"));
        }
        if state == State::Held(HeldReason::GoneAtEhr)
            && let Some(id) = raw.observation
        {
            // Nobody says of what the hospital deleted that the EHR holds it.
            let sql =
                "UPDATE observations SET synced_version = NULL, synced_at = NULL WHERE tenant_id = $1 AND id = $2 AND synced_version = $3";
            tx.execute(sql, args![self.tenant, id, raw.version]).await?;
        }
        standing::note_move(tx, self.tenant, raw.shard, raw.state, state);
        Ok(())
    }

    /// What has killed the process again and again is dead, if it is known not to be there.
    async fn bury(&self, tx: &mut Tx, raw: &Raw, decided: State) -> Result<()> {
        let facts = Facts { own_settle_until: None, ..raw.facts(self.now) };
        let to = next(decided, &facts, &Event::Refused).state;
        if !raw.go(tx, self.tenant, self.now, to, None).await? {
            return Err(Error::Corrupt("deliveries"));
        }
        let attempt = AttemptId(self.inner.rng.uuid_v7(self.now));
        let said = self.seal("attempts", attempt.0, Some(KILLED))?;
        tx.execute(
            "INSERT INTO attempts (tenant_id, id, delivery_id, shard, resource_id, epoch, at, ended_at, request, class, is_write, sealed_message) \
             VALUES ($1, $2, $3, $4, $5, 0, $6, $6, 'not sent', $7, false, $8)",
            args![
                self.tenant,
                attempt,
                raw.id,
                raw.shard,
                raw.observation.map_or(raw.patient.0, |id| id.0),
                self.now,
                Class::Internal.word(),
                said
            ],
        )
        .await?;
        let message = self.seal("deliveries", raw.id.0, Some(KILLED))?;
        tx.execute(
            "UPDATE deliveries SET sealed_message = $3, audit_at = NULL WHERE tenant_id = $1 AND id = $2",
            args![self.tenant, raw.id, message],
        )
        .await
        .map(drop)
    }

    /// What is now known of an observation at the EHR. A known version is never set back (PROTOCOL §4, trace 13).
    async fn keep_observation(&self, tx: &mut Tx, raw: &Raw, id: ObservationId, settlement: &Settlement) -> Result<()> {
        if settlement.ehr_id.is_none() && settlement.ehr_version.is_none() && !settlement.synced {
            return Ok(());
        }
        if settlement.synced && self.keep_first(tx, raw, id, settlement).await? {
            return Ok(());
        }
        let sql = "SELECT o.ehr_id, o.ehr_version, o.ehr_generation, o.synced_version, o.synced_at, \
             (SELECT x.id FROM observations x WHERE x.tenant_id = $1 AND x.ehr_generation = $3 AND x.ehr_id = $4 AND x.id <> $2) AS other \
             FROM observations o WHERE o.tenant_id = $1 AND o.id = $2";
        let args = args![self.tenant, id, self.generation, settlement.ehr_id.clone()];
        let row = tx.row(sql, args).await?.ok_or(Error::Corrupt("observations"))?;
        let present = row.int_opt("ehr_generation")? == Some(self.generation);
        let known = if present { row.int_opt("synced_version")? } else { None };
        if known.is_some_and(|known| known > raw.version) {
            return Ok(());
        }
        let ehr_id = match &settlement.ehr_id {
            Some(ehr_id) if row.text_opt("other")?.is_some() => self.free_ehr_id(tx, id, ehr_id).await?,
            known => known.clone(),
        };
        let ehr_id = ehr_id.or(if present { row.ehr_id_opt("ehr_id")? } else { None });
        let ehr_version = settlement.ehr_version.clone().or(if present { row.text_opt("ehr_version")? } else { None });
        let newly = settlement.synced && known != Some(raw.version);
        let synced_version = if settlement.synced { Some(raw.version) } else { row.int_opt("synced_version")? };
        let synced_at = if newly { Some(self.now) } else { row.ts_opt("synced_at")? };
        tx.execute(
            "UPDATE observations SET ehr_id = $3, ehr_version = $4, ehr_generation = $5, synced_version = $6, synced_at = $7, \
               settled_at = $8, seen_at = $8 WHERE tenant_id = $1 AND id = $2",
            args![self.tenant, id, ehr_id, ehr_version, self.generation, synced_version, synced_at, self.now],
        )
        .await
        .map(drop)
    }

    /// The first that is ever known of it there, which nearly all settlements bring; false: something is known already.
    async fn keep_first(&self, tx: &mut Tx, raw: &Raw, id: ObservationId, settlement: &Settlement) -> Result<bool> {
        let kept = tx
            .execute(
                "UPDATE observations SET ehr_id = $3, ehr_version = $4, ehr_generation = $5, synced_version = $6, synced_at = $7, \
                   settled_at = $7, seen_at = $7 \
                 WHERE tenant_id = $1 AND id = $2 AND ehr_id IS NULL AND ehr_version IS NULL AND synced_version IS NULL AND NOT EXISTS \
                   (SELECT 1 FROM observations x WHERE x.tenant_id = $1 AND x.ehr_generation = $5 AND x.ehr_id = $3)",
                args![self.tenant, id, settlement.ehr_id.clone(), settlement.ehr_version.clone(), self.generation, raw.version, self.now],
            )
            .await?;
        Ok(kept > 0)
    }

    /// The EHR's id for this observation, unless another row has it. A row that a pull brought before we knew that it is
    /// ours gives it back (law 8: never our own pushes back as new rows).
    async fn free_ehr_id(&self, tx: &mut Tx, id: ObservationId, ehr_id: &EhrId) -> Result<Option<EhrId>> {
        let sql = "SELECT id, source FROM observations WHERE tenant_id = $1 AND ehr_generation = $2 AND ehr_id = $3 AND id <> $4";
        let Some(other) = tx.row(sql, args![self.tenant, self.generation, ehr_id, id]).await? else {
            return Ok(Some(ehr_id.clone()));
        };
        if other.text("source")? != "ehr" {
            return Ok(None);
        }
        tx.execute(
            "UPDATE observations SET ehr_id = NULL, ehr_generation = NULL, deleted = true, updated_at = $3 WHERE tenant_id = $1 AND id = $2",
            args![self.tenant, other.text("id")?, self.now],
        )
        .await?;
        Ok(Some(ehr_id.clone()))
    }

    /// The EHR's version of a Patient that we wrote. The link itself is `settle_link`'s.
    async fn keep_patient(&self, tx: &mut Tx, raw: &Raw, settlement: &Settlement) -> Result<()> {
        let Some(version) = &settlement.ehr_version else {
            return Ok(());
        };
        tx.execute(
            "UPDATE patients SET ehr_version = $3 WHERE tenant_id = $1 AND id = $2 AND link_state = 'linked' AND link_generation = $4",
            args![self.tenant, raw.patient, version, self.generation],
        )
        .await
        .map(drop)
    }

    fn seal(&self, table: &'static str, row: uuid::Uuid, text: Option<&str>) -> Result<Option<Vec<u8>>> {
        text.map(|text| self.key.seal_text(table, "sealed_message", row, text)).transpose()
    }
}

/// What becomes of a row that a settlement names.
enum After {
    /// It stays as it is.
    Stays,
    /// It becomes this.
    As(State),
}

fn may_be_sent_next(state: State) -> bool {
    matches!(state, State::Pending | State::RetryScheduled)
}

/// The lease is lost: what was answered is evidence of its attempt (PRODUCT, effect ledger, rule 8).
pub(super) async fn keep_as_late(tx: &mut Tx, tenant: &TenantId, now: Timestamp, settlements: &[Settlement]) -> Result<()> {
    for settlement in settlements {
        if let Some((outcome, status)) = settlement.outcome.as_ref().and_then(|outcome| Some((outcome, outcome.status?))) {
            let late = LateAnswer {
                at: now,
                status,
                ehr_id: settlement.ehr_id.as_ref().map(ToString::to_string),
                ehr_version: settlement.ehr_version.clone(),
            };
            record_late_answer(tx, tenant, outcome.attempt, &late).await?;
        }
    }
    Ok(())
}

/// Appends a late answer to its attempt (the first one stays), and has a delivered row read once its attempts have settled.
pub(crate) async fn record_late_answer(tx: &mut Tx, tenant: &TenantId, attempt: AttemptId, late: &LateAnswer) -> Result<()> {
    let sql = "SELECT delivery_id FROM attempts WHERE tenant_id = $1 AND id = $2";
    let Some(row) = tx.row(sql, args![tenant, attempt]).await? else {
        return Ok(());
    };
    let delivery = DeliveryId(row.uuid("delivery_id")?);
    lock_patients_of(tx, tenant, &[delivery]).await?;
    tx.execute(
        "UPDATE attempts SET late_at = $3, late_status = $4, late_ehr_id = $5, late_ehr_version = $6 \
         WHERE tenant_id = $1 AND id = $2 AND late_at IS NULL",
        args![tenant, attempt, late.at, late.status, late.ehr_id.clone(), late.ehr_version.clone()],
    )
    .await?;
    let Some(raw) = Raw::load(tx, tenant, delivery).await? else { return Ok(()) };
    let after = next(raw.state, &raw.facts(late.at), &Event::LateFenced);
    let Action::ReadAfter { at, .. } = after.action else { return Ok(()) };
    // One that still flies is opened by the takeover, which also asks for the reading. An uncertain row asks by itself.
    if raw.state != State::Delivered || at.0 == i64::MAX {
        return Ok(());
    }
    tx.execute(
        "UPDATE deliveries SET audit_at = $3, audit_stage = 0 WHERE tenant_id = $1 AND id = $2 AND (audit_at IS NULL OR audit_at > $3)",
        args![tenant, delivery, at.plus_ms(1)],
    )
    .await?;
    standing::touch_stream(tx, tenant, raw.patient, late.at).await
}
