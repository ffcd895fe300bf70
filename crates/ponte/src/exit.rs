//! How a verb ends: a sentence for the person and a code for the script (UX §7).

use std::fmt;
use std::process::ExitCode;

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// It failed.
    Failed = 1,
    /// The command line or a setting will not do.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// Somebody refused the credentials.
    Auth = 4,
    /// It is not in a state in which that can be done.
    Conflict = 5,
    /// Some step of a check failed.
    CheckFailed = 6,
    /// Part of it was done; what was not is reported.
    Partial = 7,
    /// The person interrupted it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a verb did not do what was asked: what happened, whose move it is, what comes next.
#[derive(Debug)]
pub struct Failure {
    /// The code for the script.
    pub exit: Exit,
    /// For the person, without anybody's data.
    pub sentence: String,
}

impl Failure {
    /// The verb failed.
    pub fn failed(sentence: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, sentence: sentence.into() }
    }

    /// The command line or a setting will not do.
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, sentence: sentence.into() }
    }

    /// There is no such thing.
    pub fn not_found(sentence: impl Into<String>) -> Self {
        Self { exit: Exit::NotFound, sentence: sentence.into() }
    }

    /// It is not in a state in which that can be done.
    pub fn conflict(sentence: impl Into<String>) -> Self {
        Self { exit: Exit::Conflict, sentence: sentence.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        let exit = match error {
            store::Error::Url(_) => Exit::Usage,
            store::Error::Sealed => Exit::Auth,
            _ => Exit::Failed,
        };
        Self { exit, sentence: error.to_string() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        // The position alone: the text around it may be somebody's data.
        Self::failed(format!("JSON that cannot be read, at line {} column {}", error.line(), error.column()))
    }
}
