//! Joins the entries of refused requests. Otherwise a sender that may do nothing could fill the disk of the logbook with them.

use std::{collections::BTreeMap, time::Duration};

use logbook::AuditEntry;
use tokio::time::Instant;

/// The time within which refused requests of a kind become one entry, besides the entry of the first.
const PERIOD: Duration = Duration::from_secs(60);

/// Maximum number of kinds that are counted. Each sender has at most as many kinds as there are actions and statuses, about a
/// hundred. If more senders are refused, the entries of the period are written early.
const MAX_KINDS: usize = 4_096;

/// The lowest status of requests that were refused, or failed.
const REFUSED: u16 = 400;

/// The common part of the requests that become one entry.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    caller: String,
    action: String,
    status: u16,
}

/// The requests of a kind after the first.
#[derive(Debug)]
struct Further {
    count: u64,
    /// The last of them, with the subject that all of them have in common.
    last: AuditEntry,
}

/// The kinds of refused requests in the current period, which begins with the first of them.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    kinds: BTreeMap<Kind, Option<Further>>,
    ends_at: Option<Instant>,
}

impl Refusals {
    /// Takes the entry of a request, and adds to `entries` those that are to be written now: its own, unless there was a
    /// refused request of its kind in the period.
    pub(super) fn take(&mut self, entry: AuditEntry, entries: &mut Vec<AuditEntry>) {
        if entry.status < REFUSED {
            return entries.push(entry);
        }
        let kind = Kind { caller: entry.caller.clone(), action: entry.action.clone(), status: entry.status };
        if let Some(further) = self.kinds.get_mut(&kind) {
            *further = Some(Further::add(further.take(), entry));
            return;
        }
        if self.kinds.len() >= MAX_KINDS {
            self.end(entries);
        }
        self.ends_at.get_or_insert_with(|| Instant::now() + PERIOD);
        self.kinds.insert(kind, None);
        entries.push(entry);
    }

    /// When the period ends; `None` if there was no refused request.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.ends_at
    }

    /// Ends the period, and adds the entries of its further requests.
    pub(super) fn end(&mut self, entries: &mut Vec<AuditEntry>) {
        self.ends_at = None;
        entries.extend(std::mem::take(&mut self.kinds).into_values().flatten().map(Further::into_entry));
    }
}

impl Further {
    fn add(earlier: Option<Self>, entry: AuditEntry) -> Self {
        let Some(Self { count, last }) = earlier else { return Self { count: 1, last: entry } };
        let subject = entry.subject.clone().filter(|subject| last.subject.as_ref() == Some(subject));
        Self { count: count + 1, last: AuditEntry { subject, ..entry } }
    }

    fn into_entry(self) -> AuditEntry {
        match self.count {
            1 => self.last,
            more => AuditEntry {
                detail: Some(format!("{more} more requests of this kind within a minute, the last from this address")),
                ..self.last
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entry of a request of a caller about a subject, with a status.
    fn entry(caller: &str, subject: &str, status: u16) -> AuditEntry {
        crate::audit::entry(caller.into(), "127.0.0.1:1".into(), "cancel", Some(subject.into()), status)
    }

    /// Each entry as `caller subject status detail`.
    fn shown(entries: &[AuditEntry]) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let shown = |entry: &AuditEntry| {
            format!("{} {} {} {}", entry.caller, text(&entry.subject), entry.status, text(&entry.detail))
        };
        entries.iter().map(shown).collect()
    }

    #[test]
    fn refused_requests_of_a_kind_become_one_entry_besides_the_first() {
        let (mut refusals, mut entries) = (Refusals::default(), Vec::new());
        for number in 0..1_000 {
            refusals.take(entry("reader", &format!("r{number}"), 403), &mut entries);
            refusals.take(entry("reader", "r", 404), &mut entries);
        }
        for _ in 0..2 {
            refusals.take(entry("other", "r", 403), &mut entries);
            refusals.take(entry("reader", "r", 200), &mut entries);
        }
        let at_once = ["reader r0 403 -", "reader r 404 -", "other r 403 -", "reader r 200 -", "reader r 200 -"];
        assert_eq!(shown(&entries), at_once);
        entries.clear();
        refusals.end(&mut entries);
        let more = "999 more requests of this kind within a minute, the last from this address";
        let later = ["other r 403 -".to_owned(), format!("reader - 403 {more}"), format!("reader r 404 {more}")];
        assert_eq!(shown(&entries), later);
        assert_eq!(refusals.ends_at(), None);
    }

    #[test]
    fn the_number_of_counted_kinds_is_limited_and_none_is_lost() {
        let (mut refusals, mut entries) = (Refusals::default(), Vec::new());
        for number in 0..2 * MAX_KINDS {
            for subject in ["a", "b"] {
                refusals.take(entry(&format!("t{number}"), subject, 403), &mut entries);
            }
            assert!(refusals.kinds.len() <= MAX_KINDS);
        }
        refusals.end(&mut entries);
        assert_eq!(entries.len(), 4 * MAX_KINDS);
    }
}
