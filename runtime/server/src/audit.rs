//! The audit log: who asked for what, when and from where, and how it was answered.

mod refusals;

use std::{sync::Arc, time::Duration};

use api::{self, AuditLog, AuditQuery};
use axum::{Json, extract::State};
use engine::{Clock as _, SystemClock};
use logbook::{AuditEntry, AuditFilter, Logbook};
use protocol::events::rfc3339;
use tokio::{sync::mpsc, time::sleep_until};
use tracing::{debug, warn};

use self::refusals::Refusals;
use crate::{MovedTag, extract::Query, problem::Problem, state::Shared};

/// Maximum number of entries that wait to be written. Further requests that do more than read wait for them.
const CAPACITY: usize = 4_096;

/// Maximum number of entries that are written at once, while the server runs.
const BATCH: usize = 256;

/// Pause after the logbook could not be written.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The maximum page size.
const MAX_PAGE: usize = 1_000;

/// The default page size.
const DEFAULT_PAGE: usize = 100;

/// What a request was about: a handler adds it to its answer.
#[derive(Clone)]
pub(crate) struct Subject(pub(crate) String);

/// What a request changed, in words: a handler adds it to its answer.
#[derive(Clone)]
pub(crate) struct Detail(pub(crate) String);

/// Takes entries about the parts of a request, beside the entry of the request.
#[derive(Clone)]
pub(crate) struct RequestAudit {
    audit: Audit,
    caller: String,
    peer: String,
}

impl RequestAudit {
    /// Notes a part of the request, now that its answer is known.
    pub(crate) async fn note(&self, action: &str, subject: String, status: u16, detail: &str) {
        let entry = entry(self.caller.clone(), self.peer.clone(), action, Some(subject), status);
        self.audit.note(AuditEntry { detail: Some(detail.to_owned()), ..entry }).await;
    }
}

/// Takes entries for the audit log.
#[derive(Clone)]
pub(crate) struct Audit {
    entries: mpsc::Sender<AuditEntry>,
}

impl Audit {
    /// For the parts of a request.
    pub(crate) fn of_request(&self, caller: String, peer: String) -> RequestAudit {
        RequestAudit { audit: self.clone(), caller, peer }
    }

    /// Notes a request, now that its answer is known.
    pub(crate) async fn note(&self, entry: AuditEntry) {
        let AuditEntry { at: _, caller, peer, action, subject, status, detail } = &entry;
        let [subject, detail] = [subject, detail].map(|text| text.as_deref().unwrap_or_default());
        debug!(target: "waft::audit", caller, peer, action, subject, status, detail, "request");
        // The server is stopping: the writer has ended.
        let _ = self.entries.send(entry).await;
    }
}

/// Writes the entries to the logbook, in the background.
pub(crate) struct AuditWriter {
    entries: mpsc::Receiver<AuditEntry>,
    refusals: Refusals,
    /// To be written.
    pending: Vec<AuditEntry>,
    logbook: Arc<dyn Logbook>,
}

impl AuditWriter {
    pub(crate) fn new(logbook: Arc<dyn Logbook>) -> (Audit, Self) {
        let (tx, entries) = mpsc::channel(CAPACITY);
        (Audit { entries: tx }, Self { entries, refusals: Refusals::default(), pending: Vec::new(), logbook })
    }

    /// Writes entries for ever. While the logbook cannot be written, they wait. Cancel-safe, except that a batch that is just
    /// being written may be written once more.
    pub(crate) async fn run(&mut self) {
        loop {
            if self.pending.is_empty() {
                self.receive().await;
                continue;
            }
            let count = self.pending.len().min(BATCH);
            match self.logbook.add_audit(&self.pending[..count]).await {
                Ok(()) => drop(self.pending.drain(..count)),
                Err(error) => {
                    warn!(%error, "the audit log was not written: its entries wait");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    /// Waits for entries, or for the end of the period in which refused requests are counted. Cancel-safe.
    async fn receive(&mut self) {
        let ends_at = self.refusals.ends_at();
        let period = async {
            match ends_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let mut received = Vec::new();
        // Both arms only wait. The first is preferred: entries that come all the time do not delay the end of the period.
        let count = tokio::select! {
            biased;
            () = period => return self.refusals.end(&mut self.pending),
            count = self.entries.recv_many(&mut received, BATCH) => count,
        };
        if count == 0 {
            return std::future::pending().await;
        }
        for entry in received {
            self.refusals.take(entry, &mut self.pending);
        }
    }

    /// Writes what is left, once.
    pub(crate) async fn finish(mut self) {
        self.entries.close();
        while let Some(entry) = self.entries.recv().await {
            self.refusals.take(entry, &mut self.pending);
        }
        self.refusals.end(&mut self.pending);
        if !self.pending.is_empty()
            && let Err(error) = self.logbook.add_audit(&self.pending).await
        {
            warn!(%error, entries = self.pending.len(), "the last entries of the audit log were not written");
        }
    }
}

/// The entry of a request.
pub(crate) fn entry(caller: String, peer: String, action: &str, subject: Option<String>, status: u16) -> AuditEntry {
    let (at, action) = (SystemClock.now(), action.to_owned());
    AuditEntry { at, caller, peer, action, subject, status, detail: None }
}

/// What the audit log calls a change of a tag.
const MOVE_TAG: &str = "move-tag";

/// The entry of a tag that a request has moved, beside the entry of the request.
pub(crate) fn moved_tag(request: &AuditEntry, moved: &MovedTag) -> AuditEntry {
    let MovedTag { tag, from, to } = moved;
    AuditEntry {
        action: MOVE_TAG.to_owned(),
        subject: Some(tag.to_string()),
        detail: Some(format!("from {from} to {to}")),
        ..request.clone()
    }
}

/// Lists the requests that did more than read or were refused, the youngest first.
#[utoipa::path(get, operation_id = "read_audit_log", path = "/v1/audit", tag = "tokens", params(AuditQuery), responses(
    (status = 200, description = "A page of the audit log", body = AuditLog),
    (status = 400, description = "The filter cannot be read", body = api::Problem,
        content_type = "application/problem+json"),
    (status = "default", description = "The request was refused, or failed", body = api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(State(state): Shared, Query(query): Query<AuditQuery>) -> Result<Json<AuditLog>, Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::bad_request(format!("limit: {limit} is not from 1 to {MAX_PAGE}")));
    }
    let before = query.after.as_deref().map(str::parse).transpose();
    let before = before.map_err(|_| Problem::bad_request("after: this is no `next` of a page of the audit log"))?;
    // One more entry than requested shows whether there is another page.
    let filter = AuditFilter { subject: query.subject, before, limit: limit + 1 };
    let mut found = state.dependencies.logbook.audit(&filter).await.map_err(|error| Problem::internal(&error))?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| has_more).map(|(position, _)| position.to_string());
    let entry = |(_, entry): (_, AuditEntry)| api::AuditEntry {
        at: rfc3339(entry.at),
        caller: entry.caller,
        peer: entry.peer,
        action: entry.action,
        subject: entry.subject,
        status: entry.status,
        detail: entry.detail,
    };
    Ok(Json(AuditLog { entries: found.into_iter().map(entry).collect(), next }))
}

#[cfg(test)]
mod tests {
    use flow::Digest;
    use store::EarlierDigest;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sender_whose_requests_are_refused_does_not_fill_the_audit_log() {
        let logbook: Arc<dyn Logbook> = Arc::new(logbook::Memory::new());
        let (audit, mut writer) = AuditWriter::new(logbook.clone());
        let refused = || entry("reader".into(), "127.0.0.1:1".into(), "cancel", Some("r".into()), 403);
        let details = async || {
            let filter = AuditFilter { subject: None, before: None, limit: MAX_PAGE };
            let found = logbook.audit(&filter).await.unwrap();
            found.into_iter().map(|(_, entry)| entry.detail.unwrap_or_default()).collect::<Vec<_>>()
        };
        let noting = async {
            for _ in 0..100_000 {
                audit.note(refused()).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(details().await, [""], "the first is written at once");
            tokio::time::sleep(Duration::from_secs(60)).await;
        };
        tokio::select! {
            () = noting => {}
            () = writer.run() => {}
        }
        let found = details().await;
        assert!(found.len() == 2 && found[0].starts_with("99999 more requests"), "{found:?}");
        for _ in 0..3 {
            audit.note(refused()).await;
        }
        writer.finish().await;
        let found = details().await;
        assert!(found.len() == 4 && found[0].starts_with("2 more requests"), "{found:?}");
    }

    #[test]
    fn the_entry_of_a_moved_tag_says_what_the_tag_named_before() {
        let (old, new) = (Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32]));
        let request = entry("ci".into(), "127.0.0.1:1".into(), "push", None, 201);
        let detail = |from| {
            let moved = MovedTag { tag: "kitchen".parse().unwrap(), from, to: new };
            moved_tag(&request, &moved).detail.unwrap()
        };
        assert_eq!(detail(EarlierDigest::None), format!("from none to {new}"));
        assert_eq!(detail(EarlierDigest::Known(old)), format!("from {old} to {new}"));
        assert_eq!(detail(EarlierDigest::Unreadable), format!("from a digest that could not be read to {new}"));
    }
}
