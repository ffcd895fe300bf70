//! `If-Match` on a correction: the current one, a stale one, the strong form; and whether the mark of our version is replaced.

use super::{Base, Bench, learn};
use crate::client::Put;
use model::{Class, Seen, What};
use std::time::Instant;

impl Bench<'_> {
    /// Corrects the resource with its current version, and again with the version that it had before.
    pub(super) async fn update(&mut self, base: &mut Base) {
        let since = Instant::now();
        if base.version.is_none() {
            base.version = self.look(base).await.and_then(|look| look.version);
        }
        let Some(first) = base.version.clone() else { return };
        let body = self.record(&base.value, base.mark + 1, Some(&base.id), "amended");
        let fresh = self.ehr.put("Observation", &base.id, body, Put::Update { version: Some(&first) }, &self.call()).await.outcome;
        let look = self.look(base).await;
        let moved = look.as_ref().and_then(|look| look.version.clone()).filter(|version| *version != first);
        let (Class::Applied, Some(look), Some(second)) = (fresh.class, look, moved) else {
            self.find(What::IfMatch, Seen::NotSeen, since);
            learn(&mut self.plan.if_match, Seen::NotSeen);
            return;
        };
        base.mark += 1;
        base.version = Some(second.clone());
        let replaced = look.mark == Some(base.mark);
        self.find_counted(What::VersionMark, if replaced { Seen::Proven } else { Seen::Refused }, 1, since, Some(look.marks));

        let body = self.record(&base.value, base.mark + 1, Some(&base.id), "amended");
        let stale = self.ehr.put("Observation", &base.id, body, Put::Update { version: Some(&first) }, &self.call()).await.outcome;
        let seen = self.refused_and_unchanged(base, stale.class).await;
        self.find_counted(What::IfMatch, seen, 2, since, None);
        learn(&mut self.plan.if_match, seen);

        let (since, Some(version)) = (Instant::now(), base.version.clone()) else { return };
        let body = self.record(&base.value, base.mark + 1, Some(&base.id), "amended");
        let strong = self.ehr.put("Observation", &base.id, body, Put::Strong { version: &version }, &self.call()).await.outcome;
        let seen = match strong.class {
            Class::Applied => Seen::Proven,
            Class::Conflict | Class::Validation => Seen::Refused,
            _ => Seen::NotSeen,
        };
        self.find(What::IfMatchStrong, seen, since);
        self.refresh(base).await;
    }

    /// Whether a write with a precondition that does not hold was refused, and really changed nothing.
    pub(super) async fn refused_and_unchanged(&self, base: &mut Base, class: Class) -> Seen {
        let before = base.version.clone();
        self.refresh(base).await;
        match class {
            Class::Applied => Seen::Refused,
            Class::Conflict if base.version == before => Seen::Proven,
            // It said no and did it all the same.
            Class::Conflict => Seen::Refused,
            _ => Seen::NotSeen,
        }
    }

    /// Reads the version that is there now.
    pub(super) async fn refresh(&self, base: &mut Base) {
        if let Some(look) = self.look(base).await {
            base.mark = look.mark.unwrap_or(base.mark + 1);
            base.version = look.version;
        }
    }
}
