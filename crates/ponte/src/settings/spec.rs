//! The list of all settings.

/// One setting.
#[derive(Debug)]
pub struct Spec {
    /// Its name in `ponte.toml`; `PONTE_` and its capitals in the environment, `--` and dashes as a flag.
    pub key: &'static str,
    /// What holds where nobody says otherwise.
    pub default: Option<&'static str>,
    /// Never a flag, never shown; a flag, variable or key with `_file` behind it names a file (or `-`, stdin) that holds it.
    pub secret: bool,
    /// One sentence.
    pub what: &'static str,
}

#[cfg(test)]
impl Spec {
    /// Its name in the environment.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("PONTE_{}", self.key.to_ascii_uppercase())
    }

    /// Its flag.
    #[must_use]
    pub fn flag(&self) -> String {
        let file = if self.secret { "-file" } else { "" };
        format!("--{}{file}", self.key.replace('_', "-"))
    }
}

const fn plain(key: &'static str, default: &'static str, what: &'static str) -> Spec {
    Spec { key, default: Some(default), secret: false, what }
}

/// All settings, in the order of the reference.
pub const SPECS: &[Spec] = &[
    plain("listen", "127.0.0.1:8080", "Where the API listens; port 0 takes a free one and says which."),
    Spec {
        key: "database_url",
        default: Some("sqlite://ponte.db"),
        secret: true,
        what: "`sqlite://path` or `postgres://…`; several nodes may share one PostgreSQL. As a flag (`--database-url`) only without a password.",
    },
    plain(
        "database_pooled",
        "false",
        "`true` where a pooler in transaction mode (PgBouncer) stands before PostgreSQL: no statement stays prepared, other nodes are heard of by polling.",
    ),
    Spec { key: "jwt_secret", default: None, secret: true, what: "HS256 secret that tokens are signed with, 32 bytes at least." },
    Spec {
        key: "jwks_url",
        default: None,
        secret: false,
        what: "Where the keys of RS256 and ES256 tokens are published, instead of a secret.",
    },
    Spec { key: "jwt_issuer", default: None, secret: false, what: "What `iss` must be; needed with `PONTE_JWKS_URL`." },
    Spec { key: "jwt_audience", default: None, secret: false, what: "What `aud` must hold; needed with `PONTE_JWKS_URL`." },
    Spec {
        key: "encryption_key",
        default: None,
        secret: true,
        what: "Base64 of 32 bytes that seal secrets and patients; an older key may stand behind a comma until `ponte rotate-key` has run.",
    },
    plain(
        "ehr_allow_local",
        "false",
        "`true`, or CIDRs: private and loopback EHR addresses and `http://` are allowed there; link-local never.",
    ),
    plain("lease_seconds", "60", "How long a node may hold a lane without a sign of life, 1 to 3600."),
    plain("sweep_cron", "0 * * * *", "When everything unsynced becomes due again."),
    plain("pull_cron", "0 */6 * * *", "When every linked patient is pulled."),
    plain("daily_cron", "0 3 * * *", "When tenants with `syncFrequency: daily` are swept."),
    plain("timezone", "America/Sao_Paulo", "IANA zone in which the three schedules are read."),
    plain("workers", "32", "How many lanes and pulls one node works at once, 1 to 1024."),
    plain("log", "info", "`off`, `error`, `warn`, `info`, `debug`, `trace`, or per crate: `info,ponte_sync=debug`."),
];
