//! The origin of a flow: its text, its modules and its edits.

use flow::{Condition, Digest, Edit, FlowSource, Join, NodeName, SkipReach, ValueName};

use super::links::{WireOn, WireReach};
use crate::{
    codec::{BorrowDecode, Encode},
    wire::{Invalid, WireValue, invalid, value_from_wire, wire_enum},
};

#[derive(Encode, BorrowDecode)]
pub(super) struct WireOrigin<'a> {
    text: &'a str,
    modules: Vec<(&'a str, [u8; 32])>,
    edits: Vec<WireEdit<'a>>,
}

#[derive(Encode, BorrowDecode)]
enum WireEdit<'a> {
    Add { text: &'a str },
    Remove { task: &'a str, ran: bool },
    Link(WireEditLink<'a>),
    Unlink { from: &'a str, to: &'a str },
    Use { task: &'a str, uses: &'a str },
    Set { task: &'a str, parameter: &'a str, value: WireValue<'a> },
    Require { task: &'a str, parameter: &'a str, value: &'a str },
}

#[derive(Encode, BorrowDecode)]
struct WireEditLink<'a> {
    from: &'a str,
    to: &'a str,
    on: WireOn,
    when: Option<&'a str>,
    reach: Option<WireReach>,
    join: WireJoin,
}

wire_enum!(WireJoin = Join { All, Any });

impl<'a> From<&'a FlowSource> for WireOrigin<'a> {
    fn from(FlowSource { text, modules, edits }: &'a FlowSource) -> Self {
        Self {
            text,
            modules: modules.iter().map(|(alias, digest)| (alias.as_str(), *digest.as_bytes())).collect(),
            edits: edits.iter().map(WireEdit::from).collect(),
        }
    }
}

impl WireOrigin<'_> {
    pub(super) fn into_origin(self) -> Result<FlowSource, Invalid> {
        let module = |(alias, digest): (&str, [u8; 32])| (alias.to_owned(), Digest::from_bytes(digest));
        Ok(FlowSource {
            text: self.text.into(),
            modules: self.modules.into_iter().map(module).collect(),
            edits: self.edits.into_iter().map(WireEdit::into_edit).collect::<Result<_, _>>()?,
        })
    }
}

impl<'a> From<&'a Edit> for WireEdit<'a> {
    fn from(edit: &'a Edit) -> Self {
        match edit {
            Edit::Add { text } => Self::Add { text },
            Edit::Remove { task, ran } => Self::Remove { task: task.as_str(), ran: *ran },
            Edit::Link { from, to, on, when, reach, join } => Self::Link(WireEditLink {
                from: from.as_str(),
                to: to.as_str(),
                on: (*on).into(),
                when: when.as_ref().map(Condition::as_str),
                reach: reach.map(WireReach::from),
                join: (*join).into(),
            }),
            Edit::Unlink { from, to } => Self::Unlink { from: from.as_str(), to: to.as_str() },
            Edit::Use { task, uses } => Self::Use { task: task.as_str(), uses },
            Edit::Set { task, parameter, value } => {
                Self::Set { task: task.as_str(), parameter: parameter.as_str(), value: value.into() }
            }
            Edit::Require { task, parameter, value } => {
                Self::Require { task: task.as_str(), parameter: parameter.as_str(), value: value.as_str() }
            }
        }
    }
}

impl WireEdit<'_> {
    fn into_edit(self) -> Result<Edit, Invalid> {
        let node = |name: &str| NodeName::new(name).map_err(invalid);
        let named = |name: &str| ValueName::new(name).map_err(invalid);
        Ok(match self {
            Self::Add { text } => Edit::Add { text: text.into() },
            Self::Remove { task, ran } => Edit::Remove { task: node(task)?, ran },
            Self::Link(WireEditLink { from, to, on, when, reach, join }) => Edit::Link {
                from: node(from)?,
                to: node(to)?,
                on: on.into(),
                when: when.map(Condition::from_record).transpose().map_err(invalid)?,
                reach: reach.map(SkipReach::from),
                join: join.into(),
            },
            Self::Unlink { from, to } => Edit::Unlink { from: node(from)?, to: node(to)? },
            Self::Use { task, uses } => Edit::Use { task: node(task)?, uses: uses.into() },
            Self::Set { task, parameter, value } => {
                Edit::Set { task: node(task)?, parameter: named(parameter)?, value: value_from_wire(value)? }
            }
            Self::Require { task, parameter, value } => {
                Edit::Require { task: node(task)?, parameter: named(parameter)?, value: named(value)? }
            }
        })
    }
}
