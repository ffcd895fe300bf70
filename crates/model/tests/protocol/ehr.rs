//! The EHR in small: one resource per observation, requests that commit when they like.

use std::fmt;

/// By what means a create is made there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// `PUT` of our own id, without a precondition.
    OwnId,
    /// The same with `If-None-Match: *`, honoured.
    Lock,
    /// A conditional create that looks and then inserts: no lock.
    LookUpThenInsert,
    /// A plain create.
    PlainCreate,
}

impl Manner {
    pub const ALL: [Self; 4] = [Self::OwnId, Self::Lock, Self::LookUpThenInsert, Self::PlainCreate];

    pub fn means(self) -> ponte_model::Means {
        match self {
            Self::OwnId | Self::Lock => ponte_model::Means::OwnId,
            Self::LookUpThenInsert => ponte_model::Means::ConditionalCreate,
            Self::PlainCreate => ponte_model::Means::PlainCreate,
        }
    }
}

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Lock { "own_id with a lock" } else { self.means().word() })
    }
}

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Want {
    /// Create by the EHR's manner.
    Create,
    /// `PUT` of a known id with `If-Match`.
    Update { etag: u8 },
    /// Search or read; `settled`: sent after every attempt of its row had settled.
    Ask { settled: bool },
}

/// What the EHR answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// Holds this version now, under this ETag.
    Holds { version: u8, etag: u8 },
    /// 412.
    PreconditionFailed,
    /// A search found none.
    Nothing { settled: bool },
    /// A search found two.
    Several,
}

/// One resource at the EHR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Resource {
    /// How often it was created.
    pub stored: u8,
    /// Our version that it holds; 0: none.
    pub version: u8,
    /// Its `meta.versionId`.
    pub etag: u8,
    /// The newest of our versions that it ever held.
    pub newest: u8,
    /// The first of our versions that it held.
    pub first: u8,
    /// It went back from a newer version to an older one.
    pub set_back: bool,
}

impl Resource {
    fn hold(&mut self, version: u8) -> Answer {
        self.set_back |= version < self.newest;
        self.newest = self.newest.max(version);
        if self.first == 0 {
            self.first = version;
        }
        self.version = version;
        self.etag += 1;
        Answer::Holds { version, etag: self.etag }
    }

    fn insert(&mut self, version: u8) -> Answer {
        self.stored += 1;
        self.hold(version)
    }

    /// Carries a request out. `there`: whether it was there when a conditional create looked.
    pub fn commit(&mut self, manner: Manner, want: Want, version: u8, there: bool) -> Answer {
        match (want, manner) {
            (Want::Create, Manner::OwnId) if self.stored > 0 => self.hold(version),
            (Want::Create, Manner::Lock) if self.stored > 0 => Answer::PreconditionFailed,
            (Want::Create, Manner::LookUpThenInsert) if there => Answer::Holds { version: self.version, etag: self.etag },
            (Want::Create, _) => self.insert(version),
            (Want::Update { etag }, _) if etag != self.etag => Answer::PreconditionFailed,
            (Want::Update { .. }, _) => self.hold(version),
            (Want::Ask { .. }, _) if self.stored > 1 => Answer::Several,
            (Want::Ask { settled }, _) if self.stored == 0 => Answer::Nothing { settled },
            (Want::Ask { .. }, _) => Answer::Holds { version: self.version, etag: self.etag },
        }
    }
}
