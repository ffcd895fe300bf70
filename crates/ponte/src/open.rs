//! Opens the database that the settings name.

use crate::clock::OsRng;
use crate::exit::Failure;
use crate::settings::Settings;
use base64::Engine as _;
use model::{Rng, TenantId};
use secrecy::ExposeSecret;
use std::sync::Arc;
use store::{KeyRing, Store};

/// The database, which must be as this binary expects it.
///
/// # Errors
/// What to set, or that `ponte migrate` comes first.
pub async fn database(settings: &Settings) -> Result<Store, Failure> {
    let store = connect(settings, settings.keys()?).await?;
    store.ready().await.map_err(|why| Failure::failed(format!("{why} `ponte migrate` brings the database up to date.")))?;
    Ok(store)
}

/// The database, whatever its schema.
///
/// # Errors
/// When it cannot be reached.
pub async fn connect(settings: &Settings, keys: KeyRing) -> Result<Store, Failure> {
    Ok(Store::open_by(settings.database_way, settings.database_url.expose_secret(), keys, Arc::new(OsRng)).await?)
}

/// A key ring that seals nothing that anybody keeps.
///
/// # Errors
/// None that can be foreseen.
pub fn throw_away_keys() -> Result<KeyRing, Failure> {
    KeyRing::parse(&random_key()).map_err(Failure::failed)
}

/// Base64 of 32 random bytes.
#[must_use]
pub fn random_key() -> String {
    let bytes: Vec<u8> = (0..4).flat_map(|_| OsRng.next_u64().to_be_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The tenant of that name, or all of them.
///
/// # Errors
/// When there is none of that name.
pub async fn tenants(store: &Store, wanted: Option<&TenantId>) -> Result<Vec<TenantId>, Failure> {
    let all = store.fleet().tenants().await?;
    match wanted {
        None => Ok(all),
        Some(id) if all.contains(id) => Ok(vec![id.clone()]),
        Some(id) => Err(Failure::not_found(format!("There is no tenant {id} in this database; it comes into being with its first write."))),
    }
}
