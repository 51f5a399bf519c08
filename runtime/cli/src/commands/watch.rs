//! `waft watch`: shows a run from its start to its end, whether a server or another process here drives it.

use super::{remote, source::Source};
use crate::{
    exit::{CliError, Exit},
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, run: &str, as_json: bool) -> Result<Exit, CliError> {
    let source = Source::of(settings, run).await?;
    let run = source.run(run).await?;
    remote::follow(&source, &run, as_json).await
}
