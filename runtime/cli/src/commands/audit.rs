//! `waft audit`: prints who asked a server for what.

use api::{AuditEntry, AuditQuery};

use super::remote;
use crate::{
    exit::{CliError, Exit},
    output, sanitize,
    settings::Settings,
};

/// The number of entries to read at once.
const PAGE: usize = 1_000;

pub(super) async fn run(
    settings: &Settings,
    subject: Option<String>,
    limit: usize,
    as_json: bool,
) -> Result<Exit, CliError> {
    let client = remote::client(settings)?;
    let mut query = AuditQuery { subject, limit: None, after: None };
    let (mut left, mut is_first) = (limit, true);
    while left > 0 {
        query.limit = Some(left.min(PAGE));
        let page = client.audit(&query).await.map_err(remote::cli_error)?;
        if page.entries.is_empty() && is_first {
            crate::output::note!("nothing was asked of {} but to read", client.server());
        }
        left = left.saturating_sub(page.entries.len());
        for entry in page.entries {
            if as_json {
                output::json(serde_json::to_string(&entry).map_err(CliError::unreachable)?);
                continue;
            }
            if std::mem::take(&mut is_first) {
                crate::output::say!("{:19}  {:20}  {:21}  {:12}  STATUS  SUBJECT", "AT", "CALLER", "FROM", "ACTION");
            }
            let AuditEntry { at, caller, peer, action, subject, status, detail, .. } = entry;
            let at: String = at.chars().take(19).collect();
            let [subject, detail] = [subject, detail].map(Option::unwrap_or_default);
            let line = format!("{at}  {caller:20}  {peer:21}  {action:12}  {status:<6}  {subject} {detail}");
            output::line(sanitize::one_line(&line).trim_end());
        }
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    Ok(Exit::Success)
}
