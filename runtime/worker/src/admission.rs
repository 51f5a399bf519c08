//! Decides for each call whether its module may run here, by the policy of this machine.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flow::{Digest, Failure, FailureKind, SignerKey};
use protocol::Job;
use store::{Admission, FetchError, Policy, Signature, bus::Client};
use tokio::time::Instant;
use tracing::warn;

/// The maximum number of modules whose signatures are in memory: more than the sandbox has modules, and some MiB at most.
const MAX_MODULES: usize = 512;

/// The time for which remembered signatures admit a module. Another signature may count against it: one of a denied signer.
const TRUSTED_FOR: Duration = Duration::from_secs(60);

/// The policy of this machine, and the signatures that it needs.
///
/// The policy decides each call anew, so a change takes effect with the next one, wherever the module is cached.
pub(crate) struct ModuleAdmission {
    admission: Admission,
    fetched: Mutex<HashMap<Digest, Fetched>>,
}

/// The signatures of a module, and when they were fetched.
#[derive(Clone)]
struct Fetched {
    signatures: Arc<[Signature]>,
    /// The policy when they were fetched: one that denies more may need the signatures of now.
    policy: Arc<Policy>,
    at: Instant,
}

impl ModuleAdmission {
    pub(crate) fn new(admission: Admission) -> Self {
        Self { admission, fetched: Mutex::new(HashMap::new()) }
    }

    /// Decides whether the module of a job may run. A policy that needs no signatures costs no message.
    ///
    /// # Errors
    /// A failure of kind `module`: it is permanent if the policy refuses the module, and may be retried if the signatures could
    /// not be fetched.
    pub(crate) async fn check(&self, job: &Job, client: &Client) -> Result<(), Failure> {
        let digest = job.module;
        let policy = self.admission.policy();
        if let Some(decided) = policy.decide_by_digest(&digest) {
            return decided.map_err(|refusal| refused(&refusal));
        }
        let known = self.fetched().get(&digest).cloned();
        // The job names no tag: the server has checked the tag by which the module was found.
        let is_admitted = |known: Fetched| {
            let is_current = Arc::ptr_eq(&known.policy, &policy) && known.at.elapsed() < TRUSTED_FOR;
            is_current && policy.check(&digest, &known.signatures, None).is_ok()
        };
        if known.is_some_and(is_admitted) {
            return Ok(());
        }
        // It may have been signed since.
        let fetched = client.signatures(&job.fetch_from, digest, job.keys.content(&digest)).await;
        let signatures = fetched.map_err(|error| unknown(digest, &error))?;
        let decided = self.admission.policy().check(&digest, &signatures, None);
        self.remember(digest, signatures, policy);
        decided.map_err(|refusal| refused(&refusal))
    }

    /// Who of some signers has signed the module of a job.
    ///
    /// # Errors
    /// A failure of kind `module` when the signatures cannot be fetched.
    pub(crate) async fn signed_by(&self, job: &Job, client: &Client) -> Result<impl Fn(&SignerKey) -> bool, Failure> {
        let (digest, policy) = (job.module, self.admission.policy());
        let known = self.fetched().get(&digest).cloned();
        let known = known.filter(|known| Arc::ptr_eq(&known.policy, &policy) && known.at.elapsed() < TRUSTED_FOR);
        let signatures: Arc<[Signature]> = match known {
            Some(known) => known.signatures,
            None => {
                let fetched = client.signatures(&job.fetch_from, digest, job.keys.content(&digest)).await;
                let signatures = fetched.map_err(|error| unknown(digest, &error))?;
                self.remember(digest, signatures.clone(), policy.clone());
                signatures.into()
            }
        };
        // The text was a key when the settings were read.
        let signer = |key: &SignerKey| key.0.parse().ok();
        Ok(move |key: &SignerKey| signer(key).is_some_and(|signer| policy.is_signed_by(&digest, &signatures, &signer)))
    }

    fn remember(&self, digest: Digest, signatures: Vec<Signature>, policy: Arc<Policy>) {
        let mut fetched = self.fetched();
        if fetched.len() >= MAX_MODULES && !fetched.contains_key(&digest) {
            let oldest = fetched.iter().min_by_key(|(_, fetched)| fetched.at).map(|(digest, _)| *digest);
            oldest.and_then(|oldest| fetched.remove(&oldest));
        }
        fetched.insert(digest, Fetched { signatures: signatures.into(), policy, at: Instant::now() });
    }

    /// A panic in another thread cannot leave the map half written: each insertion is complete.
    fn fetched(&self) -> MutexGuard<'_, HashMap<Digest, Fetched>> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(refusal: &store::Refusal) -> Failure {
    let message = refusal.with_advice();
    warn!(message, "a call is refused");
    Failure::not_admitted(message)
}

fn unknown(digest: Digest, error: &FetchError) -> Failure {
    let message = format!("whether module {digest} is admitted cannot be decided without its signatures: {error}");
    Failure::new(FailureKind::Module, message)
}
