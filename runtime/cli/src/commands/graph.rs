//! `waft graph`: draws a flow.

use std::path::Path;

use crate::{
    arguments::{Picture, ValueFlags},
    exit::{CliError, Exit},
    flow_file,
    modules::{self, Purpose},
    settings::Settings,
};

pub(super) async fn run(
    settings: &Settings,
    flow: &Path,
    format: Picture,
    values: &ValueFlags,
) -> Result<Exit, CliError> {
    let inputs = flow_file::parse_values(values)?;
    let library = modules::open_to_read(settings).await?;
    let flow = flow_file::check(&library, flow, &inputs, Purpose::Inspect).await?.into_flow()?;
    let picture = match format {
        Picture::Dot => flow::picture::dot(&flow),
        Picture::Mermaid => flow::picture::mermaid(&flow),
        Picture::Svg => flow::picture::svg(&flow),
    };
    crate::output::lines(picture.trim_end());
    Ok(Exit::Success)
}
