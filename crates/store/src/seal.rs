//! Sealing: a ring of key-encryption keys wraps one data key per tenant; values are XChaCha20-Poly1305, bound to their row.

/// The ring from `PONTE_ENCRYPTION_KEY`: the first key wraps, the others still open.
#[derive(Debug)]
pub struct KeyRing {}

impl KeyRing {
    /// Reads base64 keys of 32 bytes, separated by commas.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it, never the key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let _ = text;
        todo!()
    }
}

pub(crate) struct Keys {}
