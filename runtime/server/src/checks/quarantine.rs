//! Counts the messages in quarantine, and the poison messages among them.

use ::broker::Broker;
use client::{
    api::Check,
    quarantine::{self, QuarantinedMessage},
};
use protocol::topology;

use super::{LOOK, count, within};
use crate::problem::chain;

/// Checks the quarantine. Messages that the check reads go back to their places.
pub(super) async fn check(broker: Option<&dyn Broker>) -> Check {
    let Some(broker) = broker else { return Check::skipped("quarantine", "there is no broker to ask") };
    let waiting = match within(LOOK, broker.waiting(topology::QUARANTINE)).await {
        Some(Ok(waiting)) => waiting.unwrap_or_default(),
        Some(Err(error)) => {
            let advice = "give the user the right to read waft's queues; see broker-permissions";
            return Check::warn("quarantine", format!("it cannot be asked about: {}", chain(&error)), advice);
        }
        None => {
            let detail =
                format!("the broker has said nothing of {} for {} seconds", topology::QUARANTINE, LOOK.as_secs());
            let advice = "a queue without a leader does that: rabbitmqctl list_queues name leader";
            return Check::fail("quarantine", detail, advice);
        }
    };
    if waiting == 0 {
        return Check::ok("quarantine", "it is empty");
    }
    let read = within(LOOK, quarantine::peek(broker, waiting)).await.and_then(Result::ok);
    found(waiting, read.as_deref())
}

fn found(waiting: u64, read: Option<&[QuarantinedMessage]>) -> Check {
    let kinds = match read {
        None => "they could not be read".to_owned(),
        Some(read) => {
            let poison = read.iter().filter(|message| message.is_poison()).count();
            let rest = read.len() - poison;
            let more = waiting.saturating_sub(read.len() as u64);
            let more = if more == 0 { String::new() } else { format!(", {more} more not looked at") };
            format!("{poison} poison (jobs that were lost with their workers too often), {rest} others{more}")
        }
    };
    let detail = format!("{} in quarantine: {kinds}", count(waiting, "message"));
    let advice =
        "`waft quarantine list` tells queue and reason of each; then `waft quarantine release ID` or `drop ID`";
    Check::warn("quarantine", detail, advice)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn poison_is_told_from_what_could_not_be_read() {
        let message = |queue: &str, reason: &str| QuarantinedMessage {
            id: "m".into(),
            queue: Some(queue.into()),
            reason: Some(reason.into()),
            headers: BTreeMap::new(),
            size: 1,
        };
        let poison = format!("{} 5 times without an answer", topology::POISON);
        let read = [
            message("waft.jobs.default", &poison),
            message("waft.jobs.default", "delivery_limit"),
            message("waft.jobs.default", "it is of format version 9"),
            message("waft.engine.3", "it is of format version 9"),
        ];
        let check = found(5, Some(&read));
        assert!(check.detail.starts_with("5 messages in quarantine: 2 poison"), "{check:?}");
        assert!(check.detail.ends_with("2 others, 1 more not looked at"), "{check:?}");
    }
}
