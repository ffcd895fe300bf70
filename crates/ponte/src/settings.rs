//! Settings: a flag goes before the environment, that before `ponte.toml`, that before the default (CONTRACT, "Settings").
//!
//! [`SPECS`] is the one list: names, defaults and words; the reference in `docs/reference/settings.md` is compared with it by a test.

mod flags;
mod layers;
mod spec;

pub use flags::{CheckFlags, DatabaseFlags, ServeFlags, TokenFlags};
pub use layers::{Given, Layers};
#[cfg(test)]
use spec::SPECS;

use crate::exit::Failure;
use crate::telemetry::Verbosity;
use ehr::guard::AllowLocal;
use secrecy::{ExposeSecret, SecretString};
use std::str::FromStr;

/// Shortest HS256 secret, in bytes (RFC 7518 §3.2: as long as the hash).
pub const SHORTEST_SECRET: usize = 32;

/// Everything that the environment may decide, read and checked.
#[derive(Debug)]
pub struct Settings {
    /// Address and port of the API.
    pub listen: String,
    /// Whether somebody chose it.
    pub listen_is_given: bool,
    /// May hold a password.
    pub database_url: SecretString,
    /// Whether a pooler in transaction mode stands before PostgreSQL.
    pub database_way: store::Way,
    /// How tokens are verified.
    pub verify: Option<Verify>,
    /// Whether an issuer or audience is given.
    pub issuer_is_given: bool,
    /// The key ring, as text.
    pub encryption_key: Option<SecretString>,
    /// Which local addresses may be dialled.
    pub allow_local: AllowLocal,
    /// How long a lane or a pull is held without a sign of life, ms.
    pub lease_ms: i64,
    /// When everything unsynced becomes due.
    pub sweep_cron: String,
    /// When every linked patient is pulled.
    pub pull_cron: String,
    /// When tenants on `daily` are swept.
    pub daily_cron: String,
    /// In which zone the schedules are read.
    pub timezone: String,
    /// How many lanes and pulls this node works at once.
    pub workers: usize,
    /// What is logged.
    pub log: Verbosity,
}

/// How tokens are verified.
#[derive(Debug, Clone)]
pub enum Verify {
    /// HS256 with this secret.
    Secret(SecretString),
    /// RS256 or ES256 with the keys published there.
    Jwks {
        /// Where the keys are.
        url: String,
        /// `iss` must be this.
        issuer: String,
        /// `aud` must hold this.
        audience: String,
    },
}

impl Settings {
    /// Reads all layers of this process.
    ///
    /// # Errors
    /// Every setting that will not do, in one text.
    pub fn load(flags: Given) -> Result<Self, Failure> {
        Layers::of_process(flags).and_then(|layers| Self::of(&layers))
    }

    /// Reads the given layers.
    ///
    /// # Errors
    /// Every setting that will not do, in one text.
    pub fn of(layers: &Layers) -> Result<Self, Failure> {
        let mut wrong = layers.unknown();
        let mut read = Reader { layers, wrong: &mut wrong };
        let settings = Self {
            listen: read.checked("listen", |text| {
                let good = text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
                if good { Ok(text.to_owned()) } else { Err("is not an address and a port such as 127.0.0.1:8080".to_owned()) }
            }),
            listen_is_given: layers.is_given("listen"),
            database_url: read.database_url(),
            database_way: read.checked("database_pooled", |text| match text {
                "true" => Ok(store::Way::Pooled),
                "false" => Ok(store::Way::Direct),
                _ => Err("is neither true nor false".to_owned()),
            }),
            verify: read.verify(),
            issuer_is_given: layers.is_given("jwt_issuer") || layers.is_given("jwt_audience"),
            encryption_key: read.secret("encryption_key", |text| store::KeyRing::parse(text).map(|_| ())),
            allow_local: read.checked("ehr_allow_local", |text| AllowLocal::from_str(text).map_err(|bad| format!("will not do: {bad}"))),
            lease_ms: read.checked("lease_seconds", |text| number(text, 1, 3_600).map(|seconds| i64::from(seconds) * 1000)),
            sweep_cron: read.checked("sweep_cron", cron),
            pull_cron: read.checked("pull_cron", cron),
            daily_cron: read.checked("daily_cron", cron),
            timezone: read.checked("timezone", zone),
            workers: read.checked("workers", |text| number(text, 1, 1_024).map(|many| many as usize)),
            log: read.log(),
        };
        if wrong.is_empty() { Ok(settings) } else { Err(Failure::usage(wrong.join("\n"))) }
    }

    /// The key ring.
    ///
    /// # Errors
    /// What to set, if there is none.
    pub fn keys(&self) -> Result<store::KeyRing, Failure> {
        let key = self.encryption_key.as_ref().ok_or_else(|| Failure::usage(NO_KEY))?;
        store::KeyRing::parse(key.expose_secret()).map_err(Failure::usage)
    }

    /// Whether the service may start: it must be able to verify tokens (if it answers any request) and to seal.
    ///
    /// # Errors
    /// All that has to be set, and how to make it.
    pub fn may_serve(&self, answers_requests: bool) -> Result<(), Failure> {
        let mut missing = Vec::new();
        if answers_requests && self.verify.is_none() {
            missing.push(NO_VERIFIER);
        }
        if self.encryption_key.is_none() {
            missing.push(NO_KEY);
        }
        if missing.is_empty() { Ok(()) } else { Err(Failure::usage(missing.join("\n"))) }
    }
}

const NO_VERIFIER: &str = "There is no way to verify tokens, so nobody could be let in. Set one of:\n  \
     PONTE_JWT_SECRET: the HS256 secret that your platform signs with, 32 bytes at least; make one with: openssl rand -base64 48\n  \
     PONTE_JWKS_URL with PONTE_JWT_ISSUER and PONTE_JWT_AUDIENCE: where your identity provider publishes its keys (RS256, ES256)";
const NO_KEY: &str = "There is no encryption key, so secrets and patients could not be sealed. Set PONTE_ENCRYPTION_KEY: base64 of 32 bytes.\n  \
     Make one with: openssl rand -base64 32\n  \
     Keep it: what was sealed with it can be opened with nothing else.";

struct Reader<'a> {
    layers: &'a Layers,
    wrong: &'a mut Vec<String>,
}

impl Reader<'_> {
    /// The value of a setting that has a default. Its words are shown when it will not do: it is no secret.
    fn checked<T: Default>(&mut self, key: &str, check: impl Fn(&str) -> Result<T, String>) -> T {
        match self.layers.value(key) {
            Ok(None) => T::default(),
            Ok(Some((text, origin))) => check(&text).unwrap_or_else(|why| {
                self.wrong.push(format!("{origin}: `{text}` {why}."));
                T::default()
            }),
            Err(sentence) => {
                self.wrong.push(sentence);
                T::default()
            }
        }
    }

    /// The value of a setting that is never shown.
    fn secret(&mut self, key: &str, check: impl Fn(&str) -> Result<(), String>) -> Option<SecretString> {
        match self.layers.value(key) {
            Ok(None) => None,
            Ok(Some((text, origin))) => match check(&text) {
                Ok(()) => Some(SecretString::from(text)),
                Err(why) => {
                    self.wrong.push(format!("{origin}: {why}"));
                    None
                }
            },
            Err(sentence) => {
                self.wrong.push(sentence);
                None
            }
        }
    }

    fn database_url(&mut self) -> SecretString {
        let known = |text: &str| ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
        let check = |text: &str| {
            if known(text) {
                Ok(())
            } else {
                Err("is not the URL of a database: sqlite://ponte.db or postgres://user@host/name.".to_owned())
            }
        };
        self.secret("database_url", check).unwrap_or_default()
    }

    fn verify(&mut self) -> Option<Verify> {
        let long_enough = |text: &str| {
            let bytes = text.len();
            if bytes >= SHORTEST_SECRET {
                Ok(())
            } else {
                Err(format!(
                    "the secret has {bytes} bytes; HS256 needs {SHORTEST_SECRET} at least (RFC 7518 §3.2). Make one with: openssl rand -base64 48"
                ))
            }
        };
        let secret = self.secret("jwt_secret", long_enough);
        let [url, issuer, audience] =
            ["jwks_url", "jwt_issuer", "jwt_audience"].map(|key| self.checked(key, |text| Ok(Some(text.to_owned()))));
        match (secret, url) {
            (Some(_), Some(_)) => {
                self.wrong.push(
                    "PONTE_JWT_SECRET and PONTE_JWKS_URL are both set; tokens are verified in one way only. Keep one of them.".into(),
                );
                None
            }
            (Some(secret), None) => Some(Verify::Secret(secret)),
            (None, Some(url)) => match (issuer, audience) {
                (Some(issuer), Some(audience)) => Some(Verify::Jwks { url, issuer, audience }),
                _ => {
                    self.wrong.push(
                        "PONTE_JWKS_URL needs PONTE_JWT_ISSUER and PONTE_JWT_AUDIENCE too: without them a token that was made for \
                         another service would be let in."
                            .into(),
                    );
                    None
                }
            },
            (None, None) => None,
        }
    }

    fn log(&mut self) -> Verbosity {
        let read = self.checked("log", |text| Verbosity::parse(text).map(Some).map_err(|why| format!("will not do: {why}")));
        read.unwrap_or_default()
    }
}

fn number(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let read = text.trim().parse::<u32>().ok().filter(|n| (least..=most).contains(n));
    read.ok_or_else(|| format!("is not a whole number from {least} to {most}"))
}

fn cron(text: &str) -> Result<String, String> {
    crate::wire::check_cron(text).map(|()| text.to_owned())
}

fn zone(text: &str) -> Result<String, String> {
    crate::wire::check_zone(text).map(|()| text.to_owned())
}

#[cfg(test)]
mod tests;
