//! Who did what: appended, never changed, never with content.

use crate::{Page, PageRequest, Result, Tenant};
use model::Timestamp;

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
    pub async fn audit(&self, page: &PageRequest) -> Result<Page<Entry>> {
        let _ = page;
        todo!()
    }
}
