//! Deliveries and attempts as the API shows them: states derived, words unsealed.

use super::DeliveryFilter;
use crate::engine::{Row, Tx, args};
use crate::reason::{Lens, Surroundings, shown_columns};
use crate::seal::DataKey;
use crate::standing::resource_of;
use crate::{Error, Page, PageRequest, Result};
use model::{Attempt, AttemptId, Class, Delivery, DeliveryId, EhrId, LateAnswer, Means, PatientId, State, TenantId, Timestamp};

/// The least that is read at once where derived states have to be looked for.
const LOOK: i64 = 200;
/// So often at most for one page: a page may then be short, or empty, and still have a next one.
const LOOKS: u32 = 10;

macro_rules! delivery_columns {
    () => {
        concat!(
            shown_columns!(),
            ", d.patient_id, d.observation_id, d.version, d.sealed_message, d.ehr_id, d.ehr_version, d.created_at, d.delivered_at"
        )
    };
}

const BY_ID: &str = concat!("SELECT ", delivery_columns!(), " FROM deliveries d WHERE d.tenant_id = $1 AND d.id = $2");
const ALL: &str =
    concat!("SELECT ", delivery_columns!(), " FROM deliveries d WHERE d.tenant_id = $1 AND d.id < $2 ORDER BY d.id DESC LIMIT $3");
const IN_STATE: &str = concat!(
    "SELECT ",
    delivery_columns!(),
    " FROM deliveries d WHERE d.tenant_id = $1 AND d.id < $2 AND d.state = $4 ORDER BY d.id DESC LIMIT $3"
);
const HELD: &str = concat!(
    "SELECT ",
    delivery_columns!(),
    " FROM deliveries d WHERE d.tenant_id = $1 AND d.id < $2 AND d.state IN ('held', 'pending', 'retry_scheduled') ORDER BY d.id DESC LIMIT $3"
);
const OF_OBSERVATION: &str = concat!(
    "SELECT ",
    delivery_columns!(),
    " FROM deliveries d WHERE d.tenant_id = $1 AND d.id < $2 AND d.observation_id = $4 ORDER BY d.id DESC LIMIT $3"
);
const OF_PATIENT: &str = concat!(
    "SELECT ",
    delivery_columns!(),
    " FROM deliveries d WHERE d.tenant_id = $1 AND d.id < $2 AND d.patient_id = $4 ORDER BY d.id DESC LIMIT $3"
);

/// One delivery with its attempts.
pub(super) async fn one(tx: &mut Tx, tenant: &TenantId, key: &DataKey, now: Timestamp, id: DeliveryId) -> Result<Option<Delivery>> {
    let Some(row) = tx.row(BY_ID, args![tenant, id]).await? else { return Ok(None) };
    let lens = Lens::load(tx, tenant, now).await?;
    let mut delivery = delivery(&row, key, &lens)?;
    delivery.attempts = attempts(tx, tenant, key, id).await?;
    Ok(Some(delivery))
}

/// Newest first. A derived state cannot be looked for in the database alone, so what is read is read on until the page is full,
/// or until so much was read that the caller had better ask again.
pub(super) async fn list(
    tx: &mut Tx,
    tenant: &TenantId,
    key: &DataKey,
    now: Timestamp,
    filter: &DeliveryFilter,
    page: &PageRequest,
) -> Result<Page<Delivery>> {
    let lens = Lens::load(tx, tenant, now).await?;
    let limit = page.size() as usize;
    let wanted = |delivery: &Delivery| {
        filter.state.as_deref().is_none_or(|state| delivery.state.word() == state)
            && filter.patient_id.is_none_or(|patient| delivery.patient_id == patient)
            && filter.observation_id.is_none_or(|id| delivery.resource == model::ResourceKey::Observation(id))
    };
    let mut before = page.before_text();
    let mut items: Vec<Delivery> = Vec::new();
    for _ in 0..LOOKS {
        let look = LOOK.max(i64::try_from(limit).unwrap_or(LOOK) + 1);
        let (sql, last) = match (filter.observation_id, filter.patient_id, filter.state.as_deref()) {
            (Some(id), _, _) => (OF_OBSERVATION, Some(id.to_string())),
            (None, Some(id), _) => (OF_PATIENT, Some(id.to_string())),
            (None, None, Some("held")) => (HELD, None),
            (None, None, Some(state)) => (IN_STATE, Some(state.to_owned())),
            (None, None, None) => (ALL, None),
        };
        let mut values = args![tenant, before.as_str(), look];
        values.extend(last.map(|last| args![last]).unwrap_or_default());
        let rows = tx.rows(sql, values).await?;
        for row in &rows {
            let delivery = delivery(row, key, &lens)?;
            before = delivery.id.to_string();
            if wanted(&delivery) {
                if items.len() == limit {
                    let next = items.last().map(|last| last.id.0);
                    return Ok(Page { items, next });
                }
                items.push(delivery);
            }
        }
        if i64::try_from(rows.len()).unwrap_or(0) < look {
            return Ok(Page { items, next: None });
        }
    }
    Ok(Page { items, next: uuid::Uuid::parse_str(&before).ok() })
}

/// The attempts of a delivery, newest last.
pub(super) async fn attempts(tx: &mut Tx, tenant: &TenantId, key: &DataKey, id: DeliveryId) -> Result<Vec<Attempt>> {
    tx.rows(
        "SELECT id, at, ended_at, request, means, status, class, settle_until, sealed_message, late_at, late_status, late_ehr_id, \
         late_ehr_version FROM attempts WHERE tenant_id = $1 AND delivery_id = $2 ORDER BY at, id",
        args![tenant, id],
    )
    .await?
    .iter()
    .map(|row| attempt(row, key))
    .collect()
}

fn delivery(row: &Row, key: &DataKey, lens: &Lens) -> Result<Delivery> {
    let id = DeliveryId(row.uuid("id")?);
    let surroundings = Surroundings::read(row)?;
    Ok(Delivery {
        id,
        patient_id: PatientId(row.uuid("patient_id")?),
        resource: resource_of(row)?,
        version: row.int("version")?,
        state: lens.shown(&surroundings),
        message: row.bytes_opt("sealed_message")?.map(|sealed| key.open_text("deliveries", "sealed_message", id, &sealed)).transpose()?,
        next_attempt_at: lens.next_step(&surroundings),
        ehr_id: row.text_opt("ehr_id")?.and_then(|id| EhrId::new(id).ok()),
        ehr_version: row.text_opt("ehr_version")?,
        created_at: row.ts("created_at")?,
        delivered_at: row.ts_opt("delivered_at")?.filter(|_| surroundings.state == State::Delivered),
        attempts: Vec::new(),
    })
}

fn attempt(row: &Row, key: &DataKey) -> Result<Attempt> {
    let id = AttemptId(row.uuid("id")?);
    let at = row.ts("at")?;
    let corrupt = || Error::Corrupt("attempts");
    let status = |column| row.int_opt(column).map(|status| status.and_then(|status| u16::try_from(status).ok()));
    let late = match (row.ts_opt("late_at")?, status("late_status")?) {
        (Some(at), Some(status)) => {
            Some(LateAnswer { at, status, ehr_id: row.text_opt("late_ehr_id")?, ehr_version: row.text_opt("late_ehr_version")? })
        }
        _ => None,
    };
    Ok(Attempt {
        id,
        at,
        duration_ms: row.ts_opt("ended_at")?.map(|ended| ended.ms_since(at)),
        request: row.text("request")?,
        means: row.text_opt("means")?.map(|word| Means::parse(&word).ok_or_else(corrupt)).transpose()?,
        status: status("status")?,
        class: row.text_opt("class")?.map(|word| Class::parse(&word).ok_or_else(corrupt)).transpose()?,
        settle_until: row.ts_opt("settle_until")?,
        message: row.bytes_opt("sealed_message")?.map(|sealed| key.open_text("attempts", "sealed_message", id, &sealed)).transpose()?,
        late,
    })
}
