//! The query of a list: only known parameters, each once; `limit` and `cursor`.

use crate::call::Call;
use crate::problem::Problem;
use http::StatusCode;
use model::FieldError;
use std::collections::BTreeMap;
use store::{Page, PageRequest};

/// The parameters of one request.
pub(crate) struct Query {
    given: BTreeMap<String, String>,
    list: String,
}

const DEFAULT_LIMIT: u32 = 50;
const MOST: u32 = 200;
/// These would be people's data in a URL, which logs and proxies keep (PRODUCT, law 5).
const NEVER_IN_A_URL: [&str; 5] = ["cpf", "cns", "externalId", "ehrPatientId", "name"];

impl Query {
    /// Reads the query of a list called `list` that may be filtered by `filters`.
    ///
    /// # Errors
    /// 422 for a parameter that is not known or given twice.
    pub(crate) fn read(call: &Call, list: &str, filters: &[&str]) -> Result<Self, Problem> {
        let mut given = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(call.query.as_deref().unwrap_or("").as_bytes()) {
            if !filters.contains(&&*name) && !["limit", "cursor"].contains(&&*name) {
                let detail = if NEVER_IN_A_URL.contains(&&*name) {
                    "People are never looked for in a URL; use POST /api/v1/patients/search."
                } else {
                    "This list has no such parameter."
                };
                return Err(Problem::field(format!("/{}", crate::json::step(&name)), "unknown_parameter", detail));
            }
            if given.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(Problem::field(format!("/{name}"), "given_twice", "This parameter is given twice."));
            }
        }
        let filtered = given.iter().filter(|(name, _)| filters.contains(&name.as_str()));
        let list = filtered.fold(list.to_owned(), |list, (name, value)| format!("{list}\u{1f}{name}={value}"));
        Ok(Self { given, list })
    }

    /// A filter as given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// A filter that is `true` or `false`.
    ///
    /// # Errors
    /// 422 when it is neither.
    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(Problem::field(format!("/{name}"), "not_allowed", format!("{name} is true or false."))),
        }
    }

    /// A filter that is an id.
    ///
    /// # Errors
    /// 422 when it is no UUID.
    pub(crate) fn id<T>(&self, name: &str, wrap: fn(uuid::Uuid) -> T) -> Result<Option<T>, Problem> {
        match self.text(name) {
            None => Ok(None),
            Some(text) => match crate::call::uuid(text) {
                Some(id) => Ok(Some(wrap(id))),
                None => Err(Problem::field(format!("/{name}"), "not_a_uuid", format!("{name} is a UUID."))),
            },
        }
    }

    /// Which page.
    ///
    /// # Errors
    /// 400 for a limit that is no number or another list's cursor, 422 for a limit out of range.
    pub(crate) fn page(&self, call: &Call) -> Result<PageRequest, Problem> {
        let limit = match self.text("limit") {
            None => DEFAULT_LIMIT,
            Some(text) => text.parse().map_err(|_| {
                let error = FieldError::new("/limit", "wrong_type", format!("limit is a whole number from 1 to {MOST}."));
                Problem::new(StatusCode::BAD_REQUEST, "invalid_query", error.detail.clone()).with_errors(vec![error])
            })?,
        };
        if !(1..=MOST).contains(&limit) {
            return Err(Problem::field("/limit", "out_of_range", format!("limit must be from 1 to {MOST}.")));
        }
        let before = match self.text("cursor") {
            None => None,
            Some(cursor) => Some(call.app.api.cursor_key.open(&call.who.tenant, &self.list, cursor)?),
        };
        Ok(PageRequest { limit, before })
    }

    /// The cursor behind a page.
    pub(crate) fn next<T>(&self, call: &Call, page: &Page<T>) -> Option<String> {
        page.next.map(|id| call.app.api.cursor_key.seal(&call.who.tenant, &self.list, id))
    }
}
