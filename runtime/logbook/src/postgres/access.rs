//! Tokens and the audit log in the database.

use std::borrow::Cow;

use async_trait::async_trait;
use flow::{Digest, Timestamp, TokenName};
use tokio_postgres::{Error, Row};

use super::{Postgres, append_error, load_error};
use crate::{
    AppendError, LoadError,
    access::{Access, AccessToken, AuditEntry, AuditFilter, AuditPosition, AuditRow, TokenRow},
    row::column,
};

const ADD: &str = "INSERT INTO waft.tokens AS known (name, hash, scopes, namespace, created_at, expires_at)
    SELECT $1::text, $2::bytea, $3::text, $4::text, $5::bigint, $6::bigint WHERE NOT EXISTS (SELECT FROM waft.tokens WHERE hash = $2)
    ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, scopes = excluded.scopes, namespace = excluded.namespace,
        created_at = excluded.created_at, expires_at = excluded.expires_at
        WHERE known.expires_at <= excluded.created_at";
const FIND: &str = "SELECT name, hash, scopes, namespace, created_at, expires_at FROM waft.tokens WHERE hash = $1";
const LIST: &str = "SELECT name, hash, scopes, namespace, created_at, expires_at FROM waft.tokens ORDER BY name";
const REMOVE: &str = "DELETE FROM waft.tokens WHERE name = $1";

const ADD_AUDIT: &str = "INSERT INTO waft.audit (at, caller, peer, action, subject, status, detail)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::text[])";
const AUDIT: &str = "SELECT key, at, caller, peer, action, subject, status, detail FROM waft.audit
    WHERE key < $1 AND ($3::text IS NULL OR subject = $3) ORDER BY key DESC LIMIT $2";
const DELETE_AUDIT: &str = "DELETE FROM waft.audit WHERE at < $1";

#[async_trait]
impl Access for Postgres {
    async fn add_token(&self, token: &AccessToken) -> Result<bool, AppendError> {
        let TokenRow { name, hash, scopes, namespace, created_at, expires_at } = token.into();
        let added = self.with_connection(async |client| {
            client.execute(ADD, &[&name, &hash, &scopes, &namespace, &created_at, &expires_at]).await
        });
        added.await.map(|rows| rows > 0).map_err(append_error)
    }

    async fn token(&self, hash: &Digest) -> Result<Option<AccessToken>, LoadError> {
        let hash = hash.as_bytes().to_vec();
        let found = self.look_up(async |client| {
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

    async fn add_audit(&self, entries: &[AuditEntry]) -> Result<(), AppendError> {
        let times: Vec<i64> = entries.iter().map(|entry| column(entry.at.as_micros())).collect();
        let texts = |of: fn(&AuditEntry) -> &str| entries.iter().map(of).map(text).collect::<Vec<_>>();
        let (callers, peers, actions) =
            (texts(|entry| &entry.caller), texts(|entry| &entry.peer), texts(|entry| &entry.action));
        let subjects: Vec<_> = entries.iter().map(|entry| entry.subject.as_deref().map(text)).collect();
        let details: Vec<_> = entries.iter().map(|entry| entry.detail.as_deref().map(text)).collect();
        let statuses: Vec<i32> = entries.iter().map(|entry| entry.status.into()).collect();
        let added = self.with_connection(async |client| {
            client.execute(ADD_AUDIT, &[&times, &callers, &peers, &actions, &subjects, &statuses, &details]).await
        });
        added.await.map(drop).map_err(append_error)
    }

    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<(AuditPosition, AuditEntry)>, LoadError> {
        let (before, limit) = (filter.before.map_or(i64::MAX, column), column(filter.limit as u64));
        let subject = filter.subject.as_deref().map(text);
        let rows = self.with_connection(async |client| {
            let rows = client.query(AUDIT, &[&before, &limit, &subject]).await?;
            rows.iter().map(audit_row).collect::<Result<Vec<_>, Error>>()
        });
        rows.await.map_err(load_error)?.into_iter().map(AuditRow::into_entry).collect()
    }

    async fn delete_audit(&self, before: Timestamp) -> Result<u64, AppendError> {
        let before = column(before.as_micros());
        let deleted = self.with_connection_unbounded(async |client| client.execute(DELETE_AUDIT, &[&before]).await);
        deleted.await.map_err(append_error)
    }
}

/// A text from outside, as PostgreSQL can store and compare it: it has no NUL.
fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{FFFD}")) } else { Cow::Borrowed(text) }
}

fn audit_row(row: &Row) -> Result<AuditRow, Error> {
    Ok(AuditRow {
        key: row.try_get(0)?,
        at: row.try_get(1)?,
        caller: row.try_get(2)?,
        peer: row.try_get(3)?,
        action: row.try_get(4)?,
        subject: row.try_get(5)?,
        status: row.try_get(6)?,
        detail: row.try_get(7)?,
    })
}

fn row(row: &Row) -> Result<TokenRow, Error> {
    Ok(TokenRow {
        name: row.try_get(0)?,
        hash: row.try_get(1)?,
        scopes: row.try_get(2)?,
        namespace: row.try_get(3)?,
        created_at: row.try_get(4)?,
        expires_at: row.try_get(5)?,
    })
}
