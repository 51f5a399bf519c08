//! How an exchange routes: its bindings, and which of them match a key.

use std::{collections::HashMap, sync::Arc};

use crate::{Destination, ExchangeKind};

/// The target of a binding, cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum BindingTarget {
    Queue(Arc<str>),
    Exchange(Arc<str>),
}

impl From<&Destination> for BindingTarget {
    fn from(destination: &Destination) -> Self {
        match destination {
            Destination::Queue(name) => Self::Queue(name.as_str().into()),
            Destination::Exchange(name) => Self::Exchange(name.as_str().into()),
        }
    }
}

/// The bindings of one exchange, in the form that its kind looks them up.
pub(super) enum Routes {
    Direct(HashMap<String, Vec<BindingTarget>>),
    Topic(Vec<(Pattern, BindingTarget)>),
    /// The key is stored because it distinguishes bindings, though it does not affect routing.
    Fanout(Vec<(String, BindingTarget)>),
}

impl Routes {
    pub(super) fn new(kind: ExchangeKind) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(HashMap::new()),
            ExchangeKind::Topic => Self::Topic(Vec::new()),
            ExchangeKind::Fanout => Self::Fanout(Vec::new()),
        }
    }

    pub(super) fn kind(&self) -> ExchangeKind {
        match self {
            Self::Direct(_) => ExchangeKind::Direct,
            Self::Topic(_) => ExchangeKind::Topic,
            Self::Fanout(_) => ExchangeKind::Fanout,
        }
    }

    /// Adds a binding; a repeated binding has no effect.
    pub(super) fn bind(&mut self, key: &str, target: BindingTarget) {
        self.unbind(key, &target);
        match self {
            Self::Direct(routes) => routes.entry(key.to_owned()).or_default().push(target),
            Self::Topic(routes) => routes.push((Pattern::new(key), target)),
            Self::Fanout(routes) => routes.push((key.to_owned(), target)),
        }
    }

    pub(super) fn unbind(&mut self, key: &str, target: &BindingTarget) {
        match self {
            Self::Direct(routes) => {
                if let Some(targets) = routes.get_mut(key) {
                    targets.retain(|other| other != target);
                    if targets.is_empty() {
                        routes.remove(key);
                    }
                }
            }
            Self::Topic(routes) => {
                let pattern = Pattern::new(key);
                routes.retain(|(other, other_target)| *other != pattern || other_target != target);
            }
            Self::Fanout(routes) => {
                routes.retain(|(other, other_target)| other != key || other_target != target);
            }
        }
    }

    /// Removes all bindings to this target.
    pub(super) fn remove_target(&mut self, target: &BindingTarget) {
        match self {
            Self::Direct(routes) => routes.retain(|_, targets| {
                targets.retain(|other| other != target);
                !targets.is_empty()
            }),
            Self::Topic(routes) => routes.retain(|(_, other)| other != target),
            Self::Fanout(routes) => routes.retain(|(_, other)| other != target),
        }
    }

    /// Calls `visit` for each target whose binding matches the key; a target with several bindings may occur several
    /// times.
    pub(super) fn each(&self, key: &str, mut visit: impl FnMut(&BindingTarget)) {
        match self {
            Self::Direct(routes) => routes.get(key).into_iter().flatten().for_each(visit),
            Self::Topic(routes) => {
                let words: Vec<&str> = key.split('.').collect();
                for (pattern, target) in routes {
                    if pattern.matches(&words) {
                        visit(target);
                    }
                }
            }
            Self::Fanout(routes) => routes.iter().for_each(|(_, target)| visit(target)),
        }
    }
}

/// A topic pattern, split into its words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<PatternWord>);

#[derive(Debug, PartialEq, Eq)]
enum PatternWord {
    Exact(String),
    /// `*`
    One,
    /// `#`
    Any,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let word = |word: &str| match word {
            "*" => PatternWord::One,
            "#" => PatternWord::Any,
            word => PatternWord::Exact(word.to_owned()),
        };
        Self(text.split('.').map(word).collect())
    }

    fn matches(&self, words: &[&str]) -> bool {
        matches(&self.0, words)
    }
}

fn matches(pattern: &[PatternWord], words: &[&str]) -> bool {
    let Some((first, pattern)) = pattern.split_first() else {
        return words.is_empty();
    };
    match first {
        PatternWord::Exact(text) => {
            words.split_first().is_some_and(|(word, rest)| word == text && matches(pattern, rest))
        }
        PatternWord::One => words.split_first().is_some_and(|(_, rest)| matches(pattern, rest)),
        PatternWord::Any => pattern.is_empty() || (0..=words.len()).any(|skip| matches(pattern, &words[skip..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], other: &[&str]) {
        let is_match = |key: &str| Pattern::new(pattern).matches(&key.split('.').collect::<Vec<_>>());
        for key in matching {
            assert!(is_match(key), "{pattern} matches {key}");
        }
        for key in other {
            assert!(!is_match(key), "{pattern} does not match {key}");
        }
    }

    #[test]
    fn a_star_is_one_word_and_a_hash_is_none_or_more() {
        check("cake.bake", &["cake.bake"], &["cake", "cake.bake.now", "cake.mix"]);
        check("cake.*", &["cake.bake"], &["cake", "cake.bake.now"]);
        check("cake.#", &["cake", "cake.bake", "cake.bake.now"], &["pie", "pie.cake"]);
        check("#", &["", "cake", "cake.bake"], &[]);
        check("#.now", &["now", "cake.now", "cake.bake.now"], &["now.cake"]);
        check("*.#.now", &["cake.now", "cake.bake.now"], &["now"]);
    }
}
