//! Finds modules by tag or digest in a store, and inspects them with a sandbox.

use std::sync::Arc;

use bytes::Bytes;
use flow::{Digest, Maximum, ModuleContent, Namespace, RetryLimits, RunLimits, Size};
use sandbox::{CompileError, Compiled, DescribeError, ModuleError, Sandbox};
use store::{
    Admission, EarlierDigest, FetchError, InvalidTag, ListError, PutError, Refusal, SignError, Signature, Store, Tag,
    TagError,
};

use crate::turns;

/// A store, and a sandbox that inspects its modules.
#[derive(Clone)]
pub struct ModuleLibrary {
    /// The store of modules and large values.
    pub store: Arc<dyn Store>,
    /// The sandbox that inspects modules.
    pub sandbox: Sandbox,
    /// What the operator allows at most, besides the limits of a call, which the sandbox has.
    pub limits: LibraryLimits,
    /// Which modules may run here.
    pub admission: Admission,
}

/// What an operator allows at most, besides the limits of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LibraryLimits {
    /// The retries of a task.
    pub retries: RetryLimits,
    /// The limits of a run.
    pub run: RunLimits,
    /// The bytes of a module.
    pub module_size: u64,
}

impl Default for LibraryLimits {
    fn default() -> Self {
        Self { retries: RetryLimits::default(), run: RunLimits::default(), module_size: DEFAULT_MODULE_SIZE }
    }
}

/// The maximum bytes of a module where an operator sets no other.
pub const DEFAULT_MODULE_SIZE: u64 = 64 << 20;

/// A module that was found and inspected.
#[derive(Clone)]
pub struct InspectedModule {
    /// Its identity.
    pub digest: Digest,
    /// The component.
    pub bytes: Bytes,
    /// Its tasks and their descriptions.
    pub content: ModuleContent,
}

/// A component that was not inspected: nothing of it has run.
pub struct Component {
    /// Its identity.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Bytes,
    /// The namespace of whoever asks for it: namespaces take turns to have modules compiled.
    pub owner: Option<Namespace>,
}

/// A tag that was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedTag {
    /// The tag.
    pub tag: Tag,
    /// What it named before.
    pub from: EarlierDigest,
    /// Its digest from now on.
    pub to: Digest,
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
    /// The module is larger than the operator allows.
    #[error("its module_size of {} is above the maximum here, {}", Size(*.asked), Size(*.allowed))]
    TooLarge {
        /// Its bytes.
        asked: u64,
        /// The maximum.
        allowed: u64,
    },
    /// The module describes tasks with limits or retries that the operator does not allow.
    #[error("{}", reasons.join("; "))]
    Exceeds {
        /// Each task, and what it asks for.
        reasons: Vec<String>,
    },
    /// The bytes are no module that waft can run.
    #[error("not a module waft can run")]
    Module(#[from] ModuleError),
    /// It does not compile.
    #[error("it does not compile")]
    Compile(#[from] CompileError),
    /// Its description of itself is invalid.
    #[error("it does not describe itself as a module should")]
    Describe(#[from] DescribeError),
    /// The policy of this machine does not admit the module.
    #[error(transparent)]
    NotAdmitted(#[from] Refusal),
    /// A signature is of another module.
    #[error("the signature by {} is of module {}, and this is module {digest}", signature.signer(), signature.digest())]
    OtherModule {
        /// The module.
        digest: Digest,
        /// The signature.
        signature: Box<Signature>,
    },
    /// The store could not save a signature.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// Signatures could not be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// The process is about to end.
    #[error("the process is stopping")]
    Stopping,
}

impl LibraryError {
    /// Whether the text tells of the server itself: of its paths, its drivers and its machine. No wildcard arm: a new variant
    /// must choose.
    pub(crate) fn is_about_server(&self) -> bool {
        match self {
            Self::Tag(error) => match error {
                TagError::Missing { .. } | TagError::TooMany { .. } => false,
                TagError::Write { .. } | TagError::Read { .. } | TagError::Damaged { .. } => true,
            },
            Self::Fetch(error) => match error {
                FetchError::Missing { .. } | FetchError::Corrupt { .. } | FetchError::TooLarge { .. } => false,
                FetchError::Read { .. }
                | FetchError::Unreadable { .. }
                | FetchError::Refused { .. }
                | FetchError::QueueMissing { .. }
                | FetchError::TimedOut { .. }
                | FetchError::Closed { .. } => true,
            },
            Self::Sign(error) => match error {
                SignError::Missing { .. } | SignError::TooMany { .. } => false,
                SignError::Write { .. } => true,
            },
            Self::Module(ModuleError::Unavailable { .. })
            | Self::Compile(CompileError::Unavailable { .. })
            | Self::Put(_)
            | Self::List(_) => true,
            Self::Name { .. }
            | Self::NoTag { .. }
            | Self::TooLarge { .. }
            | Self::Exceeds { .. }
            | Self::Module(_)
            | Self::Compile(_)
            | Self::Describe(_)
            | Self::NotAdmitted(_)
            | Self::OtherModule { .. }
            | Self::Stopping => false,
        }
    }
}

impl ModuleLibrary {
    /// What the operator allows at most.
    #[must_use]
    pub fn maximum(&self) -> Maximum {
        Maximum { call: self.sandbox.max_limits(), retries: self.limits.retries, run: self.limits.run }
    }

    /// Checks the size of a module, before it is read or compiled.
    ///
    /// # Errors
    /// [`LibraryError::TooLarge`] when the operator does not allow it.
    pub fn check_size(&self, asked: u64) -> Result<(), LibraryError> {
        let allowed = self.limits.module_size;
        if asked > allowed { Err(LibraryError::TooLarge { asked, allowed }) } else { Ok(()) }
    }

    /// Checks what a module asks for in its description. A flow may set lower limits for a task, but who uses a pushed module
    /// does not know that it has to.
    ///
    /// # Errors
    /// [`LibraryError::Exceeds`] when the operator does not allow it.
    pub fn check_description(&self, found: &InspectedModule) -> Result<(), LibraryError> {
        let reasons = flow::check_description(&found.content, &self.maximum());
        if reasons.is_empty() { Ok(()) } else { Err(LibraryError::Exceeds { reasons }) }
    }

    /// Finds a module in the store by tag or digest.
    ///
    /// # Errors
    /// [`LibraryError`] when there is none, or it is invalid.
    pub async fn find(&self, text: &str, namespace: Option<&Namespace>) -> Result<InspectedModule, LibraryError> {
        let (digest, _) = self.resolve(text, namespace).await?;
        self.inspect_stored(digest, namespace).await
    }

    /// Finds a module in the store by tag or digest, if it may run here. Nothing of another module runs.
    ///
    /// # Errors
    /// [`LibraryError`] when there is none, it is invalid, or it may not run here.
    pub async fn find_admitted(
        &self,
        text: &str,
        namespace: Option<&Namespace>,
    ) -> Result<InspectedModule, LibraryError> {
        let digest = self.resolve_admitted(text, namespace).await?;
        self.inspect_stored(digest, namespace).await
    }

    /// Finds a module in the store for a run that will refer to it, if the module may run here. The store then counts it as
    /// new, so a cleanup does not remove it before the run is recorded.
    ///
    /// # Errors
    /// [`LibraryError`] when there is none, it is invalid, or it may not run here.
    pub async fn find_for_run(
        &self,
        text: &str,
        namespace: Option<&Namespace>,
    ) -> Result<InspectedModule, LibraryError> {
        let digest = self.resolve_admitted(text, namespace).await?;
        if !self.store.touch(&digest).await? {
            return Err(FetchError::Missing { digest }.into());
        }
        self.inspect_stored(digest, namespace).await
    }

    /// Resolves a tag or digest, if the module may run here.
    async fn resolve_admitted(&self, text: &str, namespace: Option<&Namespace>) -> Result<Digest, LibraryError> {
        let (digest, found_by) = self.resolve(text, namespace).await?;
        self.admit(&digest, found_by.as_ref(), &[]).await?;
        Ok(digest)
    }

    /// Inspects what the store has under a digest. The store also has the values of all runs: in a namespace, what is no module is not
    /// there, so that nobody can find out whether another namespace has a certain value.
    async fn inspect_stored(
        &self,
        digest: Digest,
        namespace: Option<&Namespace>,
    ) -> Result<InspectedModule, LibraryError> {
        // A value may be larger than any module: it is not read.
        let size = self.store.size(&digest).await?.ok_or(FetchError::Missing { digest })?;
        if let Err(error) = self.check_size(size) {
            return Err(if namespace.is_some() { FetchError::Missing { digest }.into() } else { error });
        }
        // The bytes are in memory until it has described itself. The store reads a file to its end, also if the caller leaves.
        let (turn, store) = (turns::for_module(namespace.cloned()).await, self.store.clone());
        let (bytes, _turn) = turns::to_its_end(async move { (store.fetch(&digest).await, turn) }).await;
        let bytes = bytes?;
        let is_hidden = |error: &LibraryError| match error {
            LibraryError::Module(error) => !matches!(error, ModuleError::Unavailable { .. }),
            LibraryError::Compile(error) => {
                !matches!(error, CompileError::Unavailable { .. } | CompileError::Interrupted { .. })
            }
            _ => false,
        };
        match self.inspect(Component { digest, bytes, owner: namespace.cloned() }).await {
            Err(error) if namespace.is_some() && is_hidden(&error) => Err(FetchError::Missing { digest }.into()),
            inspected => inspected,
        }
    }

    /// Decides whether a module may run here, by the signatures in the store and `new` ones. `found_by` is the tag by which the
    /// module was found, if it was found by a tag.
    ///
    /// # Errors
    /// [`LibraryError::NotAdmitted`] when it may not, and [`LibraryError::List`] when its signatures cannot be read.
    pub async fn admit(&self, digest: &Digest, found_by: Option<&Tag>, new: &[Signature]) -> Result<(), LibraryError> {
        Ok(self.admission.policy().check_stored(&*self.store, digest, found_by, new).await??)
    }

    /// Inspects and stores a component with new signatures, and sets a tag, if the module may then run here under this tag. If it
    /// may not, nothing is stored, and nothing of it runs.
    ///
    /// # Errors
    /// [`LibraryError`] when the module is invalid or may not run here, a signature is of another module, or the store could not
    /// save everything.
    pub async fn push(
        &self,
        component: Component,
        signatures: &[Signature],
        tag: Option<&Tag>,
    ) -> Result<(InspectedModule, Option<MovedTag>), LibraryError> {
        self.check_new(&component.digest, signatures)?;
        self.admit(&component.digest, tag, signatures).await?;
        let found = self.inspect(component).await?;
        self.check_description(&found)?;
        self.store(&found).await?;
        for signature in signatures {
            self.store.sign(signature, &self.admission.policy()).await?;
        }
        let Some(tag) = tag else { return Ok((found, None)) };
        let moved = MovedTag { tag: tag.clone(), from: self.store.tag(tag, &found.digest).await?, to: found.digest };
        Ok((found, Some(moved)))
    }

    /// Stores a signature of a module that the store has.
    ///
    /// # Errors
    /// [`LibraryError`] when the signature is of another module, its signer is denied here, or the store could not save it.
    pub async fn sign(&self, digest: &Digest, signature: &Signature) -> Result<(), LibraryError> {
        self.check_new(digest, std::slice::from_ref(signature))?;
        Ok(self.store.sign(signature, &self.admission.policy()).await?)
    }

    fn check_new(&self, digest: &Digest, signatures: &[Signature]) -> Result<(), LibraryError> {
        let policy = self.admission.policy();
        for signature in signatures {
            if signature.digest() != digest {
                return Err(LibraryError::OtherModule { digest: *digest, signature: Box::new(signature.clone()) });
            }
            policy.check_new(signature)?;
        }
        Ok(())
    }

    /// Resolves a tag or digest to a digest; returns also the tag. It does not check that the store has the content. In a
    /// namespace, a tag is first one of the namespace and then one of none, and tags of other namespaces are unknown.
    ///
    /// # Errors
    /// [`LibraryError`] when the text is neither, or the tag is unknown.
    pub async fn resolve(
        &self,
        text: &str,
        namespace: Option<&Namespace>,
    ) -> Result<(Digest, Option<Tag>), LibraryError> {
        if let Ok(digest) = text.parse::<Digest>() {
            return Ok((digest, None));
        }
        let tag: Tag = text.parse().map_err(|source| LibraryError::Name { text: text.into(), source })?;
        let is_foreign = namespace.is_some() && tag.namespace().is_some_and(|of| Some(&of) != namespace);
        let own = tag.within(namespace).ok().filter(|own| *own != tag);
        for known_as in own.into_iter().chain([tag.clone()]).filter(|_| !is_foreign) {
            if let Some(digest) = self.store.resolve_tag(&known_as).await? {
                return Ok((digest, Some(known_as)));
            }
        }
        Err(LibraryError::NoTag { tag })
    }

    /// Converts a core module to a component where necessary, for a namespace or for none. Nothing of it runs, and nothing is
    /// stored.
    ///
    /// # Errors
    /// [`LibraryError`] when the bytes are no module, or too many.
    pub async fn component(&self, bytes: Bytes, owner: Option<&Namespace>) -> Result<Component, LibraryError> {
        self.check_size(bytes.len() as u64)?;
        let bytes = self.sandbox.componentize(bytes, owner).await?.into_bytes();
        let hashed = bytes.clone();
        let hashing = tokio::task::spawn_blocking(move || store::digest_of(&hashed));
        let digest = hashing.await.map_err(|_| LibraryError::Stopping)?;
        Ok(Component { digest, bytes, owner: owner.cloned() })
    }

    /// Inspects a component: it describes itself in the sandbox. Nothing is stored.
    ///
    /// # Errors
    /// [`LibraryError`] when it is no valid module.
    pub async fn inspect(
        &self,
        Component { digest, bytes, owner }: Component,
    ) -> Result<InspectedModule, LibraryError> {
        self.check_size(bytes.len() as u64)?;
        let owner = owner.as_ref();
        let compiled = self.compiled(owner, digest, &bytes).await?;
        let content = self.sandbox.describe_for(owner, &compiled).await?;
        Ok(InspectedModule { digest, bytes, content })
    }

    /// Stores an inspected module.
    ///
    /// # Errors
    /// [`LibraryError`] when the store could not save it.
    pub async fn store(&self, found: &InspectedModule) -> Result<(), LibraryError> {
        self.store.put(found.bytes.clone()).await?;
        Ok(())
    }

    async fn compiled(
        &self,
        owner: Option<&Namespace>,
        digest: Digest,
        bytes: &Bytes,
    ) -> Result<Compiled, LibraryError> {
        if let Some(compiled) = self.sandbox.cached(&digest).await {
            return Ok(compiled);
        }
        Ok(self.sandbox.compile_for(owner, digest, bytes.clone()).await?)
    }
}

#[cfg(test)]
mod tests;
