//! Compares the outcome of a replay with the recorded one, to the byte.

use flow::{Digest, Failure, FailureKind, Value, ValueName, Values};
use protocol::{Job, RecordedOutcome};
use sandbox::Completion;
use store::{digest_of, values::bytes_of};

/// The maximum number of values whose difference is described.
const MAX_DESCRIBED: usize = 20;

/// The maximum length of a shown message, in characters.
const MAX_SHOWN_CHARS: usize = 2_000;

/// How an outcome compares with the recorded one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Comparison {
    /// It is the same to the byte, except for what the note names.
    Same { note: Option<String> },
    /// What differs, each in a sentence.
    Differs(Vec<String>),
    /// There is nothing to compare with, for this reason.
    NotCompared(String),
}

impl Comparison {
    pub(super) fn of(recorded: Option<&RecordedOutcome>, job: &Job, now: &Completion) -> Self {
        let differs = |what: String| Self::Differs(vec![what]);
        match (recorded, now) {
            (None, _) => Self::NotCompared("the recorded attempt has not ended".to_owned()),
            (Some(RecordedOutcome::Lost), _) => Self::NotCompared(
                "the worker of the recorded attempt was lost, so how it ended is not known".to_owned(),
            ),
            (_, Completion::Interrupted) => Self::NotCompared("the replay was interrupted".to_owned()),
            (Some(RecordedOutcome::Succeeded(recorded)), Completion::Succeeded(values)) => compare(recorded, values),
            (Some(RecordedOutcome::RolledBack), Completion::Succeeded(_)) => Self::Same { note: None },
            (Some(RecordedOutcome::Failed(recorded)), Completion::Failed(failure)) => failures(recorded, failure, job),
            (Some(RecordedOutcome::Failed(recorded)), Completion::Succeeded(_)) => {
                let source = not_of_guest(recorded.kind).map(|reason| format!("; {reason}")).unwrap_or_default();
                differs(format!("the recorded attempt failed, and this one succeeded{source}"))
            }
            (Some(RecordedOutcome::Succeeded(_) | RecordedOutcome::RolledBack), Completion::Failed(_)) => {
                differs("the recorded attempt succeeded, and this one failed".to_owned())
            }
        }
    }

    /// What differs, and the note or the reason.
    pub(super) fn parts(&self) -> (Vec<String>, Option<String>) {
        match self {
            Self::Same { note } => (Vec::new(), note.clone()),
            Self::Differs(differences) => (differences.clone(), None),
            Self::NotCompared(reason) => (Vec::new(), Some(reason.clone())),
        }
    }

    /// The word in JSON.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Same { .. } => "same",
            Self::Differs(_) => "differs",
            Self::NotCompared(_) => "not-compared",
        }
    }
}

/// Why a failure of this kind is not the guest's own, if it is not.
pub(super) fn not_of_guest(kind: FailureKind) -> Option<&'static str> {
    match kind {
        FailureKind::Cancelled => Some("its run was cancelled meanwhile"),
        FailureKind::Poison => Some("it had lost its workers, which says nothing of how the guest ends"),
        FailureKind::Module => Some("its worker could not call the module"),
        FailureKind::MissingInput => Some("it was not called"),
        FailureKind::Transient
        | FailureKind::Permanent
        | FailureKind::Timeout
        | FailureKind::Memory
        | FailureKind::Trap
        | FailureKind::OutputLimit
        | FailureKind::InvalidOutput
        | FailureKind::Denied => None,
    }
}

fn failures(recorded: &Failure, failure: &Failure, job: &Job) -> Comparison {
    if recorded == failure {
        return Comparison::Same { note: None };
    }
    // The message has the time until the guest was stopped.
    if (recorded.kind, failure.kind) == (FailureKind::Timeout, FailureKind::Timeout) {
        let limit = job.limits.timeout;
        return Comparison::Same {
            note: Some(format!("both reached the timeout of {limit:?}; what they had done by then is not compared")),
        };
    }
    let mut differences = Vec::new();
    if recorded.kind != failure.kind {
        let source = not_of_guest(recorded.kind).map(|reason| format!(": {reason}")).unwrap_or_default();
        differences.push(format!("the kind of the failure was {}, and is {}{source}", recorded.kind, failure.kind));
    }
    if recorded.message != failure.message {
        differences.push(format!(
            "its message was {:?}, and is {:?}",
            shown(&recorded.message),
            shown(&failure.message)
        ));
    }
    if recorded.details != failure.details {
        differences.push("its details differ".to_owned());
    }
    Comparison::Differs(differences)
}

fn shown(message: &str) -> String {
    message.chars().take(MAX_SHOWN_CHARS).collect()
}

fn compare(recorded: &Values, values: &Values) -> Comparison {
    let mut differences = Vec::new();
    let missing = recorded.keys().filter(|name| !values.contains_key(*name));
    differences.extend(missing.map(|name| format!("the value {name} is missing")));
    let added = values.keys().filter(|name| !recorded.contains_key(*name));
    differences.extend(added.map(|name| format!("the value {name} was not recorded")));
    let both = recorded.iter().filter_map(|(name, was)| Some((name, was, values.get(name)?)));
    differences.extend(both.filter_map(|(name, was, is)| difference(name, was, is)));
    if differences.is_empty() {
        return Comparison::Same { note: None };
    }
    let more = differences.len().saturating_sub(MAX_DESCRIBED);
    differences.truncate(MAX_DESCRIBED);
    differences.extend((more > 0).then(|| format!("{more} more values differ")));
    Comparison::Differs(differences)
}

/// How a value differs from the recorded one. Each may be a reference.
fn difference(name: &ValueName, was: &Value, is: &Value) -> Option<String> {
    if was.is_bytes() != is.is_bytes() {
        return Some(format!("the value {name} was {}, and is {}", kind(was), kind(is)));
    }
    let (Some((recorded, _)), Some((bytes, _))) = (bytes_of(was), bytes_of(is)) else {
        let ((was, before), (is, now)) = (digest_and_size(was), digest_and_size(is));
        return (was != is).then(|| format!("the value {name} had {before} bytes, and has {now} other bytes"));
    };
    if recorded == bytes {
        return None;
    }
    let same = recorded.iter().zip(&bytes).take_while(|(one, other)| one == other).count();
    let (before, now) = (recorded.len(), bytes.len());
    Some(format!("the value {name} had {before} bytes, and has {now}; it differs from byte {same} on"))
}

fn digest_and_size(value: &Value) -> (Option<Digest>, usize) {
    match bytes_of(value) {
        Some((bytes, _)) => (Some(digest_of(&bytes)), bytes.len()),
        None => (value.digest(), value.size()),
    }
}

fn kind(value: &Value) -> &'static str {
    if value.is_bytes() { "bytes" } else { "JSON" }
}

#[cfg(test)]
mod tests {
    use flow::{Stored, Value, ValueKind};

    use super::*;

    fn values(text: &str) -> Values {
        Values::from([("pan".parse().unwrap(), Value::from(text))])
    }

    fn differences(recorded: &Values, values: &Values) -> Vec<String> {
        match compare(recorded, values) {
            Comparison::Differs(differences) => differences,
            Comparison::Same { .. } | Comparison::NotCompared(_) => Vec::new(),
        }
    }

    #[test]
    fn values_are_compared_to_the_byte() {
        assert_eq!(compare(&values("a"), &values("a")), Comparison::Same { note: None });
        let expected = ["the value pan had 4 bytes, and has 5; it differs from byte 2 on"];
        assert_eq!(differences(&values("ab"), &values("acd")), expected);
        assert_eq!(differences(&values("ab"), &Values::new()), ["the value pan is missing"]);
        assert_eq!(differences(&Values::new(), &values("ab")), ["the value pan was not recorded"]);
        let bytes = Values::from([("pan".parse().unwrap(), Value::Bytes(b"\"ab\""[..].into()))]);
        assert_eq!(differences(&values("ab"), &bytes), ["the value pan was JSON, and is bytes"]);
    }

    #[test]
    fn a_reference_is_compared_by_its_digest() {
        let reference = |text: &str| {
            let (digest, size) = (digest_of(text.as_bytes()), text.len() as u64);
            Values::from([("pan".parse().unwrap(), Value::Stored(Stored { digest, size, form: ValueKind::Json }))])
        };
        assert_eq!(compare(&reference("\"a\""), &values("a")), Comparison::Same { note: None });
        assert_eq!(differences(&reference("\"b\""), &values("a")).len(), 1);
        assert_eq!(compare(&reference("\"a\""), &reference("\"a\"")), Comparison::Same { note: None });
        let expected = ["the value pan had 3 bytes, and has 4 other bytes"];
        assert_eq!(differences(&reference("\"a\""), &reference("\"bc\"")), expected);
        assert_eq!(differences(&values("a"), &reference("\"bc\"")), expected);
    }
}
