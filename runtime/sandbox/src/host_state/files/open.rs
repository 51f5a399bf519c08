//! Opens directories of the operator, and what is in them, without leaving them and without waiting.

use std::{fs::File, io, path::Path};

#[cfg(target_os = "linux")]
use rustix::fs::{CWD, ResolveFlags, openat2};
use rustix::{
    fs::{FileType, Mode, OFlags, fstat},
    io::Errno,
};

/// The maximum number of attempts while other processes rename directories.
const MAX_ATTEMPTS: usize = 16;

/// How a guest opens a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct How {
    pub(super) reads: bool,
    pub(super) writes: bool,
    pub(super) creates: bool,
    pub(super) is_new: bool,
    pub(super) truncates: bool,
    pub(super) is_directory: bool,
    pub(super) follows_links: bool,
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    File,
    Directory,
    /// A link that is not followed.
    Link,
    /// A pipe, a socket or a device.
    Special,
}

/// Opens what is only looked at.
#[cfg(target_os = "linux")]
const LOOK: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const LOOK: OFlags = OFlags::RDONLY;

/// Opens a directory that an operator names. Its path has no link, so nobody who may change a part of it can put another directory in its place.
#[cfg(target_os = "linux")]
pub(super) fn directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(CWD, path, flags, Mode::empty(), resolve) {
        Ok(directory) => Ok(directory.into()),
        Err(Errno::LOOP) => Err(io::Error::other("its path has a link in it: name the directory itself")),
        Err(error) => Err(error.into()),
    }
}

/// What is at a path of a guest. It opens nothing: to open a device may do something.
pub(super) fn look(directory: &File, path: &str, how: How) -> io::Result<Found> {
    let flags = if how.follows_links { LOOK } else { LOOK | OFlags::NOFOLLOW };
    let found = match beneath(directory, path, flags, Mode::empty()) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(Found::Nothing),
        Err(error) => return Err(error.into()),
    };
    Ok(kind(&found)?)
}

fn kind(file: &File) -> Result<Found, Errno> {
    Ok(match FileType::from_raw_mode(fstat(file)?.st_mode) {
        FileType::RegularFile => Found::File,
        FileType::Directory => Found::Directory,
        FileType::Symlink => Found::Link,
        _ => Found::Special,
    })
}

/// Opens a file or a directory. It does not wait for the other end of a pipe, even if one has just replaced the file.
pub(super) fn open(directory: &File, path: &str, how: How) -> io::Result<(File, Found)> {
    let mut flags = match (how.reads || !how.writes, how.writes || how.creates || how.truncates) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    };
    flags |= OFlags::NONBLOCK | OFlags::NOCTTY;
    flags.set(OFlags::CREATE, how.creates);
    flags.set(OFlags::EXCL, how.is_new);
    flags.set(OFlags::TRUNC, how.truncates);
    flags.set(OFlags::DIRECTORY, how.is_directory);
    flags.set(OFlags::NOFOLLOW, !how.follows_links);
    let mode = if how.creates { Mode::from_raw_mode(0o666) } else { Mode::empty() };
    let opened = beneath(directory, path, flags, mode)?;
    match kind(&opened)? {
        found @ (Found::File | Found::Directory) => Ok((opened, found)),
        Found::Nothing | Found::Link | Found::Special => Err(Errno::PERM.into()),
    }
}

#[cfg(target_os = "linux")]
fn beneath(directory: &File, path: &str, flags: OFlags, mode: Mode) -> Result<File, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..MAX_ATTEMPTS {
        match openat2(directory, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened.map(File::from),
        }
    }
    Err(Errno::BUSY)
}

/// Other systems cannot open a path without leaving a directory.
#[cfg(not(target_os = "linux"))]
pub(super) fn directory(_: &Path) -> io::Result<File> {
    Err(io::Error::other("only a worker on Linux has directories for guests"))
}

#[cfg(not(target_os = "linux"))]
fn beneath(_: &File, _: &str, _: OFlags, _: Mode) -> Result<File, Errno> {
    Err(Errno::NOSYS)
}

/// Whether the error says that a path leads out of its directory.
pub(super) fn is_escape(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::XDEV.raw_os_error())
}
