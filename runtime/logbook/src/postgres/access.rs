//! Tokens in the database.

use async_trait::async_trait;
use flow::{Digest, TokenName};
use tokio_postgres::{Error, Row};

use super::{Postgres, append_error, load_error};
use crate::{
    AppendError, LoadError,
    access::{Access, AccessToken, TokenRow},
};

const ADD: &str = "INSERT INTO waft.tokens (name, hash, scopes, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING";
const FIND: &str = "SELECT name, hash, scopes, created_at, expires_at FROM waft.tokens WHERE hash = $1";
const LIST: &str = "SELECT name, hash, scopes, created_at, expires_at FROM waft.tokens ORDER BY name";
const REMOVE: &str = "DELETE FROM waft.tokens WHERE name = $1";

#[async_trait]
impl Access for Postgres {
    async fn add_token(&self, token: &AccessToken) -> Result<bool, AppendError> {
        let TokenRow { name, hash, scopes, created_at, expires_at } = token.into();
        let added = self.with_connection(async |client| {
            client.execute(ADD, &[&name, &hash, &scopes, &created_at, &expires_at]).await
        });
        added.await.map(|rows| rows > 0).map_err(append_error)
    }

    async fn token(&self, hash: &Digest) -> Result<Option<AccessToken>, LoadError> {
        let hash = hash.as_bytes().to_vec();
        let found = self.with_connection(async |client| {
            let statement = client.prepare_cached(FIND).await?;
            client.query_opt(&statement, &[&hash]).await?.as_ref().map(row).transpose()
        });
        found.await.map_err(load_error)?.map(TokenRow::into_token).transpose()
    }

    async fn tokens(&self) -> Result<Vec<AccessToken>, LoadError> {
        let rows = self.with_connection(async |client| {
            client.query(LIST, &[]).await?.iter().map(row).collect::<Result<Vec<_>, Error>>()
        });
        rows.await.map_err(load_error)?.into_iter().map(TokenRow::into_token).collect()
    }

    async fn remove_token(&self, name: &TokenName) -> Result<bool, AppendError> {
        let removed = self.with_connection(async |client| client.execute(REMOVE, &[&name.as_str()]).await);
        removed.await.map(|rows| rows > 0).map_err(append_error)
    }
}

fn row(row: &Row) -> Result<TokenRow, Error> {
    Ok(TokenRow {
        name: row.try_get(0)?,
        hash: row.try_get(1)?,
        scopes: row.try_get(2)?,
        created_at: row.try_get(3)?,
        expires_at: row.try_get(4)?,
    })
}
