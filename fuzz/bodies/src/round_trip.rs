//! What was decoded is encoded and decoded again: it has to be the same.
//!
//! Encoded bytes are compared and not values: a number that is not a number equals no other.

use machine::{Record, Snapshot};
use protocol::{decode_records, decode_snapshot, encode_records, encode_snapshot};

/// Encodes a message, decodes it, and encodes it again. Returns the decoded message.
pub(crate) fn message<Message, Error: std::fmt::Display>(
    message: &Message,
    encode: impl Fn(&Message) -> Vec<u8>,
    decode: impl Fn(&[u8]) -> Result<Message, Error>,
) -> Message {
    let bytes = encode(message);
    let again = decode(&bytes).unwrap_or_else(|error| panic!("what waft has encoded is {error}: {bytes:02x?}"));
    assert_eq!(encode(&again), bytes, "a message that is encoded twice");
    again
}

pub(crate) fn records(records: &[Record]) -> Vec<Record> {
    message(&records.to_vec(), |records| encode_records(records), decode_records)
}

pub(crate) fn snapshot(snapshot: &Snapshot) -> Snapshot {
    let encode = |snapshot: &Snapshot| encode_snapshot(snapshot).expect("what was decoded is not too large");
    message(snapshot, encode, decode_snapshot)
}
