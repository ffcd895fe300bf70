//! How a search goes on from page to page: links that only this server understands.

use crate::call::{Call, Query, write_query};
use crate::fault::Fault;
use crate::outcome::Refusal;
use crate::quirks::Paging;
use crate::search::{Asked, Key};
use crate::twin::Twin;

/// Sessions kept at most; the oldest goes first.
const SESSIONS: usize = 4096;

/// A search that is being paged.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) kind: String,
    pub(crate) asked: Asked,
    pub(crate) state: State,
    begun: i64,
}

/// From where a session goes on.
#[derive(Clone)]
pub(crate) enum State {
    /// The places found at first; go on at this index.
    Fixed(Vec<usize>, usize),
    /// After this row.
    After(Vec<Key>, usize),
}

/// A search's result as it was some time ago.
pub(crate) struct Cached {
    pub(crate) at: i64,
    pub(crate) places: Vec<usize>,
}

/// Where a page begins, as a link or the first request says.
pub(crate) enum Start {
    /// From the beginning, or from an offset with the search asked anew.
    Fresh(usize),
    /// In a session.
    Session(Box<Session>),
}

/// One page of rows.
pub(crate) struct Page {
    pub(crate) places: Vec<usize>,
    /// The query of the next link, and whether it stands at the base instead of the type.
    pub(crate) next: Option<(Query, bool)>,
}

impl Twin {
    /// What this query continues.
    pub(crate) fn start_of(&mut self, call: &Call, query: &Query) -> Result<Start, Refusal> {
        let value = |name: &str| query.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        let number = |name: &str| value(name).and_then(|text| text.parse::<usize>().ok());
        let (token, offset) = match self.quirks.paging {
            Paging::Offset => return Ok(Start::Fresh(number("_offset").unwrap_or(0))),
            Paging::Page => {
                let size = number("_count").unwrap_or_else(|| self.page_size());
                return Ok(Start::Fresh(number("_page").map_or(0, |page| page.saturating_sub(1)) * size));
            }
            Paging::GetPages => (value("_getpages"), number("_getpagesoffset")),
            Paging::Session => {
                let (token, offset) = value("sessionID").and_then(|text| text.split_once('.')).unzip();
                (token, offset.and_then(|text| text.parse().ok()))
            }
            Paging::Cursor => (value("_cursor"), None),
        };
        let asks = ["sessionID", "_getpages", "_cursor"].iter().any(|name| value(name).is_some());
        let Some(token) = token else {
            return if asks { Err(expired()) } else { Ok(Start::Fresh(0)) };
        };
        let mut session = self.sessions.get(token).cloned().ok_or_else(expired)?;
        if call.faults.has(Fault::LinksExpire) {
            self.show(Fault::LinksExpire);
            return Err(expired());
        }
        let life = self.settings.link_expires_ms;
        if life > 0 && self.now - session.begun > i64::try_from(life).unwrap_or(i64::MAX) {
            self.sessions.shift_remove(token);
            return Err(expired());
        }
        if let (State::Fixed(_, from), Some(offset)) = (&mut session.state, offset) {
            *from = offset;
        }
        Ok(Start::Session(Box::new(session)))
    }

    /// The link to what follows `shown` rows of this result; `from` is where this page begins.
    pub(crate) fn next_of(
        &mut self,
        kind: &str,
        asked: &Asked,
        (places, from, size): (&[usize], usize, usize),
        last: (Vec<Key>, usize),
        token: Option<String>,
    ) -> Page {
        let page: Vec<usize> = places.iter().skip(from).take(size).copied().collect();
        let to = from + page.len();
        if to >= places.len() || page.is_empty() {
            return Page { places: page, next: None };
        }
        let paging = self.quirks.paging;
        let mut query = Query::new();
        match paging {
            Paging::Offset | Paging::Page => {
                query.clone_from(&asked.used);
                if paging == Paging::Offset {
                    query.push(("_offset".to_owned(), to.to_string()));
                } else {
                    query.push(("_page".to_owned(), (to / size + 1).to_string()));
                }
            }
            Paging::Session | Paging::GetPages => {
                let token = token.unwrap_or_else(|| {
                    self.open(Session {
                        kind: kind.to_owned(),
                        asked: asked.clone(),
                        state: State::Fixed(places.to_vec(), 0),
                        begun: self.now,
                    })
                });
                if paging == Paging::Session {
                    query.push(("sessionID".to_owned(), format!("{token}.{to}")));
                } else {
                    query.push(("_getpages".to_owned(), token));
                    query.push(("_getpagesoffset".to_owned(), to.to_string()));
                    query.push(("_count".to_owned(), size.to_string()));
                    query.push(("_bundletype".to_owned(), "searchset".to_owned()));
                }
            }
            Paging::Cursor => {
                let token = self.open(Session {
                    kind: kind.to_owned(),
                    asked: asked.clone(),
                    state: State::After(last.0, last.1),
                    begun: self.now,
                });
                query.push(("_cursor".to_owned(), token));
            }
        }
        Page { places: page, next: Some((query, paging == Paging::GetPages)) }
    }

    pub(crate) fn page_size(&self) -> usize {
        match self.settings.page_size {
            0 => self.quirks.page_size,
            size => size,
        }
    }

    fn open(&mut self, session: Session) -> String {
        let token = self.uuid();
        if self.sessions.len() >= SESSIONS {
            self.sessions.shift_remove_index(0);
        }
        self.sessions.insert(token.clone(), session);
        token
    }
}

/// A link of a Bundle, as an absolute URL.
pub(crate) fn url(base: &str, path: &str, query: &Query) -> String {
    let mut url = base.to_owned();
    if !path.is_empty() {
        url.push('/');
        url.push_str(path);
    }
    if !query.is_empty() {
        url.push('?');
        url.push_str(&write_query(query));
    }
    url
}

fn expired() -> Refusal {
    Refusal::new(410, "expired", "The search that this link continues is no longer held. Ask the search again.")
}
