//! Counts the messages in quarantine, and the poison messages among them.

use ::broker::Broker;
use client::{api::Check, quarantine};
use protocol::topology;

use super::{QUERY_TIMEOUT, count, within};
use crate::problem::chain;

/// Checks the quarantine. Messages that the check reads return to the queue.
pub(super) async fn check(broker: Option<&dyn Broker>) -> Check {
    let Some(broker) = broker else { return Check::skipped("quarantine", "there is no broker") };
    let waiting = match within(QUERY_TIMEOUT, broker.waiting(topology::QUARANTINE)).await {
        Some(Ok(waiting)) => waiting.unwrap_or_default(),
        Some(Err(error)) => {
            let advice = "give the user the right to read waft's queues; see broker-permissions";
            return Check::warn("quarantine", format!("it cannot be queried: {}", chain(&error)), advice);
        }
        None => {
            let detail = format!(
                "the broker has not answered about {} for {} seconds",
                topology::QUARANTINE,
                QUERY_TIMEOUT.as_secs()
            );
            let advice = "it may have no leader: rabbitmqctl list_queues name leader";
            return Check::fail("quarantine", detail, advice);
        }
    };
    if waiting == 0 {
        return Check::ok("quarantine", "it is empty");
    }
    let read = within(QUERY_TIMEOUT, quarantine::peek(broker, waiting)).await.and_then(Result::ok);
    report(waiting, read.map(|read| (read.iter().filter(|message| message.is_poison()).count(), read.len())))
}

/// The check of a quarantine with messages. Of those that were read: the number of poison messages, and of all.
fn report(waiting: u64, read: Option<(usize, usize)>) -> Check {
    let kinds = match read {
        None => "they could not be read".to_owned(),
        Some((poison, read)) => {
            let rest = read - poison;
            let unread = waiting.saturating_sub(read as u64);
            let unread = if unread == 0 { String::new() } else { format!(", {unread} more not read") };
            format!("{poison} poison (jobs that were lost with their workers too often), {rest} others{unread}")
        }
    };
    let detail = format!("{} in quarantine: {kinds}", count(waiting, "message"));
    let advice =
        "`waft quarantine list` shows the queue and the reason of each; then `waft quarantine release ID` or `drop ID`";
    Check::warn("quarantine", detail, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poison_messages_are_counted_apart_from_unreadable_ones() {
        let check = report(5, Some((2, 4)));
        assert!(check.detail.starts_with("5 messages in quarantine: 2 poison"), "{check:?}");
        assert!(check.detail.ends_with("2 others, 1 more not read"), "{check:?}");
    }
}
