//! `ponte token`: signs a token with the configured secret, for development and scripts.

use crate::exit::{Exit, Failure};
use crate::settings::{TokenFlags, Verify};
use crate::talk;
use clap::Args;
use model::TenantId;
use std::time::Duration;

/// Longest life of a token made here: 30 days.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// The roles of CONTRACT.
pub(super) const ROLES: [&str; 6] = ["ADMIN", "ONCOLOGIST", "DOCTOR", "NURSE_CHIEF", "NURSE", "COORDINATOR"];

/// Signs a token.
#[derive(Debug, Args)]
pub struct Token {
    /// Tenant that the token speaks for
    #[arg(long, value_parser = super::tenant)]
    tenant: TenantId,
    /// Role: ADMIN, ONCOLOGIST, DOCTOR, NURSE_CHIEF, NURSE or COORDINATOR
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(ROLES), ignore_case = true, hide_possible_values = true)]
    role: String,
    /// Who it is made for; stands in the audit
    #[arg(long, default_value = "ponte-cli", value_name = "NAME")]
    sub: String,
    /// How long it holds: 900 (seconds), 15m, 8h, 2d
    #[arg(long, default_value = "1h", value_parser = duration)]
    ttl: Duration,
    #[command(flatten)]
    secret: TokenFlags,
}

impl Token {
    /// Signs and prints.
    pub(super) async fn run(self, json: bool) -> Result<Exit, Failure> {
        let settings = super::settings(self.secret.given())?;
        let secret = match settings.verify {
            Some(Verify::Secret(secret)) => secret,
            Some(Verify::Jwks { .. }) => {
                return Err(Failure::usage(
                    "Tokens are verified with the keys of PONTE_JWKS_URL; only your identity provider can sign them.",
                ));
            }
            None => {
                return Err(Failure::usage(
                    "There is no secret to sign with. Set PONTE_JWT_SECRET (the same as for `ponte serve`) or give --jwt-secret-file.",
                ));
            }
        };
        let role = self.role.to_ascii_uppercase();
        let token = crate::wire::sign(&secret, &self.tenant, &role, &self.sub, self.ttl)?;
        if json {
            let shown = serde_json::json!({
                "token": token, "tenantId": self.tenant.as_str(), "role": role, "sub": self.sub, "expiresInSeconds": self.ttl.as_secs(),
            });
            talk::data(shown.to_string());
        } else {
            talk::data(token);
        }
        Ok(Exit::Ok)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "is not a length of time such as 900 (seconds), 15m, 8h or 2d, 30 days at most".to_owned();
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    let length = count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)?;
    if length.is_zero() || length > LONGEST { Err(wrong()) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_with_and_without_a_unit() {
        for (text, seconds) in [("900", 900), ("90s", 90), ("15m", 900), ("8h", 28_800), ("2d", 172_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "0", "h", "1w", "31d", "-1", "1.5h", "99999999999999999999", "18446744073709551615d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
