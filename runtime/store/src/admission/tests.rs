//! Each rule alone, and what wins where two rules meet.

use flow::Timestamp;

use super::*;
use crate::{SigningKey, digest_of};

const NOW: Timestamp = Timestamp::from_micros(1_764_432_780_000_000);

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

fn digest() -> Digest {
    digest_of(b"module")
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn sign(key: &SigningKey, for_tag: Option<&str>) -> Signature {
    key.sign(digest(), for_tag.map(tag), NOW).unwrap()
}

fn by_signer(key: &SigningKey, tags: &[&str]) -> Rule {
    Rule::Signer { signer: key.signer(), tags: tags.iter().map(|tag| tag.parse().unwrap()).collect() }
}

fn listed(rules: impl IntoIterator<Item = Rule>) -> Policy {
    Policy { modules: Modules::Listed(rules.into_iter().collect()), ..Policy::default() }
}

fn denying(policy: Policy, signer: &SigningKey) -> Policy {
    Policy { denied_signers: [signer.signer()].into(), ..policy }
}

#[track_caller]
fn admits(policy: &Policy, signatures: &[Signature], found_by: Option<&str>) {
    policy.check(&digest(), signatures, found_by.map(tag).as_ref()).unwrap();
}

#[track_caller]
fn refuses(policy: &Policy, signatures: &[Signature], found_by: Option<&str>, says: &str) {
    let refusal = policy.check(&digest(), signatures, found_by.map(tag).as_ref()).unwrap_err();
    let text = refusal.with_advice();
    assert!(text.contains(&digest().to_string()) && text.contains(says), "{says:?} is not in {text}");
}

#[test]
fn without_rules_every_module_runs() {
    admits(&Policy::default(), &[], None);
    assert_eq!(Policy::default().decide_by_digest(&digest()), Some(Ok(())), "no signature is fetched");
}

#[test]
fn a_list_admits_only_what_a_rule_names() {
    let (key, stranger) = (key(), key());
    refuses(&listed([]), &[], None, "it has no signature");
    let policy = listed([by_signer(&key, &[])]);
    refuses(&policy, &[], None, "it has no signature");
    refuses(&policy, &[sign(&stranger, None)], None, &format!("no rule names its signer {}", stranger.signer()));
    admits(&policy, &[sign(&key, None)], None);
    admits(&policy, &[sign(&stranger, None), sign(&key, None)], None);
    let policy = listed([Rule::Digest(digest())]);
    admits(&policy, &[], None);
    admits(&policy, &[], Some("shop:1"));
    refuses(&listed([Rule::Digest(digest_of(b"other"))]), &[], None, "no [[admission.allow]] rule admits it");
}

#[test]
fn a_signature_of_another_module_counts_for_nothing() {
    let key = key();
    let other = key.sign(digest_of(b"other"), None, NOW).unwrap();
    refuses(&listed([by_signer(&key, &[])]), &[other], None, "it has no signature");
}

#[test]
fn a_rule_with_tags_admits_only_what_was_signed_for_them() {
    let key = key();
    let policy = listed([by_signer(&key, &["shop:*", "till"])]);
    for good in ["shop:1", "till"] {
        admits(&policy, &[sign(&key, Some(good))], Some(good));
        admits(&policy, &[sign(&key, Some(good))], None);
    }
    let says = format!("{} signed it for the tag admin:1, and its rule is for shop:*, till", key.signer());
    // The tag by which it is found does not replace the signed one.
    refuses(&policy, &[sign(&key, Some("admin:1"))], Some("shop:1"), &says);
    refuses(&policy, &[sign(&key, Some("admin:1"))], None, &says);
    refuses(&policy, &[sign(&key, None)], Some("shop:1"), "signed it for no tag");
    let either = listed([by_signer(&key, &["shop:*"]), by_signer(&key, &["admin:*"])]);
    admits(&either, &[sign(&key, Some("admin:1"))], Some("admin:1"));
}

#[test]
fn a_module_signed_for_a_tag_is_not_served_under_another() {
    let key = key();
    let policy = listed([by_signer(&key, &[])]);
    let old = sign(&key, Some("shop:1"));
    admits(&policy, std::slice::from_ref(&old), Some("shop:1"));
    admits(&policy, std::slice::from_ref(&old), None);
    refuses(&policy, std::slice::from_ref(&old), Some("shop:2"), "signed it for the tag shop:1, and not for shop:2");
    admits(&policy, &[old, sign(&key, Some("shop:2"))], Some("shop:2"));
    admits(&policy, &[sign(&key, None)], Some("shop:2"));
}

#[test]
fn deny_wins() {
    let (key, other) = (key(), key());
    let signed = [sign(&key, None)];
    let rules = || listed([by_signer(&key, &[]), by_signer(&other, &[]), Rule::Digest(digest())]);
    for policy in [Policy::default(), rules()] {
        let by_digest = Policy { denied_digests: [digest()].into(), ..policy.clone() };
        refuses(&by_digest, &signed, None, "its digest is in `digests` under [admission.deny]");
        refuses(&by_digest, &[], None, "its digest is in `digests` under [admission.deny]");
        let by_signer = denying(policy, &key);
        refuses(&by_signer, &signed, None, &format!("its signer {} is in `signers`", key.signer()));
        admits(&by_signer, &[], None);
    }
}

#[test]
fn what_a_denied_signer_signed_runs_again_once_another_signer_has_signed_it() {
    let (leaked, new, stranger) = (key(), key(), key());
    let both = |other: &SigningKey| [sign(&leaked, None), sign(other, None)];
    let policy = denying(listed([by_signer(&leaked, &[]), by_signer(&new, &[])]), &leaked);
    admits(&policy, &both(&new), None);
    refuses(&policy, &both(&stranger), None, "is in `signers` under [admission.deny]");
    admits(&denying(Policy::default(), &leaked), &both(&new), None);
    assert!(policy.check_new(&sign(&leaked, None)).is_err() && policy.check_new(&sign(&new, None)).is_ok());
}

#[test]
fn a_signature_does_not_expire() {
    let key = key();
    let old = key.sign(digest(), None, Timestamp::from_micros(0)).unwrap();
    admits(&listed([by_signer(&key, &[])]), &[old], None);
}

#[test]
fn a_policy_is_replaced_for_all_that_share_it() {
    let admission = Admission::new(Policy::default());
    let shared = admission.clone();
    admission.replace(listed([]));
    assert_eq!(*shared.policy(), listed([]));
}

#[test]
fn a_policy_is_described() {
    assert_eq!(Policy::default().describe(), "every module runs");
    let policy = denying(listed([Rule::Digest(digest())]), &key());
    assert_eq!(policy.describe(), "only what is admitted by 1 rule runs, but nothing of 1 denied signer");
}
