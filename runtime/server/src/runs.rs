//! Starts, lists, shows and controls runs.

pub(crate) mod attempt;
pub(crate) mod edits;
pub(crate) mod elements;
pub(crate) mod exchanges;
pub(crate) mod follow;
pub(crate) mod graph;
pub(crate) mod history;
pub(crate) mod incarnation;
pub(crate) mod list;
pub(crate) mod live;
pub(crate) mod logs;
pub(crate) mod rehearsal;
pub(crate) mod bulk;
pub(crate) mod counts;
pub(crate) mod flow_text;
mod namespace;
mod resubmission;
pub(crate) mod schedules;
pub(crate) mod show;
pub(crate) mod submit;
pub(crate) mod timeline;
pub(crate) mod value;
pub(crate) mod commands;
