//! The one probe of a connection that failed last: whose turn it is to find out whether it works again, over all nodes.

use crate::engine::Engine;
use crate::lane::limit_ms;
use model::Timestamp;
use store::{Error, Runtime, StoredConnection, Tenant};

/// What a turn may do at this connection.
pub(crate) enum Probe {
    /// It did not fail last: as much as is due.
    NotNeeded,
    /// It is this turn's until then, unless it is given back ([`Tenant::give_back_probe`]).
    Mine(Timestamp),
    /// Somebody else is finding out.
    Anothers,
}

impl Probe {
    /// Takes it where there is one to be had.
    pub(crate) async fn take(
        engine: &Engine,
        tenant: &Tenant,
        stored: &StoredConnection,
        runtime: &Runtime,
        now: Timestamp,
    ) -> Result<Self, Error> {
        if !runtime.failed_last() {
            return Ok(Self::NotNeeded);
        }
        let until = now.plus_ms(limit_ms(engine, stored).saturating_mul(2).max(1000));
        Ok(if tenant.take_probe(now, until).await? { Self::Mine(until) } else { Self::Anothers })
    }

    /// Until when it is this turn's.
    pub(crate) fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Mine(until) => Some(*until),
            Self::NotNeeded | Self::Anothers => None,
        }
    }
}
