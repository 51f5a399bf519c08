//! The tables `[secret.NAME]` of a settings file: secrets that requests of guests may contain, and where their values may go.

use std::{collections::BTreeMap, env, fmt::Display, path::PathBuf, str::FromStr};

use flow::SecretName;
use gateway::{Secret, SecretSource, Secrets};
use serde::Deserialize;

use super::parser::Parser;

/// The tables by their names.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct RawGuestSecrets(BTreeMap<String, RawGuestSecret>);

/// A table, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawGuestSecret {
    file: Option<String>,
    variable: Option<String>,
    headers: Vec<String>,
    http: Vec<String>,
}

impl RawGuestSecrets {
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
        let secrets = self.0.iter().filter_map(|(text, raw)| {
            let name = SecretName::new(text).map_err(|error| parser.report("secret", error)).ok();
            let secret = raw.secret(&format!("secret.{text}"), parser);
            Some((name?, secret?))
        });
        Secrets(secrets.collect())
    }
}

impl RawGuestSecret {
    fn secret(&self, table: &str, parser: &mut Parser) -> Option<Secret> {
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
        let source = source.map_err(|error| parser.report(table, error)).ok();
        let headers = all(headers, &format!("{table}.headers"), parser);
        let http = all(http, &format!("{table}.http"), parser);
        if self.headers.is_empty() || self.http.is_empty() {
            parser.report(table, "say in which `headers` of which requests (`http`) the secret may be");
        }
        Some(Secret { source: source?, headers, http })
    }
}

fn all<T: FromStr<Err: Display>>(texts: &[String], key: &str, parser: &mut Parser) -> Vec<T> {
    texts.iter().filter_map(|text| text.parse().map_err(|error| parser.report(key, error)).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Secrets, Vec<String>) {
        let raw: RawGuestSecrets = toml::from_str(text).unwrap();
        let mut parser = Parser::default();
        (raw.secrets(&mut parser), parser.errors)
    }

    #[test]
    fn a_table_says_where_a_secret_comes_from_and_goes() {
        let text =
            "[LB_TOKEN]\nfile = \"/run/lb\"\nheaders = [\"Authorization\"]\nhttp = [\"PUT https://lb.example/*\"]\n";
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
        let (_, errors) = read(&format!("[A]\n{both}[B]\n[\"c d\"]\nvariable = \"NO_SUCH_VARIABLE\"\n"));
        for expected in [
            "secret.A: set either `file`",
            "secret.A.headers: ",
            "secret.A.http: \"x\" is no pattern of HTTP requests",
            "secret.B: set either `file`",
            "secret.B: say in which `headers` of which requests (`http`) the secret may be",
            "secret: \"c d\" is not a name",
            "secret.c d: the variable NO_SUCH_VARIABLE is not set",
        ] {
            assert!(errors.iter().any(|error| error.starts_with(expected)), "{expected:?} is not in {errors:#?}");
        }
    }
}
