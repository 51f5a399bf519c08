//! Flags of `waft logs`.

use clap::Args;

/// Which attempts `waft logs --http` prints.
#[derive(Debug, Args)]
pub(crate) struct ExchangesFlags {
    /// With --http: only the attempts in this firing
    #[arg(long, value_name = "N", requires = "http")]
    pub(crate) firing: Option<u64>,
    /// With --http: only the attempts with this number
    #[arg(long, value_name = "N", requires = "http")]
    pub(crate) attempt: Option<u32>,
    /// With --http: only the attempts to roll back
    #[arg(long, requires = "http")]
    pub(crate) rollback: bool,
    /// With --http: the attempts before those that were printed; waft then says the position
    #[arg(long, value_name = "POSITION", requires = "http")]
    pub(crate) before: Option<String>,
}
