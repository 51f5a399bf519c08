//! The flags of `waft top`.

use clap::Args;

use super::FilterFlags;

/// What the terminal's dashboard shows first.
#[derive(Debug, Args)]
pub(crate) struct TopFlags {
    /// Begin with this run in place of the list
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) filter: FilterFlags,
}
