//! `waft watch`: a run on a server, from its start to its end.

use super::remote;
use crate::{
    exit::{Exit, Failed},
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, run: &str, as_json: bool) -> Result<Exit, Failed> {
    let client = remote::client(settings)?;
    let run = client.run(run).await.map_err(remote::failed)?;
    remote::follow(&client, &run, as_json).await
}
