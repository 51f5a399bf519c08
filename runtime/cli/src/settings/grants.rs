//! The tables `[[grant]]` of a settings file: what calls may reach outside their sandbox, if their flows ask for it.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Path, PathBuf},
    str::FromStr,
};

use flow::{Access, DirectoryName, Grant, GrantedDirectory, Grants, SettingName, SignerKey};
use serde::Deserialize;
use toml::{Spanned, de::DeValue};

use super::{
    admission::read_key,
    directories::{self, RawDirectory},
    located::{FileText, Place, Places, TableWithPlaces},
    parser::Parser,
};

/// The tables.
#[derive(Debug, Clone, Default)]
pub(super) struct RawGrants(Vec<TableWithPlaces<RawGrant>>);

/// A table, as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawGrant {
    namespace: Option<String>,
    flow: Option<String>,
    task: Option<String>,
    module: Option<String>,
    signer: Option<String>,
    http: Vec<String>,
    networks: Vec<String>,
    sockets: Vec<String>,
    secrets: Vec<String>,
    config: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    dirs: BTreeMap<String, RawDirectory>,
    clock: bool,
    random: bool,
}

impl RawGrants {
    /// The tables of a file.
    pub(super) fn read(toml: &Spanned<DeValue<'_>>, file: &FileText<'_>) -> Self {
        match toml.get_ref().as_array() {
            Some(tables) => {
                Self(tables.iter().map(|table| TableWithPlaces::read(table, table.span().start, file)).collect())
            }
            None => Self(vec![TableWithPlaces {
                errors: vec![format!("{}: write [[grant]], with two brackets", file.place(toml.span().start))],
                ..TableWithPlaces::default()
            }]),
        }
    }

    /// Where each table is.
    pub(super) fn places(&self) -> Vec<Place> {
        self.0.iter().map(|table| table.places.table.clone()).collect()
    }

    /// The files with the public keys of signers that the tables name.
    pub(super) fn key_files(&self) -> impl Iterator<Item = PathBuf> {
        let signers = self.0.iter().filter_map(|TableWithPlaces { table, .. }| table.signer.as_deref());
        signers.map(Path::new).filter(|path| path.is_absolute()).map(Path::to_owned)
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
        let grant = |(TableWithPlaces { table, places, errors }, number): (&TableWithPlaces<RawGrant>, usize)| {
            parser.errors.extend(errors.iter().cloned());
            table.grant(number, places, errors.is_empty(), parser)
        };
        let grants = Grants(self.0.iter().zip(1..).map(grant).collect());
        directories::check_overlaps(&grants, &self.places(), parser);
        grants
    }
}

impl RawGrant {
    /// `is_whole` says that no key of the table was dropped as wrong.
    fn grant(&self, number: usize, places: &Places, is_whole: bool, parser: &mut Parser) -> Grant {
        let Self {
            namespace,
            flow,
            task,
            module,
            signer,
            http,
            networks,
            sockets,
            secrets,
            config,
            env,
            dirs,
            clock,
            random,
        } = self;
        let mut reader = Reader { number, places, parser };
        let grant = Grant {
            namespace: reader.one("namespace", namespace.as_ref()),
            flow: reader.one("flow", flow.as_ref()),
            task: reader.one("task", task.as_ref()),
            module: reader.one("module", module.as_ref()),
            signer: reader.signer(signer.as_deref()),
            access: Access {
                http: reader.all("http", http).into_iter().collect(),
                sockets: reader.all("sockets", sockets).into_iter().collect(),
                secrets: reader.all("secrets", secrets).into_iter().collect(),
                clock: *clock,
                random: *random,
                ..Access::default()
            },
            config: reader.settings("config", config),
            variables: reader.variables(env),
            directories: reader.directories(dirs),
            networks: reader.all("networks", networks),
        };
        let grant = reader.within(grant);
        if has_useless_networks(&grant) {
            reader.report(
                "`networks` are for the requests and connections of this table: let it have `http` or `sockets`",
            );
        }
        if is_whole && grant.is_empty() {
            reader.report(NOTHING);
        }
        grant
    }
}

const NOTHING: &str =
    "it grants nothing: let it have `http`, `sockets`, `secrets`, `config`, `env`, `dirs`, `clock` or `random`";

/// The start of the names of variables that a command gets from waft.
const OWN_VARIABLES: &str = "WAFT_";

/// The maximum length of a value in bytes, as of a long line.
const MAX_VALUE_BYTES: usize = 64 << 10;

fn has_useless_networks(grant: &Grant) -> bool {
    !grant.networks.is_empty() && grant.access.http.is_empty() && grant.access.sockets.is_empty()
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

    /// A public key, or the absolute path of its file.
    fn signer(&mut self, text: Option<&str>) -> Option<SignerKey> {
        let text = text?;
        let signer = match Path::new(text).is_absolute() {
            true => read_key(Path::new(text)),
            false => text.parse().map_err(|error: store::InvalidSigner| error.to_string()),
        };
        let signer = signer.map_err(|error| self.report(format!("signer: {error}"))).ok()?;
        Some(SignerKey(signer.to_string()))
    }

    /// Values by their names.
    fn settings(&mut self, key: &str, values: &BTreeMap<String, String>) -> BTreeMap<SettingName, String> {
        let mut settings = BTreeMap::new();
        for (name, value) in values {
            if value.len() > MAX_VALUE_BYTES || value.contains('\0') {
                self.report(format!("{key}.{name}: it has a zero byte, or more than {MAX_VALUE_BYTES} bytes"));
            }
            settings.extend(self.one(key, Some(name)).map(|name| (name, value.clone())));
        }
        settings
    }

    fn variables(&mut self, values: &BTreeMap<String, String>) -> BTreeMap<SettingName, String> {
        for name in values.keys().filter(|name| name.starts_with(OWN_VARIABLES)) {
            self.report(format!("env.{name}: waft sets the variables that start with {OWN_VARIABLES}"));
        }
        self.settings("env", values)
    }

    fn directories(
        &mut self,
        directories: &BTreeMap<String, RawDirectory>,
    ) -> BTreeMap<DirectoryName, GrantedDirectory> {
        let mut granted = BTreeMap::new();
        for (name, raw) in directories {
            let directory = raw.directory().map_err(|error| self.report(format!("dirs.{name}: {error}"))).ok();
            granted.extend(self.one("dirs", Some(name)).zip(directory));
        }
        granted
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
             http = [\"PUT https://lb.example.com/v1/pools/*\"]\nnetworks = [\"10.0.0.0/8\"]\n\
             config = { region = \"eu\" }\nenv = { TZ = \"UTC\" }\n[[grant]]\nclock = true\n",
        );
        assert_eq!(errors, Vec::<String>::new());
        let [of_shop, of_all] = &grants[..] else { panic!("{grants:?}") };
        let Grant { namespace, flow, task, module, signer, access, config, variables, directories, networks } = of_shop;
        assert_eq!(namespace.as_ref().unwrap().as_str(), "shop");
        assert_eq!(flow.as_ref().unwrap().as_str(), "shop/provision");
        assert_eq!(task.as_ref().unwrap().as_str(), "add-ip");
        assert_eq!((module, signer, networks[0].to_string()), (&None, &None, "10.0.0.0/8".to_owned()));
        assert_eq!(access.http.first().unwrap().to_string(), "PUT https://lb.example.com/v1/pools/*");
        assert!(directories.is_empty());
        let values = [config, variables].map(|values| values.iter().map(|(name, value)| format!("{name}={value}")));
        assert_eq!(values.map(|values| values.collect::<Vec<_>>()), [["region=eu"], ["TZ=UTC"]]);
        assert_eq!(*of_all, Grant { access: Access { clock: true, ..Access::default() }, ..Grant::default() });
    }

    #[test]
    fn each_mistake_is_reported_with_its_table() {
        let (_, errors) = read(
            "[[grant]]\nclok = true\nrandom = 3\nflow = \"a b\"\nmodule = \"x\"\nhttp = [\"GET example.com\", \"https://a.example/\"]\n\
             networks = [\"10.0.0.0/99\"]\n[[grant]]\ntask = \"t\"\n[[grant]]\nconfig = { \"a.b\" = \"\" }\n\
             env = { WAFT_RUN = \"r\" }\n",
        );
        let [key, number, flow, module, no_scheme, no_method, network, empty, name, own] = &errors[..] else {
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
                "config.toml, line 8, column 1: [[grant]] number 2: it grants nothing: let it have `http`, `sockets`, `secrets`, `config`",
            ),
            (name, "config.toml, line 11, column 10: [[grant]] number 3: config: \"a.b\" is not a name"),
            (own, "config.toml, line 10, column 1: [[grant]] number 3: env.WAFT_RUN: waft sets"),
        ] {
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
