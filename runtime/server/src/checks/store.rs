//! Checks whether the store is writable, holds what runs refer to, and is the store of the engines at the broker.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use ::broker::Broker;
use ::logbook::Logbook;
use ::store::{Directory, Entry, FetchError, Store, bus::Client};
use api::Check;
use flow::Digest;
use protocol::{EngineSecret, Key, topology};

use super::{Locations, QUERY_TIMEOUT, RunningServer, count, nearest, within};
use crate::problem::chain;

/// The maximum number of digests of runs to look up in the store.
const MAX_DIGESTS: usize = 1_000;

/// The size in bytes of the largest content to request over the broker.
const MAX_CONTENT_BYTES: u64 = 1024 * 1024;

/// The maximum number of requests. Engines answer in turn, so two requests per engine reach all of them.
const MAX_REQUESTS: u64 = 16;

/// The store and what the check found.
pub(super) struct StoreCheck {
    pub(super) check: Check,
    store: Option<Directory>,
    entries: Vec<Entry>,
}

/// Checks the store.
pub(super) async fn check(folder: &Path) -> StoreCheck {
    match within(QUERY_TIMEOUT, inspect(folder.to_owned())).await {
        Some(checked) => checked,
        None => {
            let detail = format!("{} has not answered for {} seconds", folder.display(), QUERY_TIMEOUT.as_secs());
            without_store(Check::fail("store", detail, "the disk or the network file system below it hangs"))
        }
    }
}

fn without_store(check: Check) -> StoreCheck {
    StoreCheck { check, store: None, entries: Vec::new() }
}

async fn inspect(folder: PathBuf) -> StoreCheck {
    let shown = folder.display().to_string();
    let advice = "name a folder that this user can write with --store or WAFT_STORE";
    let base = nearest(&folder).await;
    if base != folder {
        return without_store(match ::store::try_writing(base.clone()).await {
            Ok(()) => {
                let detail = format!("there is none at {shown} yet");
                let advice = "the first `waft push`, `run` or `serve` creates it; or name the right one with --store";
                Check::warn("store", detail, advice)
            }
            Err(error) => {
                let detail =
                    format!("there is none at {shown}, and nothing can be made in {}: {error}", base.display());
                Check::fail("store", detail, advice)
            }
        });
    }
    let opened = async {
        let store = Directory::open_to_read(folder.clone()).await.map_err(|error| chain(&error))?;
        let entries = store.list().await.map_err(|error| chain(&error))?;
        Ok::<_, String>((store, entries))
    };
    let (store, entries) = match opened.await {
        Ok(opened) => opened,
        Err(reason) => return without_store(Check::fail("store", format!("{shown} cannot be read: {reason}"), advice)),
    };
    // The store writes contents here before it renames them.
    let written = ::store::try_writing(nearest(&folder.join("incoming")).await).await;
    let check = match written {
        Ok(()) => {
            Check::ok("store", format!("{shown} holds {}, and can be written", count(entries.len() as u64, "content")))
        }
        Err(error) => {
            let detail = format!("{shown} can be read, but not written: {error}");
            Check::fail("store", detail, format!("free space there, or {advice}"))
        }
    };
    StoreCheck { check, store: Some(store), entries }
}

/// Compares the store with what runs refer to, and with the answers of the engines at the broker.
pub(super) async fn compare(
    locations: &Locations,
    running: Option<&RunningServer>,
    broker: Option<Arc<dyn Broker>>,
    checked: &StoreCheck,
    logbook: Option<Arc<dyn Logbook>>,
    secret: Option<EngineSecret>,
) -> Vec<Check> {
    let Some(store) = &checked.store else {
        return vec![Check::skipped("store-shared", "the store could not be read, or does not exist yet")];
    };
    let digests = match logbook {
        Some(logbook) => within(QUERY_TIMEOUT, async move { logbook.digests().await.ok() }).await.flatten(),
        None => None,
    };
    let mut checks: Vec<Check> = match &digests {
        Some(digests) => {
            within(QUERY_TIMEOUT, missing(store, digests, locations)).await.flatten().into_iter().collect()
        }
        None => Vec::new(),
    };
    if locations.broker.is_none() {
        let reason = "only engines that share a broker share a store, and there is no broker";
        checks.push(Check::skipped("store-shared", reason));
        return checks;
    }
    let Some(broker) = broker else {
        checks.push(Check::skipped("store-shared", "the broker could not be reached"));
        return checks;
    };
    // A folder of another waft may hold anything: without an engine here, only content that these runs refer to counts.
    let is_comparable = |entry: &&Entry| {
        entry.size <= MAX_CONTENT_BYTES
            && (running.is_some() || digests.as_ref().is_some_and(|digests| digests.contains(&entry.digest)))
    };
    let smallest = checked.entries.iter().filter(is_comparable).min_by_key(|entry| entry.size);
    let Some(entry) = smallest else {
        checks
            .push(Check::skipped("store-shared", "there is nothing in the store yet that engines could be asked for"));
        return checks;
    };
    // Engines answer only requests sealed with their own secret.
    let Some(secret) = secret else {
        checks.push(Check::skipped("store-shared", "the secret of the engines could not be read from the logbook"));
        return checks;
    };
    checks.push(
        match within(QUERY_TIMEOUT, request_from_engines(broker, entry.digest, secret.content_key(&entry.digest))).await
        {
            Some(Ok(0)) => Check::skipped("store-shared", "no engine answers at the broker"),
            Some(Ok(1)) => Check::ok("store-shared", "the one engine at the broker has what this store has"),
            Some(Ok(engines)) => {
                Check::ok("store-shared", format!("the {engines} engines at the broker have what this store has"))
            }
            Some(Err(FetchError::Missing { digest })) => differs(locations, digest, running.is_some()),
            Some(Err(FetchError::Refused { .. })) => other_logbook(running.is_some()),
            Some(Err(error)) => {
                let detail = format!("an engine at the broker could not answer: {}", chain(&error));
                Check::warn("store-shared", detail, "look at the logs of the engines")
            }
            None => {
                let detail = format!("engines at the broker have not answered for {} seconds", QUERY_TIMEOUT.as_secs());
                Check::warn("store-shared", detail, "see the lines about queues, and the logs of the engines")
            }
        },
    );
    checks
}

/// An engine at the broker has another secret.
fn other_logbook(is_engine: bool) -> Check {
    let detail = "an engine at the broker has another logbook than this one: it refuses our request";
    let advice = "give all engines at one broker the same logbook, and the same folder with --store; \
                  or let them use virtual hosts of their own";
    if is_engine {
        Check::fail("store-shared", detail, advice)
    } else {
        Check::warn("store-shared", detail, format!("{advice}; if this is not their logbook, name that one"))
    }
}

fn differs(locations: &Locations, digest: Digest, is_engine: bool) -> Check {
    let store = locations.store.display();
    let detail = format!("an engine at the broker does not have {digest}, which {store} has: their stores differ");
    let advice =
        "give all engines at one broker the same folder with --store: each of them serves the modules of all runs";
    if is_engine {
        Check::fail("store-shared", detail, advice)
    } else {
        Check::warn("store-shared", detail, format!("{advice}; if this is not their folder, name that one"))
    }
}

/// Reports content that runs refer to and the store lacks.
async fn missing(store: &Directory, digests: &BTreeSet<Digest>, locations: &Locations) -> Option<Check> {
    let mut missing = Vec::new();
    let mut checked_count = 0_u64;
    for digest in digests.iter().take(MAX_DIGESTS) {
        checked_count += 1;
        if matches!(store.contains(digest).await, Ok(false)) {
            missing.push(*digest);
        }
    }
    let first = missing.first()?;
    let shown = locations.store.display();
    let detail =
        format!("{shown} lacks {} of {checked_count} modules and values of the runs, {first} first", missing.len());
    let advice = "name the store that belongs to this logbook with --store, or restore it from a backup";
    Some(Check::warn("store", detail, advice))
}

/// Requests a content over the broker, often enough to reach all engines; returns the number of engines.
async fn request_from_engines(broker: Arc<dyn Broker>, digest: Digest, key: Key) -> Result<u64, FetchError> {
    let engines = broker.consumers(topology::SHARED_STORE).await.ok().flatten().unwrap_or_default();
    if engines == 0 {
        return Ok(0);
    }
    let closed = |_| FetchError::Closed { digest };
    let reply = topology::reply_queue(&format!("doctor.{}", uuid::Uuid::now_v7()));
    let client = Client::new(broker.clone(), reply.clone()).await.map_err(closed)?;
    let mut result = Ok(engines);
    for _ in 0..(2 * engines).min(MAX_REQUESTS) {
        if let Err(error) = client.fetch(topology::SHARED_STORE, digest, key, MAX_CONTENT_BYTES).await {
            result = Err(error);
            break;
        }
    }
    client.close().await;
    // Otherwise it is deleted with the connection.
    let _ = broker.delete_queue(&reply).await;
    result
}
