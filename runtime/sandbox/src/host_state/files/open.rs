//! Opens directories of the operator, and what is in them, without leaving them and without waiting.

use std::{fs::File, io, os::fd::OwnedFd, path::Path, sync::Arc};

#[cfg(target_os = "linux")]
use rustix::fs::{CWD, ResolveFlags, openat2};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, fstat, mkdirat, openat, renameat, statat},
    io::Errno,
};
use wasmtime_wasi::{
    FsPerms, OpenMode,
    filesystem::{Descriptor, Dir},
};

use super::quota::Usage;

/// The maximum number of attempts while other processes rename directories.
const MAX_ATTEMPTS: usize = 16;

/// How a guest opens a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct How {
    pub(super) reads: bool,
    pub(super) writes: bool,
    pub(super) creates: bool,
    pub(super) is_new: bool,
    pub(super) truncates: bool,
    pub(super) is_directory: bool,
    pub(super) follows_links: bool,
}

impl How {
    /// Whether the guest needs the right to change the directory.
    pub(super) fn changes(self) -> bool {
        self.writes || self.creates || self.truncates
    }

    fn mode(self) -> OpenMode {
        let mut mode = OpenMode::empty();
        mode.set(OpenMode::READ, self.reads || !self.writes);
        mode.set(OpenMode::WRITE, self.changes());
        mode
    }
}

/// A path that a guest opens.
pub(super) struct Opening {
    /// The directory in which the path begins.
    pub(super) start: Arc<File>,
    pub(super) path: String,
    pub(super) how: How,
    pub(super) perms: FsPerms,
}

impl Opening {
    /// Opens what is at the path, or makes it. It is `None` if that is a pipe, a socket or a device. `reserve` is called before
    /// something is made.
    pub(super) fn open(
        &self,
        usage: &Usage,
        mut reserve: impl FnMut() -> io::Result<()>,
    ) -> io::Result<Option<Descriptor>> {
        let Self { start, path, how, .. } = self;
        for _ in 0..MAX_ATTEMPTS {
            let makes = match look(start, path, *how)? {
                Found::Special => return Ok(None),
                Found::Nothing => how.creates,
                Found::File | Found::Directory | Found::Link if how.is_new => return Err(Errno::EXIST.into()),
                Found::File | Found::Directory | Found::Link => false,
            };
            if makes {
                reserve()?;
            }
            match usage.open(|| Ok(self.descriptor(open(start, path, *how, makes)?))) {
                // It was removed meanwhile, and nothing is reserved for a new one.
                Err(error) if how.creates && !makes && error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened.map(Some),
            }
        }
        Err(Errno::BUSY.into())
    }

    fn descriptor(&self, (file, found): (File, Found)) -> Descriptor {
        let mode = self.how.mode();
        match found {
            Found::Directory => Descriptor::Dir(Dir::new(file, self.perms, mode, false)),
            Found::Nothing | Found::File | Found::Link | Found::Special => {
                Descriptor::File(wasmtime_wasi::filesystem::File::new(file, self.perms, mode, false))
            }
        }
    }
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
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
fn look(directory: &File, path: &str, how: How) -> io::Result<Found> {
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

/// Opens a file or a directory, or makes a file. It does not wait for the other end of a pipe, even if one has just replaced the file.
fn open(directory: &File, path: &str, how: How, makes: bool) -> io::Result<(File, Found)> {
    let mut flags = match (how.reads || !how.writes, how.changes()) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    };
    flags |= OFlags::NONBLOCK | OFlags::NOCTTY;
    flags.set(OFlags::CREATE, makes);
    flags.set(OFlags::EXCL, makes && how.is_new);
    flags.set(OFlags::DIRECTORY, how.is_directory);
    flags.set(OFlags::NOFOLLOW, !how.follows_links);
    let mode = if makes { Mode::from_raw_mode(0o666) } else { Mode::empty() };
    let opened = beneath(directory, path, flags, mode)?;
    match kind(&opened)? {
        found @ (Found::File | Found::Directory) => Ok((opened, found)),
        Found::Nothing | Found::Link | Found::Special => Err(Errno::PERM.into()),
    }
}

/// A name in a directory that is open: where something is made, or moved from or to.
pub(super) struct Place<'p> {
    directory: File,
    name: &'p str,
}

impl<'p> Place<'p> {
    /// The place that a path of a guest names. Nothing may be there.
    pub(super) fn find(directory: &File, path: &'p str) -> io::Result<Self> {
        // A slash at the end belongs to the name: it says that a directory is meant.
        let (inner, name) = match path.trim_end_matches('/').rsplit_once('/') {
            Some((inner, _)) => (&path[..=inner.len()], &path[inner.len() + 1..]),
            None => (".", path),
        };
        let directory = beneath(directory, inner, LOOK | OFlags::DIRECTORY, Mode::empty())?;
        match name.trim_end_matches('/') {
            "" if path.is_empty() => Err(Errno::NOENT.into()),
            // The whole path is slashes, or names a directory by its place: such a directory is there, and has no name to change.
            "" => Err(Errno::XDEV.into()),
            "." | ".." => Err(Errno::EXIST.into()),
            _ => Ok(Self { directory, name }),
        }
    }

    /// How many directories its own one is below another: 0 if it is the same; `None` if it is more than `max`.
    pub(super) fn depth_below(&self, root: &File, max: usize) -> io::Result<Option<usize>> {
        let identity = |file: &File| fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
        let (root, mut directory) = (identity(root)?, self.directory.try_clone()?);
        for depth in 0..=max {
            if identity(&directory)? == root {
                return Ok(Some(depth));
            }
            directory = openat(&directory, "..", LOOK | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?.into();
        }
        Ok(None)
    }

    /// The directory that is there, if it is one.
    pub(super) fn open_directory(&self) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.directory, self.name.trim_end_matches('/'), flags, Mode::empty()) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// # Errors
    /// When something is there.
    pub(super) fn check_free(&self) -> io::Result<()> {
        match statat(&self.directory, self.name.trim_end_matches('/'), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST.into()),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn create_directory(&self) -> io::Result<()> {
        Ok(mkdirat(&self.directory, self.name, Mode::from_raw_mode(0o777))?)
    }

    pub(super) fn rename_to(&self, to: &Place<'_>) -> io::Result<()> {
        Ok(renameat(&self.directory, self.name, &to.directory, to.name)?)
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
