//! `waft show`: a run with all its tasks.

use client::api::{Awaits, Elements, Failure, FiringState, Node, Revision, Run};
use flow::State;

use super::{
    list::short,
    remote::{self, between},
};
use crate::{
    display::mark,
    exit::{Exit, Failed},
    out,
    paint::{self, Paint},
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, run: &str, with_revisions: bool, as_json: bool) -> Result<Exit, Failed> {
    let client = remote::client(settings)?;
    let run = client.run(run).await.map_err(remote::failed)?;
    if as_json {
        out::line(&serde_json::to_string(&run).map_err(Failed::unreachable)?);
        return Ok(Exit::Success);
    }
    let Run { run: id, flow, state, revision, revisions, started_at, changed_at, fired, firings, tasks, .. } = &run;
    let colour = paint::on(&std::io::stdout());
    out::line(&format!("{}  {id}  {state}", Paint::Bold.text(flow, colour)));
    out::line(&format!("started {}, last changed {}", short(started_at), short(changed_at)));
    if let Some(fired) = fired {
        let under_way = firings.iter().map(|FiringState { firing, state }| format!(", firing {firing} {state}"));
        let times = if *fired == 1 { "once".into() } else { format!("{fired} times") };
        out::line(&format!("fired {times}{}", under_way.collect::<String>()));
    }
    out::line("");
    if with_revisions {
        out::line(&format!("revision {revision}"));
        for Revision { revision, at, edits } in revisions {
            out::line(&format!("  {revision}  {}  {}", short(at), edits.join("; ")));
        }
        out::line("");
    }
    let width = tasks.iter().map(|task| task.name.len()).max().unwrap_or(0);
    tasks.iter().for_each(|task| out::line(&line(task, width, colour)));
    eprint!("{}", remote::summary(&run, remote::state(&run)?));
    remote::print_values(&run);
    Ok(Exit::Success)
}

fn line(node: &Node, width: usize, colour: bool) -> String {
    let state = State::ALL.into_iter().find(|state| state.as_str() == node.state).unwrap_or(State::Pending);
    let painted = Paint::of(state).text(&format!("{:16}", node.state), colour);
    let attempt = node.attempt.filter(|attempt| *attempt > 1).map(|attempt| format!("#{attempt}")).unwrap_or_default();
    let took = node.started_at.as_deref().zip(node.at.as_deref()).and_then(|(from, until)| between(from, until));
    let took = took.filter(|_| !matches!(state, State::Running | State::RollingBack));
    let took = took.map(|took| format!("{:.1}s", took.as_secs_f64())).unwrap_or_default();
    let mut line = format!("  {} {:width$}  {painted} {attempt:4} {took:>7}", mark(state, colour), node.name);
    if let Some(Awaits { word, values, until }) = &node.awaits {
        line.push_str(&format!("  waits for {word}"));
        if !values.is_empty() {
            line.push_str(&format!(", with {}", values.join(", ")));
        }
        until.iter().for_each(|until| line.push_str(&format!(", until {}", short(until))));
    }
    if let Some(Elements { count, succeeded }) = node.elements {
        line.push_str(&format!("  {succeeded} of {count} elements"));
    }
    if let Some(worker) = &node.worker {
        line.push_str(&format!("  {}", Paint::Dim.text(worker, colour)));
    }
    // A newer server may say it otherwise.
    let failure = node.failure.as_ref().and_then(|failure| serde_json::from_str::<Failure>(failure.get()).ok());
    if let Some(Failure { kind, message, .. }) = failure {
        line.push_str(&format!("  {kind}: {}", message.lines().next().unwrap_or_default()));
    }
    line.trim_end().to_owned()
}
