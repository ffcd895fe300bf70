//! Who may be at a tenant's EHR just now.
//!
//! Where one node does all the work (SQLite) more lanes are leased than `maxConcurrency` says, so that some are read and written down
//! while others are at the EHR. How many are *there* at once is kept to the number here.

use model::TenantId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The places of all tenants on this node.
#[derive(Default)]
pub(crate) struct Places {
    of: Mutex<HashMap<TenantId, Arc<Door>>>,
}

/// The places at one tenant's EHR.
#[derive(Default)]
pub(crate) struct Door {
    /// How many there are, and those that are free.
    room: Mutex<Option<(u32, Arc<Semaphore>)>>,
    failures: AtomicU64,
}

impl Places {
    /// Those of a tenant.
    pub(crate) fn of(&self, tenant: &TenantId) -> Arc<Door> {
        let mut all = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(tenant.clone()).or_default().clone()
    }
}

impl Door {
    /// The free ones of so many. After a change of that number those who are there still leave by the old room.
    fn room(&self, most: u32) -> Arc<Semaphore> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        match &*room {
            Some((size, free)) if *size == most => free.clone(),
            _ => room.insert((most, Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1).max(1))))).1.clone(),
        }
    }
}

/// A claim's share of the node's workers. Who waits for a place does not keep the tenants of others waiting.
#[derive(Default)]
pub(crate) struct Slot {
    of: Option<Arc<Semaphore>>,
    held: Option<OwnedSemaphorePermit>,
    ended: CancellationToken,
}

impl Slot {
    /// One of these, of a node that works until `ended`.
    pub(crate) async fn of(slots: &Arc<Semaphore>, ended: &CancellationToken) -> Option<Self> {
        let held = slots.clone().acquire_owned().await.ok()?;
        Some(Self { of: Some(slots.clone()), held: Some(held), ended: ended.clone() })
    }

    /// Given back for a while.
    fn give_back(&mut self) {
        self.held = None;
    }

    /// Taken anew.
    async fn take_again(&mut self) {
        if let (Some(slots), None) = (&self.of, &self.held) {
            self.held = slots.clone().acquire_owned().await.ok();
        }
    }
}

/// A turn's way to the EHR and back.
pub(crate) struct Way {
    door: Arc<Door>,
    slot: Slot,
    /// The same through one turn, also while the number is changed.
    room: Option<Arc<Semaphore>>,
    place: Option<OwnedSemaphorePermit>,
    failures_before: u64,
}

impl Way {
    /// Of a turn that is about to read what it goes by.
    pub(crate) fn through(door: Arc<Door>, slot: Slot) -> Self {
        let failures_before = door.failures.load(Ordering::SeqCst);
        Self { door, slot, room: None, place: None, failures_before }
    }

    /// Takes one of `most` places, in the order of coming, unless it has one. False: nothing more is to be begun, for the node ends, or
    /// the connection has failed since the turn began, which what was read then does not know.
    pub(crate) async fn enter(&mut self, most: u32) -> bool {
        if self.place.is_none() {
            let free = self.room.get_or_insert_with(|| self.door.room(most)).clone();
            self.place = match free.clone().try_acquire_owned() {
                Ok(place) => Some(place),
                Err(_) => {
                    self.slot.give_back();
                    let place = free.acquire_owned().await.ok();
                    self.slot.take_again().await;
                    place
                }
            };
        }
        !self.slot.ended.is_cancelled() && self.door.failures.load(Ordering::SeqCst) == self.failures_before
    }

    /// All is answered: others may be there while it is written down.
    pub(crate) fn leave(&mut self) {
        self.place = None;
    }

    /// The connection failed: who waits need not try it.
    pub(crate) fn note_failure(&self) {
        self.door.failures.fetch_add(1, Ordering::SeqCst);
    }
}
