//! Search URLs and the small header values of FHIR REST: queries, tokens, `Retry-After`, ETags, `Location`.
//!
//! Everything that a foreign server sends is read here without ever failing loudly: what cannot be read is `None`.

use model::{EhrId, Timestamp};
use std::time::UNIX_EPOCH;

/// The parameters of a search, in order. The same text serves as the query of a URL and as the form of `POST _search`
/// (FHIR R4 search#token, search#escaping, search#reference).
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// No parameters yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A parameter whose value goes in as it is: a date with its prefix, a reference, a count.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.pairs.push((name.into(), value.into()));
        self
    }

    /// A token parameter of this exact system and value; `\ | , $` inside either are escaped (search#escaping).
    #[must_use]
    pub fn token(self, name: impl Into<String>, system: &str, value: &str) -> Self {
        let token = token(system, value);
        self.with(name, token)
    }

    /// A token parameter that asks for any of these (a comma is OR, search#combining).
    #[must_use]
    pub fn tokens<'a>(self, name: impl Into<String>, tokens: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let any: Vec<String> = tokens.into_iter().map(|(system, value)| token(system, value)).collect();
        self.with(name, any.join(","))
    }

    /// Whether there is nothing to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The names of the parameters, for a log line that must not hold their values.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(name, _)| name.as_str())
    }

    /// `name=value&name=value`, each side percent-encoded.
    #[must_use]
    pub fn encoded(&self) -> String {
        let pairs: Vec<String> = self.pairs.iter().map(|(name, value)| format!("{}={}", encode_name(name), encode(value))).collect();
        pairs.join("&")
    }
}

impl std::fmt::Debug for Query {
    /// Names only: a value may be a CPF.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// `system|value` with both parts escaped.
#[must_use]
pub fn token(system: &str, value: &str) -> String {
    format!("{}|{}", escape(system), escape(value))
}

/// Escapes `\ | , $` inside a search value (FHIR R4 search#escaping).
#[must_use]
pub fn escape(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for c in part.chars() {
        if matches!(c, '\\' | '|' | ',' | '$') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Percent-encodes everything but RFC 3986 unreserved characters; so `+` becomes `%2B` and is never read as a space.
#[must_use]
pub fn encode(text: &str) -> String {
    encode_but(text, b"")
}

/// The value of `If-None-Exist` and of `Bundle.entry.request.ifNoneExist`: `identifier=<system>|<value>`, bare, without
/// a `?` in front (FHIR R4 http#ccreate; with one, three servers refuse it and one doubles: REAL-SERVERS §0.5).
/// `: / |` stay as they are; only what would end or change a query is percent-encoded.
#[must_use]
pub fn if_none_exist(system: &str, value: &str) -> String {
    format!("identifier={}|{}", encode_but(system, b":/"), encode_but(value, b":/"))
}

/// Milliseconds that `Retry-After` asks for: seconds, or an HTTP date against `now` (RFC 9110 §10.2.3). A date that
/// has passed is 0. `now` is best the answer's own `Date`.
#[must_use]
pub fn retry_after_ms(value: &str, now: Timestamp) -> Option<i64> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(value.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1000)).unwrap_or(i64::MAX));
    }
    if let Some((whole, fraction)) = value.split_once('.')
        && [whole, fraction].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    {
        // Not allowed by the RFC, but sent: the next whole second.
        return Some(whole.parse::<i64>().ok().and_then(|seconds| seconds.checked_add(1)?.checked_mul(1000)).unwrap_or(i64::MAX));
    }
    http_date(value).map(|at| at.ms_since(now).max(0))
}

/// Reads an HTTP date (RFC 9110 §5.6.7, all three forms).
#[must_use]
pub fn http_date(value: &str) -> Option<Timestamp> {
    let at = httpdate::parse_http_date(value.trim()).ok()?;
    let since = at.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(Timestamp)
}

/// The version inside an ETag: `W/"x"`, `"x"` and a bare `x` are all met (FHIR.md §1, ETag). Opaque; compare for
/// equality only.
#[must_use]
pub fn etag(value: &str) -> Option<String> {
    let value = value.trim();
    let value = value.strip_prefix("W/").or_else(|| value.strip_prefix("w/")).unwrap_or(value).trim();
    let inner = value.strip_prefix('"').map_or(value, |rest| rest.strip_suffix('"').unwrap_or(rest));
    let good = !inner.is_empty() && inner.len() <= 200 && inner.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    good.then(|| inner.to_owned())
}

/// The value of `If-Match` for a version: FHIR sends weak tags (R4 http#concurrency). `None` for a version that no
/// header can carry.
#[must_use]
pub fn if_match(version: &str) -> Option<String> {
    let good = !version.is_empty() && version.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    good.then(|| format!("W/\"{version}\""))
}

/// What a `Location` names. Never an address to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Resource type.
    pub resource_type: String,
    /// Logical id.
    pub id: EhrId,
    /// Version, where the server tracks versions.
    pub version: Option<String>,
}

/// Reads `[type]/[id]` and `/_history/[version]` from the end of a `Location`: absolute with any host or prefix, or
/// relative with or without a leading `/` (FHIR R4 http#create says that it may be relative).
#[must_use]
pub fn location(value: &str) -> Option<Location> {
    let path = value.trim().split(['?', '#']).next()?;
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (pair, version) = match segments.iter().rposition(|segment| *segment == "_history") {
        Some(at) => (segments.get(..at)?, segments.get(at + 1).copied()),
        None => (segments.as_slice(), None),
    };
    let [.., resource_type, id] = pair else { return None };
    if !is_type_name(resource_type) {
        return None;
    }
    let version = version.filter(|v| !v.is_empty() && v.len() <= 200 && v.bytes().all(|b| b.is_ascii_graphic())).map(str::to_owned);
    Some(Location { resource_type: (*resource_type).to_owned(), id: EhrId::new(*id).ok()?, version })
}

/// Whether a text has the form of a resource type's name.
#[must_use]
pub fn is_type_name(text: &str) -> bool {
    text.len() <= 64 && text.starts_with(|c: char| c.is_ascii_uppercase()) && text.bytes().all(|b| b.is_ascii_alphabetic())
}

fn encode_name(name: &str) -> String {
    encode_but(name, b":")
}

fn encode_but(text: &str, keep: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_795_579_200_000);

    #[test]
    fn a_plus_is_never_read_as_a_space() {
        let query = Query::new().with("_lastUpdated", "ge2026-11-25T00:00:00+03:00").with("subject:Patient", "23");
        assert_eq!(query.encoded(), "_lastUpdated=ge2026-11-25T00%3A00%3A00%2B03%3A00&subject:Patient=23");
    }

    #[test]
    fn a_token_escapes_what_search_would_split() {
        let query = Query::new().token("identifier", "urn:x", r"a|b,c$d\e");
        assert_eq!(query.encoded(), "identifier=urn%3Ax%7Ca%5C%7Cb%5C%2Cc%5C%24d%5C%5Ce");
        assert_eq!(Query::new().tokens("identifier", [("s", "1"), ("s", "2")]).encoded(), "identifier=s%7C1%2Cs%7C2");
        assert!(!format!("{query:?}").contains("urn"));
    }

    #[test]
    fn if_none_exist_is_bare_and_exact() {
        let ours = if_none_exist("urn:ponte:observation", "0193-a");
        assert_eq!(ours, "identifier=urn:ponte:observation|0193-a");
        assert_eq!(if_none_exist("http://h/x?a&b", "1+1"), "identifier=http://h/x%3Fa%26b|1%2B1");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after_ms(" 2 ", NOW), Some(2000));
        assert_eq!(retry_after_ms("1.5", NOW), Some(2000));
        assert_eq!(retry_after_ms("99999999999999999999", NOW), Some(i64::MAX));
        assert_eq!(retry_after_ms("-1", NOW), None);
        assert_eq!(retry_after_ms("soon", NOW), None);
        let date = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(date, Timestamp(784_111_777_000));
        assert_eq!(retry_after_ms("Sunday, 06-Nov-94 08:49:37 GMT", Timestamp(784_111_770_000)), Some(7000));
        assert_eq!(retry_after_ms("Sun, 06 Nov 1994 08:49:37 GMT", NOW), Some(0));
    }

    #[test]
    fn etags_in_all_their_forms() {
        for (text, want) in [("W/\"3\"", "3"), ("\"3\"", "3"), ("3", "3"), ("w/\"a-b\"", "a-b"), (" W/\"u:1\" ", "u:1")] {
            assert_eq!(etag(text).as_deref(), Some(want), "{text}");
        }
        for bad in ["", "\"\"", "W/\"\"", "a b", "W/\"a\"b\""] {
            assert_eq!(etag(bad), None, "{bad}");
        }
        assert_eq!(if_match("3").as_deref(), Some("W/\"3\""));
        assert_eq!(if_match("a\"b"), None);
    }

    #[test]
    fn locations_in_all_their_forms() {
        let full = |v: &str| location(v).map(|l| (l.resource_type, l.id.to_string(), l.version));
        let want = |version: Option<&str>| Some(("Observation".to_owned(), "8841".to_owned(), version.map(str::to_owned)));
        assert_eq!(full("https://h/fhir/Observation/8841/_history/1"), want(Some("1")));
        assert_eq!(full("http://inner:8080/a/b/Observation/8841"), want(None));
        assert_eq!(full("Observation/8841/_history/2"), want(Some("2")));
        assert_eq!(full("/Observation/8841?x=1#y"), want(None));
        assert_eq!(full("/Observation/8841/_history/"), want(None));
        for bad in [
            "",
            "8841",
            "https://portal/login",
            "Observation/",
            "Observation/a b",
            "observation/1",
            "_history/1",
            "https://h/Observation/../1x/",
        ] {
            assert_eq!(full(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn foreign_text_never_panics(text in "\\PC*") {
            let _ = (retry_after_ms(&text, NOW), etag(&text), location(&text), http_date(&text));
            prop_assert!(encode(&text).bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
        }
    }
}
