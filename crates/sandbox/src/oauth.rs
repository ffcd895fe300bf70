//! Who may come in: tokens by client credentials (RFC 6749 §4.4), bearer tokens (RFC 6750), Basic (RFC 7617), and API keys.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::call::{Call, Interaction, Target, header, read_query};
use crate::fault::{Fault, FaultSet};
use crate::options::{Auth, OAuth2};
use crate::outcome::Refusal;
use crate::twin::Twin;

/// An access token that was given out.
pub(crate) struct Token {
    scopes: Arc<[String]>,
    /// Milliseconds since 1970.
    expires: i64,
}

/// The token endpoint's answer: status, body, and whether to ask for Basic.
pub(crate) struct TokenAnswer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) challenge: bool,
}

impl Twin {
    /// Lets a FHIR request in, with its token's scopes, or says why not.
    pub(crate) fn admit(
        &mut self,
        headers: &HeaderMap,
        target: &Target,
        interaction: Interaction,
        faults: FaultSet,
    ) -> Result<Option<Arc<[String]>>, Refusal> {
        let open = self.auth.is_empty() || self.auth.iter().any(|auth| matches!(auth, Auth::Open));
        if matches!(target, Target::Metadata | Target::Smart) {
            return Ok(None);
        }
        let sent = header(headers, "authorization");
        let bearer = sent.as_deref().and_then(|text| scheme(text, "bearer"));
        if faults.has(Fault::TokenRevoked)
            && let Some(token) = bearer
            && self.tokens.remove(token).is_some()
        {
            self.show(Fault::TokenRevoked);
            return Err(unauthorized(
                "Bearer realm=\"fhir\", error=\"invalid_token\", error_description=\"The token was revoked\"",
                "expired",
                "The access token was revoked.",
            ));
        }
        if open {
            return Ok(None);
        }
        let mut challenge = "ApiKey realm=\"fhir\"";
        for auth in self.auth.clone() {
            match auth {
                Auth::Open => return Ok(None),
                Auth::ApiKey { header: name, key } => {
                    if header(headers, &name).as_deref() == Some(key.as_str()) {
                        return Ok(None);
                    }
                }
                Auth::Basic { username, password } => {
                    challenge = "Basic realm=\"fhir\", charset=\"UTF-8\"";
                    let pair = sent.as_deref().and_then(|text| scheme(text, "basic")).and_then(decode);
                    if pair.as_deref() == Some(format!("{username}:{password}").as_str()) {
                        return Ok(None);
                    }
                }
                Auth::OAuth2(_) => {
                    challenge = "Bearer realm=\"fhir\"";
                    let Some(token) = bearer else { continue };
                    match self.tokens.get(token) {
                        Some(known) if known.expires > self.now => {
                            return if allows(&known.scopes, target.label(), letter(target, interaction)) {
                                Ok(Some(known.scopes.clone()))
                            } else {
                                Err(Refusal::new(403, "forbidden", "The token's scope does not cover this.")
                                    .with_header("www-authenticate", "Bearer realm=\"fhir\", error=\"insufficient_scope\""))
                            };
                        }
                        _ => challenge = "Bearer realm=\"fhir\", error=\"invalid_token\"",
                    }
                }
            }
        }
        Err(unauthorized(challenge, "login", "This server wants to know who asks: the credentials are missing, wrong or expired."))
    }

    /// Judges an entry of a Bundle by the scopes of the request's token (SMART scopes, Batches and Transactions).
    pub(crate) fn may(&self, entry: &Call) -> Result<(), Refusal> {
        let Some(scopes) = &entry.scopes else { return Ok(()) };
        if allows(scopes, entry.target.label(), letter(&entry.target, Interaction::of(&entry.method, &entry.target))) {
            return Ok(());
        }
        Err(Refusal::new(403, "forbidden", "The token's scope does not cover this entry."))
    }

    /// `POST /oauth/token`.
    pub(crate) fn token(&mut self, headers: &HeaderMap, body: &str) -> TokenAnswer {
        let form = read_query(body);
        let field = |name: &str| form.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        let basic = header(headers, "authorization").as_deref().and_then(|text| scheme(text, "basic")).and_then(decode);
        let is_form = header(headers, "content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        if !is_form || field("grant_type").is_none() {
            return error(400, "invalid_request", "The request has to be a form with grant_type.");
        }
        if basic.is_some() && field("client_secret").is_some() {
            return error(400, "invalid_request", "Only one way of authenticating per request (RFC 6749 §2.3).");
        }
        if field("grant_type") != Some("client_credentials") {
            return error(400, "unsupported_grant_type", "Only client_credentials is supported.");
        }
        let client = self.auth.iter().find_map(|auth| match auth {
            Auth::OAuth2(client) if knows(client, basic.as_deref(), field("client_id"), field("client_secret")) => Some(client.clone()),
            _ => None,
        });
        let Some(client) = client else {
            let mut answer =
                error(401, "invalid_client", "The client is unknown, its secret is wrong, or this way of sending it is not accepted.");
            answer.challenge = basic.is_some();
            return answer;
        };
        let asked = field("scope").unwrap_or_default();
        let granted: Vec<String> = if asked.trim().is_empty() {
            client.scopes.clone()
        } else {
            asked.split_whitespace().filter(|scope| covers(&client.scopes, scope)).map(str::to_owned).collect()
        };
        if granted.is_empty() {
            return error(400, "invalid_scope", "None of the scopes may be had by this client.");
        }
        let token = format!("{}{}", self.uuid(), self.uuid()).replace('-', "");
        let life = i64::try_from(client.expires_in).unwrap_or(i64::MAX / 1000);
        self.tokens
            .insert(token.clone(), Token { scopes: granted.clone().into(), expires: self.now.saturating_add(life.saturating_mul(1000)) });
        self.tokens_issued += 1;
        let mut body = json!({"access_token": token, "token_type": "Bearer"});
        if client.tells_expiry {
            body["expires_in"] = json!(client.expires_in);
        }
        body["scope"] = json!(granted.join(" "));
        TokenAnswer { status: 200, body, challenge: false }
    }
}

fn knows(client: &OAuth2, basic: Option<&str>, id: Option<&str>, secret: Option<&str>) -> bool {
    match basic {
        Some(pair) => {
            // RFC 6749 §2.3.1 form-encodes both parts first; many clients do not, and many servers take either.
            let plain = format!("{}:{}", client.client_id, client.secret);
            let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let encoded = format!("{}:{}", encode(&client.client_id), encode(&client.secret));
            client.accepts_basic && (pair == plain || pair == encoded)
        }
        None => client.accepts_post && id == Some(client.client_id.as_str()) && secret == Some(client.secret.as_str()),
    }
}

fn scheme<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    let (scheme, rest) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted).then(|| rest.trim())
}

fn decode(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}

fn error(status: u16, code: &str, text: &str) -> TokenAnswer {
    TokenAnswer { status, body: json!({"error": code, "error_description": text}), challenge: false }
}

fn unauthorized(challenge: &'static str, code: &'static str, text: &str) -> Refusal {
    Refusal::new(401, code, text).with_header("www-authenticate", challenge)
}

/// The letter of SMART v2 scopes that an interaction needs; none for a Bundle, whose entries are judged by type `*`.
fn letter(target: &Target, interaction: Interaction) -> Option<char> {
    match (target, interaction) {
        (Target::TypeHistory(_) | Target::SystemHistory, _) | (_, Interaction::Search) => Some('s'),
        (_, Interaction::Create) => Some('c'),
        (_, Interaction::Update) => Some('u'),
        (_, Interaction::Delete) => Some('d'),
        (_, Interaction::Read) => Some('r'),
        _ => None,
    }
}

fn allows(scopes: &[String], kind: &str, letter: Option<char>) -> bool {
    let Some(letter) = letter else { return true };
    scopes.iter().filter_map(|scope| read_scope(scope)).any(|(own, letters)| (own == "*" || own == kind) && letters.contains(letter))
}

/// Whether everything that `asked` allows is allowed by `scopes`.
fn covers(scopes: &[String], asked: &str) -> bool {
    read_scope(asked).is_some_and(|(kind, letters)| !letters.is_empty() && letters.chars().all(|letter| allows(scopes, kind, Some(letter))))
}

/// Type and letters of a SMART v1 or v2 system scope.
fn read_scope(scope: &str) -> Option<(&str, &str)> {
    let (kind, rights) = scope.strip_prefix("system/")?.split_once('.')?;
    let rights = rights.split('?').next().unwrap_or_default();
    Some((
        kind,
        match rights {
            "read" => "rs",
            "write" => "cud",
            "*" => "cruds",
            letters => letters,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_both_generations_are_understood() {
        let scopes = vec!["system/Observation.crus".to_owned(), "system/Patient.read".to_owned()];
        assert!(allows(&scopes, "Observation", Some('c')));
        assert!(allows(&scopes, "Patient", Some('s')));
        assert!(!allows(&scopes, "Patient", Some('c')));
        assert!(!allows(&scopes, "Observation", Some('d')));
        assert!(covers(&["system/*.cruds".to_owned()], "system/Patient.write"));
        assert!(!covers(&scopes, "system/*.read"));
    }
}
