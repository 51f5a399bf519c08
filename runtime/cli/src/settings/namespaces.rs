//! The tables `[namespace.NAME]` of a settings file, and `[namespace."*"]` for all namespaces without one.

use std::{collections::BTreeMap, num::NonZeroU64};

use flow::{Namespace, PerNamespace};
use serde::Deserialize;

use super::parser::Parser;

/// The name of the table for all namespaces.
const ALL: &str = "*";

/// The tables of all namespaces.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct RawNamespaces(BTreeMap<String, RawNamespace>);

/// The limits of a namespace. 0 means that there is none.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawNamespace {
    open_runs: Option<u64>,
    bytes: Option<String>,
}

impl RawNamespace {
    fn or(self, lower: Self) -> Self {
        Self {
            open_runs: self.open_runs.or(lower.open_runs),
            bytes: self.bytes.filter(|text| !text.is_empty()).or(lower.bytes),
        }
    }
}

/// What each namespace may have at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NamespaceLimits {
    /// The runs that have not ended.
    pub(crate) open_runs: PerNamespace<NonZeroU64>,
    /// The bytes that its runs and modules take.
    pub(crate) bytes: PerNamespace<NonZeroU64>,
}

impl RawNamespaces {
    /// These tables, with missing ones, and missing keys, taken from `lower`.
    pub(super) fn or(self, lower: Self) -> Self {
        let mut tables = lower.0;
        for (name, table) in self.0 {
            let lower = tables.remove(&name).unwrap_or_default();
            tables.insert(name, table.or(lower));
        }
        Self(tables)
    }

    /// The keys that are set.
    pub(super) fn keys(&self) -> impl Iterator<Item = String> {
        self.0.iter().flat_map(|(name, RawNamespace { open_runs, bytes })| {
            let keys = [("open_runs", open_runs.is_some()), ("bytes", bytes.is_some())];
            keys.into_iter().filter(|(_, is_set)| *is_set).map(move |(key, _)| format!("namespace.{name}.{key}"))
        })
    }

    /// The limits, and what is wrong with them.
    pub(super) fn limits(&self, parser: &mut Parser) -> NamespaceLimits {
        let mut limits = NamespaceLimits::default();
        for (name, RawNamespace { open_runs, bytes }) in &self.0 {
            let open_runs = open_runs.map(NonZeroU64::new);
            let bytes = bytes.as_ref().filter(|text| !text.is_empty());
            let bytes =
                bytes.map(|text| NonZeroU64::new(parser.size(&format!("namespace.{name}.bytes"), Some(text.clone()))));
            if name == ALL {
                (limits.open_runs.other, limits.bytes.other) = (open_runs.flatten(), bytes.flatten());
                continue;
            }
            match Namespace::new(name) {
                Ok(namespace) => {
                    open_runs.map(|most| limits.open_runs.named.insert(namespace.clone(), most));
                    bytes.map(|most| limits.bytes.named.insert(namespace, most));
                }
                Err(error) => parser.report("namespace", error),
            }
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RawNamespaces {
        toml::from_str(text).unwrap()
    }

    fn name(text: &str) -> Namespace {
        Namespace::new(text).unwrap()
    }

    #[test]
    fn a_namespace_has_its_own_limits_or_those_of_all() {
        let tables =
            read("[\"*\"]\nopen_runs = 5\nbytes = \"1KiB\"\n[shop]\nopen_runs = 0\n[bakery]\nbytes = \"2KiB\"\n");
        let mut parser = Parser::default();
        let limits = tables.limits(&mut parser);
        assert_eq!(parser.errors, Vec::<String>::new());
        let (runs, bytes) = (|of: &str| limits.open_runs.of(&name(of)), |of: &str| limits.bytes.of(&name(of)));
        assert_eq!([runs("shop"), runs("bakery"), runs("other")], [None, NonZeroU64::new(5), NonZeroU64::new(5)]);
        assert_eq!([bytes("shop"), bytes("bakery")], [NonZeroU64::new(1 << 10), NonZeroU64::new(2 << 10)]);
    }

    #[test]
    fn a_table_takes_missing_keys_from_the_lower_file() {
        let upper = read("[shop]\nopen_runs = 1\nbytes = \"\"\n");
        let tables = upper.or(read("[shop]\nopen_runs = 2\nbytes = \"1KiB\"\n[other]\nopen_runs = 3\n"));
        let limits = tables.limits(&mut Parser::default());
        assert_eq!(limits.open_runs.of(&name("shop")), NonZeroU64::new(1));
        assert_eq!(limits.bytes.of(&name("shop")), NonZeroU64::new(1 << 10));
        assert_eq!(limits.open_runs.of(&name("other")), NonZeroU64::new(3));
        assert_eq!(
            tables.keys().collect::<Vec<_>>(),
            ["namespace.other.open_runs", "namespace.shop.open_runs", "namespace.shop.bytes"]
        );
    }

    #[test]
    fn a_wrong_table_is_named() {
        let mut parser = Parser::default();
        read("[shop]\nbytes = \"much\"\n[\"a b\"]\nopen_runs = 1\n").limits(&mut parser);
        assert!(parser.errors[0].starts_with("namespace: \"a b\" "), "{:?}", parser.errors);
        assert!(parser.errors[1].starts_with("namespace.shop.bytes: "), "{:?}", parser.errors);
        let error = toml::from_str::<RawNamespaces>("[shop]\nruns = 1\n").unwrap_err().to_string();
        assert!(error.contains("unknown field `runs`"), "{error}");
    }
}
