//! What nobody needs any more. The content of what is open or dead is never touched (law 2).

use crate::engine::{Sql, args};
use crate::{Inner, Result};
use model::Timestamp;

const DAY_MS: i64 = 86_400_000;
/// Rows of one transaction.
const CHUNK: i64 = 1000;

/// Statements, each with how old what it takes must be. `$1` is that moment, `$2` the size of a chunk.
const RULES: [(i64, &str); 7] = [
    (
        7 * DAY_MS,
        "DELETE FROM idempotency_keys WHERE (tenant_id, key_hmac) IN \
        (SELECT tenant_id, key_hmac FROM idempotency_keys WHERE created_at < $1 LIMIT CAST($2 AS BIGINT))",
    ),
    (
        7 * DAY_MS,
        "UPDATE attempts SET sealed_message = NULL WHERE (tenant_id, id) IN \
        (SELECT a.tenant_id, a.id FROM attempts a JOIN deliveries d ON d.tenant_id = a.tenant_id AND d.id = a.delivery_id \
         WHERE a.sealed_message IS NOT NULL AND a.at < $1 AND d.state = 'delivered' AND d.audit_at IS NULL AND d.delivered_at < $1 LIMIT CAST($2 AS BIGINT))",
    ),
    (
        30 * DAY_MS,
        "UPDATE attempts SET sealed_message = NULL WHERE (tenant_id, id) IN \
        (SELECT a.tenant_id, a.id FROM attempts a JOIN deliveries d ON d.tenant_id = a.tenant_id AND d.id = a.delivery_id \
         WHERE a.sealed_message IS NOT NULL AND a.at < $1 AND d.state IN ('superseded', 'canceled') AND d.updated_at < $1 LIMIT CAST($2 AS BIGINT))",
    ),
    (
        7 * DAY_MS,
        "UPDATE deliveries SET sealed_message = NULL WHERE (tenant_id, id) IN \
        (SELECT tenant_id, id FROM deliveries WHERE state = 'delivered' AND sealed_message IS NOT NULL AND audit_at IS NULL \
         AND delivered_at < $1 LIMIT CAST($2 AS BIGINT))",
    ),
    (
        90 * DAY_MS,
        "DELETE FROM run_items WHERE (tenant_id, run_id, delivery_id) IN \
        (SELECT i.tenant_id, i.run_id, i.delivery_id FROM run_items i JOIN runs r ON r.tenant_id = i.tenant_id AND r.id = i.run_id \
         WHERE r.state <> 'running' AND r.finished_at < $1 LIMIT CAST($2 AS BIGINT))",
    ),
    (
        90 * DAY_MS,
        "DELETE FROM runs WHERE (tenant_id, id) IN \
        (SELECT r.tenant_id, r.id FROM runs r WHERE r.state <> 'running' AND r.finished_at < $1 \
         AND NOT EXISTS (SELECT 1 FROM run_items i WHERE i.tenant_id = r.tenant_id AND i.run_id = r.id) LIMIT CAST($2 AS BIGINT))",
    ),
    (
        365 * DAY_MS,
        "DELETE FROM attempts WHERE (tenant_id, id) IN \
        (SELECT a.tenant_id, a.id FROM attempts a JOIN deliveries d ON d.tenant_id = a.tenant_id AND d.id = a.delivery_id \
         WHERE a.at < $1 AND a.class IS NOT NULL AND d.state IN ('delivered', 'superseded', 'canceled') AND d.audit_at IS NULL LIMIT CAST($2 AS BIGINT))",
    ),
];

pub(super) async fn prune(inner: &Inner, now: Timestamp) -> Result<u64> {
    let mut pruned = 0;
    for (age, sql) in RULES {
        loop {
            let n = inner
                .db
                .write(move |tx| Box::pin(async move { tx.execute(Sql::from(sql), args![now.plus_ms(-age), CHUNK]).await }))
                .await?;
            pruned += n;
            if n < CHUNK.unsigned_abs() {
                break;
            }
        }
    }
    Ok(pruned)
}
