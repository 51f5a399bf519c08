//! The warehouse of the demo: a PostgreSQL of its own with the table of the example `etl`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use xtask::{
    postgres::{self, Postgres, psql},
    project,
};

/// The address that the flows and the settings of the examples name.
pub(crate) const ADDRESS_IN_FILES: &str = "127.0.0.1:5432";

/// The rows of a day.
const ROWS: &str = "90";

/// A running server. Dropping it kills it and removes its files.
pub(crate) struct Warehouse {
    _postgres: Postgres,
    /// The address of its database, for an administrator.
    administrator: String,
}

impl Warehouse {
    /// Starts a server and makes the warehouse, as the README of the example says; `None` if PostgreSQL is not installed.
    pub(crate) fn start_if_installed() -> Result<Option<Self>> {
        if !postgres::is_installed() {
            return Ok(None);
        }
        let postgres = Postgres::start()?;
        let administrator = postgres.database("warehouse")?;
        let schema = project::root().join("examples-wasm/etl/schema.sql");
        // The password in the settings of the examples.
        let user = "CREATE ROLE etl LOGIN PASSWORD 'only-for-practice'";
        execute(psql(&administrator)?.args(["--command", user, "--file"]).arg(schema))?;
        Ok(Some(Self { _postgres: postgres, administrator }))
    }

    /// The host and the port of the server.
    pub(crate) fn address(&self) -> String {
        let server = self.administrator.rsplit_once('@').map_or("", |(_, server)| server);
        server.split('/').next().unwrap_or_default().to_owned()
    }

    /// Shows that the warehouse has the rows of one run, each once.
    pub(crate) fn show_rows(&self) -> Result<()> {
        let statement = "SELECT count(*) FROM orders";
        let rows = execute(psql(&self.administrator)?.args(["--command", statement]))?;
        ensure!(rows == ROWS, "the warehouse should have {ROWS} rows, and has {rows}");
        println!("-- {statement}: {rows}");
        Ok(())
    }
}

fn execute(psql: &mut Command) -> Result<String> {
    let output = psql.output().context("could not run psql")?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
