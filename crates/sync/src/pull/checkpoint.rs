//! What a pull notes behind each page, so that after a crash it goes on where it was. Sealed by the store.

use super::walk::Walk;
use model::{EhrId, Timestamp};
use serde::{Deserialize, Serialize};

/// A note older than this is not taken up: next links are long dead and the start is too far away.
const STALE_MS: i64 = 24 * 3_600_000;

/// A pull under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// The linked Patient that it reads; another link begins anew.
    ehr_id: EhrId,
    /// When it began, by our clock: rows seen since then were shown by this pull.
    pub(crate) started_at: Timestamp,
    /// When it began by the server's `Date`, if it sends one.
    pub(crate) server_start: Option<Timestamp>,
    /// Where the walk stands.
    pub(crate) walk: Walk,
    /// Largest `_lastUpdated` seen, ms.
    pub(crate) largest: Option<i64>,
    /// The list is read whole in this pull, so what it does not show may be gone.
    pub(crate) full: bool,
    /// Behind the walk by value the list is to be read whole.
    pub(crate) review_due: bool,
    /// Rows of this patient.
    pub(crate) own: u64,
    /// Rows of somebody else: left out.
    pub(crate) foreign: u64,
    /// Rows that could not be read.
    pub(crate) unreadable: u64,
    /// The EHR said that it withholds something, or that something went wrong.
    pub(crate) withheld: bool,
}

impl Checkpoint {
    /// A pull that begins now.
    pub(crate) fn begin(ehr_id: EhrId, started_at: Timestamp, server_start: Option<Timestamp>, walk: Walk) -> Self {
        Self {
            ehr_id,
            started_at,
            server_start,
            walk,
            largest: None,
            full: false,
            review_due: false,
            own: 0,
            foreign: 0,
            unreadable: 0,
            withheld: false,
        }
    }

    /// Takes up a note, if it is of this link and fresh enough.
    pub(crate) fn take_up(note: &str, ehr_id: &EhrId, now: Timestamp) -> Option<Self> {
        let checkpoint: Self = serde_json::from_str(note).ok()?;
        let age = now.ms_since(checkpoint.started_at);
        (checkpoint.ehr_id == *ehr_id && (0..STALE_MS).contains(&age)).then_some(checkpoint)
    }

    /// The note. Empty where it cannot be written, which is taken up as nothing.
    pub(crate) fn note(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The watermark after this pull: the lesser of the largest value seen and the start by the server's clock (ours, where it
    /// sends none), and never back behind an earlier one, which still holds.
    pub(crate) fn watermark(&self, before: Option<Timestamp>) -> Option<Timestamp> {
        let start = self.server_start.unwrap_or(self.started_at);
        let reached = self.largest.map(|largest| Timestamp(largest).min(start));
        reached.max(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let ehr_id = EhrId::new("p1").unwrap();
        Checkpoint::begin(ehr_id, Timestamp(1_000_000), Some(Timestamp(900_000)), Walk::by_value(None, None))
    }

    #[test]
    fn the_watermark_is_the_lesser_of_largest_and_start_and_never_goes_back() {
        let mut pull = checkpoint();
        assert_eq!(pull.watermark(None), None);
        assert_eq!(pull.watermark(Some(Timestamp(5))), Some(Timestamp(5)));
        pull.largest = Some(800_000);
        assert_eq!(pull.watermark(None), Some(Timestamp(800_000)));
        assert_eq!(pull.watermark(Some(Timestamp(850_000))), Some(Timestamp(850_000)));
        pull.largest = Some(4_000_000_000_000);
        assert_eq!(pull.watermark(None), Some(Timestamp(900_000)));
        pull.server_start = None;
        assert_eq!(pull.watermark(None), Some(Timestamp(1_000_000)));
    }

    #[test]
    fn a_note_of_another_link_or_of_yesterday_is_not_taken_up() {
        let pull = checkpoint();
        let note = pull.note();
        let p1 = EhrId::new("p1").unwrap();
        assert_eq!(Checkpoint::take_up(&note, &p1, Timestamp(1_000_001)), Some(pull));
        assert_eq!(Checkpoint::take_up(&note, &EhrId::new("p2").unwrap(), Timestamp(1_000_001)), None);
        assert_eq!(Checkpoint::take_up(&note, &p1, Timestamp(1_000_000 + STALE_MS)), None);
        assert_eq!(Checkpoint::take_up("", &p1, Timestamp(1_000_001)), None);
    }
}
