//! Lists the engines that share the runs, and the shards that each drives.

use std::{collections::BTreeMap, sync::Arc};

use api::{self, DrivenShard, Engine, Engines};
use axum::{Extension, extract::State, response::Response};
use bytes::Bytes;
use engine::{Clock as _, SystemClock};
use flow::{Shard, Timestamp};
use protocol::{EngineStatus, events::rfc3339};

use crate::{auth::permission::Permission, problem::Problem, shared_answers::SharedAnswers, state::Shared};

/// Number of lists that are made at the same time. Each asks for every shard.
pub(crate) const MAX_LISTS_AT_ONCE: usize = 4;

/// The list of engines, as JSON.
pub(crate) type EngineLists = SharedAnswers<(), Bytes>;

/// Lists the engines that share the runs of the server, and the shards that each drives.
#[utoipa::path(get, operation_id = "list_engines", path = "/v1/engines", tag = "engines", responses(
    (status = 200, description = "The engines that were found", body = Engines),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(state): Shared,
    Extension(permission): Extension<Arc<Permission>>,
) -> Result<Response, Problem> {
    let engine = state.dependencies.engine.clone();
    let asking = async move {
        let engines = found(engine.shard_drivers().await, SystemClock.now());
        Ok(Bytes::from(serde_json::to_vec(&engines).expect("strings are JSON")))
    };
    let json = state.engine_lists.get((), None, asking).await?;
    state.large_answers.json(permission.sender(), json)
}

/// The engines that were found, by what was answered about each shard.
fn found(drivers: Vec<(Shard, Option<EngineStatus>)>, now: Timestamp) -> Engines {
    let (mut engines, mut unanswered): (BTreeMap<String, Engine>, _) = (BTreeMap::new(), Vec::new());
    for (shard, driver) in drivers {
        let Some(EngineStatus { engine, host, process, version, driving_for, runs, others }) = driver else {
            unanswered.push(shard.to_string());
            continue;
        };
        for other in others {
            engines.entry(other.clone()).or_insert_with(|| unknown(other));
        }
        let known = engines.entry(engine.clone()).or_insert_with(|| unknown(engine));
        (known.host, known.process, known.version) = (Some(host), Some(process), Some(version));
        let since = u64::try_from(driving_for.as_micros()).unwrap_or(u64::MAX);
        let since = rfc3339(Timestamp::from_micros(now.as_micros().saturating_sub(since)));
        known.shards.push(DrivenShard { shard: shard.to_string(), since, runs });
    }
    let (driving, others): (Vec<_>, Vec<_>) = engines.into_values().partition(|engine| !engine.shards.is_empty());
    Engines { engines: driving.into_iter().chain(others).collect(), unanswered }
}

/// An engine of which only the name is known.
fn unknown(engine: String) -> Engine {
    Engine { engine, host: None, process: None, version: None, shards: Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn engines_have_their_shards_and_those_without_come_last() {
        let status = |engine: &str, others: &[&str]| EngineStatus {
            engine: engine.into(),
            host: "h".into(),
            process: 7,
            version: "1".into(),
            driving_for: Duration::from_secs(60),
            runs: 2,
            others: others.iter().map(|&other| other.into()).collect(),
        };
        let shard = |name: &str| name.parse::<Shard>().unwrap();
        let drivers = vec![
            (shard("0"), Some(status("b", &["a", "c"]))),
            (shard("1"), None),
            (shard("2"), Some(status("c", &["a", "b"]))),
            (shard("3"), Some(status("b", &[]))),
        ];
        let Engines { engines, unanswered } = found(drivers, Timestamp::from_micros(1_700_000_060_000_000));
        let shown = |engine: &Engine| {
            let shards: Vec<&str> = engine.shards.iter().map(|driven| driven.shard.as_str()).collect();
            format!("{} {:?} {}", engine.engine, engine.process, shards.join(","))
        };
        let shown: Vec<String> = engines.iter().map(shown).collect();
        assert_eq!(shown, ["b Some(7) 0,3", "c Some(7) 2", "a None "]);
        assert_eq!(unanswered, ["1"]);
        assert_eq!(engines[0].shards[0].since, rfc3339(Timestamp::from_micros(1_700_000_000_000_000)));
    }
}
