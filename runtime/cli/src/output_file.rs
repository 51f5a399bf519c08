//! Writes the files that a person names. The folder of a file may come from anyone, and its name may be that of a symbolic link to
//! another file.

use std::{
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::anyhow;
use tempfile::{Builder, NamedTempFile};

use crate::exit::CliError;

/// The mode of a file that only its owner may read.
const PRIVATE: u32 = 0o600;

/// The mode of a file like those of other programs: the process takes away what its user does not want others to have.
const SHARED: u32 = 0o666;

/// Writes a new file that only its owner may read. Nothing is left of a file that cannot be written completely.
///
/// # Errors
/// That there is something of its name already, or that it cannot be written.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let write = || draft(path, PRIVATE, bytes)?.persist_noclobber(path).map_err(|error| error.error);
    write().map(drop).map_err(|error| unwritten(path, error))
}

/// Writes a file in place of the regular one of its name, if there is one. Nothing is written through a link.
///
/// # Errors
/// That the name is that of a link, a folder, a pipe or a device, or that the file cannot be written: then the earlier one is as it was.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let write = || {
        // To replace a link or a device helps nobody. What takes this name from now on is replaced, and not followed.
        if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is no regular file"));
        }
        draft(path, SHARED, bytes)?.persist(path).map_err(|error| error.error)
    };
    write().map(drop).map_err(|error| unwritten(path, error))
}

/// A complete file beside the one that it becomes.
fn draft(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
    file.write_all(bytes)?;
    Ok(file)
}

fn unwritten(path: &Path, error: io::Error) -> CliError {
    let is_there = error.kind() == io::ErrorKind::AlreadyExists;
    let error = anyhow!(error).context(format!("could not write {}", path.display()));
    match is_there {
        true => CliError::invalid(error).hint("name another file, or delete this one first"),
        false => CliError::unreachable(error).hint("name a file in a folder that can be written"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_what_a_link_leads_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("mine"), "mine").unwrap();
        symlink(path("mine"), path("link")).unwrap();
        symlink(path("none"), path("dangling")).unwrap();
        for text in ["first", "second"] {
            assert!(replace(&path("page"), text.as_bytes()).is_ok());
            assert_eq!(fs::read_to_string(path("page")).unwrap(), text);
        }
        for name in ["link", "dangling", "."] {
            assert!(replace(&path(name), b"page").is_err(), "{name}");
            assert!(create(&path(name), b"page").is_err(), "{name}");
        }
        assert!(create(&path("page"), b"third").is_err(), "it is there");
        assert_eq!((fs::read_to_string(path("mine")).unwrap().as_str(), path("none").exists()), ("mine", false));
        assert!(create(&path("attempt"), b"private").is_ok());
        assert_eq!(fs::metadata(path("attempt")).unwrap().permissions().mode() & 0o777, PRIVATE);
        let mut names: Vec<_> = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["attempt", "dangling", "link", "mine", "page"], "nothing is left of refused ones");
    }
}
