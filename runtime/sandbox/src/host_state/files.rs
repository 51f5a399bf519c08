//! The files of a guest: `wasi:filesystem`, of which every guest has the interfaces, in the directories that it is granted.
//!
//! `wasmtime-wasi` resolves paths within a directory, and has no limits. So what opens, grows or lists something is decided here, and the
//! rest goes to `wasmtime-wasi`. Each operation that may wait runs on a thread that may block.

mod descriptor;
mod open;
mod quota;
mod streams;

use std::{collections::HashMap, fs::File, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::{
    FsPerms, OpenMode,
    filesystem::{Descriptor, Dir, WasiFilesystemCtx, WasiFilesystemCtxView},
    p2::{
        FsError, FsResult,
        bindings::filesystem::{preopens, types, types::ErrorCode},
    },
};

use super::{HostState, denied::Denied};
use crate::call::Directories;

pub use quota::DirectoryUsages;
use quota::{Quota, Usage};

/// The maximum number of files, directories and streams of files that a guest has open.
const MAX_OPEN: usize = 64;

/// The files of one call.
#[derive(Default)]
pub(crate) struct Files {
    /// The context of `wasmtime-wasi`. It has no directory, since `wasmtime-wasi` does not count what guests open.
    context: WasiFilesystemCtx,
    directories: Vec<OpenDirectory>,
    /// Whether the guest has asked for them.
    has_asked: bool,
    /// Why the guest does not get a directory that its flow asks for.
    missing: Option<String>,
    places: Places,
    /// What each descriptor of the guest belongs to.
    descriptors: HashMap<u32, OpenFile>,
    denied: Denied,
}

/// The places of open files.
struct Places {
    /// Those of the call.
    own: Arc<Semaphore>,
    /// Those of all calls.
    all: Arc<Semaphore>,
}

/// The place of an open file.
struct Place {
    _own: OwnedSemaphorePermit,
    /// The first descriptor of a directory that the call begins with has none: calls may always begin.
    _all: Option<OwnedSemaphorePermit>,
}

/// A directory that is open for a call.
pub(crate) struct OpenDirectory {
    name: String,
    file: Arc<File>,
    /// What all calls know of it. A call that only reads keeps files open that others remove.
    usage: Arc<Usage>,
    /// What the call may add, or why it may only read.
    write: Result<Quota, String>,
}

/// What is known of a descriptor of the guest.
struct OpenFile {
    /// The index of its directory.
    directory: usize,
    place: Arc<Place>,
}

/// The place of a stream. It keeps the file open, also when the guest has closed its descriptor.
struct StreamPlace {
    _own: OwnedSemaphorePermit,
    _file: Option<Arc<Place>>,
}

/// Why a directory cannot be opened now. The owner of the run reads it, so only the log has its path.
#[derive(Debug, thiserror::Error)]
#[error("the directory {name} cannot be opened: {error}; the log of the worker has its path")]
pub(crate) struct OpenError {
    name: String,
    error: std::io::Error,
}

impl Files {
    /// Opens the directories of a call. A directory that is on another machine may let it wait.
    pub(crate) async fn open(directories: &Directories, denied: Denied) -> Result<Self, OpenError> {
        let places = Places::of(directories.usages.open_files());
        let mut files = Self { denied: denied.clone(), places, ..Self::default() };
        for (name, directory) in &directories.all {
            let directory = match directory {
                Ok(directory) => directory,
                Err(reason) => {
                    files.missing.get_or_insert_with(|| reason.clone());
                    continue;
                }
            };
            let path = directory.path.clone();
            let opened = tokio::task::spawn_blocking(move || open::directory(&path)).await;
            let opened = opened.map_err(std::io::Error::other).and_then(|opened| opened);
            let file = opened.map_err(|error| {
                warn!(directory = %name, path = %directory.path.display(), %error, "a directory of a guest cannot be opened");
                OpenError { name: name.clone(), error }
            })?;
            let file = Arc::new(file);
            let usage = directories.usages.of(&directory.path);
            let write = directory.write.clone();
            let write = write.map(|max| Quota::new(name, file.clone(), usage.clone(), max, denied.clone()));
            files.directories.push(OpenDirectory { name: name.clone(), file, usage, write });
        }
        Ok(files)
    }
}

impl Files {
    pub(super) fn denied(&self) -> Denied {
        self.denied.clone()
    }

    /// Whether the guest has a directory.
    pub(super) fn is_granted(&self) -> bool {
        !self.directories.is_empty()
    }
}

impl Default for Places {
    fn default() -> Self {
        Self::of(Arc::new(Semaphore::new(MAX_OPEN)))
    }
}

impl Places {
    /// The places of a call among those of all calls.
    fn of(all: Arc<Semaphore>) -> Self {
        Self { own: Arc::new(Semaphore::new(MAX_OPEN)), all }
    }

    /// A place for something that is opened. What takes memory too needs several of the call.
    fn open(&self, count: u32) -> FsResult<Place> {
        let own = take(&self.own, count)?;
        Ok(Place { _own: own, _all: Some(take(&self.all, 1)?) })
    }

    /// A place for a stream of what is open.
    fn stream(&self) -> FsResult<OwnedSemaphorePermit> {
        take(&self.own, 1)
    }
}

fn take(places: &Arc<Semaphore>, count: u32) -> FsResult<OwnedSemaphorePermit> {
    places.clone().try_acquire_many_owned(count).map_err(|_| ErrorCode::Quota.into())
}

/// The files of a call, and its resources.
pub(super) struct FilesView<'a> {
    files: &'a mut Files,
    table: &'a mut ResourceTable,
}

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = FilesView<'a>;
}

/// Links the interfaces.
pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    fn files(state: &mut HostState) -> FilesView<'_> {
        FilesView { files: &mut state.files, table: &mut state.table }
    }
    preopens::add_to_linker::<_, HasFiles>(linker, files)?;
    types::add_to_linker::<_, HasFiles>(linker, files)
}

impl FilesView<'_> {
    /// What `wasmtime-wasi` does by itself.
    fn wasmtime_view(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView { ctx: &mut self.files.context, table: self.table }
    }

    /// The directory of a descriptor, and its index.
    fn directory_of(&self, descriptor: &Resource<Descriptor>) -> FsResult<(usize, &OpenDirectory)> {
        let index = self.files.descriptors.get(&descriptor.rep()).map(|open| open.directory);
        let directory = index.and_then(|index| Some((index, self.files.directories.get(index)?)));
        directory.ok_or_else(|| ErrorCode::BadDescriptor.into())
    }

    /// A place for a stream of a descriptor.
    fn stream_place(&self, descriptor: &Resource<Descriptor>) -> FsResult<StreamPlace> {
        let file = self.files.descriptors.get(&descriptor.rep()).map(|open| open.place.clone());
        Ok(StreamPlace { _own: self.files.places.stream()?, _file: file })
    }

    /// What the guest may add to the directory of a descriptor.
    ///
    /// # Errors
    /// When it may only read; the reason is noted.
    fn quota_of(&self, descriptor: &Resource<Descriptor>) -> FsResult<Quota> {
        match &self.directory_of(descriptor)?.1.write {
            Ok(quota) => Ok(quota.clone()),
            Err(reason) => {
                self.files.denied.note(|| reason.clone());
                Err(ErrorCode::NotPermitted.into())
            }
        }
    }

    /// A file that the guest may change.
    fn writable(&self, descriptor: &Resource<Descriptor>) -> FsResult<(Arc<File>, Quota)> {
        match self.table.get(descriptor)? {
            Descriptor::File(file) if file.open_mode.contains(OpenMode::WRITE) => {
                Ok((file.file.clone(), self.quota_of(descriptor)?))
            }
            Descriptor::File(_) | Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    /// Gives a descriptor to the guest.
    fn add(&mut self, descriptor: Descriptor, directory: usize, place: Place) -> FsResult<Resource<Descriptor>> {
        let descriptor = self.table.push(descriptor)?;
        self.files.descriptors.insert(descriptor.rep(), OpenFile { directory, place: Arc::new(place) });
        Ok(descriptor)
    }
}

impl preopens::Host for FilesView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        // A guest reads all directories at once, so nobody knows which of them it needs.
        if let Some(reason) = self.files.missing.clone() {
            self.files.denied.note(|| reason);
        }
        let mut directories = Vec::new();
        for index in 0..self.files.directories.len() {
            let OpenDirectory { name, file, write, usage: _ } = &self.files.directories[index];
            let (perms, mode) = access(write.is_ok());
            let (path, file) = (format!("/{name}"), file.clone());
            let place = match self.files.has_asked {
                false => self.files.places.stream().map(|own| Place { _own: own, _all: None }),
                true => self.files.places.open(1),
            };
            let place =
                place.map_err(|_| wasmtime::Error::msg("it has too many open files, or all calls together have"))?;
            let file = file.try_clone()?;
            let descriptor = self.table.push(Descriptor::Dir(Dir::new(file, perms, mode, false)))?;
            self.files.descriptors.insert(descriptor.rep(), OpenFile { directory: index, place: Arc::new(place) });
            directories.push((descriptor, path));
        }
        self.files.has_asked = true;
        Ok(directories)
    }
}

/// What `wasmtime-wasi` allows in a directory.
fn access(is_writable: bool) -> (FsPerms, OpenMode) {
    match is_writable {
        true => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
        false => (FsPerms::ReadOnly, OpenMode::READ),
    }
}

/// The error of an operation that left the thread it ran on.
fn lost(error: tokio::task::JoinError) -> FsError {
    FsError::trap(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Directory;

    #[test]
    fn files_have_places_of_their_call_and_of_all_calls() {
        let all = Arc::new(Semaphore::new(3));
        let [one, other] = [Places::of(all.clone()), Places::of(all)];
        let first = one.open(16).unwrap();
        let _second = one.open(1).unwrap();
        let _third = other.open(1).unwrap();
        assert!(other.open(1).is_err(), "all are taken");
        let _streams: Vec<_> = (0..MAX_OPEN - 17).map(|_| one.stream().unwrap()).collect();
        assert!(one.stream().is_err(), "those of the call are taken");
        drop(first);
        other.open(1).unwrap();
    }

    #[test]
    fn only_the_first_descriptors_of_directories_need_no_place_of_all_calls() {
        let (mut files, mut table, all) = (Files::default(), ResourceTable::new(), Arc::new(Semaphore::new(1)));
        files.places = Places::of(all.clone());
        let usage = DirectoryUsages::default().of(&"/".into());
        let (file, write) = (Arc::new(File::open("/").unwrap()), Err("it may only read".to_owned()));
        files.directories.push(OpenDirectory { name: "data".into(), file, usage, write });
        let mut view = FilesView { files: &mut files, table: &mut table };
        let mut ask = || preopens::Host::get_directories(&mut view).map(|directories| directories.len());
        assert_eq!(ask().unwrap(), 1);
        assert_eq!(all.available_permits(), 1, "a call may always begin");
        assert_eq!(ask().unwrap(), 1);
        assert_eq!(all.available_permits(), 0);
        let error = ask().unwrap_err().to_string();
        assert!(error.contains("too many open files"), "{error}");
    }

    #[test]
    fn a_stream_keeps_the_place_of_its_file() {
        let (mut files, mut table) = (Files::default(), ResourceTable::new());
        files.places = Places::of(Arc::new(Semaphore::new(1)));
        let mut view = FilesView { files: &mut files, table: &mut table };
        let file = Arc::new(File::open("/").unwrap());
        let directory =
            || Descriptor::Dir(Dir::new(file.try_clone().unwrap(), FsPerms::ReadOnly, OpenMode::READ, false));
        let place = view.files.places.open(1).unwrap();
        let descriptor = view.add(directory(), 0, place).unwrap();
        let stream = view.stream_place(&descriptor).unwrap();
        types::HostDescriptor::drop(&mut view, descriptor).unwrap();
        assert!(view.files.places.open(1).is_err(), "the stream has the file open");
        drop(stream);
        view.files.places.open(1).unwrap();
    }

    #[tokio::test]
    async fn the_failure_of_a_call_names_no_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("inner");
        let all = [("data".to_owned(), Ok(Directory { path, write: Err("no".into()) }))].into();
        let directories = Directories { all, usages: Arc::default() };
        let error = Files::open(&directories, Denied::default()).await.err().unwrap().to_string();
        assert!(error.starts_with("the directory data cannot be opened: No such file"), "{error}");
        assert!(!error.contains("inner"), "{error}");
    }
}
