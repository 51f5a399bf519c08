//! Classifies SQLite's errors.

use rusqlite::ErrorCode;

use super::connection::BUSY_TIMEOUT;

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum Failure {
    /// The file holds data that neither SQLite nor waft would write.
    #[error("{0}")]
    Damaged(String),
    /// The file could not be read or written.
    #[error("{0}")]
    Unavailable(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let Some(code) = error.sqlite_error_code() else {
            return match error {
                rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::Utf8Error(..) => Self::Damaged(error.to_string()),
                _ => Self::Unavailable(error.to_string()),
            };
        };
        let reason = match code {
            ErrorCode::DatabaseCorrupt => return Self::Damaged(format!("the file is damaged ({error})")),
            ErrorCode::NotADatabase => return Self::Damaged(format!("the file is not an SQLite database ({error})")),
            ErrorCode::DiskFull => "the disk is full",
            ErrorCode::ReadOnly => "the file or its folder is read-only",
            ErrorCode::PermissionDenied => "this user may not read and write it",
            ErrorCode::CannotOpen => "the file cannot be opened or created",
            ErrorCode::SystemIoFailure => "the disk cannot be read or written",
            ErrorCode::OperationInterrupted => "the read took longer than one of a client may",
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                let seconds = BUSY_TIMEOUT.as_secs();
                return Self::Unavailable(format!("another process has held it for {seconds} s ({error})"));
            }
            _ => return Self::Unavailable(error.to_string()),
        };
        Self::Unavailable(format!("{reason} ({error})"))
    }
}
