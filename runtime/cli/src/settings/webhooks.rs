//! The tables `[[webhook]]` of a settings file: who receives the events of all runs.

use std::{collections::BTreeSet, env, path::PathBuf, time::Duration};

use ::server::{MAX_WEBHOOKS, Webhook, WebhookSettings};
use anyhow::anyhow;
use api::EventsQuery;
use flow::Network;
use serde::Deserialize;
use toml::{Spanned, de::DeValue};

use super::{
    Settings,
    located::{FileText, Place, TableWithPlaces},
    parser::Parser,
};
use crate::exit::CliError;

/// How old an event may become, unless a table says otherwise.
const DEFAULT_GIVE_UP_AFTER: Duration = Duration::from_secs(86_400);

/// The tables.
#[derive(Debug, Clone, Default)]
pub(super) struct RawWebhooks(Vec<TableWithPlaces<RawWebhook>>);

/// A table, as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawWebhook {
    name: String,
    url: String,
    secret_file: Option<String>,
    secret_variable: Option<String>,
    flow: Option<String>,
    namespace: Option<String>,
    label: Vec<String>,
    kind: Vec<String>,
    state: Vec<String>,
    networks: Vec<String>,
    give_up_after: Option<String>,
}

/// The webhooks of the settings, whose secrets are not read yet: only `waft serve` needs them.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfiguredWebhooks(Vec<ConfiguredWebhook>);

#[derive(Debug, Clone)]
struct ConfiguredWebhook {
    place: Place,
    table: RawWebhook,
    networks: Vec<Network>,
    give_up_after: Duration,
}

impl RawWebhooks {
    /// The tables of a file.
    pub(super) fn read(toml: &Spanned<DeValue<'_>>, file: &FileText<'_>) -> Self {
        match toml.get_ref().as_array() {
            Some(tables) => {
                Self(tables.iter().map(|table| TableWithPlaces::read(table, table.span().start, file)).collect())
            }
            None => Self(vec![TableWithPlaces {
                errors: vec![format!("{}: write [[webhook]], with two brackets", file.place(toml.span().start))],
                ..TableWithPlaces::default()
            }]),
        }
    }

    /// These tables and those of `lower`.
    pub(super) fn or(mut self, lower: Self) -> Self {
        self.0.extend(lower.0);
        self
    }

    /// The keys that are set.
    pub(super) fn keys(&self) -> impl Iterator<Item = String> {
        (!self.0.is_empty()).then(|| "webhook".to_owned()).into_iter()
    }

    /// Checks the tables, except for what needs their secrets.
    pub(super) fn check(self, parser: &mut Parser) -> ConfiguredWebhooks {
        if self.0.len() > MAX_WEBHOOKS {
            parser.report("webhook", format!("a server has at most {MAX_WEBHOOKS}"));
        }
        let (mut names, mut checked) = (BTreeSet::new(), Vec::new());
        for TableWithPlaces { table, places, errors } in self.0 {
            parser.errors.extend(errors);
            let key = format!("{}: [[webhook]] {:?}", places.table, table.name);
            if !names.insert(table.name.clone()) {
                parser.report(&key, "another one has this name");
            }
            let networks = table.networks.iter().filter_map(|text| {
                text.parse::<Network>().map_err(|error| parser.report(&key, format!("networks: {error}"))).ok()
            });
            let networks: Vec<Network> = networks.collect();
            let give_up_after = match table.give_up_after.as_deref().map(flow::parse_duration) {
                None => DEFAULT_GIVE_UP_AFTER,
                Some(Ok(age)) => age,
                Some(Err(error)) => {
                    parser.report(&key, format!("give_up_after: {error}"));
                    DEFAULT_GIVE_UP_AFTER
                }
            };
            checked.push(ConfiguredWebhook { place: places.table, table, networks, give_up_after });
        }
        ConfiguredWebhooks(checked)
    }
}

impl Settings {
    /// The webhooks of a server, with their secrets.
    ///
    /// # Errors
    /// The table that cannot be used, and why.
    pub(crate) fn webhooks(&self) -> Result<Vec<Webhook>, CliError> {
        self.webhooks.0.iter().map(ConfiguredWebhook::webhook).collect()
    }
}

impl ConfiguredWebhook {
    fn webhook(&self) -> Result<Webhook, CliError> {
        let Self { place, table, networks, give_up_after } = self;
        let RawWebhook { name, url, flow, namespace, label, kind, state, .. } = table.clone();
        let joined = |words: Vec<String>| (!words.is_empty()).then(|| words.join(","));
        let events = EventsQuery { flow, namespace, label, kind: joined(kind), state: joined(state) };
        let refused = |error: String| CliError::invalid(anyhow!("{place}: [[webhook]] {name:?}: {error}"));
        let secret = self.secret().map_err(refused)?;
        let (networks, give_up_after) = (networks.clone(), *give_up_after);
        let settings = WebhookSettings { name: name.clone(), url, secret, events, networks, give_up_after };
        Webhook::new(settings).map_err(refused)
    }

    fn secret(&self) -> Result<String, String> {
        match (&self.table.secret_file, &self.table.secret_variable) {
            (Some(file), None) => {
                let file = PathBuf::from(file);
                credentials::read_secret_once("the secret of the webhook", &file)
                    .map_err(|error| format!("{:#}", anyhow!(error)))
            }
            (None, Some(variable)) => env::var(variable)
                .ok()
                .filter(|text| !text.is_empty())
                .ok_or_else(|| format!("secret_variable: the variable {variable} is not set, or is no text")),
            (Some(_), Some(_)) | (None, None) => {
                Err("set one of `secret_file` and `secret_variable`: where the secret comes from that signs the events"
                    .into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read(text: &str) -> (ConfiguredWebhooks, Vec<String>) {
        let document = toml::de::DeTable::parse(text).unwrap();
        let webhooks = document.get_ref().get("webhook").unwrap();
        let mut parser = Parser::default();
        let webhooks = RawWebhooks::read(webhooks, &FileText::new("config.toml", text)).check(&mut parser);
        (webhooks, parser.errors)
    }

    #[test]
    fn a_table_says_who_is_told_of_which_events() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let (ConfiguredWebhooks(webhooks), errors) = read(&format!(
            "[[webhook]]\nname = \"pager\"\nurl = \"https://example.com/hook\"\nsecret_file = {file:?}\nkind = [\"run\"]\n\
             state = [\"failure\", \"rolled-back\"]\nnetworks = [\"10.0.0.0/8\"]\ngive_up_after = \"2h\"\n"
        ));
        assert_eq!(errors, Vec::<String>::new());
        let [webhook] = &webhooks[..] else { panic!("{webhooks:?}") };
        assert_eq!(webhook.give_up_after, Duration::from_secs(7_200));
        assert_eq!(webhook.networks[0].to_string(), "10.0.0.0/8");
        assert_eq!(webhook.webhook().map_err(|error| error.error).unwrap().name().as_str(), "pager");
    }

    #[test]
    fn each_mistake_is_reported_with_its_table() {
        let (_, errors) = read(
            "[[webhook]]\nname = \"a\"\nurll = \"x\"\n[[webhook]]\nname = \"a\"\nnetworks = [\"x\"]\ngive_up_after = \"soon\"\n",
        );
        let [key, twice, network, age] = &errors[..] else { panic!("{errors:#?}") };
        for (error, expected) in [
            (key, "config.toml, line 3, column 1: unknown field `urll`"),
            (twice, "config.toml, line 4, column 1: [[webhook]] \"a\": another one has this name"),
            (network, "config.toml, line 4, column 1: [[webhook]] \"a\": networks: "),
            (age, "config.toml, line 4, column 1: [[webhook]] \"a\": give_up_after: "),
        ] {
            assert!(error.starts_with(expected), "{error}");
        }
        let (ConfiguredWebhooks(webhooks), _) = read("[[webhook]]\nname = \"a\"\nurl = \"https://example.com\"\n");
        let error = webhooks[0].webhook().unwrap_err().error.to_string();
        assert!(error.contains("line 1, column 1: [[webhook]] \"a\": set one of `secret_file`"), "{error}");
    }
}
