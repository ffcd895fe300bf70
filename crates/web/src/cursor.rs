//! Cursors of lists: opaque, and bound by a MAC to tenant, list and filters, so that another tenant's is refused.

use crate::problem::Problem;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::StatusCode;
use model::TenantId;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The key that signs cursors. `Debug` hides it.
#[derive(Clone)]
pub struct CursorKey([u8; 32]);

impl std::fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CursorKey(***)")
    }
}

const MAC_BYTES: usize = 16;

impl CursorKey {
    /// Derives the key from any secret that all nodes share.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Self {
        let mut digest = Sha256::new();
        digest.update(b"ponte cursor key\0");
        digest.update(secret);
        Self(digest.finalize().into())
    }

    /// The cursor behind `id` in this list. Public for the fuzzer alone.
    #[doc(hidden)]
    #[must_use]
    pub fn seal(&self, tenant: &TenantId, list: &str, id: Uuid) -> String {
        let mut bytes = id.as_bytes().to_vec();
        bytes.extend_from_slice(&self.mac(tenant, list, id)[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a cursor stands for. Public for the fuzzer alone.
    ///
    /// # Errors
    /// 400 `invalid_cursor` when it is not one of this tenant and this list.
    #[doc(hidden)]
    pub fn open(&self, tenant: &TenantId, list: &str, cursor: &str) -> Result<Uuid, Problem> {
        let invalid = || {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid_cursor",
                "This cursor does not belong to this list; take nextCursor of the page before, with the same filters.",
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
        let (id, mac) = bytes.split_first_chunk::<16>().ok_or_else(invalid)?;
        let id = Uuid::from_bytes(*id);
        let fits = mac.len() == MAC_BYTES && self.keyed(tenant, list, id).verify_truncated_left(mac).is_ok();
        if fits { Ok(id) } else { Err(invalid()) }
    }

    fn mac(&self, tenant: &TenantId, list: &str, id: Uuid) -> [u8; 32] {
        self.keyed(tenant, list, id).finalize().into_bytes().into()
    }

    fn keyed(&self, tenant: &TenantId, list: &str, id: Uuid) -> Hmac<Sha256> {
        // HMAC fills a key up to its block with zeros (RFC 2104 §2).
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.0);
        let mut mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
        for part in [tenant.as_str().as_bytes(), list.as_bytes()] {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part);
        }
        mac.update(id.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_only_for_its_tenant_and_list() {
        let (key, other) = (CursorKey::from_secret(b"one"), CursorKey::from_secret(b"two"));
        let (a, b) = (TenantId::new("a").unwrap(), TenantId::new("b").unwrap());
        let id = Uuid::from_u128(7);
        let cursor = key.seal(&a, "patients", id);
        assert_eq!(key.open(&a, "patients", &cursor).unwrap(), id);
        assert!(key.open(&b, "patients", &cursor).is_err());
        assert!(key.open(&a, "deliveries", &cursor).is_err());
        assert!(other.open(&a, "patients", &cursor).is_err());
        for bad in ["", "x", "!!", &cursor[..20], &format!("{cursor}AA")] {
            assert!(key.open(&a, "patients", bad).is_err(), "{bad}");
        }
    }
}
