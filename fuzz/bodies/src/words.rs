//! The small texts that people write: names, times, sizes, rates, digests, headers.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use flow::{
    Digest, Export, FailureKind, FlowName, NodeName, QueueName, Rate, RunId, Shard, TokenName, ValueName, WorkerName,
};

/// Each line of the input is read as each kind of text. All lines together are the headers of a message.
pub fn run(input: &[u8]) {
    let Some([text]) = crate::parts(input) else { return };
    for line in text.lines() {
        names(line);
        quantities(line);
    }
    headers(text);
}

fn names(text: &str) {
    read::<FlowName>(text);
    read::<NodeName>(text);
    read::<ValueName>(text);
    read::<QueueName>(text);
    read::<RunId>(text);
    read::<Shard>(text);
    read::<WorkerName>(text);
    read::<TokenName>(text);
    read::<Export>(text);
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string().parse(), Ok(digest), "a digest may be written in capitals");
    }
    if let Ok(kind) = text.parse::<FailureKind>() {
        assert_eq!(kind.as_str(), text);
    }
}

/// A text that is accepted is shown as it was written.
fn read<Word: FromStr + Display>(text: &str)
where
    Word::Err: Display,
{
    match text.parse::<Word>() {
        Ok(word) => assert_eq!(word.to_string(), text),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn quantities(text: &str) {
    let _ = flow::parse_duration(text).map_err(|error| error.to_string());
    if let Ok(bytes) = flow::parse_size(text) {
        let shown = flow::Size(bytes).to_string();
        assert_eq!(flow::parse_size(&shown), Ok(bytes), "a size is shown as one");
        let _ = format!("{:#}", flow::Size(bytes));
    }
    if let Ok(rate) = Rate::parse(text) {
        assert_eq!(Rate::parse(&rate.to_string()), Ok(rate), "a rate is shown as one");
        assert!(!rate.min_interval().is_zero());
    }
}

/// Headers of other programs are not trusted.
fn headers(text: &str) {
    let header = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut headers: BTreeMap<String, String> = text.lines().filter_map(header).collect();
    if let Some(call) = protocol::call_of(&headers) {
        assert_eq!(protocol::call_of(&protocol::headers(&call)), Some(call));
    }
    let unanswered = protocol::unanswered(&headers);
    protocol::set_unanswered(&mut headers, unanswered);
    assert_eq!(protocol::unanswered(&headers), unanswered);
    let returned = protocol::returned(&headers);
    protocol::set_returned(&mut headers, returned);
    assert_eq!(protocol::returned(&headers), returned);
}
