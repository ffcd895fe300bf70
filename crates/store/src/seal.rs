//! Sealing: a ring of key-encryption keys wraps one data key per tenant; values are XChaCha20-Poly1305, bound to their row.
//!
//! A sealed value is a format byte, a random nonce of 24 bytes from the operating system, and the ciphertext with its tag.
//! Its associated data name tenant, table, column and row, so that a value copied elsewhere cannot be opened there.
//! What has to be found (CPF, CNS, the platform's own keys) is found by HMAC-SHA-256 under a key derived from the data key.

use crate::engine::{Db, args};
use crate::{Error, Result, Tenant};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use model::{TenantId, Timestamp};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use zeroize::Zeroizing;

const FORMAT: u8 = 1;
const NONCE: usize = 24;
const KEY: usize = 32;

/// The ring from `PONTE_ENCRYPTION_KEY`: the first key wraps, the others still open.
pub struct KeyRing {
    keys: Vec<KeyEncryptionKey>,
}

struct KeyEncryptionKey {
    id: String,
    key: Zeroizing<[u8; KEY]>,
}

impl KeyRing {
    /// Reads base64 keys of 32 bytes, separated by commas.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it, never the key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (at, part) in text.split(',').map(str::trim).enumerate() {
            let nth = at + 1;
            let bytes = Zeroizing::new(
                STANDARD
                    .decode(part)
                    .map_err(|_| format!("Key {nth} of PONTE_ENCRYPTION_KEY is not base64. Make one with: openssl rand -base64 32"))?,
            );
            let mut key = Zeroizing::new([0; KEY]);
            if bytes.len() != KEY {
                return Err(format!(
                    "Key {nth} of PONTE_ENCRYPTION_KEY has {} bytes; it needs 32. Make one with: openssl rand -base64 32",
                    bytes.len()
                ));
            }
            key.copy_from_slice(&bytes);
            if key.iter().all(|byte| *byte == key[0]) {
                return Err(format!("Key {nth} of PONTE_ENCRYPTION_KEY is one byte repeated. Make one with: openssl rand -base64 32"));
            }
            let id = hex(&Sha256::digest(*key)[..4]);
            keys.push(KeyEncryptionKey { id, key });
        }
        Ok(Self { keys })
    }

    fn first(&self) -> Result<&KeyEncryptionKey> {
        self.keys.first().ok_or(Error::Sealed)
    }

    fn wrap(&self, tenant: &str, key: &[u8]) -> Result<(String, Vec<u8>)> {
        let first = self.first()?;
        Ok((first.id.clone(), seal(&first.key, key, &wrapping_place(tenant))?))
    }

    fn unwrap(&self, tenant: &str, key_id: &str, wrapped: &[u8]) -> Result<Zeroizing<[u8; KEY]>> {
        let kek = self.keys.iter().find(|kek| kek.id == key_id).ok_or(Error::Sealed)?;
        let bytes = open(&kek.key, wrapped, &wrapping_place(tenant))?;
        let mut key = Zeroizing::new([0; KEY]);
        if bytes.len() != KEY {
            return Err(Error::Sealed);
        }
        key.copy_from_slice(&bytes);
        Ok(key)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|kek| &kek.id)).finish()
    }
}

/// The ring and the data keys that were opened with it.
pub(crate) struct Keys {
    ring: KeyRing,
    opened: RwLock<HashMap<TenantId, Arc<DataKey>>>,
}

impl Keys {
    pub(crate) fn new(ring: KeyRing) -> Self {
        Self { ring, opened: RwLock::new(HashMap::new()) }
    }

    /// Re-wraps every data key that another key than the first wraps; says how many.
    pub(crate) async fn rotate(&self, db: &Db) -> Result<u64> {
        let rows = db
            .read(|tx| {
                Box::pin(async move {
                    let rows = tx.rows("SELECT tenant_id, key_id, data_key FROM tenants ORDER BY tenant_id", args![]).await?;
                    rows.iter()
                        .map(|row| Ok((row.text("tenant_id")?, row.text("key_id")?, row.bytes("data_key")?)))
                        .collect::<Result<Vec<_>>>()
                })
            })
            .await?;
        let mut rewrapped = 0;
        for (tenant, key_id, wrapped) in rows {
            let key = self.ring.unwrap(&tenant, &key_id, &wrapped)?;
            if key_id == self.ring.first()?.id {
                continue;
            }
            let (new_id, rewrap) = self.ring.wrap(&tenant, &*key)?;
            rewrapped += db
                .write(move |tx| {
                    Box::pin(async move {
                        tx.execute(
                            "UPDATE tenants SET key_id = $2, data_key = $3 WHERE tenant_id = $1 AND key_id = $4",
                            args![tenant, new_id, rewrap, key_id],
                        )
                        .await
                    })
                })
                .await?;
        }
        Ok(rewrapped)
    }

    fn known(&self, tenant: &TenantId) -> Option<Arc<DataKey>> {
        self.opened.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    fn learn(&self, tenant: &TenantId, key_id: &str, wrapped: &[u8]) -> Result<Arc<DataKey>> {
        let key = Arc::new(DataKey { tenant: tenant.clone(), key: self.ring.unwrap(tenant.as_str(), key_id, wrapped)? });
        self.opened.write().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone(), key.clone());
        Ok(key)
    }
}

impl Tenant {
    /// The tenant's data key; the tenant comes into being with it, in a transaction of its own (a key that is used must be
    /// durable before anything is sealed with it).
    pub(crate) async fn key(&self, now: Timestamp) -> Result<Arc<DataKey>> {
        if let Some(key) = self.key_if_any().await? {
            return Ok(key);
        }
        let fresh = Zeroizing::new(random::<KEY>()?);
        let (key_id, wrapped) = self.inner.keys.ring.wrap(self.id.as_str(), &*fresh)?;
        let tenant = self.id.clone();
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    tx.execute(
                        "INSERT INTO tenants (tenant_id, key_id, data_key, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id) DO NOTHING",
                        args![&tenant, key_id, wrapped, now],
                    )
                    .await
                })
            })
            .await?;
        self.key_if_any().await?.ok_or(Error::Corrupt("tenants"))
    }

    /// The tenant's data key, if the tenant ever wrote anything.
    pub(crate) async fn key_if_any(&self) -> Result<Option<Arc<DataKey>>> {
        if let Some(key) = self.inner.keys.known(&self.id) {
            return Ok(Some(key));
        }
        let tenant = self.id.clone();
        let row = self
            .inner
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let row = tx.row("SELECT key_id, data_key FROM tenants WHERE tenant_id = $1", args![&tenant]).await?;
                    row.map(|row| Ok((row.text("key_id")?, row.bytes("data_key")?))).transpose()
                })
            })
            .await?;
        row.map(|(key_id, wrapped)| self.inner.keys.learn(&self.id, &key_id, &wrapped)).transpose()
    }
}

/// One tenant's data key.
pub(crate) struct DataKey {
    tenant: TenantId,
    key: Zeroizing<[u8; KEY]>,
}

impl DataKey {
    /// Seals a value for one column of one row (`row`: its id, with a version where the id alone is not the key).
    pub(crate) fn seal(&self, table: &'static str, column: &'static str, row: impl fmt::Display, plain: &[u8]) -> Result<Vec<u8>> {
        seal(&self.key, plain, &self.place(table, column, &row))
    }

    /// Opens it again.
    pub(crate) fn open(
        &self,
        table: &'static str,
        column: &'static str,
        row: impl fmt::Display,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>> {
        open(&self.key, sealed, &self.place(table, column, &row))
    }

    /// Seals a text.
    pub(crate) fn seal_text(&self, table: &'static str, column: &'static str, row: impl fmt::Display, text: &str) -> Result<Vec<u8>> {
        self.seal(table, column, row, text.as_bytes())
    }

    /// Opens a text.
    pub(crate) fn open_text(&self, table: &'static str, column: &'static str, row: impl fmt::Display, sealed: &[u8]) -> Result<String> {
        String::from_utf8(self.open(table, column, row, sealed)?.to_vec()).map_err(|_| Error::Corrupt(table))
    }

    /// Seals what serde can write.
    pub(crate) fn seal_json<T: Serialize>(
        &self,
        table: &'static str,
        column: &'static str,
        row: impl fmt::Display,
        value: &T,
    ) -> Result<Vec<u8>> {
        let plain = Zeroizing::new(serde_json::to_vec(value).map_err(|_| Error::Corrupt(table))?);
        self.seal(table, column, row, &plain)
    }

    /// Opens what serde wrote.
    pub(crate) fn open_json<T: DeserializeOwned>(
        &self,
        table: &'static str,
        column: &'static str,
        row: impl fmt::Display,
        sealed: &[u8],
    ) -> Result<T> {
        serde_json::from_slice(&self.open(table, column, row, sealed)?).map_err(|_| Error::Corrupt(table))
    }

    /// The blind index of a value: the same for the same value of this tenant, and of no use without its key.
    pub(crate) fn blind(&self, what: &'static str, value: &str) -> String {
        let mut index = mac(&*self.key);
        index.update(b"ponte blind index v1");
        let mut keyed = mac(&index.finalize().into_bytes());
        keyed.update(what.as_bytes());
        keyed.update(&[0]);
        keyed.update(value.as_bytes());
        hex(&keyed.finalize().into_bytes())
    }

    fn place(&self, table: &str, column: &str, row: &dyn fmt::Display) -> Vec<u8> {
        place(self.tenant.as_str(), table, column, &row.to_string())
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from the operating system's chance.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).map_err(|_| Error::Database("the operating system gives no random bytes".to_owned()))?;
    Ok(bytes)
}

fn wrapping_place(tenant: &str) -> Vec<u8> {
    place(tenant, "tenants", "data_key", tenant)
}

/// The parts with their lengths, so that no two places read alike.
fn place(tenant: &str, table: &str, column: &str, row: &str) -> Vec<u8> {
    let mut place = Vec::with_capacity(tenant.len() + table.len() + column.len() + row.len() + 32);
    for part in [tenant, table, column, row] {
        place.extend_from_slice(&(part.len() as u64).to_be_bytes());
        place.extend_from_slice(part.as_bytes());
    }
    place
}

fn seal(key: &[u8; KEY], plain: &[u8], place: &[u8]) -> Result<Vec<u8>> {
    let nonce = random::<NONCE>()?;
    let sealed =
        XChaCha20Poly1305::new(key.into()).encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: place }).map_err(|_| Error::Sealed)?;
    let mut whole = Vec::with_capacity(1 + NONCE + sealed.len());
    whole.push(FORMAT);
    whole.extend_from_slice(&nonce);
    whole.extend_from_slice(&sealed);
    Ok(whole)
}

fn open(key: &[u8; KEY], sealed: &[u8], place: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let (format, rest) = sealed.split_first().ok_or(Error::Sealed)?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or(Error::Sealed)?;
    if *format != FORMAT {
        return Err(Error::Sealed);
    }
    XChaCha20Poly1305::new(key.into())
        .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: place })
        .map(Zeroizing::new)
        .map_err(|_| Error::Sealed)
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of any length (RFC 2104 §2), so the other branch is never taken.
    <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap_or_else(|_| <Hmac<Sha256> as KeyInit>::new(&Default::default()))
}

#[cfg(test)]
mod tests;
