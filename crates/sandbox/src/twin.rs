//! The state of the sandbox: what it stores, with its indexes, what is still to come, and the one place where anything is committed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use indexmap::IndexMap;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::value::RawValue;

use crate::call::Call;
use crate::fault::{Fault, FaultSet};
use crate::instant;
use crate::json::{self, Json, str_at, string};
use crate::ledger::{Author, Condition, Effect, Held, Identifier, Ledger, local};
use crate::oauth::Token;
use crate::options::{Auth, Options, Profile, Settings};
use crate::paging::{Cached, Session};
use crate::plan::FaultPlan;
use crate::quirks::{IdStyle, Quirks, VersionStyle};

/// The server's memory. Everything in it happens under one lock, at the moment `now`.
pub(crate) struct Twin {
    pub(crate) profile: Profile,
    pub(crate) auth: Vec<Auth>,
    /// When it was set up, milliseconds since 1970.
    pub(crate) started: i64,
    pub(crate) quirks: Quirks,
    pub(crate) settings: Settings,
    pub(crate) plan: FaultPlan,
    /// Milliseconds since 1970, set when the lock is taken.
    pub(crate) now: i64,
    pub(crate) kinds: BTreeMap<String, Kind>,
    pub(crate) effects: Vec<Arc<Effect>>,
    pub(crate) shown: BTreeMap<&'static str, u64>,
    pub(crate) requests: BTreeMap<String, u64>,
    pub(crate) tokens: HashMap<String, Token>,
    pub(crate) tokens_issued: u64,
    pub(crate) sessions: IndexMap<String, Session>,
    pub(crate) cache: HashMap<String, Cached>,
    pub(crate) late: Vec<Late>,
    /// Chance of faults; apart from the ids, so that a fault does not shift them.
    pub(crate) chance: ChaCha8Rng,
    ids: ChaCha8Rng,
    next_number: u64,
    /// Which of 500, 409 and 422 the next failing entry gets.
    pub(crate) entry_failures: usize,
    journal: Option<Vec<(String, usize)>>,
    /// `Type/id` of what the transaction at work is to create.
    pub(crate) promised: BTreeSet<String>,
}

/// A write whose line was cut and that commits when it is due.
pub(crate) struct Late {
    pub(crate) due: i64,
    pub(crate) call: Call,
}

/// All resources of one type, in the order of their creation.
#[derive(Default)]
pub(crate) struct Kind {
    pub(crate) rows: Vec<Row>,
    pub(crate) by_id: HashMap<String, usize>,
    pub(crate) by_identifier: HashMap<String, BTreeSet<usize>>,
    pub(crate) by_subject: HashMap<String, BTreeSet<usize>>,
}

/// One resource with all its versions, oldest first; none at all after a rolled back create.
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) versions: Vec<Version>,
}

/// One version; without a body it is the delete.
pub(crate) struct Version {
    pub(crate) id: String,
    pub(crate) at: i64,
    pub(crate) method: &'static str,
    pub(crate) body: Option<Arc<Json>>,
    pub(crate) sent: Vec<Identifier>,
}

/// A write that has been judged and is to happen now.
pub(crate) struct Write<'a> {
    pub(crate) kind: &'a str,
    pub(crate) id: String,
    pub(crate) method: &'static str,
    /// None deletes.
    pub(crate) body: Option<Json>,
    pub(crate) condition: Condition,
}

impl Row {
    pub(crate) fn current(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// The resource, unless it is deleted or never came to be.
    pub(crate) fn body(&self) -> Option<&Arc<Json>> {
        self.versions.last()?.body.as_ref()
    }
}

impl Kind {
    /// The row of this id, if it was ever committed.
    pub(crate) fn find(&self, id: &str) -> Option<(usize, &Row)> {
        let place = *self.by_id.get(id)?;
        let row = self.rows.get(place)?;
        (!row.versions.is_empty()).then_some((place, row))
    }
}

impl Twin {
    pub(crate) fn new(options: &Options) -> Twin {
        let mut quirks = options.quirks.clone().unwrap_or_else(|| Quirks::of(options.profile));
        if let Some(check) = options.check_subject {
            quirks.check_subject = check;
        }
        let mut settings = options.settings.clone();
        if options.profile == Profile::Medplum && settings.no_update_create_status == Settings::default().no_update_create_status {
            settings.no_update_create_status = 0;
        }
        let stream = |number| {
            let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
            rng.set_stream(number);
            rng
        };
        let now = (options.clock)();
        Twin {
            profile: options.profile,
            auth: options.auth.clone(),
            started: now,
            quirks,
            settings,
            plan: options.faults.clone(),
            now,
            kinds: BTreeMap::new(),
            effects: Vec::new(),
            shown: BTreeMap::new(),
            requests: BTreeMap::new(),
            tokens: HashMap::new(),
            tokens_issued: 0,
            sessions: IndexMap::new(),
            cache: HashMap::new(),
            late: Vec::new(),
            chance: stream(1),
            ids: stream(2),
            next_number: 1000,
            entry_failures: 0,
            journal: None,
            promised: BTreeSet::new(),
        }
    }

    /// Counts a fault that really shows.
    pub(crate) fn show(&mut self, fault: Fault) {
        *self.shown.entry(fault.name()).or_default() += 1;
    }

    pub(crate) fn kind(&self, name: &str) -> Option<&Kind> {
        self.kinds.get(name)
    }

    /// The row of this type and id, if it was ever committed.
    pub(crate) fn row(&self, kind: &str, id: &str) -> Option<&Row> {
        Some(self.kind(kind)?.find(id)?.1)
    }

    /// A random uuid from the seed.
    pub(crate) fn uuid(&mut self) -> String {
        uuid::Builder::from_random_bytes(self.ids.random()).into_uuid().to_string()
    }

    /// A new logical id in the server's style.
    pub(crate) fn new_id(&mut self) -> String {
        match self.quirks.ids {
            IdStyle::Uuids => self.uuid(),
            IdStyle::Numbers => {
                self.next_number += 1;
                self.next_number.to_string()
            }
            IdStyle::Opaque => {
                const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-";
                let tail: String = (0..44).map(|_| char::from(LETTERS[self.ids.random_range(0..LETTERS.len())])).collect();
                format!("e{tail}")
            }
        }
    }

    /// Commits a write: stamps it, stores it with what the storing faults make of it, and enters it into the ledger.
    /// Gives the row's place.
    pub(crate) fn commit(&mut self, call: &Call, write: Write<'_>) -> usize {
        let faults = if call.by == Author::Client { call.faults } else { FaultSet::default() };
        let sent = write.body.as_ref().map(identifiers).unwrap_or_default();
        let version_id = self.next_version(write.kind, &write.id);
        let body = write.body.map(|mut body| {
            self.spoil(&mut body, faults);
            self.stamp(&mut body, &write.id, &version_id);
            Arc::new(body)
        });
        let kind = self.kinds.entry(write.kind.to_owned()).or_default();
        let place = match kind.by_id.get(&write.id) {
            Some(place) => *place,
            None => {
                kind.rows.push(Row { id: write.id.clone(), versions: Vec::new() });
                kind.by_id.insert(write.id.clone(), kind.rows.len() - 1);
                kind.rows.len() - 1
            }
        };
        kind.unindex(place);
        if let Some(row) = kind.rows.get_mut(place) {
            row.versions.push(Version {
                id: version_id.clone(),
                at: self.now,
                method: write.method,
                body: body.clone(),
                sent: sent.clone(),
            });
        }
        kind.index(place);
        if let Some(journal) = &mut self.journal {
            journal.push((write.kind.to_owned(), place));
        }
        let content = body.as_deref().and_then(|body| RawValue::from_string(body.to_compact()).ok());
        self.effects.push(Arc::new(Effect {
            seq: self.effects.len() as u64 + 1,
            at: instant::format(self.now, false),
            at_ms: self.now,
            method: write.method.to_owned(),
            resource_type: write.kind.to_owned(),
            id: write.id,
            version_id,
            identifiers: sent,
            subject: body.as_deref().and_then(subject).map(str::to_owned),
            source: body.as_deref().and_then(|body| str_at(body.get("meta")?, "source")).map(str::to_owned),
            content,
            request_id: call.request_id.clone(),
            late: call.late,
            by: call.by,
            condition: write.condition,
        }));
        place
    }

    /// Begins a transaction: what is committed from here on can be taken back.
    pub(crate) fn begin(&mut self) -> usize {
        self.journal = Some(Vec::new());
        self.effects.len()
    }

    /// Keeps what was committed since [`Twin::begin`].
    pub(crate) fn keep(&mut self) {
        self.journal = None;
    }

    /// Takes back what was committed since [`Twin::begin`].
    pub(crate) fn take_back(&mut self, effects: usize) {
        for (kind, place) in self.journal.take().unwrap_or_default().into_iter().rev() {
            if let Some(kind) = self.kinds.get_mut(&kind) {
                kind.unindex(place);
                if let Some(row) = kind.rows.get_mut(place) {
                    row.versions.pop();
                }
                kind.index(place);
            }
        }
        self.effects.truncate(effects);
    }

    /// Requests that are still to commit.
    pub(crate) fn late_pending(&self) -> u64 {
        self.late.len() as u64
    }

    /// Whether the body of one of them has this text in it.
    pub(crate) fn late_pending_with(&self, text: &str) -> bool {
        self.late.iter().filter_map(|late| late.call.body.as_ref()).any(|body| body.to_compact().contains(text))
    }

    /// What happened after effect `since`, and what there is now.
    pub(crate) fn ledger(&self, since: u64) -> Ledger {
        let skip = usize::try_from(since).unwrap_or(usize::MAX);
        Ledger {
            seq: self.effects.len() as u64,
            effects: self.effects.iter().skip(skip).cloned().collect(),
            resources: self.kinds.iter().flat_map(|(name, kind)| kind.rows.iter().filter_map(|row| row.held(name))).collect(),
            faults: self.shown.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            requests: self.requests.clone(),
            tokens_issued: self.tokens_issued,
            late_pending: self.late_pending(),
        }
    }

    fn next_version(&mut self, kind: &str, id: &str) -> String {
        match self.quirks.versions {
            VersionStyle::Numbers => {
                let versions = self.row(kind, id).map_or(0, |row| row.versions.len());
                (versions + 1).to_string()
            }
            VersionStyle::Uuids => self.uuid(),
        }
    }

    /// The faults that change what is stored.
    fn spoil(&mut self, body: &mut Json, faults: FaultSet) {
        if faults.has(Fault::DecimalsRounded) && json::round_decimals(body) {
            self.show(Fault::DecimalsRounded);
        }
        if faults.has(Fault::DropExtensions) && json::drop_extensions(body) {
            self.show(Fault::DropExtensions);
        }
        if faults.has(Fault::DropIdentifier) && json::remove(body, "identifier").is_some() {
            self.show(Fault::DropIdentifier);
        }
        if faults.has(Fault::IdentifierRecased) {
            let mut changed = false;
            if let Some(Json::Array(list)) = json::get_mut(body, "identifier") {
                for one in list {
                    if let Some(Json::String(value)) = json::get_mut(one, "value") {
                        let upper = value.to_uppercase();
                        changed |= upper != *value;
                        *value = upper;
                    }
                }
            }
            if changed {
                self.show(Fault::IdentifierRecased);
            }
        }
    }

    /// Sets id, version and moment, and keeps what else stands in `meta`.
    fn stamp(&mut self, body: &mut Json, id: &str, version_id: &str) {
        json::set_at(body, "id", string(id), 1);
        if !matches!(body.get("meta"), Some(Json::Object(_))) {
            json::set_at(body, "meta", Json::Object(Vec::new()), 2);
        }
        let appended = self.quirks.appends_source.then(|| format!("{:016x}", self.ids.random::<u64>()));
        let stamp = instant::format(self.now, self.quirks.whole_seconds);
        if let Some(meta) = json::get_mut(body, "meta") {
            json::set_at(meta, "versionId", string(version_id), 0);
            json::set_at(meta, "lastUpdated", string(stamp), 1);
            if let Some(appended) = appended {
                let source = str_at(meta, "source").unwrap_or_default();
                let source = source.split('#').next().unwrap_or_default().to_owned();
                json::set(meta, "source", string(format!("{source}#{appended}")));
            }
        }
    }
}

impl Kind {
    fn index(&mut self, place: usize) {
        self.each_key(place, |kind, identifier, key| {
            let index = if identifier { &mut kind.by_identifier } else { &mut kind.by_subject };
            index.entry(key).or_default().insert(place);
        });
    }

    fn unindex(&mut self, place: usize) {
        self.each_key(place, |kind, identifier, key| {
            let index = if identifier { &mut kind.by_identifier } else { &mut kind.by_subject };
            if let Some(places) = index.get_mut(&key) {
                places.remove(&place);
                if places.is_empty() {
                    index.remove(&key);
                }
            }
        });
    }

    fn each_key(&mut self, place: usize, mut act: impl FnMut(&mut Kind, bool, String)) {
        let Some(body) = self.rows.get(place).and_then(Row::body).cloned() else {
            return;
        };
        for identifier in identifiers(&body) {
            act(self, true, identifier.value);
        }
        for reference in subjects(&body) {
            act(self, false, local(reference));
        }
    }
}

impl Row {
    fn held(&self, kind: &str) -> Option<Held> {
        let current = self.current()?;
        let last = self.versions.iter().rev().find(|version| version.body.is_some())?;
        let body = last.body.as_deref()?;
        Some(Held {
            resource_type: kind.to_owned(),
            id: self.id.clone(),
            version_id: current.id.clone(),
            versions: self.versions.len() as u64,
            identifiers: identifiers(body),
            sent_identifiers: last.sent.clone(),
            subject: subject(body).map(str::to_owned),
            deleted: current.body.is_none(),
        })
    }
}

/// The business identifiers of a resource that have a value.
pub(crate) fn identifiers(body: &Json) -> Vec<Identifier> {
    json::items(body, "identifier")
        .iter()
        .filter_map(|one| Some(Identifier { system: str_at(one, "system").map(str::to_owned), value: str_at(one, "value")?.to_owned() }))
        .collect()
}

/// Whom the resource is about.
pub(crate) fn subject(body: &Json) -> Option<&str> {
    subjects(body).next()
}

/// `subject.reference` and `patient.reference`.
pub(crate) fn subjects(body: &Json) -> impl Iterator<Item = &str> {
    ["subject", "patient"].into_iter().filter_map(|name| str_at(body.get(name)?, "reference"))
}
