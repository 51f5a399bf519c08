//! `waft modules`: what the store holds.

use flow::{Size, Timestamp};
use serde_json::json;

use crate::{
    exit::{Exit, Failed},
    modules::Library,
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, as_json: bool) -> Result<Exit, Failed> {
    let library = Library::open(settings, 1).await?;
    let entries = library.store.list().await.map_err(Failed::unreachable)?;
    let tags = library.store.tags().await.map_err(Failed::unreachable)?;
    if entries.is_empty() {
        eprintln!("the store {} is empty; `waft push FILE` puts a module into it", settings.store.display());
    } else if !as_json {
        println!("{:71}  {:>10}  {:19}  TAGS", "DIGEST", "SIZE", "STORED");
    }
    for entry in entries {
        let named = tags.iter().filter(|(_, digest)| *digest == entry.digest);
        let named: Vec<String> = named.map(|(tag, _)| tag.to_string()).collect();
        let stored_at = protocol::json::rfc3339(timestamp(entry.stored_at));
        if as_json {
            let digest = entry.digest.to_string();
            println!("{}", json!({"digest": digest, "size": entry.size, "stored_at": stored_at, "tags": named}));
        } else {
            let size = format!("{:#}", Size(entry.size));
            let line = format!("{}  {size:>10}  {}  {}", entry.digest, &stored_at[..19], named.join(" "));
            println!("{}", line.trim_end());
        }
    }
    Ok(Exit::Success)
}

fn timestamp(time: std::time::SystemTime) -> Timestamp {
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
