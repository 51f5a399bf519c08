//! Admission: which modules may run, by their digests and by who signed them.
//!
//! A [`Policy`] is a plain value that decides; [`Admission`] is the policy in use, which changes while a process runs. Deny
//! wins over allow. A signature for a tag counts only for a rule that admits the tag, and only where the module is found by
//! that tag or by its digest.

mod current;
mod refusal;
mod tag_pattern;

use std::collections::BTreeSet;

use flow::Digest;

pub use self::{
    current::Admission,
    refusal::{Objection, Refusal},
    tag_pattern::{InvalidTagPattern, TagPattern},
};
use crate::{ListError, MAX_NAMESPACE_SIGNATURES, MAX_SIGNATURES, SignError, Signature, Signer, Store, Tag};

/// Which modules may run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Which modules may run that nothing denies.
    pub modules: Modules,
    /// Modules that never run.
    pub denied_digests: BTreeSet<Digest>,
    /// Signers whose signatures count for nothing. A module that only they signed never runs.
    pub denied_signers: BTreeSet<Signer>,
}

/// Which modules may run that nothing denies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Modules {
    /// Every module.
    #[default]
    Any,
    /// Those that a rule admits.
    Listed(Vec<Rule>),
}

/// A rule that admits modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// The module with a digest.
    Digest(Digest),
    /// The modules that a signer signed.
    Signer {
        /// The signer.
        signer: Signer,
        /// The tags for which they have to be signed: one pattern has to match. Without patterns, any signature will do.
        tags: Vec<TagPattern>,
    },
}

impl Policy {
    /// Decides without the signatures of a module, if they change nothing.
    #[must_use]
    pub fn decide_by_digest(&self, digest: &Digest) -> Option<Result<(), Refusal>> {
        if self.denied_digests.contains(digest) {
            return Some(Err(Refusal::DeniedDigest { digest: *digest }));
        }
        let is_admitted = match &self.modules {
            Modules::Any => true,
            Modules::Listed(rules) => rules.contains(&Rule::Digest(*digest)),
        };
        (is_admitted && self.denied_signers.is_empty()).then_some(Ok(()))
    }

    /// Decides whether a module may run. `found_by` is the tag by which the module was found, if it was found by a tag.
    /// Signatures of other modules count for nothing.
    ///
    /// # Errors
    /// [`Refusal`] with the rule and what to do.
    pub fn check(&self, digest: &Digest, signatures: &[Signature], found_by: Option<&Tag>) -> Result<(), Refusal> {
        if let Some(decided) = self.decide_by_digest(digest) {
            return decided;
        }
        let own = || signatures.iter().filter(|signature| signature.digest() == digest);
        let (denied, counted): (Vec<_>, Vec<_>) = own().partition(|own| self.denied_signers.contains(own.signer()));
        let objections = match &self.modules {
            Modules::Any => {
                if !counted.is_empty() || denied.is_empty() {
                    return Ok(());
                }
                Vec::new()
            }
            Modules::Listed(rules) => {
                let objections: Result<Vec<_>, ()> =
                    counted.iter().map(|signature| objection(rules, signature, found_by).ok_or(())).collect();
                // One signature without an objection is enough.
                let Ok(objections) = objections else { return Ok(()) };
                if denied.is_empty() && rules.contains(&Rule::Digest(*digest)) {
                    return Ok(());
                }
                objections
            }
        };
        match denied.first() {
            Some(denied) => Err(Refusal::DeniedSigner { digest: *digest, signer: denied.signer().clone() }),
            None => Err(Refusal::Unlisted { digest: *digest, objections }),
        }
    }

    /// Whether a signer has signed a module, for any use or for a tag. A denied signer counts for nothing.
    #[must_use]
    pub fn is_signed_by(&self, digest: &Digest, signatures: &[Signature], signer: &Signer) -> bool {
        let is_own = |signature: &Signature| signature.digest() == digest && signature.signer() == signer;
        !self.denied_signers.contains(signer) && signatures.iter().any(is_own)
    }

    /// Decides whether a module may run, by its signatures in a store and `new` ones. They are read only if they matter.
    ///
    /// # Errors
    /// [`ListError`] when they cannot be read.
    pub async fn check_stored(
        &self,
        store: &dyn Store,
        digest: &Digest,
        found_by: Option<&Tag>,
        new: &[Signature],
    ) -> Result<Result<(), Refusal>, ListError> {
        if let Some(decided) = self.decide_by_digest(digest) {
            return Ok(decided);
        }
        let mut signatures = store.signatures(digest).await?;
        signatures.extend_from_slice(new);
        Ok(self.check(digest, &signatures, found_by))
    }

    /// Finds a place for a new signature among the stored ones of the same module, of which none has its signer and tag:
    /// returns the one that gives its place, or `None` if there is room. `taken` is the number of places that are taken, also by
    /// damaged signatures. Only a signature that can admit the module takes the place of one that can.
    ///
    /// # Errors
    /// [`SignError::TooMany`].
    pub(crate) fn make_room<'s>(
        &self,
        stored: &'s [Signature],
        taken: usize,
        new: &Signature,
    ) -> Result<Option<&'s Signature>, SignError> {
        let of = |signature: &Signature| signature.tag().and_then(Tag::namespace);
        let namespace = of(new);
        let own = || stored.iter().filter(|known| namespace.is_some() && of(known) == namespace);
        let is_full = own().count() >= MAX_NAMESPACE_SIGNATURES;
        // Those of denied signers count against the module, so they go after the others that admit nothing.
        let place = |known: &&Signature| {
            let is_denied = self.denied_signers.contains(known.signer());
            (self.can_admit(known), is_denied, known.signed_at())
        };
        let (replaced, may_replace) = if is_full {
            let replaced = own().min_by_key(place);
            let is_useless =
                |known: &Signature| !self.can_admit(known) && !self.denied_signers.contains(known.signer());
            (replaced, self.can_admit(new) || replaced.is_some_and(is_useless))
        } else if taken >= MAX_SIGNATURES {
            (stored.iter().filter(|known| !self.can_admit(known)).min_by_key(place), self.can_admit(new))
        } else {
            return Ok(None);
        };
        let full = || SignError::TooMany { digest: *new.digest(), namespace: of(new).filter(|_| is_full) };
        replaced.filter(|_| may_replace).map(Some).ok_or_else(full)
    }

    /// Whether a signature can admit its module, by whatever tag the module is found.
    fn can_admit(&self, signature: &Signature) -> bool {
        let admits = match &self.modules {
            Modules::Any => true,
            Modules::Listed(rules) => objection(rules, signature, None).is_none(),
        };
        admits && !self.denied_signers.contains(signature.signer())
    }

    /// Checks that a signer is not denied, before a new signature of the signer is stored.
    ///
    /// # Errors
    /// [`Refusal::DeniedSigner`].
    pub fn check_new(&self, signature: &Signature) -> Result<(), Refusal> {
        let (digest, signer) = (*signature.digest(), signature.signer());
        match self.denied_signers.get(signer) {
            Some(_) => Err(Refusal::DeniedSigner { digest, signer: signer.clone() }),
            None => Ok(()),
        }
    }

    /// The policy in one line, for a person.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = match &self.modules {
            Modules::Any => "every module runs".to_owned(),
            Modules::Listed(rules) => format!("only what is admitted by {} runs", count(rules.len(), "rule")),
        };
        let denied = [(self.denied_digests.len(), "digest"), (self.denied_signers.len(), "signer")];
        for (number, what) in denied.into_iter().filter(|(number, _)| *number > 0) {
            text.push_str(&format!(", but nothing of {}", count(number, &format!("denied {what}"))));
        }
        text
    }
}

/// A number of things: `1 rule`, `2 rules`.
fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// Why a signature does not admit its module; `None` if it does.
fn objection(rules: &[Rule], signature: &Signature, found_by: Option<&Tag>) -> Option<Objection> {
    let (signer, signed) = (signature.signer(), signature.tag());
    let mut patterns = Vec::new();
    let mut has_rule = false;
    for rule in rules {
        match rule {
            Rule::Signer { signer: admitted, tags } if admitted == signer => {
                has_rule = true;
                if tags.is_empty() || signed.is_some_and(|tag| tags.iter().any(|pattern| pattern.matches(tag))) {
                    // The signer wants the module to be found by this tag, and it was found by another one.
                    return match (signed, found_by) {
                        (Some(signed), Some(found_by)) if signed != found_by => Some(Objection::OtherTag {
                            signer: signer.clone(),
                            signed: signed.clone(),
                            found_by: found_by.clone(),
                        }),
                        _ => None,
                    };
                }
                patterns.extend(tags.iter().cloned());
            }
            Rule::Signer { .. } | Rule::Digest(_) => {}
        }
    }
    Some(match has_rule {
        true => Objection::NoMatch { signer: signer.clone(), signed: signed.cloned(), patterns },
        false => Objection::NoRule { signer: signer.clone() },
    })
}

#[cfg(test)]
mod tests;
