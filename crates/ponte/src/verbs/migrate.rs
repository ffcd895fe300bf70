//! `ponte migrate`: brings the database up to date.

use crate::exit::{Exit, Failure};
use crate::settings::DatabaseFlags;
use crate::{open, talk};
use clap::Args;

/// Brings the database up to date.
#[derive(Debug, Args)]
pub struct Migrate {
    #[command(flatten)]
    database: DatabaseFlags,
}

impl Migrate {
    /// Migrates; safe to call from several nodes at once, and as often as one likes.
    pub(super) async fn run(self, json: bool) -> Result<Exit, Failure> {
        let settings = super::settings(self.database.given()?)?;
        // Nothing is sealed or opened here, so a deployment step may do without the key.
        let keys = if settings.encryption_key.is_some() { settings.keys()? } else { open::throw_away_keys()? };
        let store = open::connect(&settings, keys).await?;
        store.migrate().await?;
        if json {
            talk::data(r#"{"migrated":true}"#);
        } else {
            talk::say("The database is up to date.");
        }
        Ok(Exit::Ok)
    }
}
