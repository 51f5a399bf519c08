//! `waft engines`: lists the engines that share the runs of a server.

use api::{DrivenShard, Engine, Engines};

use super::remote;
use crate::{
    exit::{CliError, Exit},
    output, sanitize,
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, as_json: bool) -> Result<Exit, CliError> {
    let Engines { engines, unanswered } = remote::client(settings)?.engines().await.map_err(remote::cli_error)?;
    if as_json {
        for engine in &engines {
            output::json(serde_json::to_string(engine).map_err(CliError::unreachable)?);
        }
    } else {
        print_table(&engines);
    }
    if !unanswered.is_empty() {
        let shards = sanitize::one_line(&unanswered.join(", "));
        crate::output::note!("no engine has answered for the shards {shards}: one may just take them over");
    }
    Ok(Exit::Success)
}

fn print_table(engines: &[Engine]) {
    let cell = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let width = engines.iter().map(|engine| engine.engine.len()).max().unwrap_or(0).max(6);
    let host_width = engines.iter().map(|engine| cell(&engine.host).len()).max().unwrap_or(0).max(4);
    crate::output::say!("{:width$}  {:host_width$}  VERSION  SHARD  RUNS  SINCE", "ENGINE", "HOST");
    for engine in engines {
        let (host, version) = (cell(&engine.host), cell(&engine.version));
        let name = &engine.engine;
        let begin = format!("{name:width$}  {host:host_width$}  {version:7}");
        if engine.shards.is_empty() {
            output::line(&sanitize::one_line(&format!("{begin}  -")));
        }
        for DrivenShard { shard, since, runs } in &engine.shards {
            let since: String = since.chars().take(19).collect();
            output::line(&sanitize::one_line(&format!("{begin}  {shard:5}  {runs:>4}  {since}")));
        }
    }
}
