//! The flags that stand for settings, by the verbs that take them. Secrets have none: they come from a file, stdin or the environment.

use super::layers::Given;
use crate::exit::Failure;
use clap::Args;
use std::path::PathBuf;

/// Where the settings file is, and what is logged.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
pub struct ConfigFlags {
    /// Settings file instead of ./ponte.toml [env: PONTE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What is logged to stderr, for example info or info,ponte_sync=debug [env: PONTE_LOG]
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
}

/// Which database, and the key that opens it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
pub struct DatabaseFlags {
    #[command(flatten)]
    config: ConfigFlags,
    /// sqlite://path or postgres://user@host/name, without a password [env: PONTE_DATABASE_URL]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// File (or -, stdin) that holds the URL of the database, password included
    #[arg(long, value_name = "FILE")]
    database_url_file: Option<String>,
    /// A pooler in transaction mode (PgBouncer) stands before PostgreSQL [env: PONTE_DATABASE_POOLED] [default: false]
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    database_pooled: Option<String>,
    /// File (or -, stdin) that holds the encryption key [env: PONTE_ENCRYPTION_KEY]
    #[arg(long, value_name = "FILE")]
    encryption_key_file: Option<String>,
}

/// The secret that tokens are signed with.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
pub struct TokenFlags {
    #[command(flatten)]
    config: ConfigFlags,
    /// File (or -, stdin) that holds the secret [env: PONTE_JWT_SECRET]
    #[arg(long, value_name = "FILE")]
    jwt_secret_file: Option<String>,
}

/// Which database, and which local addresses may be dialled.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
pub struct CheckFlags {
    #[command(flatten)]
    database: DatabaseFlags,
    /// true, or CIDRs where local EHR addresses and http:// are allowed [env: PONTE_EHR_ALLOW_LOCAL] [default: false]
    #[arg(long, value_name = "true|CIDR,…", num_args = 0..=1, default_missing_value = "true")]
    ehr_allow_local: Option<String>,
}

/// All that a service can be told.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
pub struct ServeFlags {
    #[command(flatten)]
    database: DatabaseFlags,
    /// Where the API listens; port 0 takes a free one and says which [env: PONTE_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// File (or -, stdin) that holds the HS256 secret [env: PONTE_JWT_SECRET]
    #[arg(long, value_name = "FILE")]
    jwt_secret_file: Option<String>,
    /// Where the keys of RS256 and ES256 tokens are published [env: PONTE_JWKS_URL]
    #[arg(long, value_name = "URL")]
    jwks_url: Option<String>,
    /// What `iss` must be [env: PONTE_JWT_ISSUER]
    #[arg(long, value_name = "TEXT")]
    jwt_issuer: Option<String>,
    /// What `aud` must hold [env: PONTE_JWT_AUDIENCE]
    #[arg(long, value_name = "TEXT")]
    jwt_audience: Option<String>,
    /// true, or CIDRs where local EHR addresses and http:// are allowed [env: PONTE_EHR_ALLOW_LOCAL] [default: false]
    #[arg(long, value_name = "true|CIDR,…", num_args = 0..=1, default_missing_value = "true")]
    ehr_allow_local: Option<String>,
    /// How long a node may hold a lane without a sign of life [env: PONTE_LEASE_SECONDS] [default: 60]
    #[arg(long, value_name = "SECONDS")]
    lease_seconds: Option<String>,
    /// When everything unsynced becomes due again [env: PONTE_SWEEP_CRON] [default: 0 * * * *]
    #[arg(long, value_name = "CRON")]
    sweep_cron: Option<String>,
    /// When every linked patient is pulled [env: PONTE_PULL_CRON] [default: 0 */6 * * *]
    #[arg(long, value_name = "CRON")]
    pull_cron: Option<String>,
    /// When tenants on daily are swept [env: PONTE_DAILY_CRON] [default: 0 3 * * *]
    #[arg(long, value_name = "CRON")]
    daily_cron: Option<String>,
    /// Zone of the three schedules [env: PONTE_TIMEZONE] [default: America/Sao_Paulo]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// How many lanes and pulls this node works at once [env: PONTE_WORKERS] [default: 32]
    #[arg(long, value_name = "N")]
    workers: Option<String>,
}

impl ConfigFlags {
    /// What was given.
    #[must_use]
    pub fn given(&self) -> Given {
        let mut given = Given { config: self.config.clone(), ..Given::default() };
        given.put("log", self.log.as_ref());
        given
    }
}

impl DatabaseFlags {
    /// What was given.
    ///
    /// # Errors
    /// When the URL holds a password: the arguments of a process can be read by every other one of the machine.
    pub fn given(&self) -> Result<Given, Failure> {
        let with_password = |text: &String| {
            url::Url::parse(text).is_ok_and(|url| url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password"))
        };
        if self.database_url.as_ref().is_some_and(with_password) {
            return Err(Failure::usage(
                "--database-url holds a password, and every process of this machine can read it there. \
                 Use PONTE_DATABASE_URL or --database-url-file.",
            ));
        }
        let mut given = self.config.given();
        given.put("database_url", self.database_url.as_ref());
        given.put("database_url_file", self.database_url_file.as_ref());
        given.put("database_pooled", self.database_pooled.as_ref());
        given.put("encryption_key_file", self.encryption_key_file.as_ref());
        Ok(given)
    }
}

impl TokenFlags {
    /// What was given.
    #[must_use]
    pub fn given(&self) -> Given {
        let mut given = self.config.given();
        given.put("jwt_secret_file", self.jwt_secret_file.as_ref());
        given
    }
}

impl CheckFlags {
    /// What was given.
    ///
    /// # Errors
    /// When a secret stands in an argument.
    pub fn given(&self) -> Result<Given, Failure> {
        let mut given = self.database.given()?;
        given.put("ehr_allow_local", self.ehr_allow_local.as_ref());
        Ok(given)
    }
}

impl ServeFlags {
    /// What was given.
    ///
    /// # Errors
    /// When a secret stands in an argument.
    pub fn given(&self) -> Result<Given, Failure> {
        let mut given = self.database.given()?;
        given.put("listen", self.listen.as_ref());
        given.put("jwt_secret_file", self.jwt_secret_file.as_ref());
        given.put("jwks_url", self.jwks_url.as_ref());
        given.put("jwt_issuer", self.jwt_issuer.as_ref());
        given.put("jwt_audience", self.jwt_audience.as_ref());
        given.put("ehr_allow_local", self.ehr_allow_local.as_ref());
        given.put("lease_seconds", self.lease_seconds.as_ref());
        given.put("sweep_cron", self.sweep_cron.as_ref());
        given.put("pull_cron", self.pull_cron.as_ref());
        given.put("daily_cron", self.daily_cron.as_ref());
        given.put("timezone", self.timezone.as_ref());
        given.put("workers", self.workers.as_ref());
        Ok(given)
    }
}

impl Given {
    fn put(&mut self, key: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.values.insert(key.to_owned(), value.clone());
        }
    }
}
