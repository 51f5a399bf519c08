//! Tokens in the file.

use async_trait::async_trait;
use flow::{Digest, TokenName};
use rusqlite::{OptionalExtension as _, Row, params};

use super::Sqlite;
use crate::{
    AppendError, LoadError,
    access::{Access, AccessToken, TokenRow},
};

const ADD: &str = "INSERT INTO tokens (name, hash, scopes, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT DO NOTHING";
const FIND: &str = "SELECT name, hash, scopes, created_at, expires_at FROM tokens WHERE hash = ?1";
const LIST: &str = "SELECT name, hash, scopes, created_at, expires_at FROM tokens ORDER BY name";
const REMOVE: &str = "DELETE FROM tokens WHERE name = ?1";

#[async_trait]
impl Access for Sqlite {
    async fn add_token(&self, token: &AccessToken) -> Result<bool, AppendError> {
        let TokenRow { name, hash, scopes, created_at, expires_at } = token.into();
        let added = self.writer.run(move |connection| {
            connection.prepare_cached(ADD)?.execute(params![name, hash, scopes, created_at, expires_at])
        });
        added.await.map(|rows| rows > 0).map_err(|failure| self.append_error(failure))
    }

    async fn token(&self, hash: &Digest) -> Result<Option<AccessToken>, LoadError> {
        let hash = hash.as_bytes().to_vec();
        let found =
            self.reader.run(move |connection| connection.prepare_cached(FIND)?.query_row([hash], row).optional());
        found.await.map_err(|failure| self.load_error(failure))?.map(TokenRow::into_token).transpose()
    }

    async fn tokens(&self) -> Result<Vec<AccessToken>, LoadError> {
        let rows = self.reader.run(|connection| connection.prepare_cached(LIST)?.query_map([], row)?.collect());
        let rows: Vec<TokenRow> = rows.await.map_err(|failure| self.load_error(failure))?;
        rows.into_iter().map(TokenRow::into_token).collect()
    }

    async fn remove_token(&self, name: &TokenName) -> Result<bool, AppendError> {
        let name = name.to_string();
        let removed = self.writer.run(move |connection| connection.prepare_cached(REMOVE)?.execute([name]));
        removed.await.map(|rows| rows > 0).map_err(|failure| self.append_error(failure))
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<TokenRow> {
    Ok(TokenRow {
        name: row.get(0)?,
        hash: row.get(1)?,
        scopes: row.get(2)?,
        created_at: row.get(3)?,
        expires_at: row.get(4)?,
    })
}
