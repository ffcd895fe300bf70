//! `ponte rotate-key`: re-wraps the tenants' keys with the first key of the ring.

use crate::exit::{Exit, Failure};
use crate::settings::DatabaseFlags;
use crate::{open, talk};
use clap::Args;

/// Re-wraps the tenants' keys.
#[derive(Debug, Args)]
#[command(after_help = "Set PONTE_ENCRYPTION_KEY to NEW,OLD on every node, restart them, run this once, then set it to NEW alone.")]
pub struct RotateKey {
    #[command(flatten)]
    database: DatabaseFlags,
}

impl RotateKey {
    /// Rotates. Nothing has to stand still for it: data keys stay what they are, only what they are wrapped in changes.
    pub(super) async fn run(self, json: bool) -> Result<Exit, Failure> {
        let settings = super::settings(self.database.given()?)?;
        let wrapped = open::database(&settings).await?.rotate_keys().await?;
        if json {
            talk::data(serde_json::json!({"rewrapped": wrapped}).to_string());
        } else {
            talk::say(match wrapped {
                0 => "Every tenant's key was wrapped with the first key of the ring already.".to_owned(),
                1 => "1 tenant's key was wrapped anew. The older keys of the ring are not needed any more.".to_owned(),
                many => format!("{many} tenants' keys were wrapped anew. The older keys of the ring are not needed any more."),
            });
        }
        Ok(Exit::Ok)
    }
}
