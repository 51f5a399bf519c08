//! From what a person calls a module to what it is: a file, a tag or a digest.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use flow::{Digest, ModuleContent, ModuleInfo};
use sandbox::{Compiled, Module, Sandbox};
use store::{Directory, Store, Tag};

use crate::{exit::Failed, settings::Settings};

/// The store of this machine and a sandbox to look into modules with.
#[derive(Clone)]
pub(crate) struct Library {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) sandbox: Sandbox,
}

/// A module that was found.
pub(crate) struct Found {
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
    pub(crate) content: ModuleContent,
}

/// Whether what is found is to be there for workers, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Put into the store.
    Store,
    /// Only looked at.
    Nothing,
}

impl Library {
    /// Opens the store and starts a sandbox for `slots` calls at once.
    pub(crate) async fn open(settings: &Settings, slots: u16) -> Result<Self, Failed> {
        let store = Directory::open(settings.store.clone()).await.map_err(|error| {
            let error = anyhow!(error).context(format!("could not open the store {}", settings.store.display()));
            Failed::unreachable(error).hint("choose a folder that can be written with --store or WAFT_STORE")
        })?;
        Ok(Self { store: Arc::new(store), sandbox: Self::sandbox(settings, slots)? })
    }

    /// A sandbox for `slots` calls at once, with this machine's cache of compiled code.
    pub(crate) fn sandbox(settings: &Settings, slots: u16) -> Result<Sandbox, Failed> {
        let config = sandbox::Config {
            cache_dir: Some(settings.cache.join("compiled")),
            slots: slots.into(),
            ..sandbox::Config::default()
        };
        Sandbox::new(config).map_err(Failed::unreachable)
    }

    /// Finds a module by file, tag or digest; a relative file is below `folder`.
    pub(crate) async fn find(&self, text: &str, folder: &Path, keep: Keep) -> anyhow::Result<Found> {
        if let Ok(digest) = text.parse::<Digest>() {
            return self.stored(digest).await;
        }
        let path = folder.join(text);
        if path.is_file() {
            return self.file(&path, keep).await;
        }
        let looks_like_path = text.contains('/') || Path::new(text).extension().is_some_and(|end| end == "wasm");
        if looks_like_path {
            return Err(anyhow!("there is no module file {}", path.display()));
        }
        let tag: Tag = text.parse().with_context(|| format!("{text:?} is no file, tag or digest"))?;
        let known = self.store.resolve_tag(&tag).await.context("could not read the store's tags")?;
        let digest = known.ok_or_else(|| anyhow!("there is no file {} and no tag {text:?}", path.display()))?;
        self.stored(digest).await
    }

    /// Reads a module file, makes it a component, and looks into it.
    pub(crate) async fn file(&self, path: &Path, keep: Keep) -> anyhow::Result<Found> {
        let shown = path.display();
        let read = tokio::fs::read(path).await.with_context(|| format!("could not read {shown}"))?;
        let componentizing = tokio::task::spawn_blocking(move || Module::componentize(&read));
        let module = componentizing.await.context("componentizing was interrupted")?;
        let module = module.with_context(|| format!("{shown} is not a module waft can run"))?;
        let bytes = module.into_bytes();
        let digest = digest_of(bytes.clone()).await?;
        let found = self.look_into(digest, bytes).await.with_context(|| format!("{shown} is not right"))?;
        if keep == Keep::Store {
            self.store.put(found.bytes.clone()).await.with_context(|| format!("could not store {shown}"))?;
        }
        Ok(found)
    }

    async fn stored(&self, digest: Digest) -> anyhow::Result<Found> {
        let bytes = self.store.fetch(&digest).await?;
        self.look_into(digest, bytes).await
    }

    async fn look_into(&self, digest: Digest, bytes: Bytes) -> anyhow::Result<Found> {
        let compiled = self.compiled(digest, &bytes).await?;
        let content = self.sandbox.describe(&compiled).await?;
        Ok(Found { digest, bytes, content })
    }

    async fn compiled(&self, digest: Digest, bytes: &Bytes) -> anyhow::Result<Compiled> {
        if let Some(compiled) = self.sandbox.cached(&digest).await {
            return Ok(compiled);
        }
        Ok(self.sandbox.compile(digest, bytes.clone()).await?)
    }

    /// Finds all modules of a flow; every one that cannot be had is told.
    pub(crate) async fn find_all(
        &self,
        references: impl IntoIterator<Item = (String, String)>,
        folder: &Path,
        keep: Keep,
    ) -> (BTreeMap<String, ModuleInfo>, Vec<(String, anyhow::Error)>) {
        let (mut known, mut missing) = (BTreeMap::new(), Vec::new());
        for (alias, text) in references {
            match self.find(&text, folder, keep).await {
                Ok(found) => {
                    known.insert(alias, ModuleInfo { digest: found.digest, content: found.content });
                }
                Err(error) => missing.push((alias, error)),
            }
        }
        (known, missing)
    }
}

async fn digest_of(bytes: Bytes) -> anyhow::Result<Digest> {
    let hashing = tokio::task::spawn_blocking(move || store::digest_of(&bytes));
    hashing.await.context("hashing was interrupted")
}

/// The folder that paths in a flow file start from.
pub(crate) fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.into(),
        Some(_) | None => ".".into(),
    }
}
