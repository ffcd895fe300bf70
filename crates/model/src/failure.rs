//! What an outcome means: the one table of PRODUCT ("What an outcome means"), as types.

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in the API, the database and metrics.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Reads the word.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}
pub(crate) use words;

words!(
    /// The class of an outcome.
    Class {
        /// The EHR holds it.
        Applied = "delivered",
        /// The EHR held it already: a 200 on a conditional create, or a 303.
        Exists = "exists",
        /// Sent, and no usable answer: it may or may not be applied.
        Uncertain = "uncertain",
        /// No address, refused, no route: not one byte was taken.
        Unreachable = "unreachable",
        /// The certificate or the handshake will not do.
        Tls = "tls",
        /// 503 with `Retry-After` or an OperationOutcome: the EHR itself says that it did nothing.
        Unavailable = "server_error",
        /// 429.
        RateLimited = "rate_limited",
        /// The token endpoint refuses us, or 401 with a fresh token.
        AuthToken = "auth_token",
        /// 403.
        AuthDenied = "auth_denied",
        /// 409 or 412: read again.
        Conflict = "conflict",
        /// More than one resource carries the identifier.
        MultipleMatches = "multiple_matches",
        /// 400 or 422: refused for good.
        Validation = "validation",
        /// 404 or 410.
        Gone = "gone",
        /// 413.
        TooLarge = "too_large",
        /// A redirect that nobody may follow.
        Redirect = "redirect",
        /// HTML or garbage on a read.
        BadResponse = "bad_response",
        /// The means is not offered here (404, 405, 400 on a `PUT` of our own id; 400 on a conditional create).
        MeansRefused = "means_refused",
        /// Our own check refused it before a byte was sent.
        Mapping = "mapping",
        /// Our address guard refused the address.
        AddressRefused = "address_refused",
        /// Something of ours broke.
        Internal = "internal",
    }
);

words!(
    /// Who has to do something.
    WhoseMove {
        /// We retry or ask by ourselves.
        Ponte = "ponte",
        /// The EHR's people.
        Hospital = "hospital",
        /// The tenant: its admin or its developers.
        You = "you",
    }
);

/// Whom an outcome concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Nobody: it went well.
    Nobody,
    /// That row (and, for its order, that patient).
    Row,
    /// That patient.
    Patient,
    /// Everything of that connection; rows stay untouched.
    Connection,
}

impl Class {
    /// Whom it concerns.
    #[must_use]
    pub fn scope(self) -> Scope {
        match self {
            Self::Applied | Self::Exists => Scope::Nobody,
            Self::Uncertain
            | Self::Conflict
            | Self::MultipleMatches
            | Self::Validation
            | Self::TooLarge
            | Self::MeansRefused
            | Self::Mapping
            | Self::Internal => Scope::Row,
            Self::AuthDenied | Self::Gone => Scope::Patient,
            Self::Unreachable
            | Self::Tls
            | Self::Unavailable
            | Self::RateLimited
            | Self::AuthToken
            | Self::Redirect
            | Self::BadResponse
            | Self::AddressRefused => Scope::Connection,
        }
    }

    /// Whether the EHR certainly did nothing.
    #[must_use]
    pub fn certainly_not_applied(self) -> bool {
        !matches!(self, Self::Applied | Self::Exists | Self::Uncertain | Self::BadResponse | Self::Conflict | Self::MultipleMatches)
    }

    /// Whose move it is.
    #[must_use]
    pub fn whose_move(self) -> WhoseMove {
        match self {
            Self::Applied | Self::Exists | Self::Uncertain | Self::RateLimited | Self::TooLarge | Self::MeansRefused | Self::Internal => {
                WhoseMove::Ponte
            }
            Self::Unreachable | Self::Tls | Self::Unavailable | Self::AuthDenied | Self::Redirect | Self::BadResponse | Self::Gone => {
                WhoseMove::Hospital
            }
            Self::AuthToken | Self::Conflict | Self::MultipleMatches | Self::Validation | Self::Mapping | Self::AddressRefused => {
                WhoseMove::You
            }
        }
    }
}
