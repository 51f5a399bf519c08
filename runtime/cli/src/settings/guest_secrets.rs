//! The tables `[secret.NAME]` of a settings file: secrets that requests of guests may contain, and where their values may go.

use std::{
    collections::BTreeMap,
    env,
    fmt::Display,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use flow::SecretName;
use gateway::{Secret, SecretSource, Secrets, Url, VaultEntry};
use serde::Deserialize;
use toml::{Spanned, de::DeValue};

use super::{
    located::{FileText, Place, Places, TableWithPlaces},
    parser::Parser,
};

/// The tables by their names.
#[derive(Debug, Clone, Default)]
pub(super) struct RawGuestSecrets(BTreeMap<String, TableWithPlaces<RawGuestSecret>>);

/// A table, as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawGuestSecret {
    file: Option<String>,
    variable: Option<String>,
    command: Option<Vec<String>>,
    vault: Option<RawVault>,
    refresh: Option<String>,
    headers: Vec<String>,
    query: Vec<String>,
    body: bool,
    http: Vec<String>,
}

/// An entry of Vault.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVault {
    address: String,
    path: String,
    field: String,
    token_file: String,
    namespace: Option<String>,
}

/// How long a fetched value is used, unless a table says otherwise; and the shortest time that it may say.
const DEFAULT_REFRESH: Duration = Duration::from_secs(5 * 60);
const MIN_REFRESH: Duration = Duration::from_secs(1);

impl RawGuestSecrets {
    /// The tables of a file.
    pub(super) fn read(toml: &Spanned<DeValue<'_>>, file: &FileText<'_>) -> Self {
        let Some(tables) = toml.get_ref().as_table() else {
            return Self([(String::new(), TableWithPlaces::read(toml, toml.span().start, file))].into());
        };
        let read = tables
            .iter()
            .map(|(name, table)| (name.get_ref().to_string(), TableWithPlaces::read(table, name.span().start, file)));
        Self(read.collect())
    }

    /// These tables, and those of `lower` with other names.
    pub(super) fn or(mut self, lower: Self) -> Self {
        for (name, table) in lower.0 {
            self.0.entry(name).or_insert(table);
        }
        self
    }

    /// The keys that are set.
    pub(super) fn keys(&self) -> impl Iterator<Item = String> {
        self.0.keys().map(|name| format!("secret.{name}"))
    }

    /// The secrets, and what is wrong with them.
    pub(super) fn secrets(&self, parser: &mut Parser) -> Secrets {
        let secrets = self.0.iter().filter_map(|(text, TableWithPlaces { table, places, errors })| {
            parser.errors.extend(errors.iter().cloned());
            let mut reader = Reader { table: format!("[secret.{text}]"), places, parser };
            let name = SecretName::new(text).map_err(|error| reader.report(error)).ok();
            let secret = table.secret(errors.is_empty(), &mut reader);
            Some((name?, secret?))
        });
        Secrets(secrets.collect())
    }
}

impl RawGuestSecret {
    /// `is_whole` says that no key of the table was dropped as wrong.
    fn secret(&self, is_whole: bool, reader: &mut Reader<'_>) -> Option<Secret> {
        let refresh = self.refresh(reader);
        let source = self.source(is_whole, refresh, reader);
        let Self { headers, query, body, http, .. } = self;
        let headers = reader.all("headers", headers);
        let http = reader.all("http", http);
        let has_place = !self.headers.is_empty() || !query.is_empty() || *body;
        if is_whole && (!has_place || self.http.is_empty()) {
            reader.report("say in which `headers`, `query` or `body` of which requests (`http`) the secret may be");
        }
        Some(Secret { source: source?, headers, query: query.clone(), body: *body, http })
    }

    fn refresh(&self, reader: &mut Reader<'_>) -> Duration {
        let Some(text) = &self.refresh else { return DEFAULT_REFRESH };
        if self.command.is_none() && self.vault.is_none() {
            reader.report_key("refresh", "only `command` and `vault` have it: other values are read for each request");
        }
        match flow::parse_duration(text) {
            Ok(refresh) if refresh >= MIN_REFRESH => return refresh,
            Ok(_) => reader.report_key("refresh", format!("{text:?} is below {MIN_REFRESH:?}")),
            Err(error) => reader.report_key("refresh", error),
        }
        DEFAULT_REFRESH
    }

    fn source(&self, is_whole: bool, refresh: Duration, reader: &mut Reader<'_>) -> Option<SecretSource> {
        let Self { file, variable, command, vault, .. } = self;
        match (file, variable, command, vault) {
            (Some(file), None, None, None) => Some(SecretSource::File(PathBuf::from(file))),
            (None, Some(variable), None, None) => match env::var(variable) {
                Ok(text) if !text.is_empty() => Some(SecretSource::Text(text)),
                Ok(_) | Err(_) => {
                    reader.report_key("variable", format!("the variable {variable} is not set, or is no text"));
                    None
                }
            },
            (None, None, Some(command), None) => {
                if !command.first().is_some_and(|program| Path::new(program).is_absolute()) {
                    let hint =
                        "name a program by its absolute path, and its arguments, as in [\"/usr/bin/pass\", \"lb\"]";
                    reader.report_key("command", format!("{hint}: no shell reads it"));
                    return None;
                }
                Some(SecretSource::Command { command: command.clone(), refresh })
            }
            (None, None, None, Some(vault)) => vault.entry(refresh, reader),
            _ => {
                if is_whole {
                    reader.report("set one of `file`, `variable`, `command` and `vault`: where the value comes from");
                }
                None
            }
        }
    }
}

impl RawVault {
    fn entry(&self, refresh: Duration, reader: &mut Reader<'_>) -> Option<SecretSource> {
        let Self { address, path, field, token_file, namespace } = self;
        match vault_url(address, path) {
            Ok(url) => {
                let (token_file, namespace) = (PathBuf::from(token_file), namespace.clone());
                Some(SecretSource::Vault(VaultEntry { url, field: field.clone(), token_file, namespace, refresh }))
            }
            Err(error) => {
                reader.report_key("vault", error);
                None
            }
        }
    }
}

/// The address of an entry. Its form shows whether the two parts have been understood as they were written.
fn vault_url(address: &str, path: &str) -> Result<Url, String> {
    const EXAMPLE: &str = "write address = \"https://vault.example.com:8200\"";
    let server = Url::parse(address).map_err(|error| format!("the address is invalid ({error}): {EXAMPLE}"))?;
    let is_bare = server.path() == "/" && server.query().is_none() && server.fragment().is_none();
    let has_login = !server.username().is_empty() || server.password().is_some();
    if !matches!(server.scheme(), "https" | "http") || !is_bare || has_login {
        return Err(format!("the address has more than a scheme, a host and a port: {EXAMPLE}"));
    }
    let path = path.trim_matches('/');
    let url = server.join(&format!("/v1/{path}")).map_err(|error| format!("the path is invalid ({error})"))?;
    let is_as_written = url.path() == format!("/v1/{path}") && url.query().is_none() && url.fragment().is_none();
    match is_as_written && !path.is_empty() {
        true => Ok(url),
        false => Err("the path is empty, or is sent in another form: write the mount, `data` and the entry, as in \"secret/data/lb\"".into()),
    }
}

/// Reads the keys of one table.
struct Reader<'p> {
    /// Its header.
    table: String,
    places: &'p Places,
    parser: &'p mut Parser,
}

impl Reader<'_> {
    fn report(&mut self, error: impl Display) {
        self.report_at(&self.places.table, error);
    }

    fn report_at(&mut self, place: &Place, error: impl Display) {
        self.parser.report(&format!("{place}: {}", self.table), error);
    }

    fn report_key(&mut self, key: &str, error: impl Display) {
        let place = self.places.value(key);
        self.report_at(place, format!("{key}: {error}"));
    }

    fn all<T: FromStr<Err: Display>>(&mut self, key: &str, texts: &[String]) -> Vec<T> {
        let parse = |(index, text): (usize, &String)| {
            let place = self.places.element(key, index);
            text.parse().map_err(|error| self.report_at(place, format!("{key}: {error}"))).ok()
        };
        texts.iter().enumerate().filter_map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Secrets, Vec<String>) {
        let document = toml::de::DeTable::parse(text).unwrap();
        let secrets = document.get_ref().get("secret").unwrap();
        let secrets = RawGuestSecrets::read(secrets, &FileText::new("config.toml", text));
        let mut parser = Parser::default();
        (secrets.secrets(&mut parser), parser.errors)
    }

    #[test]
    fn a_table_says_where_a_secret_comes_from_and_goes() {
        let text = "[secret.LB_TOKEN]\nfile = \"/run/lb\"\nheaders = [\"Authorization\"]\nquery = [\"key\"]\nbody = true\nhttp = [\"PUT https://lb.example/*\"]\n";
        let (Secrets(secrets), errors) = read(text);
        assert_eq!(errors, Vec::<String>::new());
        let Secret { source, headers, query, body, http } = &secrets["LB_TOKEN"];
        assert!(matches!(source, SecretSource::File(path) if path == "/run/lb"), "{source:?}");
        assert_eq!((query, *body), (&vec!["key".to_owned()], true));
        assert_eq!(
            (headers[0].as_str(), http[0].to_string()),
            ("authorization", "PUT https://lb.example/*".to_owned())
        );
    }

    #[test]
    fn a_value_may_come_from_a_command_or_from_vault() {
        let (Secrets(secrets), errors) = read(
            "[secret.A]\ncommand = [\"/usr/bin/pass\", \"lb\"]\nbody = true\nhttp = [\"* https://a.example/*\"]\n\
             [secret.B]\nrefresh = \"30s\"\nquery = [\"key\"]\nhttp = [\"* https://a.example/*\"]\n\
             vault = { address = \"https://vault:8200\", path = \"/secret/data/lb\", field = \"token\", token_file = \"/t\" }\n",
        );
        assert_eq!(errors, Vec::<String>::new());
        let command = vec!["/usr/bin/pass".into(), "lb".into()];
        assert!(secrets["A"].source == SecretSource::Command { command, refresh: Duration::from_secs(300) });
        let SecretSource::Vault(VaultEntry { url, field, token_file, namespace, refresh }) = &secrets["B"].source
        else {
            panic!("{:?}", secrets["B"])
        };
        assert_eq!(url.as_str(), "https://vault:8200/v1/secret/data/lb");
        assert_eq!((&**field, token_file.to_str(), namespace, refresh.as_secs()), ("token", Some("/t"), &None, 30));
    }

    #[test]
    fn a_wrong_source_is_reported_with_its_place() {
        let places = "body = true\nhttp = [\"* https://a.example/*\"]\n";
        let vault = |address: &str, path: &str| {
            let entry = format!("address = {address:?}, path = {path:?}, field = \"f\", token_file = \"/t\"");
            format!("[secret.A]\nvault = {{ {entry} }}\n{places}")
        };
        for (text, expected) in [
            (
                format!("[secret.A]\ncommand = [\"pass\", \"lb\"]\n{places}"),
                "line 2, column 11: [secret.A]: command: name a program by",
            ),
            (format!("[secret.A]\ncommand = []\n{places}"), "line 2, column 11: [secret.A]: command: "),
            (format!("[secret.A]\ncommand = \"pass lb\"\n{places}"), "line 2, column 11: invalid type: string"),
            (
                format!("[secret.A]\nfile = \"/a\"\nrefresh = \"1m\"\n{places}"),
                "line 3, column 11: [secret.A]: refresh: only `command`",
            ),
            (
                format!("[secret.A]\ncommand = [\"/a\"]\nrefresh = \"1ms\"\n{places}"),
                "line 3, column 11: [secret.A]: refresh: \"1ms\" is below",
            ),
            (
                format!("[secret.A]\nvault = {{ address = \"https://v\" }}\n{places}"),
                "line 2, column 9: missing field `path`",
            ),
            (vault("vault:8200", "a"), "line 2, column 9: [secret.A]: vault: the address has more than"),
            (vault("https://vault/ui", "a"), "line 2, column 9: [secret.A]: vault: the address has more than"),
            (
                vault("https://vault", "a/../sys"),
                "line 2, column 9: [secret.A]: vault: the path is empty, or is sent in another form",
            ),
            (vault("https://vault", "a?list=true"), "vault: the path is empty, or is sent in another form"),
        ] {
            let (_, errors) = read(&text);
            assert!(errors.iter().any(|error| error.contains(expected)), "{expected:?}: {errors:#?}");
        }
        // What looks like another host stays a path.
        assert_eq!(vault_url("https://vault", "//evil.example/a").unwrap().as_str(), "https://vault/v1/evil.example/a");
    }

    #[test]
    fn each_mistake_is_reported_with_its_key() {
        let both = "file = \"/x\"\nvariable = \"Y\"\nheaders = [\"a b\"]\nhttp = [\"x\"]\n";
        let (_, errors) = read(&format!(
            "[secret.A]\n{both}[secret.B]\n[secret.\"c d\"]\nvariable = \"NO_SUCH_VARIABLE\"\n[secret.D]\nfiel = \"/x\"\n"
        ));
        for expected in [
            "config.toml, line 1, column 9: [secret.A]: set one of `file`",
            "config.toml, line 4, column 12: [secret.A]: headers: ",
            "config.toml, line 5, column 9: [secret.A]: http: \"x\" is no pattern of HTTP requests",
            "config.toml, line 6, column 9: [secret.B]: set one of `file`",
            "config.toml, line 6, column 9: [secret.B]: say in which `headers`, `query` or `body` of which requests (`http`) the secret may be",
            "config.toml, line 7, column 9: [secret.c d]: \"c d\" is not a name",
            "config.toml, line 8, column 12: [secret.c d]: variable: the variable NO_SUCH_VARIABLE is not set",
            "config.toml, line 10, column 1: unknown field `fiel`, expected one of `file`, ",
        ] {
            assert!(errors.iter().any(|error| error.starts_with(expected)), "{expected:?} is not in {errors:#?}");
        }
    }
}
