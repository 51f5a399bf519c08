//! The configuration of a webhook, checked.

use std::{collections::BTreeSet, fmt, time::Duration};

use api::EventsQuery;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use broker::{Binding, Destination};
use flow::{HttpTarget, Namespace, Network, Reach, WebhookName};
use protocol::topology;

use crate::recent_events::event::{EVERY_KEY, EventFilter, RecentEvent};

/// The maximum number of webhooks of a server. Each has a queue, and sends several requests at once.
pub const MAX_WEBHOOKS: usize = 32;

/// The prefix of a secret that is written in base64, as other services write it.
const BASE64_PREFIX: &str = "whsec_";

/// The minimum length of a secret, in bytes.
const MIN_SECRET_BYTES: usize = 16;

/// The shortest and the longest time after which an event may be given up.
const MIN_GIVE_UP_AFTER: Duration = Duration::from_secs(60);
const MAX_GIVE_UP_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// What an operator writes of a webhook.
#[derive(Clone)]
pub struct WebhookSettings {
    /// Its name.
    pub name: String,
    /// The address that gets the events.
    pub url: String,
    /// The secret with which they are signed.
    pub secret: String,
    /// Which events it gets.
    pub events: EventsQuery,
    /// The networks that are not public and that it may reach.
    pub networks: Vec<Network>,
    /// The age at which an event is not sent any more.
    pub give_up_after: Duration,
}

/// A checked webhook.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub(super) name: WebhookName,
    pub(super) target: HttpTarget,
    pub(super) secret: WebhookSecret,
    pub(super) filter: EventFilter,
    pub(super) namespace: Option<Namespace>,
    pub(super) reach: Reach,
    pub(super) give_up_after: Duration,
}

/// The secret of a webhook; it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct WebhookSecret(Vec<u8>);

impl Webhook {
    /// Checks the settings of a webhook.
    ///
    /// # Errors
    /// What is wrong, as a sentence that begins with the key.
    pub fn new(settings: WebhookSettings) -> Result<Self, String> {
        let WebhookSettings { name, url, secret, events, networks, give_up_after } = settings;
        let name = WebhookName::new(name).map_err(|error| format!("name: {error}"))?;
        let target = target(&url).map_err(|error| format!("url: {error}"))?;
        let secret = WebhookSecret::parse(&secret).map_err(|error| format!("the secret: {error}"))?;
        let filter = EventFilter::parse(&events).map_err(|problem| problem.into_document().message())?;
        let namespace = events.namespace.map(Namespace::new).transpose();
        let namespace = namespace.map_err(|error| format!("namespace: {error}"))?;
        if !(MIN_GIVE_UP_AFTER..=MAX_GIVE_UP_AFTER).contains(&give_up_after) {
            return Err("give_up_after: it is from 1m to 7d".to_owned());
        }
        let reach = Reach::of(networks.into_iter());
        Ok(Self { name, target, secret, filter, namespace, reach, give_up_after })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &WebhookName {
        &self.name
    }

    /// The bindings of its queue to the notifications that it may want, and those that an earlier table of its name may have made.
    pub(super) fn bindings(&self, queue: &str) -> (Vec<Binding>, Vec<Binding>) {
        let wanted = self.filter.pattern();
        let mut all = Vec::new();
        for exchange in [topology::NOTIFICATIONS, topology::RUNS] {
            for key in BTreeSet::from([EVERY_KEY, wanted.as_str()]) {
                let to = Destination::Queue(queue.to_owned());
                all.push(Binding { exchange: exchange.to_owned(), key: key.to_owned(), to });
            }
        }
        all.into_iter().partition(|binding| binding.key == wanted && self.filter.is_for(&binding.exchange))
    }

    /// Whether it may get events of several namespaces.
    pub(super) fn has_several_namespaces(&self) -> bool {
        self.namespace.is_none() && !self.filter.is_of_one_flow()
    }

    /// Whether it gets an event, except for the labels of the run.
    pub(super) fn wants(&self, event: &RecentEvent) -> bool {
        let is_in_namespace = self.namespace.is_none() || event.flow.namespace() == self.namespace;
        is_in_namespace && self.filter.matches(event)
    }
}

fn target(url: &str) -> Result<HttpTarget, String> {
    let (scheme, rest) = url.split_once("://").ok_or("write https://HOST/PATH")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    HttpTarget::new("POST", scheme, authority, path).map_err(|error| error.to_string())
}

impl WebhookSecret {
    fn parse(text: &str) -> Result<Self, String> {
        let bytes = match text.strip_prefix(BASE64_PREFIX) {
            Some(encoded) => BASE64_STANDARD
                .decode(encoded)
                .map_err(|_| format!("what follows {BASE64_PREFIX} is not written in base64"))?,
            None => text.as_bytes().to_vec(),
        };
        if bytes.len() < MIN_SECRET_BYTES {
            return Err(format!("it has fewer than {MIN_SECRET_BYTES} bytes: `openssl rand -hex 32` makes one"));
        }
        Ok(Self(bytes))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("WebhookSecret")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use flow::RunState;

    use super::*;
    use crate::recent_events::event::tests::event;

    pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

    pub(crate) fn settings(url: &str) -> WebhookSettings {
        WebhookSettings {
            name: "pager".into(),
            url: url.into(),
            secret: SECRET.into(),
            events: EventsQuery::default(),
            networks: Vec::new(),
            give_up_after: Duration::from_secs(86_400),
        }
    }

    #[test]
    fn an_address_keeps_its_path_and_query() {
        for (url, shown) in [
            ("https://example.com", "https://example.com/"),
            ("https://example.com?token=1", "https://example.com/?token=1"),
            ("http://127.0.0.1:8080/a/b?c=d", "http://127.0.0.1:8080/a/b?c=d"),
        ] {
            let webhook = Webhook::new(settings(url)).unwrap();
            assert_eq!((webhook.target.method(), webhook.target.url().as_str()), ("POST", shown));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = || settings("https://example.com");
        for (settings, expected) in [
            (WebhookSettings { name: "a b".into(), ..good() }, "name: "),
            (settings("example.com"), "url: write https://"),
            (settings("ftp://example.com"), "url: "),
            (settings("https://user:password@example.com"), "url: "),
            (WebhookSettings { secret: "short".into(), ..good() }, "the secret: it has fewer than 16 bytes"),
            (WebhookSettings { secret: "whsec_!".into(), ..good() }, "the secret: what follows whsec_"),
            (WebhookSettings { give_up_after: Duration::from_secs(1), ..good() }, "give_up_after: "),
            (WebhookSettings { events: EventsQuery::default().state("done"), ..good() }, "\"done\" is no state"),
        ] {
            let error = Webhook::new(settings).unwrap_err();
            assert!(error.contains(expected) && !error.contains(SECRET), "{error}");
        }
        assert!(!format!("{:?}", Webhook::new(good()).unwrap()).contains(SECRET));
    }

    #[test]
    fn notifications_that_no_event_is_made_of_do_not_take_the_place_of_others() {
        let bindings = |events: EventsQuery| {
            let webhook = Webhook::new(WebhookSettings { events, ..settings("https://example.com") }).unwrap();
            let (wanted, unwanted) = webhook.bindings("q");
            [wanted, unwanted].map(|bindings| {
                let shown = |Binding { exchange, key, .. }: &Binding| format!("{exchange} {key}");
                bindings.iter().map(shown).collect::<Vec<_>>().join(", ")
            })
        };
        let (of_tasks, of_runs) = ("waft.notifications #", "waft.runs #");
        let all = format!("{of_tasks}, {of_runs}");
        for (kinds, wanted, unwanted) in [
            ("", all.as_str(), ""),
            ("run", of_runs, of_tasks),
            ("task", of_tasks, of_runs),
            ("retry,run", all.as_str(), ""),
        ] {
            assert_eq!(bindings(EventsQuery::default().kind(kinds)), [wanted, unwanted], "{kinds}");
        }
        let of_flow = EventsQuery::default().namespace("shop").flow("f").kind("run");
        let unwanted = "waft.notifications #, waft.notifications shop/f.#, waft.runs #";
        assert_eq!(bindings(of_flow), ["waft.runs shop/f.#", unwanted]);
    }

    #[test]
    fn a_namespace_is_a_condition() {
        let events = EventsQuery::default().namespace("shop").state("failure");
        let webhook = Webhook::new(WebhookSettings { events, ..settings("https://example.com") }).unwrap();
        assert!(webhook.wants(&event("shop/f", "r", RunState::Failure)));
        assert!(!webhook.wants(&event("shop/f", "r", RunState::Success)));
        assert!(!webhook.wants(&event("f", "r", RunState::Failure)));
        assert!(!webhook.wants(&event("bank/f", "r", RunState::Failure)));
    }
}
