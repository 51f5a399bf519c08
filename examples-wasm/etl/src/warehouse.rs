//! The table `orders` of the warehouse (`schema.sql`): its rows are in batches, and each page of a firing is a batch.

use waft_guest::prelude::*;

use crate::{
    Loaded,
    postgres::{Address, Client},
};

/// The address of the warehouse, unless the flow has an input `warehouse`.
const ADDRESS: &str = "postgres://etl@127.0.0.1:5432/warehouse";

/// The name of the configuration value with the password. The operator grants it with the connection.
const PASSWORD: &str = "WAREHOUSE_PASSWORD";

/// Two transactions of one batch wait for each other. The worker of one of them may be dead: its transaction goes on in the
/// server until the server notices. A rollback that did not wait would not see the rows of that transaction.
const LOCK_BATCH: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";

/// A row that an earlier attempt has loaded stays as it is.
const INSERT: &str = "INSERT INTO orders (batch, id, customer, cents)
    SELECT $1, id, customer, cents FROM json_to_recordset($2::json) AS row(id text, customer text, cents bigint)
    ON CONFLICT (batch, id) DO NOTHING";

const SUM: &str = "SELECT count(*), coalesce(sum(cents), 0) FROM orders WHERE batch = $1";

const DELETE: &str = "WITH deleted AS (DELETE FROM orders WHERE batch = $1 RETURNING id) SELECT count(*) FROM deleted";

/// A row of the table.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) customer: String,
    pub(crate) cents: u64,
}

/// Loads the rows of a batch in one transaction, and returns what the batch has then.
pub(crate) fn load(address: Option<&str>, batch: &str, rows: &[Row]) -> Result<Loaded, Failure> {
    let rows = serde_json::to_string(rows)?;
    connect(address)?.transaction(|client| {
        client.query(LOCK_BATCH, &[batch])?;
        client.query(INSERT, &[batch, &rows])?;
        let sums = client.query(SUM, &[batch])?;
        Ok(Loaded { rows: number(&sums, 0)?, cents: number(&sums, 1)? })
    })
}

/// Deletes the rows of a batch, and returns their number: none, if it was not loaded or is deleted already.
pub(crate) fn delete(address: Option<&str>, batch: &str) -> Result<u64, Failure> {
    connect(address)?.transaction(|client| {
        client.query(LOCK_BATCH, &[batch])?;
        number(&client.query(DELETE, &[batch])?, 0)
    })
}

fn connect(address: Option<&str>) -> Result<Client, Failure> {
    let password = waft_guest::config(PASSWORD)?;
    Client::connect(&Address::parse(address.unwrap_or(ADDRESS))?, &password)
}

/// A number in the first row of an answer.
fn number(rows: &[Vec<String>], column: usize) -> Result<u64, Failure> {
    let text = rows.first().and_then(|row| row.get(column)).map(String::as_str).unwrap_or_default();
    text.parse().map_err(|_| Failure::permanent(format!("the database has sent {text:?} in place of a number")))
}
