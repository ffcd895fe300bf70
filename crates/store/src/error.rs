//! What can go wrong in the store.

/// A store failure. Its text holds no value of any row.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or did not answer.
    #[error("the database did not do what was asked: {0}")]
    Database(String),
    /// The URL is not one of a database that we speak.
    #[error("{0}")]
    Url(String),
    /// A sealed value cannot be opened: another encryption key, or a row that was tampered with.
    #[error("a sealed value cannot be opened: is PONTE_ENCRYPTION_KEY the key that this database was written with?")]
    Sealed,
    /// The schema is older or newer than this binary.
    #[error("{0}")]
    Schema(String),
    /// A row holds what it never should.
    #[error("a row of {0} holds what it never should")]
    Corrupt(&'static str),
}

/// What the store's calls answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;
