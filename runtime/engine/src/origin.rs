//! Who may send what to the queues that engines read: the exchange of a message shows it, since the
//! permissions of the broker's users are for exchanges. The seals are checked besides.

use broker::Message;
use protocol::{MAX_REPORT_BYTES, Report, topology as names};

/// The reason of a refusal.
pub(crate) const WRONG_EXCHANGE: &str = "a message that arrived through an exchange which is not for such messages";

/// The reason why a message of a worker is not read.
pub(crate) const TOO_LARGE: &str =
    "a report that is larger than any that a worker sends; waft.quarantine keeps it if it is persistent";

/// Whether a message is as small as its sender makes it. Only workers are not trusted with the memory of an engine.
pub(crate) fn is_of_right_size(message: &Message) -> bool {
    message.exchange != names::REPORTS || message.body.len() <= MAX_REPORT_BYTES
}

/// Whether a report came through an exchange of its sender: workers report about calls, and only engines send the rest.
pub(crate) fn is_right_for(report: &Report, message: &Message) -> bool {
    match message.exchange.as_str() {
        names::REPORTS => report.call().is_some(),
        exchange => is_of_engine(exchange),
    }
}

/// Whether a message on the queue of a shard came through an exchange that leads there.
pub(crate) fn leads_to_shards(message: &Message) -> bool {
    let exchange = message.exchange.as_str();
    exchange == names::REPORTS || exchange == names::NOTIFICATIONS || is_of_engine(exchange)
}

/// Whether a notification came through an exchange that only engines publish to, or was released from the quarantine. An engine
/// puts one that must wait behind other messages of its queue.
pub(crate) fn is_right_for_notification(message: &Message) -> bool {
    message.exchange == names::NOTIFICATIONS || is_of_engine(&message.exchange)
}

/// Whether a message came from an engine, or was released from the quarantine by an operator.
pub(crate) fn is_of_engine(exchange: &str) -> bool {
    [names::ENGINES, names::RELEASED].contains(&exchange)
}

#[cfg(test)]
mod tests {
    use broker::{Properties, Routing};
    use protocol::{CommandRequest, HeartbeatNumber, RunCommand};

    use super::*;

    fn through(exchange: &str) -> Message {
        Message {
            exchange: exchange.into(),
            key: "waft.engine.0".into(),
            routing: Routing::Mandatory,
            persistent: true,
            priority: 0,
            properties: Properties::default(),
            body: "".into(),
        }
    }

    #[test]
    fn only_reports_about_calls_come_from_workers() {
        let call = flow::CallId {
            run: "r".parse().unwrap(),
            task: "t".parse().unwrap(),
            firing: flow::Firing::FIRST,
            attempt: flow::Attempt::FIRST,
            action: flow::Action::Apply,
        };
        let number = HeartbeatNumber { execution: flow::Execution::new(1), count: 1 };
        let heartbeat = Report::Heartbeat { call, worker: "w".parse().unwrap(), number };
        let command = Report::Command(CommandRequest { run: "r".parse().unwrap(), command: RunCommand::Cancel });
        let right = |report: &Report, exchange: &str| is_right_for(report, &through(exchange));
        assert!(right(&heartbeat, names::REPORTS) && right(&heartbeat, names::ENGINES));
        assert!(right(&command, names::ENGINES) && right(&command, names::RELEASED));
        assert!(!right(&command, names::REPORTS));
        for exchange in ["", names::JOBS, names::NOTIFICATIONS, names::CONTENT, names::DEAD_LETTERS] {
            assert!(!right(&heartbeat, exchange) && !right(&command, exchange), "{exchange}");
        }
        assert!(is_right_for_notification(&through(names::NOTIFICATIONS)));
        assert!(is_right_for_notification(&through(names::ENGINES)));
        assert!(!is_right_for_notification(&through(names::REPORTS)));
        assert!(!leads_to_shards(&through("")) && !leads_to_shards(&through("waft.task.f.t")));
    }
}
