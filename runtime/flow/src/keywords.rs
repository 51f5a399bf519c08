//! The words that flow files, the API and programs have for the variants of our enums: each stands here once.

use crate::{Backoff, Join, MissedPolicy, Otherwise, OverlapPolicy, Pattern, SkipReach, SourceOutcome};

/// Gives an enum its words, the default first.
macro_rules! words {
    ($type:ident: $($word:literal $variant:ident),+) => {
        impl $type {
            /// The words and what they mean, in the order in which they are told.
            pub(crate) const WORDS: &[(&'static str, Self)] = &[$(($word, Self::$variant)),+];

            /// The word for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }
    };
}

words!(Pattern: "graph" Graph, "linear" Linear, "unordered" Unordered);
words!(SourceOutcome: "success" Success, "failure" Failure, "any" Any);
words!(Join: "all" All, "any" Any);
words!(SkipReach: "all" All, "flow" Flow, "neighbors" Neighbors, "task" Task);
words!(Otherwise: "rollback" Rollback, "rollback-all" RollbackAll);
words!(Backoff: "exponential" Exponential, "fixed" Fixed);
words!(OverlapPolicy: "skip" Skip, "queue" Queue, "allow" Allow);
words!(MissedPolicy: "once" Once, "skip" Skip, "all" All);
