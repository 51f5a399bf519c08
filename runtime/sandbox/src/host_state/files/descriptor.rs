//! The operations on files and directories: those that open, grow or list something are decided here.

use std::sync::Arc;

use rustix::fs::Dir as Entries;
use wasmtime::component::Resource;
use wasmtime_wasi::{
    filesystem::Descriptor,
    p2::{
        FsError, FsResult,
        bindings::filesystem::types::{
            Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode,
            Filesize, Host, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags,
            PathFlags,
        },
    },
};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use super::{
    FilesView, access, lost,
    open::{self, How, Opening},
    quota::MAX_ENTRIES,
    streams::{Reader, Writer},
};

/// How many places an open list of entries takes: its names are in memory.
const LIST_PLACES: u32 = 16;

type Fd = Resource<Descriptor>;

impl Host for FilesView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.wasmtime_view().convert_error_code(error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.wasmtime_view().filesystem_error_code(error)
    }
}

impl FilesView<'_> {
    /// Opens a path for a guest that may do so.
    async fn open_path(&mut self, fd: &Fd, path: String, how: How) -> FsResult<Fd> {
        let (index, directory) = self.directory_of(fd)?;
        let (name, usage) = (directory.name.clone(), directory.usage.clone());
        let (perms, _) = access(directory.write.is_ok());
        let quota = if how.changes() { Some(self.quota_of(fd)?) } else { None };
        let place = self.files.places.open(1)?;
        let shown = path.clone();
        let opening = Opening { start: self.start(fd)?, path, how, perms };
        let opened = match quota {
            Some(quota) if how.creates || how.truncates => quota.open(opening).await,
            Some(_) | None => {
                tokio::task::spawn_blocking(move || opening.open(&usage, || Ok(()))).await.map_err(lost)?
            }
        };
        let opened = opened.map_err(|error| self.refused(fd, &shown, error))?;
        let descriptor = opened.ok_or_else(|| self.special(&name, &shown))?;
        self.add(descriptor, index, place)
    }

    /// The directory in which a path begins.
    fn start(&self, fd: &Fd) -> FsResult<Arc<std::fs::File>> {
        match self.table.get(fd)? {
            Descriptor::Dir(directory) => Ok(directory.dir.clone()),
            Descriptor::File(_) => Err(ErrorCode::NotDirectory.into()),
        }
    }

    /// The error of a path that cannot be opened. A path that leads out of its directory is denied.
    fn refused(&self, fd: &Fd, path: &str, error: std::io::Error) -> FsError {
        if !open::is_escape(&error) {
            return error.into();
        }
        let name = match self.directory_of(fd) {
            Ok((_, directory)) => &directory.name,
            Err(error) => return error,
        };
        self.files
            .denied
            .note(|| format!("the path {:?} is denied: it leads out of the directory {name}", shorten(path)));
        ErrorCode::NotPermitted.into()
    }

    fn special(&self, name: &str, path: &str) -> FsError {
        let reason = || {
            format!(
                "the path {:?} of the directory {name} is denied: it is a pipe, a socket or a device",
                shorten(path)
            )
        };
        self.files.denied.note(reason);
        ErrorCode::NotPermitted.into()
    }

    fn writer(&mut self, fd: &Fd, position: Option<Filesize>) -> FsResult<Resource<DynOutputStream>> {
        let (file, quota) = self.writable(fd)?;
        let place = self.stream_place(fd)?;
        Ok(self.table.push(Box::new(Writer::new(file, quota, position, place)) as DynOutputStream)?)
    }
}

/// The start of a guest's own text.
fn shorten(path: &str) -> String {
    path.chars().take(100).collect()
}

impl HostDescriptor for FilesView<'_> {
    async fn open_at(
        &mut self,
        fd: Fd,
        path_flags: PathFlags,
        path: String,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Fd> {
        let unsupported = DescriptorFlags::FILE_INTEGRITY_SYNC
            | DescriptorFlags::DATA_INTEGRITY_SYNC
            | DescriptorFlags::REQUESTED_WRITE_SYNC;
        if flags.intersects(unsupported) {
            return Err(ErrorCode::Unsupported.into());
        }
        let changes = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE;
        if open.contains(OpenFlags::DIRECTORY) && open.intersects(changes) {
            return Err(ErrorCode::Invalid.into());
        }
        let how = How {
            reads: flags.contains(DescriptorFlags::READ),
            writes: flags.contains(DescriptorFlags::WRITE),
            creates: open.contains(OpenFlags::CREATE),
            is_new: open.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE),
            truncates: open.contains(OpenFlags::TRUNCATE),
            is_directory: open.contains(OpenFlags::DIRECTORY),
            follows_links: path_flags.contains(PathFlags::SYMLINK_FOLLOW),
        };
        self.open_path(&fd, path, how).await
    }

    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        self.files.descriptors.remove(&fd.rep());
        self.table.delete(fd)?;
        Ok(())
    }

    async fn write(&mut self, fd: Fd, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let (file, quota) = self.writable(&fd)?;
        let written = bytes.len() as Filesize;
        quota.write(file, bytes.into(), Some(offset)).await?;
        Ok(written)
    }

    async fn set_size(&mut self, fd: Fd, size: Filesize) -> FsResult<()> {
        let (file, quota) = self.writable(&fd)?;
        Ok(quota.resize(file, size).await?)
    }

    fn write_via_stream(&mut self, fd: Fd, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&fd, Some(offset))
    }

    fn append_via_stream(&mut self, fd: Fd) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&fd, None)
    }

    fn read_via_stream(&mut self, fd: Fd, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        let place = self.stream_place(&fd)?;
        let stream = self.wasmtime_view().read_via_stream(fd, offset)?;
        let stream = self.table.delete(stream)?;
        Ok(self.table.push(Box::new(Reader { stream, _place: place }) as DynInputStream)?)
    }

    async fn read_directory(&mut self, fd: Fd) -> FsResult<Resource<DirectoryEntryStream>> {
        let place = self.files.places.open(LIST_PLACES)?;
        let (index, _) = self.directory_of(&fd)?;
        let Descriptor::Dir(directory) = self.table.get(&fd)? else { return Err(ErrorCode::NotDirectory.into()) };
        let directory = directory.dir.clone();
        let counted = tokio::task::spawn_blocking(move || {
            Ok::<_, std::io::Error>(Entries::read_from(&directory)?.take(MAX_ENTRIES + 3).count())
        });
        // The two names of the directory and of its parent do not count.
        if counted.await.map_err(lost)?? > MAX_ENTRIES + 2 {
            return Err(ErrorCode::Overflow.into());
        }
        let list = self.wasmtime_view().read_directory(fd).await?;
        self.files.descriptors.insert(list.rep(), super::OpenFile { directory: index, place: Arc::new(place) });
        Ok(list)
    }

    async fn create_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let (quota, start) = (self.quota_of(&fd)?, self.start(&fd)?);
        let shown = path.clone();
        let created = quota.create_directory(start, path).await;
        created.map_err(|error| self.refused(&fd, &shown, error))
    }

    async fn rename_at(&mut self, fd: Fd, path: String, new_fd: Fd, new_path: String) -> FsResult<()> {
        let quota = self.quota_of(&fd)?;
        if self.directory_of(&fd)?.0 != self.directory_of(&new_fd)?.0 {
            return Err(ErrorCode::CrossDevice.into());
        }
        let (start, new_start) = (self.start(&fd)?, self.start(&new_fd)?);
        let shown = format!("{path} -> {new_path}");
        let renamed = quota.rename((start, path), (new_start, new_path)).await;
        renamed.map_err(|error| self.refused(&fd, &shown, error))
    }

    async fn unlink_file_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        self.quota_of(&fd)?;
        self.wasmtime_view().unlink_file_at(fd, path).await
    }

    async fn remove_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        self.quota_of(&fd)?;
        self.wasmtime_view().remove_directory_at(fd, path).await
    }

    /// A second name would let a file be in two directories.
    async fn link_at(&mut self, _: Fd, _: PathFlags, _: String, _: Fd, _: String) -> FsResult<()> {
        Err(ErrorCode::Unsupported.into())
    }

    /// A link could lead other programs, which follow it, out of the directory.
    async fn symlink_at(&mut self, _: Fd, _: String, _: String) -> FsResult<()> {
        Err(ErrorCode::Unsupported.into())
    }

    /// `wasmtime-wasi` would open the path, and wait if it is a pipe. The times of an open file can be set.
    async fn set_times_at(&mut self, _: Fd, _: PathFlags, _: String, _: NewTimestamp, _: NewTimestamp) -> FsResult<()> {
        Err(ErrorCode::Unsupported.into())
    }

    async fn set_times(&mut self, fd: Fd, access: NewTimestamp, modification: NewTimestamp) -> FsResult<()> {
        self.quota_of(&fd)?;
        self.wasmtime_view().set_times(fd, access, modification).await
    }

    async fn read(&mut self, fd: Fd, length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        self.wasmtime_view().read(fd, length, offset).await
    }

    async fn advise(&mut self, fd: Fd, offset: Filesize, length: Filesize, advice: Advice) -> FsResult<()> {
        self.wasmtime_view().advise(fd, offset, length, advice).await
    }

    async fn sync_data(&mut self, fd: Fd) -> FsResult<()> {
        self.wasmtime_view().sync_data(fd).await
    }

    async fn sync(&mut self, fd: Fd) -> FsResult<()> {
        self.wasmtime_view().sync(fd).await
    }

    async fn get_flags(&mut self, fd: Fd) -> FsResult<DescriptorFlags> {
        self.wasmtime_view().get_flags(fd).await
    }

    async fn get_type(&mut self, fd: Fd) -> FsResult<DescriptorType> {
        self.wasmtime_view().get_type(fd).await
    }

    async fn stat(&mut self, fd: Fd) -> FsResult<DescriptorStat> {
        self.wasmtime_view().stat(fd).await
    }

    async fn stat_at(&mut self, fd: Fd, flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        self.wasmtime_view().stat_at(fd, flags, path).await
    }

    async fn readlink_at(&mut self, fd: Fd, path: String) -> FsResult<String> {
        self.wasmtime_view().readlink_at(fd, path).await
    }

    async fn is_same_object(&mut self, one: Fd, other: Fd) -> wasmtime::Result<bool> {
        self.wasmtime_view().is_same_object(one, other).await
    }

    async fn metadata_hash(&mut self, fd: Fd) -> FsResult<MetadataHashValue> {
        self.wasmtime_view().metadata_hash(fd).await
    }

    async fn metadata_hash_at(&mut self, fd: Fd, flags: PathFlags, path: String) -> FsResult<MetadataHashValue> {
        self.wasmtime_view().metadata_hash_at(fd, flags, path).await
    }
}

impl HostDirectoryEntryStream for FilesView<'_> {
    async fn read_directory_entry(&mut self, list: Resource<DirectoryEntryStream>) -> FsResult<Option<DirectoryEntry>> {
        self.wasmtime_view().read_directory_entry(list).await
    }

    fn drop(&mut self, list: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.files.descriptors.remove(&list.rep());
        self.table.delete(list)?;
        Ok(())
    }
}
