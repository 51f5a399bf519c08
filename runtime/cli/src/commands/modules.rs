//! `waft modules`: lists the contents of the store.

use api::StoredModule;
use flow::{Size, Timestamp};
use serde_json::json;

use super::remote;
use crate::{
    exit::{CliError, Exit},
    modules,
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, as_json: bool) -> Result<Exit, CliError> {
    let (location, contents) = if settings.server.is_chosen() {
        let client = remote::client(settings)?;
        let contents = client.modules().await.map_err(remote::cli_error)?.modules;
        (format!("the store of {}", client.server()), contents)
    } else {
        (format!("the store {}", settings.store.display()), local(settings).await?)
    };
    if contents.is_empty() {
        crate::output::note!("{location} is empty; `waft push FILE` stores a module");
    } else if !as_json {
        crate::output::say!("{:71}  {:>10}  {:19}  TAGS", "DIGEST", "SIZE", "STORED");
    }
    for StoredModule { digest, size, stored_at, tags } in contents {
        if as_json {
            crate::output::json(json!({"digest": digest, "size": size, "stored_at": stored_at, "tags": tags}));
        } else {
            let size = format!("{:#}", Size(size));
            let stored: String = stored_at.chars().take(19).collect();
            crate::output::say!("{}", format!("{digest}  {size:>10}  {stored}  {}", tags.join(" ")).trim_end());
        }
    }
    Ok(Exit::Success)
}

/// Lists the contents of this machine's store.
async fn local(settings: &Settings) -> Result<Vec<StoredModule>, CliError> {
    let store = modules::open_store_to_read(settings).await?;
    let entries = store.list().await.map_err(CliError::unreachable)?;
    let tags = store.tags().await.map_err(CliError::unreachable)?;
    let stored = |entry: store::Entry| {
        let named = tags.iter().filter(|(_, digest)| *digest == entry.digest);
        StoredModule {
            digest: entry.digest.to_string(),
            size: entry.size,
            stored_at: protocol::events::rfc3339(timestamp(entry.stored_at)),
            tags: named.map(|(tag, _)| tag.to_string()).collect(),
        }
    };
    Ok(entries.into_iter().map(stored).collect())
}

fn timestamp(time: std::time::SystemTime) -> Timestamp {
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
