//! `waft logs`: what guests wrote during a run.

use client::api::AttemptLog;

use super::{
    place::{Here, Place, place_to_read},
    remote,
};
use crate::{
    display,
    exit::{Exit, Failed},
    out,
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, run: &str, task: Option<&str>, as_json: bool) -> Result<Exit, Failed> {
    let logs = match place_to_read(settings, run).await? {
        Place::Server(client) => client.logs(run).await.map_err(remote::failed)?.logs,
        Place::Here(Here { logbook, run }) => ::server::logs(&*logbook, &run).await.map_err(Failed::unreachable)?.logs,
    };
    let asked: Vec<&AttemptLog> = logs.iter().filter(|log| task.is_none_or(|task| log.task == task)).collect();
    if asked.is_empty() && !as_json {
        crate::out::note!("no guest has written anything");
    }
    for log in asked {
        if as_json {
            out::json(serde_json::to_string(log).map_err(Failed::unreachable)?);
        } else {
            display::log::lines(log).iter().for_each(|line| out::line(line));
        }
    }
    Ok(Exit::Success)
}
