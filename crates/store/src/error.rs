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

impl From<sqlx::Error> for Error {
    /// Keeps the code and the constraint, never the message's details, which may hold a value.
    fn from(error: sqlx::Error) -> Self {
        Self::Database(match &error {
            sqlx::Error::Database(said) => {
                let code = said.code().unwrap_or_default();
                // No such statement, or another one of that name: only somebody else's session explains it.
                let stranger = matches!(code.as_ref(), "26000" | "42P05");
                match said.constraint() {
                    _ if stranger => format!("code {code}: is there a pooler in transaction mode? Then set PONTE_DATABASE_POOLED=true"),
                    Some(constraint) => format!("code {code}, constraint {constraint}"),
                    None if said.kind() == sqlx::error::ErrorKind::Other => format!("code {code}, {}", first_words(said.message())),
                    None => format!("code {code}"),
                }
            }
            sqlx::Error::PoolTimedOut => "no connection was free in time".to_owned(),
            sqlx::Error::Io(io) => format!("the connection broke: {}", io.kind()),
            sqlx::Error::Tls(_) => "the TLS handshake failed".to_owned(),
            sqlx::Error::ColumnNotFound(column) => format!("no column {column}"),
            sqlx::Error::ColumnDecode { index, .. } => format!("column {index} is of another type"),
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => "the connection is closed".to_owned(),
            _ => "the driver reports a failure".to_owned(),
        })
    }
}

impl From<rusqlite::Error> for Error {
    /// The same of SQLite's: what a constraint says is its code alone.
    fn from(error: rusqlite::Error) -> Self {
        let failed = match &error {
            rusqlite::Error::SqliteFailure(failed, said) => Some((failed, said.as_deref())),
            rusqlite::Error::SqlInputError { error, msg, .. } => Some((error, Some(msg.as_str()))),
            _ => None,
        };
        Self::Database(match failed {
            Some((failed, _)) if failed.code == rusqlite::ErrorCode::ConstraintViolation => format!("code {}", failed.extended_code),
            Some((failed, said)) => format!("code {}, {}", failed.extended_code, first_words(said.unwrap_or_default())),
            None => "the driver reports a failure".to_owned(),
        })
    }
}

/// A database's message up to the first quotation, behind which a value may stand.
fn first_words(message: &str) -> &str {
    message.split(['"', '\'', '(']).next().unwrap_or("").trim_end_matches([':', ' '])
}
