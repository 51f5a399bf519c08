//! Why a module may not run, and what to do about it.

use std::fmt;

use flow::Digest;

use super::TagPattern;
use crate::{Signer, Tag};

/// Why a module may not run. The text names the module and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The digest is denied.
    #[error("module {digest} is not admitted: its digest is in `digests` under [admission.deny]")]
    DeniedDigest {
        /// The module.
        digest: Digest,
    },
    /// Only denied signers vouch for the module.
    #[error("module {digest} is not admitted: its signer {signer} is in `signers` under [admission.deny]")]
    DeniedSigner {
        /// The module.
        digest: Digest,
        /// The first denied signer.
        signer: Signer,
    },
    /// No rule admits the module.
    #[error("module {digest} is not admitted: no [[admission.allow]] rule admits it; {}", listed(objections))]
    Unlisted {
        /// The module.
        digest: Digest,
        /// What is wrong with each of its signatures; empty if it has none.
        objections: Vec<Objection>,
    },
}

/// Why a signature does not admit its module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// No rule names the signer.
    NoRule {
        /// The signer.
        signer: Signer,
    },
    /// The rules of the signer are for other tags.
    NoMatch {
        /// The signer.
        signer: Signer,
        /// The tag that was signed, if any.
        signed: Option<Tag>,
        /// The tags of the rules.
        patterns: Vec<TagPattern>,
    },
    /// The module was found by another tag than its signer signed.
    OtherTag {
        /// The signer.
        signer: Signer,
        /// The tag that was signed.
        signed: Tag,
        /// The tag by which the module was found.
        found_by: Tag,
    },
}

impl Refusal {
    /// What somebody can do who gets to know only [`Refusal::without_rules`].
    pub const ADVICE_WITHOUT_RULES: &str = "ask an operator which signers may sign it, and for which tag; sign it with \
        `waft push --sign`, or use another module";

    /// The refusal, without the rules of the machine, and without the signers of the module and their tags: for somebody who
    /// may not know those of others.
    #[must_use]
    pub fn without_rules(&self) -> String {
        match self {
            Self::DeniedDigest { digest } | Self::DeniedSigner { digest, .. } => {
                format!("module {digest} is not admitted: it is denied here")
            }
            Self::Unlisted { digest, objections } if objections.is_empty() => {
                format!("module {digest} is not admitted: it has no signature that counts here")
            }
            Self::Unlisted { digest, .. } => {
                format!("module {digest} is not admitted: none of its signatures counts here for the tag that is used")
            }
        }
    }

    /// What a person can do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::DeniedDigest { .. } => {
                "use another module, or let an operator take the digest out of the settings of the machine that refuses it"
            }
            Self::DeniedSigner { .. } => {
                "sign the module with the key of an admitted signer (`waft modules sign`), or use another module"
            }
            Self::Unlisted { .. } => {
                "sign the module with the key of an admitted signer (`waft push --sign`, `waft modules sign`), for the \
                 tag by which it is found; or let an operator add a rule to the settings of the machine that refuses it"
            }
        }
    }

    /// The refusal and the advice, as one text.
    #[must_use]
    pub fn with_advice(&self) -> String {
        format!("{self}: {}", self.advice())
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule { signer } => write!(out, "no rule names its signer {signer}"),
            Self::NoMatch { signer, signed, patterns } => {
                let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
                let patterns = patterns.join(", ");
                match signed {
                    Some(tag) => write!(out, "{signer} signed it for the tag {tag}, and its rule is for {patterns}"),
                    None => write!(out, "{signer} signed it for no tag, and its rule is for {patterns}"),
                }
            }
            Self::OtherTag { signer, signed, found_by } => {
                write!(out, "{signer} signed it for the tag {signed}, and not for {found_by}")
            }
        }
    }
}

fn listed(objections: &[Objection]) -> String {
    if objections.is_empty() {
        return "it has no signature".into();
    }
    objections.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
