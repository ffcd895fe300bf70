//! How we prove who we are: Basic, an API key, or a Bearer token in the headers of a request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// Credentials that no HTTP header can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The credentials hold characters that an HTTP header cannot carry; set them again in authConfig.")]
pub struct BadCredentials;

/// `Authorization: Basic` of RFC 7617, UTF-8.
///
/// # Errors
/// Never for text; kept for symmetry with its neighbours.
pub fn basic(headers: &mut HeaderMap, username: &str, password: &SecretString) -> Result<(), BadCredentials> {
    let plain = Zeroizing::new(format!("{username}:{}", password.expose_secret()));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(plain.as_bytes())));
    insert(headers, AUTHORIZATION, &value)
}

/// `Authorization: Basic` of a token request: both parts form-urlencoded first (RFC 6749 §2.3.1), so that a secret with
/// `+ / % :` arrives whole.
///
/// # Errors
/// Never for text.
pub fn client_secret_basic(headers: &mut HeaderMap, client_id: &str, secret: &SecretString) -> Result<(), BadCredentials> {
    let secret = SecretString::from(form_encoded(secret.expose_secret()));
    basic(headers, &form_encoded(client_id), &secret)
}

/// `Authorization: Bearer` (RFC 6750).
///
/// # Errors
/// When the token cannot stand in a header.
pub fn bearer(headers: &mut HeaderMap, token: &SecretString) -> Result<(), BadCredentials> {
    let value = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
    insert(headers, AUTHORIZATION, &value)
}

/// A key in a header of its own.
///
/// # Errors
/// When name or key cannot stand in a header.
pub fn api_key(headers: &mut HeaderMap, name: &str, key: &SecretString) -> Result<(), BadCredentials> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| BadCredentials)?;
    // A key under one of these names would change the message itself.
    let framing = [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::CONTENT_TYPE];
    if framing.contains(&name) {
        return Err(BadCredentials);
    }
    insert(headers, name, key.expose_secret())
}

/// `application/x-www-form-urlencoded` of one value.
#[must_use]
pub(crate) fn form_encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), BadCredentials> {
    let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| BadCredentials)?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(headers: &HeaderMap) -> String {
        let value = headers[AUTHORIZATION].to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
        String::from_utf8(STANDARD.decode(value).unwrap()).unwrap()
    }

    #[test]
    fn basic_is_plain_and_client_secret_basic_is_form_encoded() {
        let secret = SecretString::from("p+/%: ç");
        let mut headers = HeaderMap::new();
        basic(&mut headers, "user", &secret).unwrap();
        assert_eq!(decoded(&headers), "user:p+/%: ç");
        client_secret_basic(&mut headers, "id:1", &secret).unwrap();
        assert_eq!(decoded(&headers), "id%3A1:p%2B%2F%25%3A+%C3%A7");
    }

    #[test]
    fn a_key_goes_under_its_own_name_but_never_under_one_that_frames_the_message() {
        let mut headers = HeaderMap::new();
        api_key(&mut headers, "X-Other-Key", &"k".into()).unwrap();
        assert_eq!(headers["x-other-key"], "k");
        assert_eq!(api_key(&mut headers, "Host", &"k".into()), Err(BadCredentials));
        assert_eq!(api_key(&mut headers, "X-Key", &"a\r\nb".into()), Err(BadCredentials));
    }

    #[test]
    fn debug_of_headers_shows_no_secret() {
        let mut headers = HeaderMap::new();
        bearer(&mut headers, &"marker-token".into()).unwrap();
        api_key(&mut headers, "X-Key", &"marker-key".into()).unwrap();
        assert!(!format!("{headers:?}").contains("marker"));
    }
}
