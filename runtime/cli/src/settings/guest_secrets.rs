//! The tables `[secret.NAME]` of a settings file: secrets that requests of guests may contain, and where their values may go.

use std::{collections::BTreeMap, env, fmt::Display, path::PathBuf, str::FromStr};

use flow::SecretName;
use gateway::{Secret, SecretSource, Secrets};
use serde::Deserialize;
use toml::{Spanned, de::DeValue};

use super::{
    located::{FileText, Located, Place, Places},
    parser::Parser,
};

/// The tables by their names.
#[derive(Debug, Clone, Default)]
pub(super) struct RawGuestSecrets(BTreeMap<String, Located<RawGuestSecret>>);

/// A table, as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawGuestSecret {
    file: Option<String>,
    variable: Option<String>,
    headers: Vec<String>,
    http: Vec<String>,
}

impl RawGuestSecrets {
    /// The tables of a file.
    pub(super) fn read(toml: &Spanned<DeValue<'_>>, file: &FileText<'_>) -> Self {
        let Some(tables) = toml.get_ref().as_table() else {
            return Self([(String::new(), Located::read(toml, toml.span().start, file))].into());
        };
        let read = tables
            .iter()
            .map(|(name, table)| (name.get_ref().to_string(), Located::read(table, name.span().start, file)));
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
        let secrets = self.0.iter().filter_map(|(text, Located { table, places, mistakes })| {
            parser.errors.extend(mistakes.iter().cloned());
            let mut reader = Reader { table: format!("[secret.{text}]"), places, parser };
            let name = SecretName::new(text).map_err(|error| reader.report(error)).ok();
            let secret = table.secret(mistakes.is_empty(), &mut reader);
            Some((name?, secret?))
        });
        Secrets(secrets.collect())
    }
}

impl RawGuestSecret {
    /// `is_whole` says that no key of the table was dropped as wrong.
    fn secret(&self, is_whole: bool, reader: &mut Reader<'_>) -> Option<Secret> {
        let Self { file, variable, headers, http } = self;
        let source = match (file, variable) {
            (Some(file), None) => Ok(SecretSource::File(PathBuf::from(file))),
            (None, Some(variable)) => match env::var(variable) {
                Ok(text) if !text.is_empty() => Ok(SecretSource::Text(text)),
                Ok(_) | Err(_) => Err(format!("the variable {variable} is not set, or is no text")),
            },
            (None, None) | (Some(_), Some(_)) => {
                Err("set either `file`, a file that contains the secret, or `variable`, a variable of the environment"
                    .into())
            }
        };
        let source = source
            .map_err(|error: String| {
                if is_whole {
                    reader.report(error);
                }
            })
            .ok();
        let headers = reader.all("headers", headers);
        let http = reader.all("http", http);
        if is_whole && (self.headers.is_empty() || self.http.is_empty()) {
            reader.report("say in which `headers` of which requests (`http`) the secret may be");
        }
        Some(Secret { source: source?, headers, http })
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
        let text = "[secret.LB_TOKEN]\nfile = \"/run/lb\"\nheaders = [\"Authorization\"]\nhttp = [\"PUT https://lb.example/*\"]\n";
        let (Secrets(secrets), errors) = read(text);
        assert_eq!(errors, Vec::<String>::new());
        let Secret { source, headers, http } = &secrets["LB_TOKEN"];
        assert!(matches!(source, SecretSource::File(path) if path == "/run/lb"), "{source:?}");
        assert_eq!(
            (headers[0].as_str(), http[0].to_string()),
            ("authorization", "PUT https://lb.example/*".to_owned())
        );
    }

    #[test]
    fn each_mistake_is_reported_with_its_key() {
        let both = "file = \"/x\"\nvariable = \"Y\"\nheaders = [\"a b\"]\nhttp = [\"x\"]\n";
        let (_, errors) = read(&format!(
            "[secret.A]\n{both}[secret.B]\n[secret.\"c d\"]\nvariable = \"NO_SUCH_VARIABLE\"\n[secret.D]\nfiel = \"/x\"\n"
        ));
        for expected in [
            "config.toml, line 1, column 9: [secret.A]: set either `file`",
            "config.toml, line 4, column 12: [secret.A]: headers: ",
            "config.toml, line 5, column 9: [secret.A]: http: \"x\" is no pattern of HTTP requests",
            "config.toml, line 6, column 9: [secret.B]: set either `file`",
            "config.toml, line 6, column 9: [secret.B]: say in which `headers` of which requests (`http`) the secret may be",
            "config.toml, line 7, column 9: [secret.c d]: \"c d\" is not a name",
            "config.toml, line 7, column 9: [secret.c d]: the variable NO_SUCH_VARIABLE is not set",
            "config.toml, line 10, column 1: unknown field `fiel`, expected one of `file`, ",
        ] {
            assert!(errors.iter().any(|error| error.starts_with(expected)), "{expected:?} is not in {errors:#?}");
        }
    }
}
