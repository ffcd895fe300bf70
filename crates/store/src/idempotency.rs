//! `Idempotency-Key`: one request, one effect, written in the transaction that it protects (kept 7 days).

use crate::engine::{Tx, args, locking};
use crate::seal::DataKey;
use crate::{Error, Result, Tenant};
use model::{TenantId, Timestamp};
use uuid::Uuid;

/// How long a request without rows of its own may be under way, ms; then the key is free for another try.
const RUNNING_MS: i64 = 60_000;

/// A key as the caller gave it.
#[derive(Debug, Clone)]
pub struct Key {
    /// The header's value; kept as a keyed hash only.
    pub key: String,
    /// Digest of method, route and body: the same key with another one is a mistake (422).
    pub fingerprint: String,
}

/// What a protected call answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Once<T> {
    /// Done now.
    Done(T),
    /// Done before under this key: what was made then, as it is now.
    Before(T),
    /// The key was used for another request.
    OtherRequest,
}

/// A key of a POST without rows of its own (sync, pull, replay …).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// New: go on, and store the answer.
    New,
    /// Answered before.
    Answer {
        /// HTTP status then.
        status: u16,
        /// Body then.
        body: String,
    },
    /// Another request has this key.
    OtherRequest,
    /// The same request is being served right now (within the last 60 s).
    Running,
}

impl Tenant {
    /// Begins a POST without rows of its own.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn idempotency_begin(&self, now: Timestamp, key: &Key) -> Result<Stored> {
        let (tenant, sealing, key) = (self.id.clone(), self.key(now).await?, key.clone());
        self.inner.db.write(move |tx| Box::pin(async move { begin(tx, &tenant, &sealing, now, &key).await })).await
    }

    /// Stores its answer.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn idempotency_finish(&self, now: Timestamp, key: &Key, status: u16, body: &str) -> Result<()> {
        let (tenant, sealing) = (self.id.clone(), self.key(now).await?);
        let hmac = sealing.blind("idempotency", &key.key);
        let sealed = sealing.seal_text("idempotency_keys", "sealed_body", &hmac, body)?;
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    tx.execute(
                        "UPDATE idempotency_keys SET status = $3, sealed_body = $4 WHERE tenant_id = $1 AND key_hmac = $2",
                        args![&tenant, hmac, status, sealed],
                    )
                    .await
                    .map(drop)
                })
            })
            .await
    }
}

/// What is known of a key whose request makes rows of its own.
pub(crate) enum Known {
    /// Nothing: go on, and [`remember`] the rows in the same transaction.
    New,
    /// The rows that were made then, `None` for one that was refused.
    Made(Vec<Option<Uuid>>),
    /// Another request has this key.
    OtherRequest,
}

/// Looks a key up.
pub(crate) async fn look_up(tx: &mut Tx, tenant: &TenantId, sealing: &DataKey, key: Option<&Key>) -> Result<Known> {
    let Some(key) = key else { return Ok(Known::New) };
    let hmac = sealing.blind("idempotency", &key.key);
    let Some(row) = tx
        .row("SELECT fingerprint, sealed_body FROM idempotency_keys WHERE tenant_id = $1 AND key_hmac = $2", args![tenant, &hmac])
        .await?
    else {
        return Ok(Known::New);
    };
    let sealed = row.bytes_opt("sealed_body")?.filter(|_| row.text("fingerprint").is_ok_and(|kept| kept == print(sealing, key)));
    let Some(sealed) = sealed else { return Ok(Known::OtherRequest) };
    Ok(Known::Made(sealing.open_json("idempotency_keys", "sealed_body", &hmac, &sealed)?))
}

/// Keeps a key with the rows that were made under it. Where two equal requests run at once, the second is run again
/// and finds the first one's rows.
pub(crate) async fn remember(
    tx: &mut Tx,
    tenant: &TenantId,
    sealing: &DataKey,
    now: Timestamp,
    key: Option<&Key>,
    made: &[Option<Uuid>],
) -> Result<()> {
    let Some(key) = key else { return Ok(()) };
    let hmac = sealing.blind("idempotency", &key.key);
    let sealed = sealing.seal_json("idempotency_keys", "sealed_body", &hmac, &made)?;
    tx.execute(
        "INSERT INTO idempotency_keys (tenant_id, key_hmac, fingerprint, status, sealed_body, created_at) VALUES ($1, $2, $3, 201, $4, $5)",
        args![tenant, hmac, print(sealing, key), sealed, now],
    )
    .await?;
    Ok(())
}

async fn begin(tx: &mut Tx, tenant: &TenantId, sealing: &DataKey, now: Timestamp, key: &Key) -> Result<Stored> {
    let hmac = sealing.blind("idempotency", &key.key);
    let fresh = tx
        .execute(
            "INSERT INTO idempotency_keys (tenant_id, key_hmac, fingerprint, created_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (tenant_id, key_hmac) DO NOTHING",
            args![tenant, &hmac, print(sealing, key), now],
        )
        .await?;
    if fresh > 0 {
        return Ok(Stored::New);
    }
    let row = tx
        .row(
            locking!("SELECT fingerprint, status, sealed_body, created_at FROM idempotency_keys WHERE tenant_id = $1 AND key_hmac = $2"),
            args![tenant, &hmac],
        )
        .await?
        .ok_or(Error::Corrupt("idempotency_keys"))?;
    if row.text("fingerprint")? != print(sealing, key) {
        return Ok(Stored::OtherRequest);
    }
    match (row.int_opt("status")?, row.bytes_opt("sealed_body")?) {
        (Some(status), Some(sealed)) => Ok(Stored::Answer {
            status: u16::try_from(status).map_err(|_| Error::Corrupt("idempotency_keys"))?,
            body: sealing.open_text("idempotency_keys", "sealed_body", &hmac, &sealed)?,
        }),
        _ if now.ms_since(row.ts("created_at")?) < RUNNING_MS => Ok(Stored::Running),
        _ => {
            tx.execute("UPDATE idempotency_keys SET created_at = $3 WHERE tenant_id = $1 AND key_hmac = $2", args![tenant, hmac, now])
                .await?;
            Ok(Stored::New)
        }
    }
}

/// The fingerprint as it is kept: a digest of a body with a CPF in it could be guessed, a keyed one cannot.
fn print(sealing: &DataKey, key: &Key) -> String {
    sealing.blind("idempotency fingerprint", &key.fingerprint)
}
