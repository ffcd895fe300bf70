//! Who may be at a tenant's EHR just now.
//!
//! Where one node does all the work (SQLite) more lanes are leased than `maxConcurrency` says, so that some are read and written down
//! while others are at the EHR. How many are *there* at once is kept to the number here.

use model::TenantId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of all tenants on this node.
#[derive(Default)]
pub(crate) struct Places {
    of: Mutex<HashMap<TenantId, Arc<Door>>>,
}

/// The places at one tenant's EHR.
pub(crate) struct Door {
    most: usize,
    free: Arc<Semaphore>,
    failures: AtomicU64,
}

impl Places {
    /// Those of a tenant that may have so many. After a change of that number those who are there still leave by the old door.
    pub(crate) fn of(&self, tenant: &TenantId, most: u32) -> Arc<Door> {
        let most = usize::try_from(most).unwrap_or(1).max(1);
        let mut all = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(tenant) {
            Some(door) if door.most == most => door.clone(),
            _ => {
                let door = Arc::new(Door { most, free: Arc::new(Semaphore::new(most)), failures: AtomicU64::new(0) });
                all.insert(tenant.clone(), door.clone());
                door
            }
        }
    }
}

/// A claim's share of the node's workers. Who waits for a place does not keep the tenants of others waiting.
#[derive(Default)]
pub(crate) struct Slot {
    of: Option<Arc<Semaphore>>,
    held: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// One of these.
    pub(crate) async fn of(slots: &Arc<Semaphore>) -> Option<Self> {
        let held = slots.clone().acquire_owned().await.ok()?;
        Some(Self { of: Some(slots.clone()), held: Some(held) })
    }

    /// Given back for a while.
    pub(crate) fn give_back(&mut self) {
        self.held = None;
    }

    /// Taken anew.
    pub(crate) async fn take_again(&mut self) {
        if let (Some(slots), None) = (&self.of, &self.held) {
            self.held = slots.clone().acquire_owned().await.ok();
        }
    }
}

/// A turn's way to the EHR and back.
pub(crate) struct Way {
    door: Arc<Door>,
    slot: Slot,
    place: Option<OwnedSemaphorePermit>,
    failures_before: u64,
}

impl Way {
    /// Of a turn that begins.
    pub(crate) fn through(door: Arc<Door>, slot: Slot) -> Self {
        let failures_before = door.failures.load(Ordering::Relaxed);
        Self { door, slot, place: None, failures_before }
    }

    /// Takes a place, in the order of coming, unless it has one. False: the connection has failed since the turn began, which what
    /// was read then does not know.
    pub(crate) async fn enter(&mut self) -> bool {
        if self.place.is_some() {
            return true;
        }
        self.place = self.door.free.clone().try_acquire_owned().ok();
        if self.place.is_none() {
            self.slot.give_back();
            self.place = self.door.free.clone().acquire_owned().await.ok();
            self.slot.take_again().await;
        }
        self.door.failures.load(Ordering::Relaxed) == self.failures_before
    }

    /// All is answered: others may be there while it is written down.
    pub(crate) fn leave(&mut self) {
        self.place = None;
    }

    /// The connection failed: who waits need not try it.
    pub(crate) fn note_failure(&self) {
        self.door.failures.fetch_add(1, Ordering::Relaxed);
    }
}
