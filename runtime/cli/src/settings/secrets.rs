//! Settings that may hold a secret. Each is a text, or the name of the file that contains the text, so that it need not be in the
//! environment or in the arguments of a process.

use std::path::Path;

use anyhow::anyhow;

use super::RawSettings;
use crate::exit::CliError;

/// A setting as a text, and as the name of a file.
pub(super) type TextOrFile = (Option<String>, Option<String>);

/// The text or the file of `upper`, or else of `lower`. An empty text counts as missing.
pub(super) fn text_or_file(upper: TextOrFile, lower: TextOrFile) -> TextOrFile {
    let (text, file) = (given(upper.0), given(upper.1));
    if text.is_some() || file.is_some() { (text, file) } else { lower }
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// The text of a setting, which its file may contain; `None` if neither is given. `part` says what it is, for errors.
pub(super) fn read(part: &'static str, text: Option<String>, file: Option<String>) -> Result<Option<String>, CliError> {
    match given(file) {
        Some(file) => credentials::read_secret_once(part, Path::new(&file)).map(Some).map_err(CliError::invalid),
        None => Ok(given(text)),
    }
}

impl RawSettings {
    /// Checks that no secret is given twice. `place` says where these settings come from: `the environment`, or a file.
    ///
    /// # Errors
    /// Both names of the setting.
    pub(super) fn check_secrets(&self, place: &str) -> Result<(), CliError> {
        let names = if place == "the environment" {
            [
                ("WAFT_BROKER", "WAFT_BROKER_FILE"),
                ("WAFT_LOGBOOK", "WAFT_LOGBOOK_FILE"),
                ("WAFT_TOKEN", "WAFT_TOKEN_FILE"),
                ("WAFT_METRICS_TOKEN", "WAFT_METRICS_TOKEN_FILE"),
            ]
        } else {
            [
                ("broker", "broker_file"),
                ("logbook", "logbook_file"),
                ("serve.token", "serve.token_file"),
                ("metrics.token", "metrics.token_file"),
            ]
        };
        let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let are_given = [
            is_given(&self.broker) && is_given(&self.broker_file),
            is_given(&self.logbook) && is_given(&self.logbook_file),
            is_given(&self.serve.token) && is_given(&self.serve.token_file),
            is_given(&self.metrics.token) && is_given(&self.metrics.token_file),
        ];
        match names.iter().zip(are_given).find(|(_, both)| *both) {
            Some(((text, file), _)) => {
                let error = anyhow!("{place} sets both {text} and {file}");
                Err(CliError::invalid(error)
                    .hint(format!("set one of them: {file} names a file that contains the text")))
            }
            None => Ok(()),
        }
    }

    /// Whether these settings contain a token, or an address with a password.
    pub(super) fn has_secrets(&self) -> bool {
        let has_password = |address: &Option<String>| address.as_deref().is_some_and(has_password);
        let has_token =
            [&self.serve.token, &self.metrics.token].into_iter().any(|token| given(token.clone()).is_some());
        has_token || has_password(&self.broker) || has_password(&self.logbook)
    }
}

/// Whether an address contains a password.
fn has_password(address: &str) -> bool {
    let login = address.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(login, _)| login);
    login.is_some_and(|login| login.contains(':')) || address.contains("password=")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(text: &str, file: &str) -> TextOrFile {
        (Some(text.to_owned()), Some(file.to_owned()))
    }

    #[test]
    fn a_text_replaces_the_file_of_lower_settings_and_a_file_the_text() {
        let both = |upper, lower| {
            let (text, file) = text_or_file(upper, lower);
            (text.unwrap_or_default(), file.unwrap_or_default())
        };
        let strings = |text: &str, file: &str| (text.to_owned(), file.to_owned());
        assert_eq!(both(pair("text", ""), pair("", "file")), strings("text", ""));
        assert_eq!(both(pair("", "file"), pair("text", "")), strings("", "file"));
        assert_eq!(both(pair("", ""), pair("", "file")), strings("", "file"));
        assert_eq!(both((None, None), pair("text", "")), strings("text", ""));
    }

    #[test]
    fn a_secret_that_is_given_twice_is_refused_with_both_names() {
        let settings = |text: &str| -> RawSettings { toml::from_str(text).unwrap() };
        for (text, in_file, in_environment) in [
            ("broker = \"a\"\nbroker_file = \"b\"", "broker and broker_file", "WAFT_BROKER and WAFT_BROKER_FILE"),
            ("logbook = \"a\"\nlogbook_file = \"b\"", "logbook and logbook_file", "WAFT_LOGBOOK and WAFT_LOGBOOK_FILE"),
            (
                "[serve]\ntoken = \"a\"\ntoken_file = \"b\"",
                "serve.token and serve.token_file",
                "WAFT_TOKEN and WAFT_TOKEN_FILE",
            ),
            (
                "[metrics]\ntoken = \"a\"\ntoken_file = \"b\"",
                "metrics.token and metrics.token_file",
                "WAFT_METRICS_TOKEN and WAFT_METRICS_TOKEN_FILE",
            ),
        ] {
            for (place, expected) in [("/etc/w.toml", in_file), ("the environment", in_environment)] {
                let error = format!("{:?}", settings(text).check_secrets(place).expect_err("it is given twice"));
                assert!(error.contains(&format!("{place} sets both {expected}")), "{error}");
            }
        }
        assert!(settings("broker = \"a\"\nbroker_file = \"\"\nlogbook_file = \"b\"").check_secrets("f").is_ok());
    }

    #[test]
    fn settings_with_a_token_or_a_password_are_secret() {
        let has = |text: &str| toml::from_str::<RawSettings>(text).unwrap().has_secrets();
        for secret in [
            "broker = \"amqp://u:p@h\"",
            "logbook = \"postgres://u:p@h/d\"",
            "logbook = \"postgres://h/d?user=u&password=p\"",
            "[serve]\ntoken = \"t\"",
            "[metrics]\ntoken = \"t\"",
        ] {
            assert!(has(secret), "{secret}");
        }
        for other in [
            "broker = \"amqp://h:5672\"",
            "logbook = \"sqlite:/a:b\"",
            "logbook = \"postgres://u@h/d\"",
            "broker_file = \"b\"",
        ] {
            assert!(!has(other), "{other}");
        }
    }
}
