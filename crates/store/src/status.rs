//! Is anything waiting, lost or stuck? From kept counters, not from scans.

use crate::config::read_plan;
use crate::engine::{Sql, args};
use crate::reason::{Lens, oldest_waiting};
use crate::{Error, Result, Tenant};
use model::{HeldReason, MeansPlan, State, Timestamp};

/// The tenant's state of affairs.
#[derive(Debug, Clone)]
pub struct Status {
    /// Rows by state word, all nine; rows that wait for their connection or their patient count as `held`.
    pub counts: Vec<(&'static str, i64)>,
    /// When the longest waiting open row was accepted.
    pub oldest_waiting: Option<Timestamp>,
    /// Last successful push.
    pub last_push_at: Option<Timestamp>,
    /// Last complete pull.
    pub last_pull_at: Option<Timestamp>,
    /// The last failure of the connection.
    pub last_error: Option<String>,
    /// Why the whole connection waits, if it does.
    pub held: Option<HeldReason>,
    /// Whether the circuit is open, since when, and the next probe.
    pub circuit_open: bool,
    /// See `circuit_open`.
    pub down_since: Option<Timestamp>,
    /// See `circuit_open`.
    pub next_probe_at: Option<Timestamp>,
    /// Patients whose link needs a person.
    pub patients_held: i64,
    /// What is known of the EHR's means; `None` without a connection.
    pub plan: Option<MeansPlan>,
}

impl Tenant {
    /// The tenant's state of affairs.
    pub async fn status(&self, now: Timestamp) -> Result<Status> {
        let tenant = self.id.clone();
        self.inner
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let lens = Lens::load(tx, &tenant, now).await?;
                    let mut counts: Vec<(&'static str, i64)> = State::WORDS.iter().map(|word| (*word, 0)).collect();
                    let sql = "SELECT state, CAST(SUM(n) AS BIGINT) AS n FROM counters WHERE tenant_id = $1 GROUP BY state";
                    for row in tx.rows(sql, args![&tenant]).await? {
                        add(&mut counts, &row.text("state")?, row.int("n")?);
                    }
                    // Rows that wait for their patient are few, and found by the blocked streams: the order of a CROSS JOIN is SQLite's
                    // own, which otherwise goes through everything that waits.
                    let blocked = "SELECT d.state, COUNT(*) AS n FROM streams s CROSS JOIN deliveries d WHERE d.tenant_id = s.tenant_id \
                        AND d.patient_id = s.patient_id AND s.tenant_id = $1 AND s.blocked IS NOT NULL \
                        AND d.state IN ('pending', 'retry_scheduled') GROUP BY d.state";
                    let waiting = if lens.connection.is_some() {
                        counts
                            .iter()
                            .filter(|(word, _)| matches!(*word, "pending" | "retry_scheduled"))
                            .map(|(word, n)| ((*word).to_owned(), *n))
                            .collect()
                    } else {
                        tx.rows(blocked, args![&tenant])
                            .await?
                            .iter()
                            .map(|row| Ok((row.text("state")?, row.int("n")?)))
                            .collect::<Result<Vec<_>>>()?
                    };
                    for (word, n) in waiting {
                        add(&mut counts, &word, -n);
                        add(&mut counts, "held", n);
                    }
                    let row = tx
                        .row(
                            Sql::from(concat!(
                                "SELECT ",
                                oldest_waiting!("$1"),
                                " AS oldest, \
                             (SELECT COUNT(*) FROM patients p WHERE p.tenant_id = $1 AND p.link_state = 'held') AS patients_held, \
                             (SELECT c.last_error FROM fhir_integration_configs c WHERE c.tenant_id = $1) AS last_error, \
                             (SELECT r.plan FROM connections r JOIN fhir_integration_configs c ON c.tenant_id = r.tenant_id \
                               WHERE r.tenant_id = $1) AS plan, \
                             (SELECT r.last_push_at FROM connections r WHERE r.tenant_id = $1) AS last_push_at, \
                             (SELECT r.last_pull_at FROM connections r WHERE r.tenant_id = $1) AS last_pull_at, \
                             (SELECT r.down_since FROM connections r WHERE r.tenant_id = $1) AS down_since, \
                             (SELECT r.not_before FROM connections r WHERE r.tenant_id = $1) AS not_before, \
                             (SELECT r.circuit_open FROM connections r WHERE r.tenant_id = $1) AS circuit_open"
                            )),
                            args![&tenant],
                        )
                        .await?
                        .ok_or(Error::Corrupt("connections"))?;
                    Ok(Status {
                        counts,
                        oldest_waiting: row.ts_opt("oldest")?,
                        last_push_at: row.ts_opt("last_push_at")?,
                        last_pull_at: row.ts_opt("last_pull_at")?,
                        last_error: row.text_opt("last_error")?,
                        held: lens.connection,
                        circuit_open: row.boolean_opt("circuit_open")?.unwrap_or(false),
                        down_since: row.ts_opt("down_since")?,
                        next_probe_at: row.ts_opt("not_before")?,
                        patients_held: row.int("patients_held")?,
                        plan: row.text_opt("plan")?.map(|text| read_plan(&text)).transpose()?,
                    })
                })
            })
            .await
    }
}

fn add(counts: &mut [(&'static str, i64)], state: &str, n: i64) {
    counts.iter_mut().filter(|(word, _)| *word == state).for_each(|count| count.1 += n);
}
