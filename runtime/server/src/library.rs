//! From what a module is called to what it is: by tag or digest, in a store and with a sandbox to look into it.

use std::sync::Arc;

use bytes::Bytes;
use flow::{Digest, ModuleContent};
use sandbox::{CompileError, Compiled, DescribeError, Module, ModuleError, Sandbox};
use store::{FetchError, InvalidTag, PutError, Store, Tag, TagError};

/// A store, and a sandbox to look into its modules with.
#[derive(Clone)]
pub struct ModuleLibrary {
    /// Where modules and large values are.
    pub store: Arc<dyn Store>,
    /// What looks into modules.
    pub sandbox: Sandbox,
}

/// A module that was found and looked into.
pub struct InspectedModule {
    /// Its identity.
    pub digest: Digest,
    /// The component.
    pub bytes: Bytes,
    /// What it holds.
    pub content: ModuleContent,
}

impl InspectedModule {
    /// The names of its tasks; none for a WASI command.
    #[must_use]
    pub fn task_names(&self) -> Vec<String> {
        match &self.content {
            ModuleContent::Tasks(tasks) => tasks.iter().map(|task| task.name.to_string()).collect(),
            ModuleContent::Command => Vec::new(),
        }
    }
}

/// Why a module could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// It is named in no way that is known.
    #[error("{text:?} is no tag and no digest")]
    Name {
        /// What was given.
        text: String,
        /// What is wrong with it as a tag.
        source: InvalidTag,
    },
    /// No module has the tag.
    #[error("there is no tag {tag}")]
    NoTag {
        /// The tag.
        tag: Tag,
    },
    /// Tags could not be read or written.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// It is not in the store, or cannot be read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It could not be kept.
    #[error(transparent)]
    Put(#[from] PutError),
    /// The bytes are no module that waft can run.
    #[error("not a module waft can run")]
    Module(#[from] ModuleError),
    /// It does not compile.
    #[error("it does not compile")]
    Compile(#[from] CompileError),
    /// It does not describe itself as it should.
    #[error("it does not describe itself as a module should")]
    Describe(#[from] DescribeError),
    /// The process is about to end.
    #[error("the process is stopping")]
    Stopping,
}

impl ModuleLibrary {
    /// Finds a module in the store by tag or digest.
    ///
    /// # Errors
    /// [`LibraryError`] when there is none, or it is not right.
    pub async fn find(&self, text: &str) -> Result<InspectedModule, LibraryError> {
        let digest = self.resolve(text).await?;
        let bytes = self.store.fetch(&digest).await?;
        self.describe(digest, bytes).await
    }

    /// Finds a module in the store for a run that is about to refer to it: from now on it counts as new, so that nobody who
    /// cleans up the store removes it before the run is recorded.
    ///
    /// # Errors
    /// [`LibraryError`] when there is none, or it is not right.
    pub async fn find_for_run(&self, text: &str) -> Result<InspectedModule, LibraryError> {
        let digest = self.resolve(text).await?;
        if !self.store.touch(&digest).await? {
            return Err(FetchError::Missing { digest }.into());
        }
        let bytes = self.store.fetch(&digest).await?;
        self.describe(digest, bytes).await
    }

    /// The digest that a tag or digest stands for. Whether the store has it is another matter.
    ///
    /// # Errors
    /// [`LibraryError`] when it is neither, or the tag stands for nothing.
    pub async fn resolve(&self, text: &str) -> Result<Digest, LibraryError> {
        if let Ok(digest) = text.parse::<Digest>() {
            return Ok(digest);
        }
        let tag: Tag = text.parse().map_err(|source| LibraryError::Name { text: text.into(), source })?;
        self.store.resolve_tag(&tag).await?.ok_or(LibraryError::NoTag { tag })
    }

    /// Makes a component of a module's bytes, if they are none, and looks into it. Nothing is stored.
    ///
    /// # Errors
    /// [`LibraryError`] when it is no module, or not right.
    pub async fn inspect(&self, bytes: Bytes) -> Result<InspectedModule, LibraryError> {
        // Both take a while.
        let making = tokio::task::spawn_blocking(move || {
            let bytes = Module::componentize(&bytes)?.into_bytes();
            Ok::<_, ModuleError>((store::digest_of(&bytes), bytes))
        });
        let (digest, bytes) = making.await.map_err(|_| LibraryError::Stopping)??;
        self.describe(digest, bytes).await
    }

    /// Stores what was read.
    ///
    /// # Errors
    /// [`LibraryError`] when it could not be kept.
    pub async fn store(&self, found: &InspectedModule) -> Result<(), LibraryError> {
        self.store.put(found.bytes.clone()).await?;
        Ok(())
    }

    async fn describe(&self, digest: Digest, bytes: Bytes) -> Result<InspectedModule, LibraryError> {
        let compiled = self.compiled(digest, &bytes).await?;
        let content = self.sandbox.describe(&compiled).await?;
        Ok(InspectedModule { digest, bytes, content })
    }

    async fn compiled(&self, digest: Digest, bytes: &Bytes) -> Result<Compiled, LibraryError> {
        if let Some(compiled) = self.sandbox.cached(&digest).await {
            return Ok(compiled);
        }
        Ok(self.sandbox.compile(digest, bytes.clone()).await?)
    }
}
