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
