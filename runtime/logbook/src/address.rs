//! Logbook addresses.

use std::{path::PathBuf, sync::Arc};

use crate::{Logbook, Memory, OpenError, Postgres, Sqlite};

/// Opens the logbook at an address: `memory:`, `sqlite:PATH`, a plain path, or `postgres://user:password@host/database`.
///
/// # Errors
/// [`OpenError`] when the address has no logbook or an unusable one. No error shows a password.
pub async fn open(url: &str) -> Result<Arc<dyn Logbook>, OpenError> {
    match parse(url)? {
        Address::Memory => Ok(Arc::new(Memory::new())),
        Address::Sqlite(path) => Ok(Arc::new(Sqlite::open(path).await?)),
        Address::Postgres(url) => Ok(Arc::new(Postgres::connect(url).await?)),
    }
}

/// Whether a logbook can be at an address. A file that does not exist yet holds no runs.
///
/// # Errors
/// [`OpenError::Address`] when the address is invalid.
pub fn may_exist(url: &str) -> Result<bool, OpenError> {
    Ok(match parse(url)? {
        Address::Memory => false,
        Address::Sqlite(path) => path.exists(),
        Address::Postgres(_) => true,
    })
}

/// The file of a logbook at an address; `None` for an address without a file, or an invalid one.
#[must_use]
pub fn file(url: &str) -> Option<PathBuf> {
    match parse(url) {
        Ok(Address::Sqlite(path)) => Some(path),
        Ok(Address::Memory | Address::Postgres(_)) | Err(_) => None,
    }
}

/// A parsed address.
#[derive(Debug, PartialEq)]
pub(crate) enum Address<'a> {
    Memory,
    Sqlite(PathBuf),
    Postgres(&'a str),
}

pub(crate) fn parse(url: &str) -> Result<Address<'_>, OpenError> {
    let Some((scheme, rest)) = scheme(url) else {
        return if url.is_empty() { Err(address_error(url)) } else { Ok(Address::Sqlite(url.into())) };
    };
    match scheme {
        "memory" if rest.is_empty() => Ok(Address::Memory),
        "sqlite" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            // To SQLite this is a database in memory: the two connections would not share it.
            if path.is_empty() || path == ":memory:" {
                Err(address_error(url))
            } else {
                Ok(Address::Sqlite(path.into()))
            }
        }
        "postgres" | "postgresql" if rest.starts_with("//") => Ok(Address::Postgres(url)),
        _ => Err(address_error(url)),
    }
}

/// The scheme of an address, and the text after its colon. A scheme of one letter is a Windows drive; one with another
/// character is a path.
fn scheme(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once(':')?;
    let has_valid_chars = scheme.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '+' | '-' | '_'));
    (has_valid_chars && scheme.len() > 1).then_some((scheme, rest))
}

/// The error for an invalid address. It shows only the scheme: in the rest of a malformed address a password may be
/// anywhere.
pub(crate) fn address_error(url: &str) -> OpenError {
    let url = match scheme(url) {
        Some((scheme, rest)) if rest.starts_with("//") => format!("{scheme}://…"),
        Some((scheme, "")) => format!("{scheme}:"),
        Some((scheme, _)) => format!("{scheme}:…"),
        None => url.to_owned(),
    };
    OpenError::Address { url }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_one_kind() {
        let sqlite = |path: &str| Address::Sqlite(path.into());
        for (url, address) in [
            ("memory:", Address::Memory),
            ("sqlite:a/b.db", sqlite("a/b.db")),
            ("sqlite:/a/b.db", sqlite("/a/b.db")),
            ("sqlite:///a/b.db", sqlite("/a/b.db")),
            ("logbook.db", sqlite("logbook.db")),
            ("./odd:name", sqlite("./odd:name")),
            ("C:\\waft\\logbook.db", sqlite("C:\\waft\\logbook.db")),
            ("postgres://h/d", Address::Postgres("postgres://h/d")),
            ("postgresql:///d?host=/run", Address::Postgres("postgresql:///d?host=/run")),
        ] {
            assert_eq!(parse(url).unwrap(), address);
        }
    }

    #[tokio::test]
    async fn a_rejected_address_shows_no_password() {
        for (url, prefix) in [
            ("", "\"\""),
            ("sqlite:", "\"sqlite:\""),
            ("sqlite::memory:", "\"sqlite:…\""),
            ("memory:secret", "\"memory:…\""),
            ("mysql://u:secret@h/d", "\"mysql://…\""),
            ("postgres:u:secret@h/d", "\"postgres:…\""),
            ("postgres://u:secret@h:secret/d", "\"postgres://…\""),
            ("postgres://h/d?password=a&secret=b", "\"postgres://…\""),
        ] {
            let error = open(url).await.err().expect("it is rejected").to_string();
            assert!(error.starts_with(prefix) && !error.contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn an_address_opens_its_logbook() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = format!("sqlite:{}", folder.path().join("logbook.db").display());
        for url in ["memory:", &file] {
            open(url).await.unwrap().check().await.unwrap();
        }
    }
}
