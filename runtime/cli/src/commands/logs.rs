//! `waft logs`: what guests wrote during a run.

use client::api::AttemptLog;

use super::remote;
use crate::{
    clean,
    exit::{Exit, Failed},
    out,
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, run: &str, task: Option<&str>, as_json: bool) -> Result<Exit, Failed> {
    let client = remote::client(settings)?;
    let logs = client.logs(run).await.map_err(remote::failed)?.logs;
    let asked: Vec<&AttemptLog> = logs.iter().filter(|log| task.is_none_or(|task| log.task == task)).collect();
    if asked.is_empty() && !as_json {
        crate::out::note!("no guest has written anything");
    }
    for log in asked {
        if as_json {
            out::json(serde_json::to_string(log).map_err(Failed::unreachable)?);
        } else {
            print_attempt(log);
        }
    }
    Ok(Exit::Success)
}

fn print_attempt(log: &AttemptLog) {
    let mut title = log.task.clone();
    if log.call == "rollback" {
        title.push_str(" rollback");
    }
    if log.firing > 1 {
        title.push_str(&format!(" firing {}", log.firing));
    }
    if log.attempt > 1 {
        title.push_str(&format!(" attempt {}", log.attempt));
    }
    for line in &log.lines {
        out::line(&format!("{title} | {:6} {}", clean::one_line(&line.level), clean::one_line(&line.text)));
    }
    if log.cut {
        out::line(&format!("{title} | … there was more than is kept"));
    }
}
