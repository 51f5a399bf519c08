//! The tables `[[grant]]` of a settings file: what calls may reach outside their sandbox, if their flows ask for it.

use std::{fmt::Display, str::FromStr};

use flow::{Access, Grant, Grants};
use serde::Deserialize;
use toml::{Spanned, de::DeValue};

use super::{
    located::{FileText, Located, Place, Places},
    parser::Parser,
};

/// The tables.
#[derive(Debug, Clone, Default)]
pub(super) struct RawGrants(Vec<Located<RawGrant>>);

/// A table, as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawGrant {
    namespace: Option<String>,
    flow: Option<String>,
    task: Option<String>,
    module: Option<String>,
    http: Vec<String>,
    networks: Vec<String>,
    secrets: Vec<String>,
    clock: bool,
    random: bool,
}

impl RawGrants {
    /// The tables of a file.
    pub(super) fn read(toml: &Spanned<DeValue<'_>>, file: &FileText<'_>) -> Self {
        match toml.get_ref().as_array() {
            Some(tables) => Self(tables.iter().map(|table| Located::read(table, table.span().start, file)).collect()),
            None => Self(vec![Located {
                mistakes: vec![format!("{}: write [[grant]], with two brackets", file.place(toml.span().start))],
                ..Located::default()
            }]),
        }
    }

    /// Where each table is.
    pub(super) fn places(&self) -> Vec<Place> {
        self.0.iter().map(|table| table.places.table.clone()).collect()
    }

    /// These tables and those of `lower`: each grants something more.
    pub(super) fn or(mut self, lower: Self) -> Self {
        self.0.extend(lower.0);
        self
    }

    /// The keys that are set.
    pub(super) fn keys(&self) -> impl Iterator<Item = String> {
        (!self.0.is_empty()).then(|| "grant".to_owned()).into_iter()
    }

    /// The grants, and what is wrong with them.
    pub(super) fn grants(&self, parser: &mut Parser) -> Grants {
        let grant = |(Located { table, places, mistakes }, number): (&Located<RawGrant>, usize)| {
            parser.errors.extend(mistakes.iter().cloned());
            table.grant(number, places, mistakes.is_empty(), parser)
        };
        Grants(self.0.iter().zip(1..).map(grant).collect())
    }
}

impl RawGrant {
    /// `is_whole` says that no key of the table was dropped as wrong.
    fn grant(&self, number: usize, places: &Places, is_whole: bool, parser: &mut Parser) -> Grant {
        let Self { namespace, flow, task, module, http, networks, secrets, clock, random } = self;
        let mut reader = Reader { number, places, parser };
        let grant = Grant {
            namespace: reader.one("namespace", namespace.as_ref()),
            flow: reader.one("flow", flow.as_ref()),
            task: reader.one("task", task.as_ref()),
            module: reader.one("module", module.as_ref()),
            access: Access {
                http: reader.all("http", http).into_iter().collect(),
                secrets: reader.all("secrets", secrets).into_iter().collect(),
                clock: *clock,
                random: *random,
            },
            networks: reader.all("networks", networks),
        };
        let grant = reader.within(grant);
        if has_useless_networks(&grant) {
            reader.report("`networks` are for the requests of this table: let it have `http`");
        }
        if is_whole && grant.access.is_empty() {
            reader.report("it grants nothing: let it have `http`, `secrets`, `clock` or `random`");
        }
        grant
    }
}

fn has_useless_networks(grant: &Grant) -> bool {
    !grant.networks.is_empty() && grant.access.http.is_empty()
}

/// Reads the keys of one table.
struct Reader<'p> {
    /// Its place among the tables of all files, from 1.
    number: usize,
    places: &'p Places,
    parser: &'p mut Parser,
}

impl Reader<'_> {
    /// Takes a flow without a namespace as one of the namespace of the table.
    fn within(&mut self, grant: Grant) -> Grant {
        let (Some(namespace), Some(flow)) = (&grant.namespace, &grant.flow) else { return grant };
        match flow.within(Some(namespace)) {
            Ok(flow) if flow.namespace().as_ref() == Some(namespace) => Grant { flow: Some(flow), ..grant },
            Ok(flow) => {
                self.report(format!("flow: {flow} is not in the namespace {namespace}"));
                grant
            }
            Err(error) => {
                self.report(format!("flow: {error}"));
                grant
            }
        }
    }

    fn report(&mut self, error: impl Display) {
        self.report_at(&self.places.table, error);
    }

    fn report_at(&mut self, place: &Place, error: impl Display) {
        self.parser.report(&format!("{place}: [[grant]] number {}", self.number), error);
    }

    /// A key that must not be lost when it is wrong: without it, the table would grant more. So a wrong one ends the command.
    fn one<T: FromStr<Err: Display>>(&mut self, key: &str, text: Option<&String>) -> Option<T> {
        text.and_then(|text| self.parse(key, self.places.value(key), text))
    }

    fn all<T: FromStr<Err: Display>>(&mut self, key: &str, texts: &[String]) -> Vec<T> {
        let parse = |(index, text): (usize, &String)| self.parse(key, self.places.element(key, index), text);
        texts.iter().enumerate().filter_map(parse).collect()
    }

    fn parse<T: FromStr<Err: Display>>(&mut self, key: &str, place: &Place, text: &str) -> Option<T> {
        text.parse().map_err(|error| self.report_at(place, format!("{key}: {error}"))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Grants, Vec<String>) {
        let document = toml::de::DeTable::parse(text).unwrap();
        let grants = RawGrants::read(document.get_ref().get("grant").unwrap(), &FileText::new("config.toml", text));
        let mut parser = Parser::default();
        (grants.grants(&mut parser), parser.errors)
    }

    #[test]
    fn a_table_says_what_is_granted_to_which_calls() {
        let (Grants(grants), errors) = read(
            "[[grant]]\nnamespace = \"shop\"\nflow = \"provision\"\ntask = \"add-ip\"\n\
             http = [\"PUT https://lb.example.com/v1/pools/*\"]\nnetworks = [\"10.0.0.0/8\"]\n[[grant]]\nclock = true\n",
        );
        assert_eq!(errors, Vec::<String>::new());
        let [of_shop, of_all] = &grants[..] else { panic!("{grants:?}") };
        let Grant { namespace, flow, task, module, access, networks } = of_shop;
        assert_eq!(namespace.as_ref().unwrap().as_str(), "shop");
        assert_eq!(flow.as_ref().unwrap().as_str(), "shop/provision");
        assert_eq!(task.as_ref().unwrap().as_str(), "add-ip");
        assert_eq!((module, networks[0].to_string()), (&None, "10.0.0.0/8".to_owned()));
        assert_eq!(access.http.first().unwrap().to_string(), "PUT https://lb.example.com/v1/pools/*");
        assert_eq!(*of_all, Grant { access: Access { clock: true, ..Access::default() }, ..Grant::default() });
    }

    #[test]
    fn each_mistake_is_reported_with_its_table() {
        let (_, errors) = read(
            "[[grant]]\nclok = true\nrandom = 3\nflow = \"a b\"\nmodule = \"x\"\nhttp = [\"GET example.com\", \"https://a.example/\"]\n\
             networks = [\"10.0.0.0/99\"]\n[[grant]]\ntask = \"t\"\n",
        );
        let [key, number, flow, module, no_scheme, no_method, network, empty] = &errors[..] else {
            panic!("{errors:#?}")
        };
        for (error, expected) in [
            (key, "config.toml, line 2, column 1: unknown field `clok`, expected one of `namespace`, "),
            (number, "config.toml, line 3, column 10: invalid type: integer `3`, expected a boolean"),
            (flow, "config.toml, line 4, column 8: [[grant]] number 1: flow: \"a b\" is not a name"),
            (module, "config.toml, line 5, column 10: [[grant]] number 1: module: "),
            (
                no_scheme,
                "config.toml, line 6, column 9: [[grant]] number 1: http: \"GET example.com\" is no pattern of HTTP requests: ",
            ),
            (
                no_method,
                "config.toml, line 6, column 28: [[grant]] number 1: http: \"https://a.example/\" is no pattern of HTTP requests: it has no method",
            ),
            (network, "config.toml, line 7, column 13: [[grant]] number 1: networks: \"10.0.0.0/99\" is no network"),
            (
                empty,
                "config.toml, line 8, column 1: [[grant]] number 2: it grants nothing: let it have `http`, `secrets`, `clock` or `random`",
            ),
        ] {
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
