//! Open enums: fields of the API that hold one of a set of words, to which later versions may add some.

/// Declares an enum of words. A word that this version does not know is kept in `Unknown`, so that a response of a newer
/// server can be read. `from` names the type of the runtime with the same words.
macro_rules! open_enum {
    (
        $(#[doc = $doc:literal])+
        $name:ident $(from $source:ty)? { $($(#[doc = $variant_doc:literal])+ $variant:ident = $word:literal,)+ }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[doc = $variant_doc])+ $variant,)+
            /// A word that this version does not know, as it was received.
            Unknown(String),
        }

        impl $name {
            /// The word, as in JSON.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Unknown(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    unknown => Self::Unknown(unknown.to_owned()),
                }
            }
        }

        $(
            impl From<$source> for $name {
                fn from(source: $source) -> Self {
                    Self::from(source.as_str())
                }
            }
        )?

        impl std::fmt::Display for $name {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <String as serde::Deserialize>::deserialize(deserializer)?;
                Ok(Self::from(word.as_str()))
            }
        }
    };
}

pub(crate) use open_enum;

#[cfg(test)]
mod tests {
    use crate::{
        Action, FailureKind, LinkJoin, LinkOutcome, LinkReach, LogLevel, NodeKind, NodeState, RunState, SkipReason,
    };

    #[test]
    fn every_word_of_the_runtime_is_known() {
        let known = |word: &str, is_unknown: bool| assert!(!is_unknown, "{word} is unknown");
        for state in flow::RunState::ALL {
            known(state.as_str(), matches!(RunState::from(state), RunState::Unknown(_)));
            assert_eq!(RunState::from(state).is_final(), state.is_final());
        }
        for state in flow::State::ALL {
            known(state.as_str(), matches!(NodeState::from(state), NodeState::Unknown(_)));
        }
        for kind in flow::FailureKind::ALL {
            known(kind.as_str(), matches!(FailureKind::from(kind), FailureKind::Unknown(_)));
        }
        for reason in flow::SkipReason::ALL {
            known(reason.as_str(), matches!(SkipReason::from(reason), SkipReason::Unknown(_)));
        }
        for kind in [flow::NodeKind::Task, flow::NodeKind::Retry] {
            known(kind.as_str(), matches!(NodeKind::from(kind), NodeKind::Unknown(_)));
        }
        for outcome in [flow::SourceOutcome::Success, flow::SourceOutcome::Failure, flow::SourceOutcome::Any] {
            known(outcome.as_str(), matches!(LinkOutcome::from(outcome), LinkOutcome::Unknown(_)));
        }
        for reach in [flow::SkipReach::All, flow::SkipReach::Flow, flow::SkipReach::Neighbors, flow::SkipReach::Task] {
            known(reach.as_str(), matches!(LinkReach::from(reach), LinkReach::Unknown(_)));
        }
        for join in [flow::Join::All, flow::Join::Any] {
            known(join.as_str(), matches!(LinkJoin::from(join), LinkJoin::Unknown(_)));
        }
        for action in [flow::Action::Apply, flow::Action::Rollback] {
            known(action.as_str(), matches!(Action::from(action), Action::Unknown(_)));
        }
    }

    #[test]
    fn an_unknown_word_keeps_its_text() {
        for (text, level) in [
            ("\"warn\"", LogLevel::Warn),
            ("\"stdout\"", LogLevel::Stdout),
            ("\"notice\"", LogLevel::Unknown("notice".into())),
        ] {
            assert_eq!(serde_json::from_str::<LogLevel>(text).unwrap(), level);
            assert_eq!(serde_json::to_string(&level).unwrap(), text);
        }
        assert!(serde_json::from_str::<LogLevel>("7").is_err());
    }
}
