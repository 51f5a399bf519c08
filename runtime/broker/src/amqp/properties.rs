//! Conversion between messages and lapin's types.

use std::collections::BTreeMap;

use bytes::Bytes;
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::{DEATH_TIME, Message, Properties, Routing, message_limits::MAX_NAME_BYTES};

/// AMQP's delivery mode for messages that survive a restart, and for those that do not.
const PERSISTENT: u8 = 2;
const TRANSIENT: u8 = 1;

/// The header in which quorum queues count redeliveries.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// The header in which RabbitMQ lists the dead-letterings of a message, the last first.
const DEATHS: &str = "x-death";

/// The prefix of the app id of a mandatory message. Its number follows, so that the message is recognised when it is
/// returned.
const APP_ID_PREFIX: &str = "waft/";

/// Checks that AMQP can carry a name.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("{name:?} is longer than {MAX_NAME_BYTES} bytes"));
    }
    Ok(())
}

/// The properties of a checked message. A mandatory publish passes its number.
pub(super) fn outgoing(message: &Message, number: Option<u64>) -> BasicProperties {
    let Properties { message_id, reply_to, correlation_id, content_type, headers } = &message.properties;
    let short = |text: &String| ShortString::from(text.as_str());
    let mut properties = BasicProperties::default()
        .with_delivery_mode(if message.persistent { PERSISTENT } else { TRANSIENT })
        .with_priority(message.priority);
    if let Some(id) = message_id {
        properties = properties.with_message_id(short(id));
    }
    if let Some(queue) = reply_to {
        properties = properties.with_reply_to(short(queue));
    }
    if let Some(id) = correlation_id {
        properties = properties.with_correlation_id(short(id));
    }
    if let Some(kind) = content_type {
        properties = properties.with_content_type(short(kind));
    }
    if let Some(number) = number {
        properties = properties.with_app_id(format!("{APP_ID_PREFIX}{number}").into());
    }
    if !headers.is_empty() {
        let table: BTreeMap<_, _> =
            headers.iter().map(|(name, text)| (short(name), AMQPValue::LongString(text.as_str().into()))).collect();
        properties = properties.with_headers(FieldTable::from(table));
    }
    properties
}

/// The number of a publish whose message was returned.
pub(super) fn number(returned: &BasicProperties) -> Option<u64> {
    returned.app_id().as_ref()?.as_str().strip_prefix(APP_ID_PREFIX)?.parse().ok()
}

/// The received message, and its number of redeliveries.
pub(super) fn incoming(delivery: Delivery) -> (Message, u32) {
    let Delivery { exchange, routing_key, properties, data, .. } = delivery;
    let text = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string);
    let mut returned = 0;
    let mut headers = BTreeMap::new();
    for (name, value) in properties.headers().iter().flatten() {
        match name.as_str() {
            DELIVERY_COUNT => returned = count(value),
            DEATHS => headers.extend(last_death(value).map(|at| (DEATH_TIME.to_owned(), at.to_string()))),
            name => headers.extend(scalar(value).map(|text| (name.to_owned(), text))),
        }
    }
    let message = Message {
        exchange: exchange.into(),
        key: routing_key.into(),
        routing: Routing::Optional,
        persistent: *properties.delivery_mode() == Some(PERSISTENT),
        priority: properties.priority().unwrap_or(0),
        properties: Properties {
            message_id: text(properties.message_id()),
            reply_to: text(properties.reply_to()),
            correlation_id: text(properties.correlation_id()),
            content_type: text(properties.content_type()),
            headers,
        },
        body: Bytes::from(data),
    };
    (message, returned)
}

/// The time of the last dead-lettering, in seconds since 1970.
fn last_death(deaths: &AMQPValue) -> Option<u64> {
    let AMQPValue::FieldArray(deaths) = deaths else { return None };
    let Some(AMQPValue::FieldTable(last)) = deaths.as_slice().first() else { return None };
    match last.inner().get("time") {
        Some(AMQPValue::Timestamp(at)) => Some(*at),
        Some(_) | None => None,
    }
}

fn count(value: &AMQPValue) -> u32 {
    scalar(value).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A header's value as text. A structured value, like the broker's `x-death`, is left out.
fn scalar(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        AMQPValue::Boolean(value) => Some(value.to_string()),
        AMQPValue::ShortShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortShortUInt(value) => Some(value.to_string()),
        AMQPValue::ShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortUInt(value) => Some(value.to_string()),
        AMQPValue::LongInt(value) => Some(value.to_string()),
        AMQPValue::LongUInt(value) => Some(value.to_string()),
        AMQPValue::LongLongInt(value) => Some(value.to_string()),
        AMQPValue::Float(value) => Some(value.to_string()),
        AMQPValue::Double(value) => Some(value.to_string()),
        AMQPValue::Timestamp(value) => Some(value.to_string()),
        AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::ByteArray(_)
        | AMQPValue::Void => None,
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::parsing::{parse_field_table, parse_short_string};

    use super::*;

    /// The bytes of a table with these entries, each with the byte of its type.
    fn table(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
        let short = |name: &[u8]| [&[u8::try_from(name.len()).unwrap()], name].concat();
        let content = entries.iter().map(|(name, value)| [short(name), value.to_vec()].concat()).collect::<Vec<_>>();
        long(&content.concat())
    }

    /// Bytes with their length before them.
    fn long(content: &[u8]) -> Vec<u8> {
        [&u32::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
    }

    /// Arrays or tables inside each other.
    fn nested(depth: usize, in_tables: bool) -> Vec<u8> {
        (0..depth).fold(vec![b'V'], |inner, _| match in_tables {
            true => [vec![b'F'], table(&[(b"n", &inner)])].concat(),
            false => [vec![b'A'], long(&inner)].concat(),
        })
    }

    fn parse(bytes: &[u8]) -> FieldTable {
        let (rest, table) = parse_field_table(bytes).unwrap();
        assert_eq!(rest, b"");
        table
    }

    #[test]
    fn deeply_nested_headers_are_skipped() {
        // A frame of 128 KiB has room for as many.
        for in_tables in [false, true] {
            let text = [&b"S"[..], &long(b"seen")].concat();
            let bytes = table(&[(b"deep", &nested(15_000, in_tables)), (b"after", &text)]);
            let read = parse(&bytes);
            assert_eq!(read.inner().get("after"), Some(&AMQPValue::LongString("seen".into())));
            assert!(read.contains_key("deep"));
        }
        let shallow = parse(&table(&[(b"a", &nested(3, false))]));
        let AMQPValue::FieldArray(outer) = &shallow.inner()["a"] else { panic!("an array stays an array") };
        assert!(matches!(outer.as_slice(), [AMQPValue::FieldArray(_)]));
    }

    #[test]
    fn many_headers_are_skipped() {
        let names: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
        let entries: Vec<(&[u8], &[u8])> = names.iter().map(|name| (name.as_bytes(), &b"V"[..])).collect();
        assert_eq!(parse(&table(&entries)).inner().len(), 256);
        let array = table(&[(b"a", &[&b"A"[..], &long(&[b'V'; 10_000])].concat())]);
        let read = parse(&array);
        let AMQPValue::FieldArray(read) = &read.inner()["a"] else { panic!("it is an array") };
        assert_eq!(read.as_slice().len(), 256);
    }

    #[test]
    fn a_short_string_that_is_not_utf_8_is_read() {
        let read = |bytes: &[u8]| {
            let bytes = [&[u8::try_from(bytes.len()).unwrap()], bytes].concat();
            let (rest, text) = parse_short_string(bytes.as_slice()).unwrap();
            assert_eq!(rest, b"");
            text.to_string()
        };
        assert_eq!(read(b"a\xff\xfeb"), "a\u{fffd}\u{fffd}b");
        assert_eq!(read(&[0xff; 255]), "\u{fffd}".repeat(85), "it stays a short string");
        assert_eq!(read("ü".as_bytes()), "ü");
        let bytes = table(&[(b"\xff", &[&b"S"[..], &long(b"x")].concat())]);
        assert!(parse(&bytes).contains_key("\u{fffd}"));
    }
}
