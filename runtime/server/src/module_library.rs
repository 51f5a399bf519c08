//! Finds modules by tag or digest in a store, and inspects them with a sandbox.

use std::sync::Arc;

use bytes::Bytes;
use flow::{Digest, Maximum, ModuleContent, Namespace, RetryLimits};
use sandbox::{CompileError, Compiled, DescribeError, ModuleError, Sandbox};
use store::{FetchError, InvalidTag, PutError, Store, Tag, TagError};

/// A store, and a sandbox that inspects its modules.
#[derive(Clone)]
pub struct ModuleLibrary {
    /// The store of modules and large values.
    pub store: Arc<dyn Store>,
    /// The sandbox that inspects modules.
    pub sandbox: Sandbox,
    /// The retries that the operator allows at most.
    pub max_retries: RetryLimits,
}

/// A module that was found and inspected.
pub struct InspectedModule {
    /// Its identity.
    pub digest: Digest,
    /// The component.
    pub bytes: Bytes,
    /// Its tasks and their descriptions.
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

/// Why a module is not available.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The reference is neither a tag nor a digest.
    #[error("{text:?} is no tag and no digest")]
    Name {
        /// The text.
        text: String,
        /// Why it is not a valid tag.
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
    /// The store lacks the module or cannot read it.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The store could not save the module.
    #[error(transparent)]
    Put(#[from] PutError),
    /// The bytes are no module that waft can run.
    #[error("not a module waft can run")]
    Module(#[from] ModuleError),
    /// It does not compile.
    #[error("it does not compile")]
    Compile(#[from] CompileError),
    /// Its description of itself is invalid.
    #[error("it does not describe itself as a module should")]
    Describe(#[from] DescribeError),
    /// The process is about to end.
    #[error("the process is stopping")]
    Stopping,
}

impl ModuleLibrary {
    /// What the operator allows at most.
    #[must_use]
    pub fn maximum(&self) -> Maximum {
        Maximum { call: self.sandbox.max_limits(), retries: self.max_retries }
    }

    /// Finds a module in the store by tag or digest.
    ///
    /// # Errors
    /// [`LibraryError`] when there is none, or it is invalid.
    pub async fn find(&self, text: &str, namespace: Option<&Namespace>) -> Result<InspectedModule, LibraryError> {
        let digest = self.resolve(text, namespace).await?;
        let bytes = self.store.fetch(&digest).await?;
        self.describe(digest, bytes).await
    }

    /// Finds a module in the store for a run that will refer to it. The store then counts it as new, so a cleanup does not
    /// remove it before the run is recorded.
    ///
    /// # Errors
    /// [`LibraryError`] when there is none, or it is invalid.
    pub async fn find_for_run(
        &self,
        text: &str,
        namespace: Option<&Namespace>,
    ) -> Result<InspectedModule, LibraryError> {
        let digest = self.resolve(text, namespace).await?;
        if !self.store.touch(&digest).await? {
            return Err(FetchError::Missing { digest }.into());
        }
        let bytes = self.store.fetch(&digest).await?;
        self.describe(digest, bytes).await
    }

    /// Resolves a tag or digest to a digest. It does not check that the store has the content. In a namespace, a tag is first
    /// one of the namespace and then one of none, and tags of other namespaces are unknown.
    ///
    /// # Errors
    /// [`LibraryError`] when the text is neither, or the tag is unknown.
    pub async fn resolve(&self, text: &str, namespace: Option<&Namespace>) -> Result<Digest, LibraryError> {
        if let Ok(digest) = text.parse::<Digest>() {
            return Ok(digest);
        }
        let tag: Tag = text.parse().map_err(|source| LibraryError::Name { text: text.into(), source })?;
        if let Some(namespace) = namespace {
            let is_foreign = tag.namespace().is_some_and(|of| of != *namespace);
            let own = tag.within(Some(namespace)).ok().filter(|_| !is_foreign);
            let found = match &own {
                Some(own) => self.store.resolve_tag(own).await?,
                None => None,
            };
            if found.is_some() || is_foreign {
                return found.ok_or(LibraryError::NoTag { tag });
            }
        }
        self.store.resolve_tag(&tag).await?.ok_or(LibraryError::NoTag { tag })
    }

    /// Converts a core module to a component where necessary, and inspects it. Nothing is stored.
    ///
    /// # Errors
    /// [`LibraryError`] when the bytes are no valid module.
    pub async fn inspect(&self, bytes: Bytes) -> Result<InspectedModule, LibraryError> {
        let bytes = self.sandbox.componentize(bytes).await?.into_bytes();
        let hashed = bytes.clone();
        let hashing = tokio::task::spawn_blocking(move || store::digest_of(&hashed));
        let digest = hashing.await.map_err(|_| LibraryError::Stopping)?;
        self.describe(digest, bytes).await
    }

    /// Stores an inspected module.
    ///
    /// # Errors
    /// [`LibraryError`] when the store could not save it.
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
