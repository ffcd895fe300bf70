//! How a sandbox is set up: profile, authentication, seed, faults and the figures behind them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::plan::FaultPlan;
use crate::quirks::Quirks;

/// Everything a sandbox can be told at its start. `Options::default()` is an open, well-behaved R4 server.
#[derive(Clone)]
pub struct Options {
    /// The real server that it resembles.
    pub profile: Profile,
    /// The ways in. Empty, or with [`Auth::Open`] among them: everybody may.
    pub auth: Vec<Auth>,
    /// All chance and all ids come from this number: same seed, same requests, same answers.
    pub seed: u64,
    /// Faults from the start.
    pub faults: FaultPlan,
    /// The figures behind the faults and the paging.
    pub settings: Settings,
    /// The FHIR base that it shows in links, for instance `http://127.0.0.1:8090/fhir`. None: built from each request's `Host`.
    pub base_url: Option<String>,
    /// Manners in place of the profile's own.
    pub quirks: Option<Quirks>,
    /// Whether an Observation's subject must be a Patient that exists. None: as the profile does.
    pub check_subject: Option<bool>,
    /// Milliseconds since 1970. Replace it to drive the sandbox by a clock of your own.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            profile: Profile::Plain,
            auth: Vec::new(),
            seed: 1,
            faults: FaultPlan::default(),
            settings: Settings::default(),
            base_url: None,
            quirks: None,
            check_subject: None,
            clock: Arc::new(system_clock),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("profile", &self.profile)
            .field("seed", &self.seed)
            .field("faults", &self.faults)
            .field("settings", &self.settings)
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

fn system_clock() -> i64 {
    let now = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// The real server whose manners the sandbox takes on; [`Quirks::of`] says what that means and where it is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Profile {
    /// R4 as the specification has it, all trial-use parts included.
    #[default]
    Plain,
    /// Epic's public sandbox: no conditional create, no update-as-create, no batch, no history, no `_lastUpdated`.
    Epic,
    /// HAPI FHIR JPA: conditional creates race, searches are cached, unknown parameters refused.
    Hapi,
    /// Helios: hardly validates, conditional creates race.
    Helios,
    /// Medplum: no update-as-create though asked for, decimals rounded, a transaction is a batch.
    Medplum,
    /// Medplum's router with its memory behind it: a `PUT` that creates is answered 200, a search by patient finds everybody's.
    MedplumRouter,
    /// WSO2: conditional creates race, `?` conditions ignored, whole-second stamps, decimals rounded.
    Wso2,
}

impl Profile {
    /// Every profile.
    pub const ALL: &'static [Profile] =
        &[Profile::Plain, Profile::Epic, Profile::Hapi, Profile::Helios, Profile::Medplum, Profile::MedplumRouter, Profile::Wso2];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Plain => "plain",
            Profile::Epic => "epic",
            Profile::Hapi => "hapi",
            Profile::Helios => "helios",
            Profile::Medplum => "medplum",
            Profile::MedplumRouter => "medplum-router",
            Profile::Wso2 => "wso2",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Profile, UnknownName> {
        Profile::ALL
            .iter()
            .copied()
            .find(|profile| profile.name() == name)
            .ok_or_else(|| UnknownName { name: name.to_owned(), known: "plain, epic, hapi, helios, medplum, wso2" })
    }
}

/// A name that stands for nothing here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not known here; it is one of: {known}")]
pub struct UnknownName {
    name: String,
    known: &'static str,
}

/// One way in. Written for a command line as `open`, `oauth2:CLIENT:SECRET`, `basic:USER:PASSWORD` or `api-key:HEADER:KEY`.
#[derive(Clone, PartialEq, Eq)]
pub enum Auth {
    /// Everybody.
    Open,
    /// OAuth2 client credentials (RFC 6749 §4.4) at `/oauth/token`.
    OAuth2(OAuth2),
    /// HTTP Basic (RFC 7617).
    Basic {
        /// The user's name.
        username: String,
        /// The user's password.
        password: String,
    },
    /// A key in a header of any name.
    ApiKey {
        /// The header's name.
        header: String,
        /// The key.
        key: String,
    },
}

/// A client that may ask for tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct OAuth2 {
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub secret: String,
    /// What it may ask for, SMART v1 or v2 (`system/*.cruds`).
    pub scopes: Vec<String>,
    /// Life of a token in seconds, as told to the client.
    pub expires_in: u64,
    /// Whether the answer tells the life at all (RFC 6749 §5.1 only recommends it).
    pub tells_expiry: bool,
    /// Takes `client_secret_post`.
    pub accepts_post: bool,
    /// Takes `client_secret_basic`.
    pub accepts_basic: bool,
}

impl OAuth2 {
    /// A client with all scopes, tokens of 300 seconds and both ways of sending the secret.
    pub fn new(client_id: impl Into<String>, secret: impl Into<String>) -> OAuth2 {
        OAuth2 {
            client_id: client_id.into(),
            secret: secret.into(),
            scopes: vec!["system/*.cruds".to_owned()],
            expires_in: 300,
            tells_expiry: true,
            accepts_post: true,
            accepts_basic: true,
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Auth::Open => "open",
            Auth::OAuth2(_) => "oauth2",
            Auth::Basic { .. } => "basic",
            Auth::ApiKey { .. } => "api-key",
        })
    }
}

impl fmt::Debug for OAuth2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("oauth2")
    }
}

impl FromStr for Auth {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Auth, UnknownName> {
        let mut parts = text.splitn(3, ':');
        let kind = parts.next().unwrap_or_default();
        match (kind, parts.next(), parts.next()) {
            ("open", None, None) => Ok(Auth::Open),
            ("oauth2", Some(client), Some(secret)) => Ok(Auth::OAuth2(OAuth2::new(client, secret))),
            ("basic", Some(username), Some(password)) => Ok(Auth::Basic { username: username.to_owned(), password: password.to_owned() }),
            ("api-key", Some(header), Some(key)) => Ok(Auth::ApiKey { header: header.to_owned(), key: key.to_owned() }),
            _ => Err(UnknownName { name: kind.to_owned(), known: "open, oauth2:CLIENT:SECRET, basic:USER:PASSWORD, api-key:HEADER:KEY" }),
        }
    }
}

/// The figures behind faults and paging; in JSON as camelCase (`lateCommitMs`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// `late_commit`: milliseconds from the cut to the commit.
    pub late_commit_ms: u64,
    /// `search_lag`: milliseconds from a commit until a search sees the new row.
    pub search_lag_ms: u64,
    /// `search_cache`: milliseconds for which the same search gives the same result.
    pub search_cache_ms: u64,
    /// `conditional_create_race`: milliseconds between look-up and insert.
    pub race_delay_ms: u64,
    /// `hang`: milliseconds after which the connection is closed at last; 120,000 at most.
    pub hang_ms: u64,
    /// `slow_body`: milliseconds over which a body drips.
    pub slow_body_ms: u64,
    /// `status_503_retry_after` and `status_429`: the seconds in `Retry-After`.
    pub retry_after_s: u64,
    /// `clock_skew`: milliseconds added to `Date`.
    pub clock_skew_ms: i64,
    /// `too_many_entries_413`: entries that one Bundle may have.
    pub max_entries: usize,
    /// Rows per page without `_count`; 0 means as the profile does.
    pub page_size: usize,
    /// Milliseconds for which a next link may be followed; 0 means for ever.
    pub link_expires_ms: u64,
    /// `no_update_create`: the status; 0 means 404 for a uuid and 400 for another id, as Medplum does.
    pub no_update_create_status: u16,
    /// `html_200` and `html_502` commit before they answer.
    pub html_commits: bool,
    /// `foreign_next`: the origin that the link names.
    pub foreign_origin: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            late_commit_ms: 2_000,
            search_lag_ms: 1_000,
            search_cache_ms: 60_000,
            race_delay_ms: 5,
            hang_ms: 120_000,
            slow_body_ms: 2_000,
            retry_after_s: 1,
            clock_skew_ms: 300_000,
            max_entries: 100,
            page_size: 0,
            link_expires_ms: 0,
            no_update_create_status: 405,
            html_commits: false,
            foreign_origin: "http://pages.ehr.invalid".to_owned(),
        }
    }
}
