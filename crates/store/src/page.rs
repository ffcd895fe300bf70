//! Lists: newest first, by key, never a total.

/// Which part of a list.
#[derive(Debug, Clone)]
pub struct PageRequest {
    /// At most so many, 1 to 200.
    pub limit: u32,
    /// Only ids before this one: the last of the page before (ids are UUIDv7, so order is age).
    pub before: Option<uuid::Uuid>,
}

/// A part of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// What to ask for next; `None` at the end.
    pub next: Option<uuid::Uuid>,
}

/// Stands behind every id, in any collation.
pub(crate) const END: &str = "g";

impl PageRequest {
    /// So many are asked for.
    pub(crate) fn size(&self) -> u32 {
        self.limit.clamp(1, 200)
    }

    /// So many are fetched: one more than asked for, which tells whether there is another page.
    pub(crate) fn fetch(&self) -> u32 {
        self.size() + 1
    }

    /// The id before which the list begins, as text.
    pub(crate) fn before_text(&self) -> String {
        self.before.map_or_else(|| END.to_owned(), |id| id.to_string())
    }
}

/// Makes the page of what [`PageRequest::fetch`] fetched.
pub(crate) fn page_of<T>(page: &PageRequest, mut items: Vec<T>, id: impl Fn(&T) -> uuid::Uuid) -> Page<T> {
    let size = page.size() as usize;
    let more = items.len() > size;
    items.truncate(size);
    let next = if more { items.last().map(id) } else { None };
    Page { items, next }
}
