//! Tests which modules a worker runs, whose policy may be stricter than that of the server.

use store::{Modules, Policy, Rule, SigningKey};

use super::*;

fn key() -> SigningKey {
    SigningKey::generate().expect("the system has random numbers")
}

fn by_signer(key: &SigningKey, tags: &[&str]) -> Policy {
    let tags = tags.iter().map(|tag| tag.parse().expect("a pattern")).collect();
    Policy { modules: Modules::Listed(vec![Rule::Signer { signer: key.signer(), tags }]), ..Policy::default() }
}

fn denying(policy: &Policy, key: &SigningKey) -> Policy {
    Policy { denied_signers: [key.signer()].into(), ..policy.clone() }
}

impl Harness {
    async fn start_with(&self, policy: Policy) -> Admission {
        let admission = Admission::new(policy);
        self.start_worker_with("one", admission.clone(), 64 << 20).await;
        admission
    }

    async fn sign(&self, key: &SigningKey, tag: Option<&str>) {
        let tag = tag.map(|tag| tag.parse().expect("a tag"));
        let signature = key.sign(self.module, tag, Timestamp::from_micros(7_000_000)).expect("a key signs");
        self.store.sign(&signature, &Policy::default()).await.expect("memory stores it");
    }

    /// Makes another attempt at the task that does nothing.
    async fn call(&mut self, attempt: u32) -> TaskResult {
        let job = job(self.module, "noop");
        let call = CallId { attempt: Attempt::new(attempt), ..job.call.clone() };
        self.publish("one", &Job { call, ..job }).await;
        self.answer().await
    }

    #[track_caller]
    fn assert_refused(&self, answer: TaskResult, says: &str) {
        let TaskResult::Failed(failure) = answer else { panic!("{answer:?}") };
        assert_eq!((failure.kind, failure.may_retry()), (FailureKind::Module, false), "{failure}");
        let named = failure.message.contains(&self.module.to_string()) && failure.message.contains(says);
        assert!(named, "{says:?} is not in {failure}");
    }
}

const DONE: TaskResult = TaskResult::Succeeded(Values::new());

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_module_is_refused_until_an_admitted_signer_signs_it() {
    let (mut harness, signer, stranger) = (Harness::new().await, key(), key());
    harness.start_with(by_signer(&signer, &[])).await;
    let answer = harness.call(1).await;
    harness.assert_refused(answer, "it has no signature: sign the module with the key of an admitted signer");
    harness.sign(&stranger, None).await;
    harness.sign(&signer, None).await;
    assert_eq!(harness.call(2).await, DONE, "a refusal is not remembered");
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_for_another_tag_does_not_admit_a_module() {
    let (mut harness, signer) = (Harness::new().await, key());
    harness.sign(&signer, Some("admin:1")).await;
    let admission = harness.start_with(by_signer(&signer, &["shop:*"])).await;
    let answer = harness.call(1).await;
    harness.assert_refused(answer, "signed it for the tag admin:1, and its rule is for shop:*");
    admission.replace(by_signer(&signer, &["shop:*", "admin:*"]));
    assert_eq!(harness.call(2).await, DONE);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_signer_stops_the_next_call_of_a_cached_module() {
    let (mut harness, signer, successor) = (Harness::new().await, key(), key());
    harness.sign(&signer, None).await;
    let policy = by_signer(&signer, &[]);
    let admission = harness.start_with(policy.clone()).await;
    assert_eq!(harness.call(1).await, DONE);
    assert_eq!(harness.call(2).await, DONE, "it is in the caches");
    admission.replace(denying(&policy, &signer));
    let answer = harness.call(3).await;
    harness.assert_refused(answer, "is in `signers` under [admission.deny]");
    admission.replace(denying(&Policy::default(), &signer));
    let answer = harness.call(4).await;
    harness.assert_refused(answer, "is in `signers` under [admission.deny]");
    admission.replace(Policy { denied_digests: [harness.module].into(), ..Policy::default() });
    let answer = harness.call(5).await;
    harness.assert_refused(answer, "its digest is in `digests` under [admission.deny]");
    admission.replace(by_signer(&successor, &[]));
    let answer = harness.call(6).await;
    harness.assert_refused(answer, &format!("no rule names its signer {}", signer.signer()));
    admission.replace(Policy::default());
    assert_eq!(harness.call(7).await, DONE);
    harness.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_signatures_refuses_what_needs_them() {
    let (mut harness, signer) = (Harness::new().await, key());
    harness.start_with(by_signer(&signer, &[])).await;
    let job = Job { fetch_from: "nowhere".into(), ..job(harness.module, "noop") };
    harness.publish("one", &job).await;
    let TaskResult::Failed(failure) = harness.answer().await else { panic!("it was called") };
    assert_eq!((failure.kind, failure.may_retry()), (FailureKind::Module, true), "{failure}");
    assert!(failure.message.contains("cannot be decided without its signatures"), "{failure}");
    harness.stop().await;
}
