//! Edits of a run's flow.
//!
//! serde reads the variants of a tagged enum from a tree, which cannot hold the original text of a value. So the edit with a
//! value is read separately.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::value::RawValue;

use crate::{Diagnostic, RunGraph, open_enum::open_enum};

open_enum! {
    /// The outcome of its source that a link waits for.
    LinkOutcome from flow::SourceOutcome {
        /// The source succeeds.
        Success = "success",
        /// The source fails permanently.
        Failure = "failure",
        /// Either outcome.
        Any = "any",
    }
}

open_enum! {
    /// The nodes that a false condition of a link skips besides its target.
    LinkReach from flow::SkipReach {
        /// All successors of the target.
        All = "all",
        /// All successors in the same flow, without nested flows.
        Flow = "flow",
        /// The direct successors of the target.
        Neighbors = "neighbors",
        /// None.
        Task = "task",
    }
}

open_enum! {
    /// How a link joins the other links into its target.
    LinkJoin from flow::Join {
        /// The target waits for all links.
        All = "all",
        /// Each link fires the target.
        Any = "any",
    }
}

/// Changes of a run's flow: all in one step, or none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Edits {
    /// The edits, in the order in which they are made.
    #[serde(default)]
    pub edits: Vec<Edit>,
    /// The edits as the text of a file of edits (TOML), in place of `edits`. The server reads no files: `add_text` adds a text in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The revision that the flow must have; the request is refused otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<u64>,
    /// Only check whether the edits can be made.
    #[serde(default)]
    pub dry_run: bool,
    /// Also answer a `dry_run` with the changed flow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preview: bool,
}

/// Modules by alias, each a tag or a digest.
// Client generators make a type of each named schema, and lose unnamed schemas within a choice.
#[cfg(feature = "openapi")]
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct ModuleNames(BTreeMap<String, String>);

/// One change of a run's flow.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields, remote = "Self")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub enum Edit {
    /// Adds tasks, nested flows and links, from the text of a flow file without a name.
    #[cfg_attr(feature = "openapi", schema(title = "EditAdd"))]
    Add {
        /// The text.
        text: String,
        /// Its modules by alias, each a tag or a digest. They replace those in `[modules]` of the text.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        #[cfg_attr(feature = "openapi", schema(value_type = ModuleNames))]
        modules: BTreeMap<String, String>,
    },
    /// Removes a task and its links.
    #[cfg_attr(feature = "openapi", schema(title = "EditRemove"))]
    Remove {
        /// The task.
        task: String,
    },
    /// Links two nodes; replaces an existing link between them.
    #[cfg_attr(feature = "openapi", schema(title = "EditLink"))]
    Link {
        /// The source.
        from: String,
        /// The target.
        to: String,
        /// `success`, `failure` or `any`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
        on: Option<LinkOutcome>,
        /// A condition.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        when: Option<String>,
        /// `all`, `flow`, `neighbors` or `task`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
        reach: Option<LinkReach>,
        /// `all` or `any`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
        join: Option<LinkJoin>,
    },
    /// Removes the links between two nodes.
    #[cfg_attr(feature = "openapi", schema(title = "EditUnlink"))]
    Unlink {
        /// The source.
        from: String,
        /// The target.
        to: String,
    },
    /// Makes a task that has not run call something else.
    #[cfg_attr(feature = "openapi", schema(title = "EditUse"))]
    Use {
        /// The task.
        task: String,
        /// `module#task` or `module`; the module is an alias of the flow, a tag or a digest.
        uses: String,
    },
    /// Sets a constant of a task.
    #[cfg_attr(feature = "openapi", schema(title = "EditSet"))]
    Set {
        /// The task.
        task: String,
        /// The task's name for the value.
        parameter: String,
        /// The value, any JSON.
        #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
        value: Box<RawValue>,
    },
    /// Makes a parameter of a task take a named value of the flow.
    #[cfg_attr(feature = "openapi", schema(title = "EditRequire"))]
    Require {
        /// The task.
        task: String,
        /// The task's name for the value.
        parameter: String,
        /// The flow's name for the value.
        value: String,
    },
}

/// The result of edits, or of a check whether they can be made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct EditResult {
    /// The run's id.
    pub run: String,
    /// The revision of the changed flow.
    pub revision: u64,
    /// Whether the flow was changed; `false` for a `dry_run`.
    pub applied: bool,
    /// The edits, described in words.
    pub edits: Vec<String>,
    /// The warnings about the changed flow. They do not prevent it from running.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Diagnostic>,
    /// The changed flow, if a `dry_run` asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Box<EditPreview>>,
}

/// The flow of a run as edits would change it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct EditPreview {
    /// Its graph, without states.
    pub graph: RunGraph,
    /// Its text, as `GET /v1/runs/{run}/flow?written=true` would answer; left out if the flow cannot be written as a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A revision of a run's flow.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(not(feature = "build"), non_exhaustive)]
pub struct Revision {
    /// Its number.
    pub revision: u64,
    /// When the flow was changed.
    pub at: String,
    /// The edits, described in words.
    pub edits: Vec<String>,
}

/// The kind of an edit.
#[derive(Deserialize)]
struct EditKind {
    #[serde(rename = "do")]
    does: String,
}

/// [`Edit::Set`] as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    #[serde(rename = "do")]
    _does: String,
    task: String,
    parameter: String,
    value: Box<RawValue>,
}

impl<'de> Deserialize<'de> for Edit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Box::<RawValue>::deserialize(deserializer)?;
        let is_set = serde_json::from_str::<EditKind>(written.get()).is_ok_and(|kind| kind.does == "set");
        let read = if is_set {
            serde_json::from_str(written.get()).map(|Set { task, parameter, value, .. }| Self::Set {
                task,
                parameter,
                value,
            })
        } else {
            // The derived deserializer of all variants.
            Self::deserialize(&mut serde_json::Deserializer::from_str(written.get()))
        };
        read.map_err(D::Error::custom)
    }
}

impl Serialize for Edit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

#[cfg(test)]
mod tests {
    use crate::*;

    #[test]
    fn every_edit_round_trips_with_every_digit() {
        let edits = r#"{"edits":[
            {"do":"add","text":"[[task]]","modules":{"m":"steady"}},
            {"do":"remove","task":"t"},
            {"do":"link","from":"a","to":"b","on":"any","when":"x > 1","reach":"task","join":"any"},
            {"do":"unlink","from":"a","to":"b"},
            {"do":"use","task":"t","uses":"m#t"},
            {"do":"set","task":"t","parameter":"p","value":{"b":[1.10,123456789012345678901234567890],"a":null}},
            {"do":"require","task":"t","parameter":"p","value":"v"}],"dry_run":false}"#;
        let edits = edits.replace("\n            ", "");
        let read: Edits = serde_json::from_str(&edits).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), edits);
    }

    #[test]
    fn an_invalid_edit_is_explained() {
        for (edit, message) in [
            (r#"{"do":"set","task":"t","parameter":"p"}"#, "missing field `value`"),
            (r#"{"do":"set","task":"t","parameter":"p","value":1,"valu":2}"#, "unknown field `valu`"),
            (r#"{"do":"remove","tsk":"t"}"#, "unknown field `tsk`"),
            (r#"{"do":"paint"}"#, "unknown variant `paint`"),
            (r#"{"task":"t"}"#, "missing field `do`"),
            ("7", "invalid type"),
        ] {
            let error = serde_json::from_str::<Edit>(edit).unwrap_err().to_string();
            assert!(error.contains(message), "{edit}: {error}");
        }
    }
}
