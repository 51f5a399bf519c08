//! Resolves a reference to a module: a file, a tag or a digest.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, anyhow};
use flow::{Digest, Namespace};
use sandbox::{Backtraces, Compiler, Isolation, Sandbox, WaitingLimits};
use server::LibraryError;
pub(crate) use server::{Component, InspectedModule, ModuleLibrary};
use store::{Directory, Store, Tag};

use crate::{
    exit::CliError,
    input_file,
    settings::{Isolate, Settings},
};

/// What a module is found for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Workers will run it: it must be admitted, and is put into the store.
    Run,
    /// A person asks whether it could run: it must be admitted.
    Check,
    /// A person looks at it.
    Inspect,
}

/// What to do about a module that is not admitted, if this is the error.
pub(crate) fn advice(error: &anyhow::Error) -> Option<&'static str> {
    error.downcast_ref::<store::Refusal>().map(store::Refusal::advice)
}

/// Opens the store of this machine.
pub(crate) async fn open_store(settings: &Settings) -> Result<Arc<dyn Store>, CliError> {
    let store = Directory::open(settings.store.clone()).await.map_err(|error| {
        let error = anyhow!(error).context(format!("could not open the store {}", settings.store.display()));
        CliError::unreachable(error).hint("choose a folder that can be written with --store or WAFT_STORE")
    })?;
    Ok(Arc::new(store))
}

/// Opens the store of this machine for a command that only reads: it need not exist or be writable.
pub(crate) async fn open_store_to_read(settings: &Settings) -> Result<Arc<dyn Store>, CliError> {
    let store = Directory::open_to_read(settings.store.clone()).await.map_err(|error| {
        let error = anyhow!(error).context(format!("could not read the store {}", settings.store.display()));
        CliError::unreachable(error).hint("name another folder with --store or WAFT_STORE")
    })?;
    Ok(Arc::new(store))
}

/// Opens the store to read, and starts a sandbox with one slot.
pub(crate) async fn open_to_read(settings: &Settings) -> Result<ModuleLibrary, CliError> {
    library(settings, open_store_to_read(settings).await?)
}

/// Opens the store, and starts a sandbox with one slot.
pub(crate) async fn open(settings: &Settings) -> Result<ModuleLibrary, CliError> {
    library(settings, open_store(settings).await?)
}

/// Opens the store, and starts a sandbox for the calls of a worker.
pub(crate) async fn open_for_calls(settings: &Settings, slots: u16) -> Result<ModuleLibrary, CliError> {
    let store = open_store(settings).await?;
    Ok(with_sandbox(settings, store, sandbox(settings, slots)?))
}

/// Opens the store to read, and starts a sandbox with one slot whose backtraces have lines. The debug information of a module from
/// anyone can crash the process that reads it, so the guest is called in a child where this machine allows it.
pub(crate) async fn open_to_replay(settings: &Settings) -> Result<ModuleLibrary, CliError> {
    let store = open_store_to_read(settings).await?;
    let isolation = isolation(Isolate::Process).or_else(|_| isolation(settings.isolate))?;
    let sandbox = sandbox_with(settings, isolation, (1, WaitingLimits::default()), Backtraces::Lines)?;
    Ok(with_sandbox(settings, store, sandbox))
}

fn library(settings: &Settings, store: Arc<dyn Store>) -> Result<ModuleLibrary, CliError> {
    let isolation = isolation(settings.isolate)?;
    let sandbox = sandbox_with(settings, isolation, (1, WaitingLimits::default()), Backtraces::Names)?;
    Ok(with_sandbox(settings, store, sandbox))
}

fn with_sandbox(settings: &Settings, store: Arc<dyn Store>, sandbox: Sandbox) -> ModuleLibrary {
    ModuleLibrary { store, sandbox, limits: settings.limits, admission: settings.admission.clone() }
}

/// Starts a sandbox with `slots` slots, for calls that may lend them, and this machine's cache of compiled code.
pub(crate) fn sandbox(settings: &Settings, slots: u16) -> Result<Sandbox, CliError> {
    sandbox_with(settings, isolation(settings.isolate)?, (slots, settings.waiting), Backtraces::Names)
}

fn sandbox_with(
    settings: &Settings,
    isolation: Isolation,
    (slots, waiting): (u16, WaitingLimits),
    backtraces: Backtraces,
) -> Result<Sandbox, CliError> {
    // Every field is named, so that no setting is forgotten.
    let cache = settings.cache_key.clone().map(|key_file| sandbox::CacheConfig {
        folder: settings.cache.join("compiled"),
        key_file,
        max_bytes: settings.cache_size,
    });
    let config = sandbox::Config {
        cache,
        slots: slots.into(),
        waiting,
        compiler: compiler(),
        isolation,
        max_limits: settings.max_limits,
        backtraces,
    };
    Sandbox::new(config).map_err(CliError::unreachable)
}

/// The argument with which this program only compiles one module, for another process of it.
const COMPILE: &str = "compile-for-waft";

/// The argument with which this program only calls the guests of one module, for another process of it.
const CALL: &str = "call-for-waft";

/// What to do where calls in processes of their own do not work.
const ISOLATION_HINT: &str = "allow the system call seccomp, in a unit of systemd with `SystemCallFilter=@system-service seccomp`, or use \
    --isolate none";

/// What a child process of this program does until its end.
type ServeParent = fn() -> std::io::Result<()>;

/// What this program does for another process of it, by its only argument.
pub(crate) const CHILDREN: [(&str, ServeParent); 2] =
    [(COMPILE, sandbox::serve_compiler), (CALL, sandbox::serve_calls)];

/// The compiler of modules: children of this program.
pub(crate) fn compiler() -> Compiler {
    Compiler::in_children(this_program(), COMPILE)
}

/// Where guests are called.
fn isolation(isolate: Isolate) -> Result<Isolation, CliError> {
    match isolate {
        Isolate::None => Ok(Isolation::None),
        Isolate::Process if cfg!(target_os = "linux") => {
            let isolation = Isolation::Process { program: this_program(), argument: CALL };
            // A worker that cannot call its guests would return all their jobs.
            isolation.check().map_err(|error| CliError::unreachable(error).hint(ISOLATION_HINT))?;
            Ok(isolation)
        }
        Isolate::Process => {
            let error = anyhow!("calls in processes of their own need Linux, which can take all rights from a process");
            Err(CliError::invalid(error).hint("use --isolate none, or [worker] isolate = \"none\" in the settings"))
        }
    }
}

fn this_program() -> PathBuf {
    // On Linux it is the program that runs, even after its file was replaced.
    let program = if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() };
    program.unwrap_or_else(|_| "waft".into())
}

/// The kind of a reference to a module.
pub(crate) enum Reference {
    /// An existing file.
    File(PathBuf),
    /// A tag or a digest, which a store resolves.
    Name,
}

/// Tells files from tags and digests; a relative path is below `folder`.
pub(crate) fn reference(text: &str, folder: &Path) -> anyhow::Result<Reference> {
    if text.parse::<Digest>().is_ok() {
        return Ok(Reference::Name);
    }
    let path = folder.join(text);
    if path.is_file() {
        return Ok(Reference::File(path));
    }
    // A tag may have a namespace: `shop/kitchen`.
    let looks_like_path = text.contains('/') || Path::new(text).extension().is_some_and(|end| end == "wasm");
    if looks_like_path && text.parse::<Tag>().is_err() {
        return Err(anyhow!("there is no module file {}", path.display()));
    }
    Ok(Reference::Name)
}

/// Finds a module by file, tag or digest; a relative path is below `folder`, and a tag may be of the namespace.
pub(crate) async fn find(
    library: &ModuleLibrary,
    text: &str,
    (folder, namespace): (&Path, Option<&Namespace>),
    purpose: Purpose,
) -> anyhow::Result<InspectedModule> {
    match reference(text, folder)? {
        Reference::File(path) => file(library, &path, purpose).await,
        Reference::Name => by_name(library, text, namespace, purpose).await.map_err(|error| match error {
            LibraryError::NoTag { tag } => {
                anyhow!("there is no file {} and no tag {tag:?}", folder.join(text).display())
            }
            LibraryError::Name { text, source } => {
                anyhow!(source).context(format!("{text:?} is no file, tag or digest"))
            }
            LibraryError::NotAdmitted(refusal) => refusal.into(),
            error => error.into(),
        }),
    }
}

async fn by_name(
    library: &ModuleLibrary,
    text: &str,
    namespace: Option<&Namespace>,
    purpose: Purpose,
) -> Result<InspectedModule, LibraryError> {
    match purpose {
        Purpose::Run => library.find_for_run(text, namespace).await,
        Purpose::Check => library.find_admitted(text, namespace).await,
        Purpose::Inspect => library.find(text, namespace).await,
    }
}

/// Reads a module file, converts it to a component where necessary, and inspects it.
async fn file(library: &ModuleLibrary, path: &Path, purpose: Purpose) -> anyhow::Result<InspectedModule> {
    let component = component(library, path).await?;
    match purpose {
        Purpose::Run | Purpose::Check => {
            library.admit(&component.digest, None, &[]).await.map_err(|error| file_error(path, error))?;
        }
        Purpose::Inspect => {}
    }
    let found = library.inspect(component).await.map_err(|error| file_error(path, error))?;
    if purpose == Purpose::Run {
        library.store(&found).await.with_context(|| format!("could not store {}", path.display()))?;
    }
    Ok(found)
}

/// Reads a module file, and converts it to a component where necessary.
pub(crate) async fn component(library: &ModuleLibrary, path: &Path) -> anyhow::Result<Component> {
    let unread = || format!("could not read {}", path.display());
    let size = tokio::fs::metadata(path).await.with_context(unread)?.len();
    library.check_size(size).map_err(|error| file_error(path, error))?;
    // What it is, and its size, may be another by now.
    let read = input_file::read(path, library.limits.module_size).with_context(unread)?;
    library.component(read.into(), None).await.map_err(|error| file_error(path, error))
}

/// Explains what is wrong with a module file.
pub(crate) fn file_error(path: &Path, error: LibraryError) -> anyhow::Error {
    let shown = path.display();
    match error {
        LibraryError::Module(error) => anyhow!(error).context(format!("{shown} is not a module waft can run")),
        LibraryError::NotAdmitted(refusal) => refusal.into(),
        error @ (LibraryError::TooLarge { .. } | LibraryError::Exceeds { .. }) => {
            anyhow!(error).context(format!("{shown} is above a limit"))
        }
        error => anyhow!(error).context(format!("{shown} is not right")),
    }
}

/// The folder that paths in a flow file start from.
pub(crate) fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.into(),
        Some(_) | None => ".".into(),
    }
}
