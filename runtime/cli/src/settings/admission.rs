//! The table `[admission]` of a settings file: which modules may run. `follow.rs` reads it again when a file changes.

mod follow;

use std::path::{Path, PathBuf};

use flow::Digest;
use serde::Deserialize;
use store::{Modules, Policy, Rule, Signer, TagPattern};

use self::follow::LastKeys;
pub(crate) use self::follow::{LastRead, follow};
use crate::keys;

/// The table, as it is written.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAdmission {
    modules: Option<String>,
    allow: Option<Vec<RawRule>>,
    deny: RawDeny,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRule {
    signer: Option<String>,
    digest: Option<String>,
    tags: Option<Vec<String>>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawDeny {
    digests: Option<Vec<String>>,
    signers: Option<Vec<String>>,
}

/// A checked table, and the files with public keys that it names.
#[derive(Debug, Default)]
struct Checked {
    policy: Policy,
    key_files: Vec<PathBuf>,
    /// What is wrong with the table itself.
    errors: Vec<String>,
    /// Why key files cannot be used. The policy is complete apart from them.
    unreadable: Vec<UnreadableKey>,
}

/// A key file that cannot be used now.
#[derive(Debug)]
struct UnreadableKey {
    /// Names the file.
    error: String,
    /// What this changes while the policy is followed.
    effect: &'static str,
}

/// What the key in a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyUse {
    Allow,
    Deny,
}

impl RawAdmission {
    /// This table, with missing keys taken from `lower`. What one of the two denies is denied.
    pub(super) fn or(self, lower: Self) -> Self {
        let both = |upper: Option<Vec<String>>, lower: Option<Vec<String>>| match (upper, lower) {
            (Some(upper), Some(lower)) => Some([upper, lower].concat()),
            (upper, lower) => upper.or(lower),
        };
        Self {
            modules: self.modules.filter(|text| !text.is_empty()).or(lower.modules),
            allow: self.allow.or(lower.allow),
            deny: RawDeny {
                digests: both(self.deny.digests, lower.deny.digests),
                signers: both(self.deny.signers, lower.deny.signers),
            },
        }
    }

    /// The keys that are set.
    pub(super) fn keys(&self) -> Vec<&'static str> {
        let Self { modules, allow, deny: RawDeny { digests, signers } } = self;
        let keys = [
            ("admission.modules", modules.is_some()),
            ("admission.allow", allow.is_some()),
            ("admission.deny.digests", digests.is_some()),
            ("admission.deny.signers", signers.is_some()),
        ];
        keys.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key).collect()
    }

    /// Checks the table, and reads the files with public keys; reports each error with its key.
    pub(super) fn policy(&self, last: &mut LastRead, mut report: impl FnMut(&str, String)) -> Policy {
        let Checked { policy, errors, unreadable, key_files: _ } = self.check(&mut last.keys);
        for error in errors.into_iter().chain(unreadable.into_iter().map(|key| key.error)) {
            report("admission", error);
        }
        policy
    }

    /// `keys` are those that files had when they were last read.
    fn check(&self, keys: &mut LastKeys) -> Checked {
        let mut checked = Checked::default();
        let rules: Vec<Rule> = self.allow.iter().flatten().filter_map(|rule| checked.rule(rule, keys)).collect();
        checked.policy.modules = match self.modules.as_deref() {
            Some("listed") => Modules::Listed(rules),
            None | Some("any") if self.allow.is_none() => Modules::Any,
            None | Some("any") => {
                checked.report("[[admission.allow]] changes nothing while every module runs: set modules = \"listed\"");
                Modules::Any
            }
            Some(other) => {
                checked.report(format!("modules is {other:?}: write \"any\" or \"listed\""));
                Modules::Any
            }
        };
        for digest in self.deny.digests.iter().flatten() {
            let digest = checked.digest(digest);
            checked.policy.denied_digests.extend(digest);
        }
        for signer in self.deny.signers.iter().flatten() {
            let signer = checked.signer(signer, KeyUse::Deny, keys);
            checked.policy.denied_signers.extend(signer);
        }
        checked
    }
}

impl Checked {
    fn report(&mut self, error: impl Into<String>) {
        self.errors.push(error.into());
    }

    fn rule(&mut self, RawRule { signer, digest, tags }: &RawRule, keys: &mut LastKeys) -> Option<Rule> {
        match (signer, digest) {
            (Some(signer), None) => {
                let parsed: Vec<_> = tags.iter().flatten().map(|tag| tag.parse::<TagPattern>()).collect();
                let mut patterns = Vec::new();
                for pattern in parsed {
                    match pattern {
                        Ok(pattern) => patterns.push(pattern),
                        Err(error) => self.report(format!("tags of a rule: {error}")),
                    }
                }
                if tags.as_ref().is_some_and(Vec::is_empty) {
                    self.report("tags of a rule: an empty list admits nothing; leave it out to admit every tag");
                }
                Some(Rule::Signer { signer: self.signer(signer, KeyUse::Allow, keys)?, tags: patterns })
            }
            (None, Some(digest)) if tags.is_none() => Some(Rule::Digest(self.digest(digest)?)),
            (None, Some(_)) => {
                self.report("a rule with a digest has tags: only signatures name tags, so write a rule with a signer");
                None
            }
            (Some(_), Some(_)) | (None, None) => {
                self.report("a rule under [[admission.allow]] has either a signer or a digest");
                None
            }
        }
    }

    fn digest(&mut self, text: &str) -> Option<Digest> {
        let digest = text.parse().ok();
        if digest.is_none() {
            self.report(format!("{text:?} is no digest: write sha256: and 64 hex digits"));
        }
        digest
    }

    /// A public key, or that in a file.
    fn signer(&mut self, text: &str, key_use: KeyUse, keys: &mut LastKeys) -> Option<Signer> {
        let path = Path::new(text);
        let is_file = text.ends_with(".pub") || (text.contains('/') && !text.starts_with("RW"));
        if path.is_absolute() {
            return self.key_in_file(path, key_use, keys);
        }
        let read = if is_file {
            Err(format!(
                "{text:?} is no absolute path: write the path of the file from /, or the key that begins with RW"
            ))
        } else {
            // A key may contain slashes: it is base64.
            text.parse().map_err(|error: store::InvalidSigner| error.to_string())
        };
        read.map_err(|error| self.report(error)).ok()
    }

    /// The key in a file. Whoever may write the file must not be able to keep other rules from changing, nor to end a denial.
    fn key_in_file(&mut self, path: &Path, key_use: KeyUse, keys: &mut LastKeys) -> Option<Signer> {
        self.key_files.push(path.to_owned());
        let error = match read_key(path) {
            Ok(signer) => {
                keys.insert(path.to_owned(), signer.clone());
                return Some(signer);
            }
            Err(error) => error,
        };
        let (kept, effect) = match (key_use, keys.get(path)) {
            (KeyUse::Allow, _) => (None, "its rule admits nothing until the file can be read"),
            (KeyUse::Deny, Some(last)) => (Some(last.clone()), "the key that the file had before stays denied"),
            (KeyUse::Deny, None) => (None, "nothing is denied by it until the file can be read: write the key itself"),
        };
        self.unreadable.push(UnreadableKey { error, effect });
        kept
    }
}

/// Reads the public key in a file. The error shows nothing that is in the file.
pub(super) fn read_key(path: &Path) -> Result<Signer, String> {
    let shown = path.display();
    let text = keys::read(path).map_err(|error| format!("the public key in {shown} cannot be read: {error}"))?;
    text.parse()
        .map_err(|error: store::InvalidSigner| format!("{shown} has no public key of minisign: {}", error.reason))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use store::SigningKey;

    use super::*;

    fn check(text: &str) -> Checked {
        toml::from_str::<RawAdmission>(text).unwrap().check(&mut LastKeys::new())
    }

    #[track_caller]
    fn wrong(text: &str, says: &str) {
        let Checked { errors, unreadable, .. } = check(text);
        let errors = [errors, unreadable.into_iter().map(|key| key.error).collect()].concat().join("\n");
        assert!(errors.contains(says), "{says:?} is not in {errors:?}");
    }

    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn each_rule_is_read() {
        let (signer, denied) = (SigningKey::generate().unwrap().signer(), SigningKey::generate().unwrap().signer());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ci.pub");
        fs::write(&file, signer.to_file()).unwrap();
        let checked = check(&format!(
            "modules = \"listed\"\n[[allow]]\nsigner = {file:?}\ntags = [\"shop:*\"]\n[[allow]]\nsigner = \"{signer}\"\n\
             [[allow]]\ndigest = \"{DIGEST}\"\n[deny]\ndigests = [\"{DIGEST}\"]\nsigners = [\"{denied}\"]\n"
        ));
        let digest: Digest = DIGEST.parse().unwrap();
        let rules = vec![
            Rule::Signer { signer: signer.clone(), tags: vec!["shop:*".parse().unwrap()] },
            Rule::Signer { signer, tags: Vec::new() },
            Rule::Digest(digest),
        ];
        let policy = Policy {
            modules: Modules::Listed(rules),
            denied_digests: [digest].into(),
            denied_signers: [denied].into(),
        };
        assert_eq!((checked.errors, checked.policy, checked.key_files), (Vec::new(), policy, vec![file]));
        assert_eq!(check("").policy, Policy::default());
        assert_eq!(check("modules = \"listed\"").policy.modules, Modules::Listed(Vec::new()));
    }

    #[test]
    fn a_key_may_contain_slashes() {
        let keys = std::iter::repeat_with(|| SigningKey::generate().unwrap().signer());
        let key = keys.take(1_000).find(|key| key.to_string().contains('/')).expect("most keys do");
        let text = format!("modules = \"listed\"\n[[allow]]\nsigner = \"{key}\"\n");
        let rule = Rule::Signer { signer: key, tags: Vec::new() };
        let Checked { policy, errors, key_files, .. } = check(&text);
        assert_eq!((errors, policy.modules, key_files), (Vec::new(), Modules::Listed(vec![rule]), Vec::new()));
    }

    #[test]
    fn each_mistake_is_named() {
        let signer = SigningKey::generate().unwrap().signer();
        wrong("modules = \"some\"", "write \"any\" or \"listed\"");
        wrong(&format!("[[allow]]\nsigner = \"{signer}\""), "set modules = \"listed\"");
        wrong("[[allow]]\ntags = [\"a\"]", "either a signer or a digest");
        wrong(&format!("[[allow]]\nsigner = \"{signer}\"\ndigest = \"{DIGEST}\""), "either a signer or a digest");
        wrong(&format!("[[allow]]\ndigest = \"{DIGEST}\"\ntags = [\"a\"]"), "only signatures name tags");
        wrong(&format!("[[allow]]\nsigner = \"{signer}\"\ntags = [\"shop/*/b\"]"), "no tag can match \"shop/*/b\"");
        wrong(&format!("[[allow]]\nsigner = \"{signer}\"\ntags = []"), "an empty list admits nothing");
        wrong("[[allow]]\nsigner = \"RWx\"", "is not a public key of minisign");
        wrong("[[allow]]\nsigner = \"keys/ci.pub\"", "is no absolute path");
        wrong("[[allow]]\nsigner = \"/nowhere/ci.pub\"", "the public key in /nowhere/ci.pub cannot be read");
        wrong("[[allow]]\nsigner = \"/\"", "the public key in / cannot be read: it is no regular file");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret.pub");
        fs::write(&file, "do not show").unwrap();
        wrong(&format!("[deny]\nsigners = [{file:?}]"), "secret.pub has no public key of minisign: ");
        assert!(!format!("{:?}", check(&format!("[deny]\nsigners = [{file:?}]"))).contains("do not show"));
        wrong("[deny]\ndigests = [\"sha256:12\"]", "is no digest");
        assert!(toml::from_str::<RawAdmission>("[[allow]]\nsignr = \"\"").is_err());
    }

    #[test]
    fn what_one_file_denies_the_other_does_not_allow() {
        let (upper, lower): (RawAdmission, RawAdmission) = (
            toml::from_str("modules = \"any\"\n[deny]\ndigests = [\"a\"]").unwrap(),
            toml::from_str("modules = \"listed\"\n[[allow]]\ndigest = \"c\"\n[deny]\ndigests = [\"b\"]").unwrap(),
        );
        let both = upper.or(lower.clone());
        assert_eq!((both.modules.as_deref(), both.allow), (Some("any"), lower.allow));
        assert_eq!(both.deny.digests, Some(vec!["a".into(), "b".into()]));
    }
}
