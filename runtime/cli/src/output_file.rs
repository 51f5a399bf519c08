//! Writes the files that a person names. The folder of a file may come from anyone, and its name may be that of a symbolic link to
//! another file.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::anyhow;
use rustix::fs::{Mode, OFlags};
use tempfile::{Builder, NamedTempFile};

use crate::{
    exit::{CliError, Exit},
    input_file,
};

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

/// Writes a file in place of the regular one of its name, if there is one, and with its mode. Nothing is written through a link. What a
/// shell has opened for this process gets the bytes at its end: `/dev/stdout`, or the pipe of `>(command)`.
///
/// # Errors
/// That the reader has left, that the name is that of a link, a folder, a pipe or a device, or that the file cannot be written. Then the
/// earlier one is as it was, unless nothing can be added to its folder: such a file is written where it is, and may have a part of the
/// bytes.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let write = || match path == Path::new("/dev/stdout") || input_file::is_open_here(path) {
        true => OpenOptions::new().append(true).open(path)?.write_all(bytes),
        false => replace_regular(path, bytes),
    };
    write().map_err(|error| match error.kind() == io::ErrorKind::BrokenPipe {
        // As for other output, nobody is there to read about it.
        true => CliError::new(Exit::ReaderGone, anyhow!("")),
        false => unwritten(path, error),
    })
}

fn replace_regular(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // To replace a link or a device helps nobody. What takes this name from now on is replaced, and not followed.
    let earlier = fs::symlink_metadata(path).ok();
    if earlier.as_ref().is_some_and(|found| !found.is_file()) {
        return Err(no_regular_file());
    }
    let Some(earlier) = earlier else {
        return draft(path, SHARED, bytes)?.persist(path).map(drop).map_err(|error| error.error);
    };
    let page = match draft(path, PRIVATE, bytes) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return overwrite(path, bytes),
        drafted => drafted?,
    };
    // Its owner may have made it private.
    page.as_file().set_permissions(Permissions::from_mode(earlier.permissions().mode() & 0o777))?;
    page.persist(path).map(drop).map_err(|error| error.error)
}

/// Writes a regular file where it is.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Without these, a link would be followed, and a pipe without a reader would block here.
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut file = File::from(rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?);
    // Of the open file: the path may name another one by now.
    if !file.metadata()?.is_file() {
        return Err(no_regular_file());
    }
    file.set_len(0)?;
    file.write_all(bytes)
}

fn no_regular_file() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "it is no regular file")
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
    use std::{
        io::Read as _,
        os::{fd::AsRawFd as _, unix::fs::symlink},
    };

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
    #[test]
    fn a_file_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        for mode in [0o600, 0o640] {
            fs::write(&path, "first").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(replace(&path, b"second").is_ok());
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[test]
    fn what_a_shell_has_opened_is_written() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let path = format!("/dev/fd/{}", pipe.as_raw_fd());
        assert!(replace(Path::new(&path), b"page").is_ok());
        drop(pipe);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "page");
    }

    /// A test may run as a user who can write in every folder.
    #[test]
    fn a_file_in_a_folder_that_cannot_be_written_is_written_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("page"), "a long first page").unwrap();
        symlink(path("page"), path("link")).unwrap();
        assert!(overwrite(&path("page"), b"second").is_ok());
        for name in ["link", ".", "none"] {
            assert!(overwrite(&path(name), b"third").is_err(), "{name}");
        }
        assert_eq!(fs::read_to_string(path("page")).unwrap(), "second");
    }
}
