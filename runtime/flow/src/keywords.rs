//! Keywords for the variants of enums in flow files, the API and programs: each is defined once, here.

use crate::{Backoff, Join, MissedPolicy, Otherwise, OverlapPolicy, Pattern, Recording, SkipReach, SourceOutcome};

/// Defines the keywords of an enum, the default first.
macro_rules! words {
    ($type:ident: $($word:literal $variant:ident),+) => {
        impl $type {
            /// The keywords and their variants, in the order of messages.
            pub(crate) const WORDS: &[(&'static str, Self)] = &[$(($word, Self::$variant)),+];

            /// The keyword of the variant.
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
words!(Recording: "http" Http, "none" None);
words!(Backoff: "exponential" Exponential, "fixed" Fixed);
words!(OverlapPolicy: "skip" Skip, "queue" Queue, "allow" Allow);
words!(MissedPolicy: "once" Once, "skip" Skip, "all" All);
