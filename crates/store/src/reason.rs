//! Why a row that nobody touches waits: derived on reading, one function for all lists, never stored (PRODUCT, "The effect ledger").
//!
//! Raw rows stay `pending` while their connection is down or their patient is blocked, so an outage rewrites nothing.

use crate::Result;
use crate::engine::{Row, Sql, Tx, args};
use crate::standing::state_of;
use model::{DeliveryId, Direction, Frequency, HeldReason, ObservationId, State, TenantId, Timestamp};

/// What of a tenant's surroundings decides how its rows are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lens {
    now: Timestamp,
    /// Why nothing of this tenant is sent at all.
    pub(crate) connection: Option<HeldReason>,
    /// When the connection may be used again.
    not_before: Option<Timestamp>,
    /// When the sweep comes that this tenant waits for.
    next_sweep: Option<Timestamp>,
}

/// What of a row's own surroundings decides how it is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings {
    pub(crate) state: State,
    pub(crate) due_at: Option<Timestamp>,
    /// The patient is blocked.
    pub(crate) blocked: bool,
    /// Another delivery of the patient goes first.
    pub(crate) earlier: bool,
    /// Until when an attempt on the resource stays open.
    pub(crate) settle_until: Option<Timestamp>,
}

impl Lens {
    /// Looks at the tenant as it is in this transaction.
    pub(crate) async fn load(tx: &mut Tx, tenant: &TenantId, now: Timestamp) -> Result<Self> {
        let row = tx
            .row(
                "SELECT i.state AS home, c.enabled, c.sync_direction, c.sync_frequency, r.auth_refused, r.circuit_open, r.not_before, \
                 hourly.next_run_at AS hourly_at, daily.next_run_at AS daily_at \
                 FROM tenants t \
                 LEFT JOIN fhir_integration_configs c ON c.tenant_id = t.tenant_id \
                 LEFT JOIN connections r ON r.tenant_id = t.tenant_id \
                 LEFT JOIN installation i ON i.id = 1 \
                 LEFT JOIN schedules hourly ON hourly.name = 'sweep' \
                 LEFT JOIN schedules daily ON daily.name = 'daily' \
                 WHERE t.tenant_id = $1",
                args![tenant],
            )
            .await?;
        let Some(row) = row else {
            return Ok(Self { now, connection: Some(HeldReason::NotConfigured), not_before: None, next_sweep: None });
        };
        let direction = row.text_opt("sync_direction")?;
        let daily = row.text_opt("sync_frequency")?.as_deref() == Some(Frequency::Daily.word());
        let connection = if row.text_opt("home")?.is_some_and(|home| home != "running") {
            Some(HeldReason::Paused)
        } else if direction.is_none() {
            Some(HeldReason::NotConfigured)
        } else if !row.boolean_opt("enabled")?.unwrap_or(false) {
            Some(HeldReason::Disabled)
        } else if direction.as_deref() == Some(Direction::Pull.word()) {
            Some(HeldReason::PushOff)
        } else if row.boolean_opt("auth_refused")?.unwrap_or(false) {
            Some(HeldReason::CredentialsRefused)
        } else if row.boolean_opt("circuit_open")?.unwrap_or(false) {
            Some(HeldReason::CircuitOpen)
        } else {
            None
        };
        let next_sweep = row.ts_opt(if daily { "daily_at" } else { "hourly_at" })?;
        Ok(Self { now, connection, not_before: row.ts_opt("not_before")?, next_sweep })
    }

    /// The state that is shown.
    pub(crate) fn shown(&self, row: &Surroundings) -> State {
        match row.state {
            State::Pending | State::RetryScheduled => {
                if let Some(reason) = self.connection {
                    State::Held(reason)
                } else if row.blocked {
                    State::Held(HeldReason::PatientUnlinked)
                } else if row.due_at.is_none() {
                    // A new row that waits for its sweep, or one whose round is used up.
                    State::Held(HeldReason::NextSweep)
                } else if row.state == State::RetryScheduled {
                    row.state
                } else if row.earlier {
                    State::Held(HeldReason::EarlierFirst)
                } else if self.settling(row).is_some() {
                    State::Held(HeldReason::Settling)
                } else {
                    row.state
                }
            }
            State::InFlight | State::Held(_) | State::Uncertain | State::Delivered | State::Dead | State::Superseded | State::Canceled => {
                row.state
            }
        }
    }

    /// The next automatic step of a row, if there is one.
    pub(crate) fn next_step(&self, row: &Surroundings) -> Option<Timestamp> {
        let not_before = |at: Timestamp| self.not_before.map_or(at, |gate| gate.max(at));
        match self.shown(row) {
            State::Pending | State::Uncertain | State::RetryScheduled => row.due_at.map(not_before),
            State::Held(HeldReason::NextSweep) => self.next_sweep,
            State::Held(HeldReason::CircuitOpen | HeldReason::CredentialsRefused) => self.not_before,
            State::Held(HeldReason::Settling) => self.settling(row),
            State::Held(_) | State::InFlight | State::Delivered | State::Dead | State::Superseded | State::Canceled => None,
        }
    }

    fn settling(&self, row: &Surroundings) -> Option<Timestamp> {
        row.settle_until.filter(|until| *until >= self.now)
    }
}

impl Surroundings {
    /// Reads the columns that [`shown_columns`] selects.
    pub(crate) fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            state: state_of(row)?,
            due_at: row.ts_opt("due_at")?,
            blocked: row.boolean("is_blocked")?,
            earlier: row.boolean("is_later")?,
            settle_until: row.ts_opt("resource_open_until")?,
        })
    }
}

/// The columns of a delivery `d` that decide how it is shown. `$2` is nobody's: the caller numbers its own parameters.
macro_rules! shown_columns {
    () => {
        "d.id, d.state, d.reason, d.due_at, \
         EXISTS (SELECT 1 FROM streams s WHERE s.tenant_id = d.tenant_id AND s.patient_id = d.patient_id AND s.blocked IS NOT NULL) AS is_blocked, \
         (EXISTS (SELECT 1 FROM deliveries e WHERE e.tenant_id = d.tenant_id AND e.patient_id = d.patient_id AND e.id <> d.id \
             AND e.state IN ('in_flight', 'uncertain')) \
           OR EXISTS (SELECT 1 FROM deliveries e WHERE e.tenant_id = d.tenant_id AND e.observation_id = d.observation_id \
             AND e.state = 'held' AND e.seq < d.seq) \
           OR EXISTS (SELECT 1 FROM deliveries e WHERE e.tenant_id = d.tenant_id AND e.patient_id = d.patient_id AND e.id <> d.id \
             AND e.observation_id IS NULL AND ((e.state = 'held' AND e.reason = 'patient_unlinked') \
               OR (e.state IN ('pending', 'retry_scheduled') AND (d.observation_id IS NOT NULL OR e.seq < d.seq)))) \
           OR (d.observation_id IS NOT NULL AND EXISTS (SELECT 1 FROM deliveries e WHERE e.tenant_id = d.tenant_id \
             AND e.patient_id = d.patient_id AND e.state IN ('pending', 'retry_scheduled') AND e.seq < d.seq \
             AND NOT EXISTS (SELECT 1 FROM deliveries h WHERE h.tenant_id = e.tenant_id AND h.observation_id = e.observation_id \
               AND h.state = 'held' AND h.seq < e.seq)))) AS is_later, \
         (SELECT MAX(CASE WHEN a.class IS NULL THEN 9223372036854775807 ELSE a.settle_until END) FROM attempts a \
           WHERE a.tenant_id = d.tenant_id AND a.resource_id = COALESCE(d.observation_id, d.patient_id) \
           AND a.is_write AND (a.class IS NULL OR a.class = 'uncertain')) AS resource_open_until"
    };
}
pub(crate) use shown_columns;

/// When that was accepted of a tenant's which has waited longest: the first of each open state, for ids rise with time.
macro_rules! oldest_waiting {
    ($tenant:literal) => {
        concat!(
            "(SELECT MIN(w.created_at) FROM (VALUES ('pending'), ('in_flight'), ('retry_scheduled'), ('held'), ('uncertain')) AS open \
              JOIN deliveries w ON w.tenant_id = ",
            $tenant,
            " AND w.id = (SELECT MIN(x.id) FROM deliveries x WHERE x.tenant_id = ",
            $tenant,
            " AND x.state = open.column1))"
        )
    };
}
pub(crate) use oldest_waiting;

/// The newest delivery of an observation in one line, as it is shown.
pub(crate) async fn brief(
    tx: &mut Tx,
    lens: &Lens,
    tenant: &TenantId,
    observation: ObservationId,
) -> Result<Option<model::observation::DeliveryBrief>> {
    let sql = Sql::from(concat!(
        "SELECT ",
        shown_columns!(),
        " FROM deliveries d WHERE d.tenant_id = $1 AND d.observation_id = $2 ORDER BY d.version DESC, d.seq DESC LIMIT 1"
    ));
    let Some(row) = tx.row(sql, args![tenant, observation]).await? else {
        return Ok(None);
    };
    let state = lens.shown(&Surroundings::read(&row)?);
    Ok(Some(model::observation::DeliveryBrief { id: DeliveryId(row.uuid("id")?), state }))
}
