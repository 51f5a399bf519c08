//! Checks whether the store is writable, holds what runs refer to, and is the store of the engines at the broker.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use ::broker::Broker;
use ::logbook::Logbook;
use ::store::{Directory, Entry, FetchError, Store, bus::Client};
use client::api::Check;
use flow::Digest;
use protocol::topology;

use super::{LOOK, Live, Places, count, nearest, within};
use crate::problem::chain;

/// The maximum number of digests of runs to look up in the store.
const SOUGHT: usize = 1_000;

/// The size in bytes of the largest content to request over the broker.
const LARGEST: u64 = 1024 * 1024;

/// The maximum number of requests. Engines answer in turn, so two requests per engine reach all of them.
const TRIES: u64 = 16;

/// The store and what the check found.
pub(super) struct Kept {
    pub(super) check: Check,
    store: Option<Directory>,
    entries: Vec<Entry>,
}

/// Checks the store.
pub(super) async fn look(folder: &Path) -> Kept {
    match within(LOOK, inspect(folder.to_owned())).await {
        Some(kept) => kept,
        None => {
            let detail = format!("{} has not answered for {} seconds", folder.display(), LOOK.as_secs());
            without(Check::fail("store", detail, "the disk or the network file system below it hangs"))
        }
    }
}

fn without(check: Check) -> Kept {
    Kept { check, store: None, entries: Vec::new() }
}

async fn inspect(folder: PathBuf) -> Kept {
    let shown = folder.display().to_string();
    let advice = "name a folder that this user can write with --store or WAFT_STORE";
    let base = nearest(&folder).await;
    if base != folder {
        return without(match ::store::try_writing(base.clone()).await {
            Ok(()) => {
                let detail = format!("there is none at {shown} yet");
                let advice = "the first `waft push`, `run` or `serve` makes it; or name the right one with --store";
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
        Err(reason) => return without(Check::fail("store", format!("{shown} cannot be read: {reason}"), advice)),
    };
    // The store writes contents here before it renames them to their places.
    let tried = ::store::try_writing(nearest(&folder.join("incoming")).await).await;
    let check = match tried {
        Ok(()) => {
            Check::ok("store", format!("{shown} holds {}, and can be written", count(entries.len() as u64, "content")))
        }
        Err(error) => {
            let detail = format!("{shown} can be read, and not be written: {error}");
            Check::fail("store", detail, format!("make room there, or {advice}"))
        }
    };
    Kept { check, store: Some(store), entries }
}

/// Compares the store with what runs refer to, and with the answers of the engines at the broker.
pub(super) async fn compare(
    places: &Places,
    live: Option<&Live>,
    broker: Option<Arc<dyn Broker>>,
    kept: &Kept,
    logbook: Option<Arc<dyn Logbook>>,
) -> Vec<Check> {
    let Some(store) = &kept.store else {
        return vec![Check::skipped("store-shared", "the store could not be read, or is not there yet")];
    };
    let referred = match logbook {
        Some(logbook) => within(LOOK, async move { logbook.digests().await.ok() }).await.flatten(),
        None => None,
    };
    let mut checks: Vec<Check> = match &referred {
        Some(referred) => within(LOOK, missing(store, referred, places)).await.flatten().into_iter().collect(),
        None => Vec::new(),
    };
    if places.broker.is_none() {
        let reason = "only engines that share a broker share a store, and there is no broker";
        checks.push(Check::skipped("store-shared", reason));
        return checks;
    }
    let Some(broker) = broker else {
        checks.push(Check::skipped("store-shared", "the broker could not be reached"));
        return checks;
    };
    // A folder of another waft may hold anything: without an engine here, only content that these runs refer to counts.
    let counts = |entry: &&Entry| {
        entry.size <= LARGEST
            && (live.is_some() || referred.as_ref().is_some_and(|referred| referred.contains(&entry.digest)))
    };
    let smallest = kept.entries.iter().filter(counts).min_by_key(|entry| entry.size);
    let Some(entry) = smallest else {
        checks
            .push(Check::skipped("store-shared", "there is nothing in the store yet that engines could be asked for"));
        return checks;
    };
    checks.push(match within(LOOK, ask(broker, entry.digest)).await {
        Some(Ok(0)) => Check::skipped("store-shared", "no engine answers at the broker"),
        Some(Ok(1)) => Check::ok("store-shared", "the one engine at the broker has what this store has"),
        Some(Ok(engines)) => {
            Check::ok("store-shared", format!("the {engines} engines at the broker have what this store has"))
        }
        Some(Err(FetchError::Missing { digest })) => differs(places, digest, live.is_some()),
        Some(Err(error)) => {
            let detail = format!("an engine at the broker could not answer: {}", chain(&error));
            Check::warn("store-shared", detail, "look at the logs of the engines")
        }
        None => {
            let detail = format!("engines at the broker have not answered for {} seconds", LOOK.as_secs());
            Check::warn("store-shared", detail, "see the lines about queues, and the logs of the engines")
        }
    });
    checks
}

fn differs(places: &Places, digest: Digest, is_engine: bool) -> Check {
    let store = places.store.display();
    let detail = format!("an engine at the broker does not have {digest}, which {store} has: their stores differ");
    let advice =
        "give all engines at one broker the same folder with --store: any of them answers for the modules of all runs";
    if is_engine {
        Check::fail("store-shared", detail, advice)
    } else {
        Check::warn("store-shared", detail, format!("{advice}; if this folder is not theirs, name theirs"))
    }
}

/// Reports content that runs refer to and the store lacks.
async fn missing(store: &Directory, referred: &BTreeSet<Digest>, places: &Places) -> Option<Check> {
    let mut missing = Vec::new();
    let mut looked = 0_u64;
    for digest in referred.iter().take(SOUGHT) {
        looked += 1;
        if matches!(store.contains(digest).await, Ok(false)) {
            missing.push(*digest);
        }
    }
    let first = missing.first()?;
    let shown = places.store.display();
    let detail =
        format!("{shown} lacks {} of {looked} modules and values that runs refer to, {first} first", missing.len());
    let advice = "name the store that belongs to this logbook with --store, or restore it from a backup";
    Some(Check::warn("store", detail, advice))
}

/// Requests a content over the broker, often enough to reach all engines; returns the number of engines.
async fn ask(broker: Arc<dyn Broker>, digest: Digest) -> Result<u64, FetchError> {
    let engines = broker.consumers(topology::SHARED_STORE).await.ok().flatten().unwrap_or_default();
    if engines == 0 {
        return Ok(0);
    }
    let closed = |_| FetchError::Closed { digest };
    let reply = format!("waft.reply.doctor.{}", uuid::Uuid::now_v7());
    let client = Client::new(broker.clone(), reply.clone()).await.map_err(closed)?;
    let mut fetched = Ok(engines);
    for _ in 0..(2 * engines).min(TRIES) {
        if let Err(error) = client.fetch(topology::SHARED_STORE, digest, LARGEST).await {
            fetched = Err(error);
            break;
        }
    }
    client.close().await;
    // Otherwise it is deleted with the connection.
    let _ = broker.delete_queue(&reply).await;
    fetched
}
