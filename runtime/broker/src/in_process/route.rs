//! How an exchange routes: its bindings, and which of them match a key.

use std::{collections::HashMap, sync::Arc};

use crate::{Destination, ExchangeKind};

/// The end of a binding, cheap to clone.
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
    pub(super) fn bind(&mut self, key: &str, end: BindingTarget) {
        self.unbind(key, &end);
        match self {
            Self::Direct(routes) => routes.entry(key.to_owned()).or_default().push(end),
            Self::Topic(routes) => routes.push((Pattern::new(key), end)),
            Self::Fanout(routes) => routes.push((key.to_owned(), end)),
        }
    }

    pub(super) fn unbind(&mut self, key: &str, end: &BindingTarget) {
        match self {
            Self::Direct(routes) => {
                if let Some(ends) = routes.get_mut(key) {
                    ends.retain(|other| other != end);
                    if ends.is_empty() {
                        routes.remove(key);
                    }
                }
            }
            Self::Topic(routes) => {
                let pattern = Pattern::new(key);
                routes.retain(|(other, other_end)| *other != pattern || other_end != end);
            }
            Self::Fanout(routes) => {
                routes.retain(|(other, other_end)| other != key || other_end != end);
            }
        }
    }

    /// Removes all bindings to this end.
    pub(super) fn remove_target(&mut self, end: &BindingTarget) {
        match self {
            Self::Direct(routes) => routes.retain(|_, ends| {
                ends.retain(|other| other != end);
                !ends.is_empty()
            }),
            Self::Topic(routes) => routes.retain(|(_, other)| other != end),
            Self::Fanout(routes) => routes.retain(|(_, other)| other != end),
        }
    }

    /// Calls `found` for each end whose binding matches the key; an end with several bindings may occur several times.
    pub(super) fn each(&self, key: &str, mut found: impl FnMut(&BindingTarget)) {
        match self {
            Self::Direct(routes) => routes.get(key).into_iter().flatten().for_each(found),
            Self::Topic(routes) => {
                let words: Vec<&str> = key.split('.').collect();
                for (pattern, end) in routes {
                    if pattern.fits(&words) {
                        found(end);
                    }
                }
            }
            Self::Fanout(routes) => routes.iter().for_each(|(_, end)| found(end)),
        }
    }
}

/// A topic pattern, split into its words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<PatternWord>);

#[derive(Debug, PartialEq, Eq)]
enum PatternWord {
    This(String),
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
            word => PatternWord::This(word.to_owned()),
        };
        Self(text.split('.').map(word).collect())
    }

    fn fits(&self, words: &[&str]) -> bool {
        fits(&self.0, words)
    }
}

fn fits(pattern: &[PatternWord], words: &[&str]) -> bool {
    let Some((first, pattern)) = pattern.split_first() else {
        return words.is_empty();
    };
    match first {
        PatternWord::This(text) => words.split_first().is_some_and(|(word, rest)| word == text && fits(pattern, rest)),
        PatternWord::One => words.split_first().is_some_and(|(_, rest)| fits(pattern, rest)),
        PatternWord::Any => pattern.is_empty() || (0..=words.len()).any(|skip| fits(pattern, &words[skip..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, fitting: &[&str], other: &[&str]) {
        let fits = |key: &str| Pattern::new(pattern).fits(&key.split('.').collect::<Vec<_>>());
        for key in fitting {
            assert!(fits(key), "{pattern} takes {key}");
        }
        for key in other {
            assert!(!fits(key), "{pattern} does not take {key}");
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
