//! Where this database lives (PRODUCT, "A moved hospital, a restored database"): SQLite by a marker file beside it,
//! PostgreSQL by system identifier and database oid. Elsewhere it starts paused until a person says what it is.
//!
//! The marker changes at every start, in the file and in the database: a copy has no marker, a copied folder has one with
//! another inode, and a backup put back in its old place remembers an older marker than the one that lies there.

mod marker;
mod restored;

use crate::engine::{Tx, args};
use crate::{Error, Result, Store};
use marker::Marker;
use model::Timestamp;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// First start, or the same place as ever.
    Here,
    /// Another place than the one it remembers, or a copy: nothing is sent.
    Elsewhere,
}

/// What a person says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopt {
    /// Moved: go on here.
    Moved,
    /// A copy: never push.
    Copy,
    /// Restored from a backup: whatever was open then or may have happened since is uncertain and is settled first.
    Restored,
}

impl Store {
    /// Compares the place with the remembered one; remembers it at the first start; pauses elsewhere.
    ///
    /// # Errors
    /// When the database fails or the marker beside the file cannot be written.
    pub async fn come_home(&self, now: Timestamp) -> Result<Home> {
        let known = self.installation().await?;
        let place = self.place(now).await?;
        let here = known.as_ref().is_none_or(|(home, _)| place.is(home));
        let copy = known.as_ref().is_some_and(|(_, state)| state == "copy");
        if here {
            // The place first: a crash in between leaves a marker that knows the older name too.
            let home = place.renew(known.as_ref().map(|(home, _)| home.as_str()))?;
            self.remember(now, &home, if copy { "copy" } else { "running" }).await?;
        } else if !copy {
            self.pause(now).await?;
        }
        Ok(if here && !copy { Home::Here } else { Home::Elsewhere })
    }

    /// Whether sending is allowed: false while paused and for a copy.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn may_send(&self) -> Result<bool> {
        self.inner.db.read(|tx| Box::pin(async move { may_send(tx).await })).await
    }

    /// A person's word. `Restored`: every delivery that is open becomes `uncertain` and is asked about once `settle_ms` is
    /// over (what a person holds stays held, and is asked about before it is ever sent); what was delivered is audited
    /// (`audit_at = now`). Connection checks that are under way are ended, whatever it is.
    ///
    /// # Errors
    /// When the database fails; then nothing else was changed.
    pub async fn adopt(&self, now: Timestamp, what: Adopt, settle_ms: i64) -> Result<()> {
        let known = self.installation().await?;
        self.inner.db.write(move |tx| Box::pin(async move { end_checks(tx, now).await })).await?;
        let home = self.place(now).await?.renew(known.as_ref().map(|(home, _)| home.as_str()))?;
        if what == Adopt::Restored {
            let rng = self.inner.rng.clone();
            self.inner.db.write_at_length(move |tx| Box::pin(async move { restored::unsettle(tx, &*rng, now, settle_ms).await })).await?;
        }
        self.remember(now, &home, if what == Adopt::Copy { "copy" } else { "running" }).await
    }

    async fn installation(&self) -> Result<Option<(String, String)>> {
        self.inner
            .db
            .read(|tx| {
                Box::pin(async move {
                    let row = tx.row("SELECT home, state FROM installation WHERE id = 1", args![]).await?;
                    row.map(|row| Ok((row.text("home")?, row.text("state")?))).transpose()
                })
            })
            .await
    }

    async fn remember(&self, now: Timestamp, home: &str, state: &'static str) -> Result<()> {
        let home = home.to_owned();
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    tx.execute(
                        "INSERT INTO installation (id, home, state, changed_at) VALUES (1, $1, $2, $3) \
                         ON CONFLICT (id) DO UPDATE SET home = excluded.home, state = excluded.state, changed_at = excluded.changed_at",
                        args![home, state, now],
                    )
                    .await?;
                    tx.wake(true).await
                })
            })
            .await
    }

    async fn pause(&self, now: Timestamp) -> Result<()> {
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    tx.execute("UPDATE installation SET state = 'paused', changed_at = $1 WHERE id = 1 AND state <> 'paused'", args![now])
                        .await?;
                    end_checks(tx, now).await
                })
            })
            .await
    }

    async fn place(&self, now: Timestamp) -> Result<Place> {
        if let Some(file) = self.inner.db.file() {
            let fresh = self.inner.rng.uuid_v7(now).to_string();
            return Ok(Place::File { marker: Marker::beside(&file), fresh });
        }
        let oid = self.one_text("SELECT CAST(oid AS TEXT) AS value FROM pg_database WHERE datname = current_database()").await?;
        // Some hosts let nobody ask for the system identifier; the oid alone must do there.
        let system = self.one_text("SELECT CAST(system_identifier AS TEXT) AS value FROM pg_control_system()").await.unwrap_or_default();
        Ok(Place::Server { name: format!("postgres:{system}:{oid}") })
    }

    async fn one_text(&self, sql: &'static str) -> Result<String> {
        self.inner
            .db
            .read(move |tx| Box::pin(async move { tx.row(sql, args![]).await?.ok_or(Error::Corrupt("pg_database"))?.text("value") }))
            .await
    }
}

/// The place as it is now.
enum Place {
    /// A file and its marker.
    File { marker: Marker, fresh: String },
    /// A database of a PostgreSQL server.
    Server { name: String },
}

impl Place {
    fn is(&self, home: &str) -> bool {
        match self {
            Self::File { marker, .. } => marker.knows(home),
            Self::Server { name } => name == home,
        }
    }

    /// What to remember of it from now on.
    fn renew(&self, known: Option<&str>) -> Result<String> {
        match self {
            Self::File { marker, fresh } => {
                marker
                    .write(fresh, known)
                    .map_err(|error| Error::Database(format!("the marker beside the database cannot be written: {}", error.kind())))?;
                Ok(fresh.clone())
            }
            Self::Server { name } => Ok(name.clone()),
        }
    }
}

/// A check that was asked for elsewhere, perhaps with a write, is nobody's wish here.
async fn end_checks(tx: &mut Tx, now: Timestamp) -> Result<(), Error> {
    let sql = "UPDATE runs SET state = 'finished', finished_at = $1, lease_until = NULL WHERE kind = 'check' AND state = 'running'";
    tx.execute(sql, args![now]).await.map(drop)
}

/// Whether sending is allowed.
pub(crate) async fn may_send(tx: &mut Tx) -> Result<bool> {
    Ok(tx.row("SELECT id FROM installation WHERE state <> 'running'", args![]).await?.is_none())
}
