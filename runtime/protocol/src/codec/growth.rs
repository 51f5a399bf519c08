//! How a kind of message grows, shown with a cake order. `docs/format.md` shows it.
//!
//! - Version 1 is what [`first`] writes.
//! - [`second`] appends a variant to version 1: one more way of delivery.
//! - Version 2 has a note with each item: a field that [`third`] adds, deep in the message.

use super::{Body, BorrowDecode, DecodeError, Encode, MessageKind, decode, encode};

const NAME: &str = "cake order";
const MAGIC: [u8; 2] = *b"wX";

/// The program that knows version 1.
mod first {
    use super::*;

    pub(super) const KIND: MessageKind = MessageKind { magic: MAGIC, name: NAME, version: 1 };

    #[derive(Encode, BorrowDecode)]
    pub(super) struct WireOrder<'a> {
        pub(super) customer: &'a str,
        pub(super) items: Vec<WireItem<'a>>,
        pub(super) delivery: WireDelivery,
    }

    #[derive(Encode, BorrowDecode)]
    pub(super) struct WireItem<'a> {
        pub(super) name: &'a str,
        pub(super) count: u32,
    }

    #[derive(Debug, Encode, BorrowDecode)]
    pub(super) enum WireDelivery {
        PickUp,
        Courier,
    }
}

/// The program that knows one more variant.
mod second {
    use super::*;

    pub(super) use super::first::KIND;

    #[derive(Encode, BorrowDecode)]
    pub(super) struct WireOrder<'a> {
        pub(super) customer: &'a str,
        pub(super) items: Vec<WireItem<'a>>,
        pub(super) delivery: WireDelivery,
    }

    #[derive(Encode, BorrowDecode)]
    pub(super) struct WireItem<'a> {
        pub(super) name: &'a str,
        pub(super) count: u32,
    }

    #[derive(Debug, PartialEq, Encode, BorrowDecode)]
    pub(super) enum WireDelivery {
        PickUp,
        Courier,
        Post,
    }
}

/// The program that knows version 2, which has one more field.
mod third {
    use super::*;

    #[derive(Debug, PartialEq)]
    pub(super) struct Order {
        pub(super) customer: String,
        pub(super) items: Vec<(String, u32, Option<String>)>,
        pub(super) delivery: &'static str,
    }

    pub(super) const KIND: MessageKind = MessageKind { magic: MAGIC, name: NAME, version: 2 };

    #[derive(Encode, BorrowDecode)]
    pub(super) struct WireOrder<'a, Item = WireItem<'a>> {
        pub(super) customer: &'a str,
        pub(super) items: Vec<Item>,
        pub(super) delivery: WireDelivery,
    }

    #[derive(Encode, BorrowDecode)]
    pub(super) struct WireItem<'a> {
        pub(super) name: &'a str,
        pub(super) count: u32,
        pub(super) note: Option<&'a str>,
    }

    /// An item of version 1.
    #[derive(Encode, BorrowDecode)]
    pub(super) struct WireItemV1<'a> {
        pub(super) name: &'a str,
        pub(super) count: u32,
    }

    impl<'a> From<WireItemV1<'a>> for WireItem<'a> {
        fn from(WireItemV1 { name, count }: WireItemV1<'a>) -> Self {
            Self { name, count, note: None }
        }
    }

    #[derive(Encode, BorrowDecode)]
    pub(super) enum WireDelivery {
        PickUp,
        Courier,
        Post,
    }

    pub(super) fn decode_order(bytes: &[u8]) -> Result<Order, DecodeError> {
        let body = Body::open(KIND, bytes)?;
        Ok(match body.version() {
            1 => body.read::<WireOrder<'_, WireItemV1<'_>>>()?.into_order(),
            _ => body.read::<WireOrder<'_>>()?.into_order(),
        })
    }

    impl<'a, Item: Into<WireItem<'a>>> WireOrder<'a, Item> {
        fn into_order(self) -> Order {
            let item = |item: Item| {
                let WireItem { name, count, note } = item.into();
                (name.to_owned(), count, note.map(str::to_owned))
            };
            Order {
                customer: self.customer.to_owned(),
                items: self.items.into_iter().map(item).collect(),
                delivery: match self.delivery {
                    WireDelivery::PickUp => "pick up",
                    WireDelivery::Courier => "courier",
                    WireDelivery::Post => "post",
                },
            }
        }
    }
}

/// An order of two eggs by courier, in version 1.
const FIRST: &[u8] = b"wX\x01\x03Ada\x01\x03egg\x02\x01";
/// An order of two eggs by post, in version 1.
const SECOND: &[u8] = b"wX\x01\x03Ada\x01\x03egg\x02\x02";
/// An order of two eggs by post, with the note "raw", in version 2.
const THIRD: &[u8] = b"wX\x02\x03Ada\x01\x03egg\x02\x01\x03raw\x02";

fn order(delivery: &'static str, note: Option<&str>) -> third::Order {
    let items = vec![("egg".into(), 2, note.map(Into::into))];
    third::Order { customer: "Ada".into(), items, delivery }
}

#[test]
fn a_program_writes_the_newest_version_that_it_knows() {
    let items = vec![first::WireItem { name: "egg", count: 2 }];
    let message = first::WireOrder { customer: "Ada", items, delivery: first::WireDelivery::Courier };
    assert_eq!(encode(first::KIND, &message), FIRST);
    let items = vec![second::WireItem { name: "egg", count: 2 }];
    let message = second::WireOrder { customer: "Ada", items, delivery: second::WireDelivery::Post };
    assert_eq!(encode(second::KIND, &message), SECOND);
    let items = vec![third::WireItem { name: "egg", count: 2, note: Some("raw") }];
    let message = third::WireOrder { customer: "Ada", items, delivery: third::WireDelivery::Post };
    assert_eq!(encode(third::KIND, &message), THIRD);
}

#[test]
fn a_later_program_reads_every_earlier_version() {
    let message: second::WireOrder<'_> = decode(second::KIND, FIRST).unwrap();
    let items: Vec<(&str, u32)> = message.items.iter().map(|item| (item.name, item.count)).collect();
    assert_eq!(
        (message.customer, &items[..], message.delivery),
        ("Ada", &[("egg", 2)][..], second::WireDelivery::Courier)
    );
    assert_eq!(third::decode_order(FIRST), Ok(order("courier", None)));
    assert_eq!(third::decode_order(SECOND), Ok(order("post", None)));
    assert_eq!(third::decode_order(THIRD), Ok(order("post", Some("raw"))));
}

#[test]
fn an_earlier_program_refuses_what_it_does_not_know() {
    let error = DecodeError::Version { expected: NAME, version: 2, known: 1 };
    assert_eq!(decode::<first::WireOrder<'_>>(first::KIND, THIRD).err(), Some(error.clone()));
    assert_eq!(decode::<second::WireOrder<'_>>(second::KIND, THIRD).err(), Some(error.clone()));
    assert_eq!(error.to_string(), "a cake order of format version 2; this waft reads up to 1: upgrade it");
    assert!(error.is_loss(true), "it goes to the quarantine");
    let error = decode::<first::WireOrder<'_>>(first::KIND, SECOND).err().unwrap();
    assert_eq!(
        error.to_string(),
        "an unreadable cake order: variant 2 of WireDelivery is not known here: a later waft wrote it, so upgrade this one"
    );
    assert!(error.is_loss(true), "it goes to the quarantine");
}
