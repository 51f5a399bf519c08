//! The state of the cloud, and what changes it. Each change is written to the ledger first; the state is what all lines of the
//! ledger give, so a service that was killed continues where it was.

use std::{collections::HashMap, path::Path};

use anyhow::Result;
use serde::Deserialize;

use crate::{
    ledger::{Entry, KeyedRequest, Ledger},
    problem::Problem,
    resource::{Monitor, PoolAddress, Resource, Server, Wordpress},
};

/// A server to make.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewServer {
    name: String,
    region: String,
    /// Whether it cannot be deleted, until somebody changes that.
    #[serde(default)]
    protected: bool,
}

/// WordPress to install.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewWordpress {
    version: String,
    /// Some of [`RECIPES`].
    #[serde(default)]
    recipes: Vec<String>,
}

/// The ways to configure a server.
pub(crate) const RECIPES: [&str; 2] = ["database", "web"];

impl NewServer {
    pub(crate) fn is_in(&self, region: &str) -> bool {
        self.region == region
    }
}

/// All resources, and the requests that made them.
#[derive(Debug)]
pub(crate) struct Cloud {
    ledger: Ledger,
    /// In the order in which they were made.
    resources: Vec<Resource>,
    /// By idempotency key.
    handled: HashMap<String, Handled>,
    /// The number of resources that were ever made, so that no two have the same id.
    made: u64,
}

/// A request that has made a resource.
#[derive(Debug)]
struct Handled {
    content: String,
    resource: Resource,
}

impl Cloud {
    /// Reads the state from its ledger. A new ledger is created.
    pub(crate) fn open(ledger: &Path) -> Result<Self> {
        let (ledger, entries) = Ledger::open(ledger)?;
        let mut cloud = Self { ledger, resources: Vec::new(), handled: HashMap::new(), made: 0 };
        entries.into_iter().for_each(|entry| cloud.evolve(entry));
        Ok(cloud)
    }

    pub(crate) fn create_server(&mut self, request: Option<KeyedRequest>, new: NewServer) -> Result<Resource, Problem> {
        check_name("the name of a server", &new.name)?;
        check_name("a region", &new.region)?;
        self.make(request, |_, number| {
            let NewServer { name, region, protected } = new;
            let address = format!("{name}-{number}.{region}.example");
            Ok(Resource::Server(Server { id: format!("srv-{number}"), name, region, address, protected }))
        })
    }

    pub(crate) fn install_wordpress(
        &mut self,
        request: Option<KeyedRequest>,
        server: String,
        new: NewWordpress,
    ) -> Result<Resource, Problem> {
        let NewWordpress { version, recipes } = new;
        check_name("a version", &version)?;
        if let Some(unknown) = recipes.iter().find(|recipe| !RECIPES.contains(&recipe.as_str())) {
            return Err(Problem::invalid(format!("there is no recipe {unknown:?}, only {}", RECIPES.join(", "))));
        }
        self.make(request, |cloud, number| {
            cloud.server(&server)?;
            Ok(Resource::Wordpress(Wordpress { id: format!("wp-{number}"), server, version, recipes }))
        })
    }

    pub(crate) fn add_address(
        &mut self,
        request: Option<KeyedRequest>,
        pool: String,
        address: String,
    ) -> Result<Resource, Problem> {
        check_name("the name of a pool", &pool)?;
        self.make(request, |cloud, number| {
            if !cloud.servers().any(|server| server.address == address) {
                return Err(Problem::invalid(format!("no server has the address {address}")));
            }
            Ok(Resource::PoolAddress(PoolAddress { id: format!("adr-{number}"), pool, address }))
        })
    }

    pub(crate) fn add_monitor(
        &mut self,
        request: Option<KeyedRequest>,
        server: String,
        alert: String,
    ) -> Result<Resource, Problem> {
        let is_address = alert.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
        if !is_address {
            return Err(Problem::invalid(format!("{alert:?} is no e-mail address, so nobody could be alerted")));
        }
        self.make(request, |cloud, number| {
            cloud.server(&server)?;
            Ok(Resource::Monitor(Monitor { id: format!("mon-{number}"), server, alert }))
        })
    }

    /// Deletes a server that nothing uses.
    pub(crate) fn delete_server(&mut self, id: &str) -> Result<(), Problem> {
        self.server(id)?;
        self.delete(id, None)
    }

    /// Removes an address from a pool.
    pub(crate) fn remove_address(&mut self, pool: &str, address: &str) -> Result<(), Problem> {
        let found = self.addresses(pool).find(|entry| entry.address == address).map(|entry| entry.id.clone());
        let id = found.ok_or_else(|| Problem::not_found(format!("{address} is not in the pool {pool}")))?;
        self.delete(&id, None)
    }

    /// Allows or forbids to delete a server.
    pub(crate) fn protect(&mut self, id: &str, protected: bool) -> Result<Resource, Problem> {
        let resource = Resource::Server(Server { protected, ..self.server(id)?.clone() });
        self.record(Entry::Changed { resource: resource.clone() })?;
        Ok(resource)
    }

    /// Deletes what the request with this key has made, and forgets the key: a later request with it makes a resource again.
    pub(crate) fn take_back(&mut self, key: &str) -> Result<(), Problem> {
        let made = self.handled.get(key).map(|handled| handled.resource.id().to_owned());
        let id = made.ok_or_else(|| Problem::not_found(format!("no request with the key {key} has made anything")))?;
        self.delete(&id, Some(key.to_owned()))
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = &Server> {
        self.resources.iter().filter_map(Resource::as_server)
    }

    pub(crate) fn addresses<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = &'a PoolAddress> {
        self.resources.iter().filter_map(Resource::as_pool_address).filter(move |address| address.pool == pool)
    }

    fn server(&self, id: &str) -> Result<&Server, Problem> {
        let found = self.servers().find(|server| server.id == id);
        found.ok_or_else(|| Problem::not_found(format!("there is no server {id}")))
    }

    /// Makes a resource, or returns the one that an earlier request with the same key has made.
    fn make(
        &mut self,
        request: Option<KeyedRequest>,
        create: impl FnOnce(&Self, u64) -> Result<Resource, Problem>,
    ) -> Result<Resource, Problem> {
        if let Some(request) = &request
            && let Some(earlier) = self.handled.get(&request.key)
        {
            if earlier.content != request.content {
                return Err(Problem::invalid(format!(
                    "an earlier request with the key {} was another one: use a new key",
                    request.key
                )));
            }
            return Ok(earlier.resource.clone());
        }
        let resource = create(self, self.made + 1)?;
        self.record(Entry::Made { resource: resource.clone(), request })?;
        Ok(resource)
    }

    fn delete(&mut self, id: &str, forgotten_key: Option<String>) -> Result<(), Problem> {
        if let Ok(server) = self.server(id) {
            if server.protected {
                return Err(Problem::conflict(format!("the server {id} is protected and cannot be deleted")));
            }
            if let Some(user) = self.resources.iter().find(|resource| resource.uses(server)) {
                return Err(Problem::conflict(format!(
                    "the server {id} is in use by {}: delete that first",
                    user.id()
                )));
            }
        }
        self.record(Entry::Deleted { id: id.to_owned(), forgotten_key })
    }

    /// Writes a change to the ledger, and then makes it.
    fn record(&mut self, entry: Entry) -> Result<(), Problem> {
        let written = self.ledger.append(&entry);
        written.map_err(|error| Problem::broken(format!("the change could not be stored: {error}")))?;
        self.evolve(entry);
        Ok(())
    }

    fn evolve(&mut self, entry: Entry) {
        match entry {
            Entry::Made { resource, request } => {
                self.made += 1;
                self.resources.push(resource.clone());
                if let Some(KeyedRequest { key, content }) = request {
                    self.handled.insert(key, Handled { content, resource });
                }
            }
            Entry::Changed { resource } => {
                for stored in self.resources.iter_mut().filter(|stored| stored.id() == resource.id()) {
                    stored.clone_from(&resource);
                }
            }
            Entry::Deleted { id, forgotten_key } => {
                self.resources.retain(|resource| resource.id() != id);
                forgotten_key.map(|key| self.handled.remove(&key));
            }
        }
    }
}

/// Names are parts of paths and addresses.
fn check_name(what: &str, name: &str) -> Result<(), Problem> {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > 63 || !name.bytes().all(is_valid) {
        return Err(Problem::invalid(format!("{what} has 1 to 63 of the characters A-Z a-z 0-9 - _ ., not {name:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn key(key: &str, content: &str) -> Option<KeyedRequest> {
        Some(KeyedRequest { key: key.into(), content: content.into() })
    }

    fn server(name: &str) -> NewServer {
        NewServer { name: name.into(), region: "north".into(), protected: false }
    }

    fn open(folder: &TempDir) -> Cloud {
        Cloud::open(&folder.path().join("ledger.jsonl")).unwrap()
    }

    fn wordpress(recipes: &[&str]) -> NewWordpress {
        NewWordpress { version: "6.9".into(), recipes: recipes.iter().map(|recipe| (*recipe).to_owned()).collect() }
    }

    fn ids(cloud: &Cloud) -> Vec<&str> {
        cloud.resources.iter().map(Resource::id).collect()
    }

    #[test]
    fn the_same_key_gives_the_same_server_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut cloud = open(&folder);
        let made = cloud.create_server(key("k", "blog"), server("blog")).unwrap();
        assert_eq!(cloud.create_server(key("k", "blog"), server("blog")).unwrap(), made);
        drop(cloud);
        let mut cloud = open(&folder);
        assert_eq!(cloud.create_server(key("k", "blog"), server("blog")).unwrap(), made);
        assert_eq!(ids(&cloud), ["srv-1"]);
        let problem = cloud.create_server(key("k", "shop"), server("shop")).unwrap_err();
        assert_eq!(problem.status(), 422);
        // A deleted server is not made again by a request that is late.
        cloud.delete_server("srv-1").unwrap();
        assert_eq!(cloud.create_server(key("k", "blog"), server("blog")).unwrap(), made);
        assert!(ids(&cloud).is_empty());
    }

    #[test]
    fn a_request_that_was_taken_back_can_be_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut cloud = open(&folder);
        cloud.create_server(key("k", "blog"), server("blog")).unwrap();
        cloud.take_back("k").unwrap();
        assert_eq!(cloud.take_back("k").unwrap_err().status(), 404);
        drop(cloud);
        let mut cloud = open(&folder);
        assert!(ids(&cloud).is_empty());
        assert_eq!(cloud.take_back("k").unwrap_err().status(), 404);
        let again = cloud.create_server(key("k", "blog"), server("blog")).unwrap();
        assert_eq!(again.id(), "srv-2", "no two servers ever have the same id");
    }

    #[test]
    fn a_server_in_use_or_protected_is_not_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let mut cloud = open(&folder);
        let made = cloud.create_server(key("s", ""), NewServer { protected: true, ..server("blog") }).unwrap();
        let address = made.as_server().unwrap().address.clone();
        cloud.install_wordpress(key("w", ""), "srv-1".into(), wordpress(&["web"])).unwrap();
        cloud.add_address(key("a", ""), "web".into(), address.clone()).unwrap();
        cloud.add_monitor(key("m", ""), "srv-1".into(), "ann@example.com".into()).unwrap();
        assert_eq!(cloud.take_back("s").unwrap_err().message(), "the server srv-1 is protected and cannot be deleted");
        cloud.protect("srv-1", false).unwrap();
        for (key, user) in [("w", "wp-2"), ("a", "adr-3"), ("m", "mon-4")] {
            let problem = cloud.take_back("s").unwrap_err();
            assert_eq!(problem.message(), format!("the server srv-1 is in use by {user}: delete that first"));
            cloud.take_back(key).unwrap();
        }
        assert_eq!(cloud.remove_address("web", &address).unwrap_err().status(), 404);
        cloud.take_back("s").unwrap();
        drop(cloud);
        assert!(ids(&open(&folder)).is_empty());
    }

    #[test]
    fn wrong_requests_are_refused_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut cloud = open(&folder);
        let problems = [
            cloud.create_server(None, server("a/b")),
            cloud.install_wordpress(None, "srv-9".into(), wordpress(&[])),
            cloud.install_wordpress(None, "srv-9".into(), wordpress(&["soup"])),
            cloud.add_address(None, "web".into(), "10.0.0.1".into()),
            cloud.add_monitor(None, "srv-9".into(), "nobody".into()),
        ];
        let statuses = problems.map(|problem| problem.unwrap_err().status());
        assert_eq!(statuses, [422, 404, 422, 422, 422]);
        assert!(ids(&cloud).is_empty());
    }
}
