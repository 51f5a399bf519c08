//! Loads content by digest: from memory, from the local disk, then from the store of the job's engine.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    error::Error,
    iter::successors,
    sync::Arc,
};

use flow::{
    Access, Digest, Failure, FailureKind, FlowName, Grants, MAX_CALL_INPUT_BYTES, NodeName, Outcome, Size, Stored,
    Value, ValueName, Values,
};
use gateway::{CurrentRules, Gateway};
use protocol::{HttpExchanges, HttpRecord, Job, Key, MAX_ENCODED_HTTP_BYTES, MAX_INLINE_HTTP_BYTES};
use sandbox::{CompileError, Compiled, Sandbox};
use store::{Admission, FetchError};
use tracing::warn;

use crate::{
    admission::ModuleAdmission,
    outside::{CallOutside, Outside},
    spans,
};

/// Maximum size of a value that a worker fetches, and of a module for a rollback, in bytes.
const MAX_CONTENT_BYTES: u64 = MAX_CALL_INPUT_BYTES;

/// Finds modules and large values by digest.
#[derive(Clone)]
pub struct ContentSource {
    sandbox: Sandbox,
    bytes: store::Cache,
    client: store::bus::Client,
    admission: Arc<ModuleAdmission>,
    max_module_bytes: u64,
    outside: Outside,
}

impl ContentSource {
    /// Creates a source from a sandbox, a disk cache, and a client for the engines' stores. Only modules that `admission`
    /// admits are found. A larger module than `max_module_bytes` is not fetched and not compiled, except for a rollback.
    #[must_use]
    pub fn new(
        sandbox: Sandbox,
        bytes: store::Cache,
        client: store::bus::Client,
        admission: Admission,
        max_module_bytes: u64,
    ) -> Self {
        let admission = Arc::new(ModuleAdmission::new(admission));
        Self { sandbox, bytes, client, admission, max_module_bytes, outside: Outside::default() }
    }

    /// Lets calls reach what is outside their sandbox, if their flows ask for it and the rules allow it when they start.
    #[must_use]
    pub fn with_gateway(self, rules: CurrentRules, gateway: Arc<Gateway>) -> Self {
        Self { outside: Outside::new(rules, gateway), ..self }
    }

    pub(crate) fn outside(&self) -> &Outside {
        &self.outside
    }

    /// What the call of a job may reach outside its sandbox, by the rules that are in use now.
    ///
    /// # Errors
    /// A failure of kind `module` when it depends on who has signed the module, and the signatures cannot be fetched.
    pub(crate) async fn outside_of(&self, job: &Job) -> Result<CallOutside, Failure> {
        let rules = self.outside.rules();
        let (access, task) = (&job.access, &job.call.task);
        if !access.needs_grants() || !depends_on_signers(&rules.grants, access, &job.flow, task, &job.module) {
            return Ok(self.outside.of_call(job, &rules, &rules.grants));
        }
        let has_signed = self.admission.signed_by(job, &self.client).await?;
        Ok(self.outside.of_call(job, &rules, &rules.grants.with_signers(has_signed)))
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Decides whether the module of a job may run now.
    ///
    /// # Errors
    /// A failure of kind `module` with the reason.
    pub(crate) async fn check_admission(&self, job: &Job) -> Result<(), Failure> {
        self.admission.check(job, &self.client).await
    }

    /// Returns the module, ready to be called; `None` if this machine cannot compile now, which says nothing of the module.
    ///
    /// # Errors
    /// A failure of kind `module` with the reason: the module may not run here, or could not be fetched after all retries.
    pub(crate) async fn find(&self, job: &Job) -> Result<Option<Compiled>, Failure> {
        let digest = job.module;
        // Before the caches: a module may have been denied since the last call.
        self.check_admission(job).await?;
        if let Some(compiled) = self.sandbox.cached(&digest).await {
            return Ok(Some(compiled));
        }
        let bytes = self.module_bytes(digest, job).await?;
        let mut span = spans::compile(job, bytes.len());
        let compiled = self.sandbox.compile_for(job.flow.namespace().as_ref(), digest, bytes).await;
        if compiled.is_err() {
            span.fail("compile");
        }
        drop(span);
        match compiled {
            Ok(compiled) => Ok(Some(compiled)),
            Err(
                error @ (CompileError::Unavailable { .. }
                | CompileError::Busy { .. }
                | CompileError::Interrupted { .. }),
            ) => {
                warn!(%error, "the job is returned");
                tokio::time::sleep(sandbox::UNAVAILABLE_DELAY).await;
                Ok(None)
            }
            Err(error) => Err(failure(&error)),
        }
    }

    /// Returns the bytes of a job's module, which has no more of them than the operator allows.
    async fn module_bytes(&self, digest: Digest, job: &Job) -> Result<bytes::Bytes, Failure> {
        let allowed = match job.rollback {
            None => self.max_module_bytes,
            // The maximum may be lower than when the task was applied, and what was applied has to be rolled back.
            Some(_) => self.max_module_bytes.max(MAX_CONTENT_BYTES),
        };
        let size = match self.fetch(digest, job, allowed).await {
            Ok(bytes) if bytes.len() as u64 <= allowed => return Ok(bytes),
            Ok(cached) => cached.len() as u64,
            Err(FetchError::TooLarge { size, .. }) => size,
            Err(error) => return Err(failure(&error)),
        };
        let (asked, allowed) = (Size(size), Size(allowed));
        let reason = format!("it is not called: its module_size of {asked} is above the maximum here, {allowed}");
        Err(Failure::new(FailureKind::Module, reason))
    }

    /// Returns the job with all its values loaded, as the guest receives them.
    ///
    /// # Errors
    /// A failure of kind `permanent` when they are too large together, and of kind `module` that names the value that could not be loaded,
    /// and the reason.
    pub(crate) async fn with_loaded_values(&self, job: &Job) -> Result<Job, Failure> {
        check_input_bytes(job)?;
        let mut loaded = job.clone();
        let mut contents = LoadedContents::new();
        self.fetch_large(&mut loaded.inputs, job, &mut contents).await?;
        if let Some((Outcome::Provided(provided), _)) = &mut loaded.rollback {
            self.fetch_large(provided, job, &mut contents).await?;
        }
        Ok(loaded)
    }

    async fn fetch_large(&self, values: &mut Values, job: &Job, contents: &mut LoadedContents) -> Result<(), Failure> {
        for (name, value) in values {
            let Value::Stored(stored) = *value else { continue };
            let key = (stored.digest, value.is_bytes());
            let (size, loaded) = match contents.entry(key) {
                Entry::Occupied(loaded) => loaded.into_mut(),
                Entry::Vacant(missing) => {
                    let loaded = self.load(stored, job).await;
                    let failure_of = |reason| Failure::new(FailureKind::Module, format!("value {name:?}: {reason}"));
                    missing.insert((stored.size, loaded.map_err(failure_of)?))
                }
            };
            // The sizes in the job were checked, so each has to be right.
            if *size != stored.size {
                let message = format!("value {name:?}: it is also named with another size");
                return Err(Failure::new(FailureKind::Module, message));
            }
            *value = loaded.clone();
        }
        Ok(())
    }

    /// Loads a value. A large one is parsed beside the threads of the runtime.
    async fn load(&self, Stored { digest, size, form }: Stored, job: &Job) -> Result<Value, String> {
        let fetched = self.fetch(digest, job, MAX_CONTENT_BYTES).await;
        let bytes = fetched.map_err(|error| failure(&error).message)?;
        let found = bytes.len();
        if found as u64 != size {
            return Err(format!("it has {found} bytes, and the reference to it says {size}"));
        }
        let parsed = sandbox::parsed(found, move || store::values::from_bytes(&bytes, form)).await;
        parsed.map_err(|lost| lost.to_string())?.map_err(|error| error.to_string())
    }

    /// Puts large values into the engine's store, and returns the keys of these contents. A value that cannot be stored stays
    /// inline.
    pub(crate) async fn put_large(&self, mut values: Values, job: &Job) -> (Values, BTreeMap<Digest, Key>) {
        let mut keys = BTreeMap::new();
        for name in store::values::too_large_for_message(values.iter()) {
            let Some((value, (bytes, form))) =
                values.get_mut(&name).and_then(|value| store::values::bytes_of(value).map(|bytes| (value, bytes)))
            else {
                continue;
            };
            let size = bytes.len() as u64;
            match self.client.put(&job.fetch_from, bytes, job.call.clone(), job.keys.call).await {
                Ok((digest, key)) => {
                    keys.insert(digest, key);
                    *value = Value::Stored(Stored { digest, size, form });
                }
                Err(error) => warn!(%name, size, %error, "a large value could not be put into the store"),
            }
        }
        (values, keys)
    }

    /// Puts the recorded exchanges of a call into the engine's store, if they are too large for a message, and adds the key. `None`
    /// if the store does not take them.
    pub(crate) async fn keep_exchanges(
        &self,
        exchanges: &HttpExchanges,
        job: &Job,
        keys: &mut BTreeMap<Digest, Key>,
    ) -> Option<HttpRecord> {
        let bytes = exchanges.encode();
        if bytes.len() <= MAX_INLINE_HTTP_BYTES {
            return Some(HttpRecord::Inline(bytes));
        }
        let size = bytes.len() as u64;
        // The marks of secrets may be longer than their values.
        if bytes.len() > MAX_ENCODED_HTTP_BYTES {
            warn!(
                size,
                "the HTTP exchanges of a call are not recorded: with the marks of its secrets, they are too large"
            );
            return None;
        }
        match self.client.put(&job.fetch_from, bytes.into(), job.call.clone(), job.keys.call).await {
            Ok((digest, key)) => {
                keys.insert(digest, key);
                Some(HttpRecord::Stored { digest, size })
            }
            Err(error) => {
                warn!(size, %error, "the recorded HTTP exchanges of a call could not be put into the store");
                None
            }
        }
    }

    async fn fetch(&self, digest: Digest, job: &Job, max_bytes: u64) -> Result<bytes::Bytes, FetchError> {
        // What is on the disk of this machine is not fetched.
        let fetch = async {
            let mut span = spans::fetch(&digest, max_bytes);
            let fetched = self.client.fetch(&job.fetch_from, digest, job.keys.content(&digest), max_bytes).await;
            match &fetched {
                Ok(bytes) => span.describe(|span| span.set("waft.content.size", bytes.len())),
                Err(_) => span.fail("fetch"),
            }
            fetched
        };
        self.bytes.get_or_fetch(digest, fetch).await
    }
}

/// The values that were loaded for a job, by their digest and whether they are bytes, each with the size in its reference. A job may name a
/// value many times.
type LoadedContents = BTreeMap<(Digest, bool), (u64, Value)>;

/// Checks the bytes of the values that a call needs in memory. A value counts each time that it is named. An engine has checked the inputs of an
/// apply when it started, and a rollback has the values of the apply too.
fn check_input_bytes(job: &Job) -> Result<(), Failure> {
    let provided = job.rollback.as_ref().and_then(|(outcome, _)| outcome.provided());
    let values = provided.into_iter().chain([&job.inputs]).flatten();
    let size = |(name, value): (&ValueName, &Value)| (name.as_str().len() as u64).saturating_add(value.size() as u64);
    let asked = values.map(size).fold(0, u64::saturating_add);
    let allowed = if job.rollback.is_some() { 2 * MAX_CALL_INPUT_BYTES } else { MAX_CALL_INPUT_BYTES };
    if asked <= allowed {
        return Ok(());
    }
    let (asked, allowed) = (Size(asked), Size(allowed));
    let message = format!("its inputs have {asked} together, and a worker takes at most {allowed} for one call");
    Err(Failure::new(FailureKind::Permanent, message))
}

/// Whether what a call may do depends on who has signed its module. Otherwise nobody has to fetch the signatures.
fn depends_on_signers(grants: &Grants, asked: &Access, flow: &FlowName, task: &NodeName, module: &Digest) -> bool {
    let granted = |has_signed: bool| grants.with_signers(|_| has_signed).of_call(asked, flow, task, module);
    grants.name_signers() && granted(true) != granted(false)
}

/// Converts an error and its causes into a failure.
fn failure(error: &(dyn Error + 'static)) -> Failure {
    let chain: Vec<String> = successors(Some(error), |cause| (**cause).source()).map(ToString::to_string).collect();
    Failure::new(FailureKind::Module, chain.join(": "))
}

#[cfg(test)]
mod tests {
    use flow::{Action, Attempt, CallId, FailureSummary, Firing, Grant, Limits, SignerKey, Timestamp, ValueKind};
    use protocol::CallKeys;

    use super::*;

    #[test]
    fn the_inputs_of_a_call_are_bounded_together_however_often_it_names_a_value() {
        let stored = |size| Value::Stored(Stored { digest: Digest::from_bytes([1; 32]), size, form: ValueKind::Json });
        let inputs = |count: u64, size: u64| {
            let name = |number: u64| format!("p{number}").parse::<ValueName>().unwrap();
            (0..count).map(|number| (name(number), stored(size))).collect::<Values>()
        };
        let job = |inputs: Values| Job {
            call: CallId {
                run: "r".parse().unwrap(),
                task: "t".parse().unwrap(),
                firing: Firing::FIRST,
                attempt: Attempt::FIRST,
                action: Action::Apply,
            },
            flow: "f".parse().unwrap(),
            module: Digest::from_bytes([0; 32]),
            export: None,
            inputs,
            rollback: None,
            required_outputs: Vec::new(),
            limits: Limits::default(),
            access: Access::default(),
            at: Timestamp::from_micros(0),
            expires_at: None,
            signal_to: "signals".into(),
            fetch_from: "store".into(),
            delivery_limit: None,
            keys: CallKeys::of_call(Key::NONE),
        };
        // Each name has two bytes.
        let quarter = MAX_CALL_INPUT_BYTES / 4 - 2;
        assert!(check_input_bytes(&job(inputs(4, quarter))).is_ok());
        let refused = check_input_bytes(&job(inputs(5, quarter))).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Permanent);
        assert!(refused.message.contains("a worker takes at most 256MiB for one call"), "{refused}");
        let rollback = |provided: Values| Job {
            rollback: Some((Outcome::Provided(provided), FailureSummary::default())),
            ..job(inputs(4, quarter))
        };
        assert!(check_input_bytes(&rollback(inputs(4, quarter))).is_ok(), "what was applied is rolled back");
        assert!(check_input_bytes(&rollback(inputs(5, quarter))).is_err());
    }

    #[test]
    fn signatures_are_fetched_only_for_calls_that_a_grant_with_a_signer_is_for() {
        let asked = Access { clock: true, ..Access::default() };
        let of_task = |task: &str, signer: Option<&str>| Grant {
            task: Some(task.parse().unwrap()),
            signer: signer.map(|key| SignerKey(key.to_owned())),
            access: asked.clone(),
            ..Grant::default()
        };
        let depends = |grants: Vec<Grant>, task: &str| {
            let (flow, task, module) = ("f".parse().unwrap(), task.parse().unwrap(), Digest::from_bytes([0; 32]));
            depends_on_signers(&Grants(grants), &asked, &flow, &task, &module)
        };
        let grants = vec![of_task("signed", Some("key")), of_task("any", None)];
        assert!(depends(grants.clone(), "signed"));
        assert!(!depends(grants, "any"), "the grant of another task names a signer");
        assert!(!depends(vec![of_task("any", None)], "any"));
    }
}
