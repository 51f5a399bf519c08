//! Tokens and the audit log in the file.

use async_trait::async_trait;
use flow::{Digest, Timestamp, TokenName};
use rusqlite::{OptionalExtension as _, Row, TransactionBehavior, params};

use super::Sqlite;
use crate::{
    AppendError, LoadError,
    access::{Access, AccessToken, AuditEntry, AuditFilter, AuditPosition, AuditRow, TokenRow},
    row::column,
};

const ADD: &str = "INSERT INTO tokens (name, hash, scopes, namespace, created_at, expires_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, scopes = excluded.scopes, namespace = excluded.namespace,
        created_at = excluded.created_at, expires_at = excluded.expires_at
        WHERE tokens.expires_at <= excluded.created_at AND NOT EXISTS (SELECT 1 FROM tokens WHERE hash = excluded.hash)
    ON CONFLICT DO NOTHING";
const FIND: &str = "SELECT name, hash, scopes, namespace, created_at, expires_at FROM tokens WHERE hash = ?1";
const LIST: &str = "SELECT name, hash, scopes, namespace, created_at, expires_at FROM tokens ORDER BY name";
const REMOVE: &str = "DELETE FROM tokens WHERE name = ?1";

const ADD_AUDIT: &str = "INSERT INTO audit (at, caller, peer, action, subject, status, detail)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const AUDIT: &str = "SELECT key, at, caller, peer, action, subject, status, detail FROM audit
    WHERE key < ?1 ORDER BY key DESC LIMIT ?2";
const AUDIT_OF_SUBJECT: &str = "SELECT key, at, caller, peer, action, subject, status, detail FROM audit
    WHERE key < ?1 AND subject = ?3 ORDER BY key DESC LIMIT ?2";
const DELETE_AUDIT: &str = "DELETE FROM audit WHERE at < ?1";

#[async_trait]
impl Access for Sqlite {
    async fn add_token(&self, token: &AccessToken) -> Result<bool, AppendError> {
        let TokenRow { name, hash, scopes, namespace, created_at, expires_at } = token.into();
        let added = self.writer.run(move |connection| {
            connection.prepare_cached(ADD)?.execute(params![name, hash, scopes, namespace, created_at, expires_at])
        });
        added.await.map(|rows| rows > 0).map_err(|failure| self.append_error(failure))
    }

    async fn token(&self, hash: &Digest) -> Result<Option<AccessToken>, LoadError> {
        let hash = hash.as_bytes().to_vec();
        let found =
            self.lookups.read(move |connection| connection.prepare_cached(FIND)?.query_row([hash], row).optional());
        found.await.map_err(|failure| self.load_error(failure))?.map(TokenRow::into_token).transpose()
    }

    async fn tokens(&self) -> Result<Vec<AccessToken>, LoadError> {
        let rows = self.reader.read(|connection| connection.prepare_cached(LIST)?.query_map([], row)?.collect());
        let rows: Vec<TokenRow> = rows.await.map_err(|failure| self.load_error(failure))?;
        rows.into_iter().map(TokenRow::into_token).collect()
    }

    async fn remove_token(&self, name: &TokenName) -> Result<bool, AppendError> {
        let name = name.to_string();
        let removed = self.writer.run(move |connection| connection.prepare_cached(REMOVE)?.execute([name]));
        removed.await.map(|rows| rows > 0).map_err(|failure| self.append_error(failure))
    }

    async fn add_audit(&self, entries: &[AuditEntry]) -> Result<(), AppendError> {
        let entries = entries.to_vec();
        let added = self.writer.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for AuditEntry { at, caller, peer, action, subject, status, detail } in entries {
                let row = params![column(at.as_micros()), caller, peer, action, subject, status, detail];
                transaction.prepare_cached(ADD_AUDIT)?.execute(row)?;
            }
            transaction.commit()
        });
        added.await.map_err(|failure| self.append_error(failure))
    }

    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<(AuditPosition, AuditEntry)>, LoadError> {
        let before = filter.before.map_or(i64::MAX, column);
        let (limit, subject) = (column(filter.limit as u64), filter.subject.clone());
        let rows = self.reader.read(move |connection| match subject {
            Some(subject) => connection
                .prepare_cached(AUDIT_OF_SUBJECT)?
                .query_map(params![before, limit, subject], audit_row)?
                .collect::<rusqlite::Result<Vec<_>>>(),
            None => connection.prepare_cached(AUDIT)?.query_map(params![before, limit], audit_row)?.collect(),
        });
        rows.await.map_err(|failure| self.load_error(failure))?.into_iter().map(AuditRow::into_entry).collect()
    }

    async fn delete_audit(&self, before: Timestamp) -> Result<u64, AppendError> {
        let before = column(before.as_micros());
        let deleted = self.writer.run(move |connection| connection.prepare_cached(DELETE_AUDIT)?.execute([before]));
        deleted.await.map(|rows| rows as u64).map_err(|failure| self.append_error(failure))
    }
}

fn audit_row(row: &Row<'_>) -> rusqlite::Result<AuditRow> {
    Ok(AuditRow {
        key: row.get(0)?,
        at: row.get(1)?,
        caller: row.get(2)?,
        peer: row.get(3)?,
        action: row.get(4)?,
        subject: row.get(5)?,
        status: row.get(6)?,
        detail: row.get(7)?,
    })
}

fn row(row: &Row<'_>) -> rusqlite::Result<TokenRow> {
    Ok(TokenRow {
        name: row.get(0)?,
        hash: row.get(1)?,
        scopes: row.get(2)?,
        namespace: row.get(3)?,
        created_at: row.get(4)?,
        expires_at: row.get(5)?,
    })
}
