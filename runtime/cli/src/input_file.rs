//! Reads the files that a person, or a flow file, names. The folder of a flow may come from anyone, and any file in it may be a
//! symbolic link to a device without an end, or a pipe that nobody writes to.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// The maximum size of a flow file or of a file with edits. A flow has a lower one: its diagnostic says what to do.
pub(crate) const MAX_TEXT_BYTES: u64 = 8 * flow::file::MAX_TEXT_BYTES as u64;

/// The maximum size of a value. Workers load no larger one from the store.
pub(crate) const MAX_VALUE_BYTES: u64 = 256 << 20;

/// The maximum size of a module for a server, which has a lower one. The compiler returns no larger component.
pub(crate) const MAX_MODULE_BYTES: u64 = 512 << 20;

/// Reads a regular file, or what a shell has opened for this process: `/dev/stdin`, or the pipe of `<(command)`. It waits only for the
/// latter.
///
/// # Errors
/// The error of the operating system, or that the file is another kind of file, or has more than `max_bytes`.
pub(crate) fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    if !is_open_here(path) {
        return credentials::read_regular(path, max_bytes);
    }
    let mut bytes = Vec::new();
    // One byte more than it may have, so that a larger one is noticed.
    File::open(path)?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it has more than {max_bytes} bytes")));
    }
    Ok(bytes)
}

/// Reads a text like [`read`].
///
/// # Errors
/// Those of [`read`], or that it is no UTF-8.
pub(crate) fn read_text(path: &Path, max_bytes: u64) -> io::Result<String> {
    let bytes = read(path, max_bytes)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text in UTF-8"))
}

/// Whether a path names what this process has open. A symbolic link to such a path does not count: its author is another person.
pub(crate) fn is_open_here(path: &Path) -> bool {
    // Only a number: `..` in its place leads to any other file.
    let is_number = |name: &Path| name.to_str().is_some_and(|name| name.parse::<u32>().is_ok());
    let is_in = |folder: &str| path.strip_prefix(folder).is_ok_and(is_number);
    path == Path::new("/dev/stdin") || is_in("/dev/fd") || is_in("/proc/self/fd")
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Write as _,
        os::{fd::AsRawFd as _, unix::fs::symlink},
    };

    use super::*;

    #[test]
    fn only_regular_files_and_open_ones_of_a_limited_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("flow.toml"), "four").unwrap();
        symlink(path("flow.toml"), path("link")).unwrap();
        for name in ["flow.toml", "link"] {
            assert_eq!(read_text(&path(name), 4).unwrap(), "four");
        }
        for (name, target) in [("zero", "/dev/zero"), ("terminal", "/dev/tty")] {
            symlink(target, path(name)).unwrap();
        }
        for name in ["zero", "terminal", "."] {
            assert!(read(&path(name), 4).is_err(), "{name}");
        }
        assert_eq!(read(&path("flow.toml"), 3).unwrap_err().to_string(), "it has more than 3 bytes");
        fs::write(path("bytes"), b"\xff").unwrap();
        assert_eq!(read_text(&path("bytes"), 4).unwrap_err().to_string(), "it is no text in UTF-8");
    }

    #[test]
    fn a_path_through_the_folder_of_open_files_is_none_of_them() {
        for (path, expected) in [
            ("/dev/stdin", true),
            ("/dev/fd/63", true),
            ("/proc/self/fd/0", true),
            ("/dev/fd", false),
            ("/dev/fd/../zero", false),
            ("/proc/self/fd/../root/dev/tty", false),
        ] {
            assert_eq!(is_open_here(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_pipe_of_a_shell_is_read_up_to_the_maximum() {
        let (pipe, mut writer) = io::pipe().unwrap();
        let path = format!("/dev/fd/{}", pipe.as_raw_fd());
        writer.write_all(b"four and more").unwrap();
        drop(writer);
        assert_eq!(read(Path::new(&path), 4).unwrap_err().to_string(), "it has more than 4 bytes");
        assert_eq!(read(Path::new(&path), 100).unwrap(), b"and more");
    }
}
