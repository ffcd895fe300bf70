//! What differs between SQLite and PostgreSQL, and nothing else.

/// The database.
pub(crate) enum Db {}
