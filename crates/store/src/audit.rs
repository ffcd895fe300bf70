//! Who did what: appended, never changed, never with content.

use crate::engine::{Tx, args};
use crate::page::page_of;
use crate::{Page, PageRequest, Result, Tenant};
use model::{Rng, TenantId, Timestamp};

/// One entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its id.
    pub id: uuid::Uuid,
    /// When.
    pub at: Timestamp,
    /// `sub` of the token, or `ponte`.
    pub actor: String,
    /// snake_case: `config_changed`, `link_set`, `replayed`, `discarded` …
    pub action: String,
    /// Kind and id of what it concerned.
    pub target: String,
}

impl Tenant {
    /// Entries, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit(&self, page: &PageRequest) -> Result<Page<Entry>> {
        let (tenant, page) = (self.id.clone(), page.clone());
        self.inner
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let before = page.before_text();
                    let rows = tx
                        .rows(
                            "SELECT id, at, actor, action, target FROM audit WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
                            args![&tenant, before, page.fetch()],
                        )
                        .await?;
                    let mut entries = Vec::with_capacity(rows.len());
                    for row in rows {
                        entries.push(Entry {
                            id: row.uuid("id")?,
                            at: row.ts("at")?,
                            actor: row.text("actor")?,
                            action: row.text("action")?,
                            target: row.text("target")?,
                        });
                    }
                    Ok(page_of(&page, entries, |entry| entry.id))
                })
            })
            .await
    }
}

/// Appends an entry in the transaction of what it tells of.
pub(crate) async fn record(
    tx: &mut Tx,
    rng: &dyn Rng,
    tenant: &TenantId,
    now: Timestamp,
    actor: &str,
    action: &'static str,
    target: &str,
) -> Result<()> {
    tx.execute(
        "INSERT INTO audit (tenant_id, id, at, actor, action, target) VALUES ($1, $2, $3, $4, $5, $6)",
        args![tenant, rng.uuid_v7(now), now, actor, action, target],
    )
    .await?;
    Ok(())
}
