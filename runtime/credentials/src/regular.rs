//! Reading a file that another user may have put there: it never blocks, and never reads more than a maximum.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use rustix::fs::{Mode, OFlags};

/// Reads a regular file. Symbolic links are followed.
///
/// # Errors
/// The error of the operating system, or that the file is no regular file or has more than `max_bytes`. A pipe, a device or a
/// folder is refused before anything is read from it.
pub fn read_regular(file: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let opened = open_regular(file)?;
    let mut bytes = Vec::new();
    // The file may grow, and files of /proc do not have the size that they say.
    opened.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(invalid(format!("it has more than {max_bytes} bytes")));
    }
    Ok(bytes)
}

/// Opens a regular file, and nothing else.
pub(crate) fn open_regular(file: &Path) -> io::Result<File> {
    // Otherwise a pipe without a writer would block here, and a terminal could become that of this process.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = File::from(rustix::io::retry_on_intr(|| rustix::fs::open(file, flags, Mode::empty()))?);
    // Of the open file: the path may name another one by now.
    if !opened.metadata()?.is_file() {
        return Err(invalid("it is no regular file".into()));
    }
    Ok(opened)
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, process::Command};

    use super::*;

    #[test]
    fn only_a_regular_file_of_a_limited_size_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("small"), "four").unwrap();
        symlink(path("small"), path("link")).unwrap();
        symlink("/dev/zero", path("zero")).unwrap();
        assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        for name in ["small", "link"] {
            assert_eq!(read_regular(&path(name), 4).unwrap(), b"four");
        }
        let error = |name: &str, max_bytes| read_regular(&path(name), max_bytes).unwrap_err().to_string();
        assert_eq!(error("small", 3), "it has more than 3 bytes");
        for name in ["zero", "pipe", "."] {
            assert_eq!(error(name, 4), "it is no regular file", "{name}");
        }
        assert_eq!(read_regular(&path("missing"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
