//! The faults the sandbox can show, each with its name, and the requests each of them concerns.

use std::fmt;
use std::str::FromStr;

/// What kind of request a fault can show itself on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Ends the request by itself; at most one of these shows per request.
    Ending,
    /// Changes how the server works or what it answers; any number may hold at once.
    Manner,
}

/// The requests a fault concerns when it comes by chance or by script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Concerns {
    /// Every FHIR request.
    Any,
    /// Requests that may change something: create, update, delete, batch and transaction.
    Writes,
    /// A single create or update.
    Single,
    /// A create.
    Creates,
    /// A delete or the read of something deleted, hence also reads.
    Deletes,
    /// A batch or transaction.
    Bundles,
    /// A search.
    Searches,
    /// Everything that reads or writes one resource or lists several.
    Resources,
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $stage:ident, $concerns:ident;)+) => {
        /// A way in which a FHIR server disappoints its clients. Any fault may be switched on for good, come by chance (a rate per
        /// request), or by script (the next N matching requests); see [`crate::FaultPlan`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Fault {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Fault {
            /// Every fault, in the order of the documentation.
            pub const ALL: &'static [Fault] = &[$(Fault::$variant,)+];

            /// The name on the wire and on the command line, snake_case.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$variant => $name,)+ }
            }

            /// One sentence on what it does.
            pub fn describe(self) -> &'static str {
                match self { $(Fault::$variant => concat!($($doc),+).trim_ascii_start(),)+ }
            }

            pub(crate) fn stage(self) -> Stage {
                match self { $(Fault::$variant => Stage::$stage,)+ }
            }

            pub(crate) fn concerns(self) -> Concerns {
                match self { $(Fault::$variant => Concerns::$concerns,)+ }
            }
        }
    };
}

faults! {
    /// Closes the connection before the request is read. Nothing is committed.
    Refuse = "refuse", Ending, Any;
    /// Answers 500 as plain text; nothing is committed.
    Status500 = "status_500", Ending, Any;
    /// Answers 502 with a gateway's HTML page; nothing is committed.
    Status502 = "status_502", Ending, Any;
    /// Answers 503 with an empty body and no `Retry-After`; nothing is committed.
    Status503 = "status_503", Ending, Any;
    /// Answers 503 with `Retry-After` in seconds; nothing is committed.
    Status503RetryAfter = "status_503_retry_after", Ending, Any;
    /// Answers 503 with an OperationOutcome (`transient`); nothing is committed.
    Status503Outcome = "status_503_outcome", Ending, Any;
    /// Answers 429 with `Retry-After` and an OperationOutcome (`throttled`); nothing is committed.
    Status429 = "status_429", Ending, Any;
    /// Never answers (for `hangMs`, then the connection closes); nothing is committed.
    Hang = "hang", Ending, Any;
    /// Answers 200 with an HTML page instead of FHIR; committed only with `htmlCommits`.
    Html200 = "html_200", Ending, Any;
    /// Answers 502 with an HTML page that says it is the application's; committed only with `htmlCommits`.
    Html502 = "html_502", Ending, Any;
    /// Answers 404 with a web server's HTML page, as if there were no FHIR at this address; nothing is committed.
    Html404 = "html_404", Ending, Any;
    /// Reads the request, commits nothing, and closes the connection without an answer.
    CutBeforeCommit = "cut_before_commit", Ending, Writes;
    /// Commits, then closes the connection without an answer.
    CutAfterCommit = "cut_after_commit", Ending, Writes;
    /// Closes the connection first and commits `lateCommitMs` later, conditions judged at that moment.
    LateCommit = "late_commit", Ending, Writes;
    /// Commits, then never answers.
    HangAfterCommit = "hang_after_commit", Ending, Writes;
    /// Commits, then a gateway answers 504 with HTML.
    GatewayTimeout504 = "gateway_timeout_504", Ending, Writes;
    /// Works as asked, then the answer's JSON stops in the middle.
    TruncatedJson = "truncated_json", Ending, Any;
    /// Commits, then answers with an empty body; `Location` and `ETag` stay.
    EmptyBody = "empty_body", Ending, Single;
    /// Answers a create of what exists already (its condition or an identifier matches) with 303 and `Location`.
    Redirect303 = "redirect_303", Manner, Creates;
    /// The answer's body drips over `slowBodyMs`.
    SlowBody = "slow_body", Manner, Any;
    /// The answer's body begins with a byte order mark.
    ByteOrderMark = "byte_order_mark", Manner, Any;
    /// The `Date` header is off by `clockSkewMs`.
    ClockSkew = "clock_skew", Manner, Any;
    /// Revokes the bearer token that the request carries and answers 401.
    TokenRevoked = "token_revoked", Manner, Any;
    /// One write of the batch fails with 500, 409 or 422 in turn and is not committed (a transaction fails whole).
    BatchEntryFails = "batch_entry_fails", Manner, Bundles;
    /// The answer to a batch has one entry too few or too many; everything is committed.
    BatchWrongCount = "batch_wrong_count", Manner, Bundles;
    /// One entry's `response.status` has no digits; everything is committed.
    BatchStatusWithoutDigits = "batch_status_without_digits", Manner, Bundles;
    /// The answer to a batch carries no resources.
    EntriesWithoutResource = "entries_without_resource", Manner, Bundles;
    /// Batches and transactions are refused with 400.
    NoBatch = "no_batch", Manner, Bundles;
    /// Batches of more than `maxEntries` entries are refused with 413.
    TooManyEntries413 = "too_many_entries_413", Manner, Bundles;
    /// Conditional creates and updates are refused with 400.
    NoConditionalCreate = "no_conditional_create", Manner, Writes;
    /// `If-None-Exist` is read and forgotten: it creates every time.
    IgnoreIfNoneExist = "ignore_if_none_exist", Manner, Writes;
    /// A conditional create or update looks up, waits `raceDelayMs`, then writes: no lock between.
    ConditionalCreateRace = "conditional_create_race", Manner, Writes;
    /// A PUT to an id that does not exist is refused (`noUpdateCreateStatus`: 405, 404 or 400).
    NoUpdateCreate = "no_update_create", Manner, Writes;
    /// `If-Match` is not looked at: the update overwrites.
    IfMatchIgnored = "if_match_ignored", Manner, Writes;
    /// A stale `If-Match` answers 409 instead of 412.
    Precondition409 = "precondition_409", Manner, Writes;
    /// Decimals are stored as binary doubles: 1.10 becomes 1.1.
    DecimalsRounded = "decimals_rounded", Manner, Writes;
    /// The stored resource loses its `identifier`.
    DropIdentifier = "drop_identifier", Manner, Writes;
    /// Stored identifier values are put in upper case.
    IdentifierRecased = "identifier_recased", Manner, Writes;
    /// The stored resource loses its extensions, those of primitives too.
    DropExtensions = "drop_extensions", Manner, Writes;
    /// A deleted resource reads as 404 instead of 410.
    DeleteAs404 = "delete_as_404", Manner, Deletes;
    /// No resource shows `meta.lastUpdated`, and `_lastUpdated` is no search parameter.
    NoLastUpdated = "no_last_updated", Manner, Resources;
    /// Reads and searches give a subset, tagged `SUBSETTED`.
    Subsetted = "subsetted", Manner, Resources;
    /// New resources are invisible to search, conditions included, for `searchLagMs`.
    SearchLag = "search_lag", Manner, Resources;
    /// A search repeated within `searchCacheMs` gets the earlier result.
    SearchCache = "search_cache", Manner, Searches;
    /// A search ignores `identifier` and returns everything else that matches.
    IgnoreIdentifier = "ignore_identifier", Manner, Resources;
    /// A search answers 200 with no rows, as servers do that hide what the client may not see.
    EmptySearch = "empty_search", Manner, Searches;
    /// `Bundle.total` is wrong.
    TotalLies = "total_lies", Manner, Searches;
    /// A search for one patient's rows shows a row of another patient as well.
    WrongPatientRow = "wrong_patient_row", Manner, Searches;
    /// A page shows its first row twice.
    DuplicatePageRows = "duplicate_page_rows", Manner, Searches;
    /// The next link is relative.
    RelativeNext = "relative_next", Manner, Searches;
    /// The next link points to another origin (`foreignOrigin`).
    ForeignNext = "foreign_next", Manner, Searches;
    /// The next link leads back to the same page.
    PageLoop = "page_loop", Manner, Searches;
    /// A next link has always expired when it is followed: 410.
    LinksExpire = "links_expire", Manner, Searches;
    /// Rows are touched (new version, new `lastUpdated`) between two pages.
    RowsChangeWhilePaged = "rows_change_while_paged", Manner, Searches;
    /// A search leaves a row out and says so in an `outcome` entry (`suppressed`).
    PartialSearch = "partial_search", Manner, Searches;
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no fault's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no fault called `{0}`; GET /_sandbox/faults lists the names")]
pub struct UnknownFault(pub String);

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Fault, UnknownFault> {
        let wanted = name.trim().replace('-', "_");
        Fault::ALL.iter().copied().find(|fault| fault.name() == wanted).ok_or_else(|| UnknownFault(name.to_owned()))
    }
}

impl serde::Serialize for Fault {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> serde::Deserialize<'de> for Fault {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Fault, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

/// The faults that hold for one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FaultSet(u128);

impl FaultSet {
    pub(crate) fn insert(&mut self, fault: Fault) {
        self.0 |= 1 << fault as u32;
    }

    pub(crate) fn has(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u32) != 0
    }
}
