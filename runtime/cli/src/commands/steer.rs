//! `waft cancel`, `suspend`, `resume`, `retry`, `skip` and `notify`: what a person may ask for a run.

use client::api::{Notification, Skip, ValuesObject};
use serde_json::json;

use super::remote;
use crate::{
    arguments::ValueFlags,
    exit::{Exit, Failed},
    flow_file::given_values,
    settings::Settings,
};

/// What is asked for.
pub(super) enum Wish {
    Cancel,
    Suspend,
    Resume,
    Retry,
    Skip { task: String, reason: String },
    Notify { task: String, values: ValueFlags, failure: Option<String>, key: Option<String> },
}

pub(super) async fn run(settings: &Settings, run: &str, wish: Wish, as_json: bool) -> Result<Exit, Failed> {
    let client = remote::client(settings)?;
    let answer = match wish {
        Wish::Cancel => client.cancel(run).await,
        Wish::Suspend => client.suspend(run).await,
        Wish::Resume => client.resume(run).await,
        Wish::Retry => client.retry(run).await,
        Wish::Skip { task, reason } => client.skip(run, &Skip { task, reason }).await,
        Wish::Notify { task, values, failure, key } => {
            let values = ValuesObject::from(&given_values(&values)?);
            client.notify(run, &Notification { task, values, failure, key }).await
        }
    };
    let answer = answer.map_err(remote::failed)?;
    if as_json {
        crate::out::json(json!({"run": answer.run, "state": answer.state}));
    } else {
        let state = if answer.cancelling { "cancelling" } else { &answer.state };
        crate::out::say!("{} {state}", answer.run);
    }
    Ok(Exit::Success)
}
