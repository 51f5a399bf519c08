//! Editing a flow while it runs: the original source of a flow, and its edits since.
//!
//! An edit changes the flow as its author wrote it, and the whole result is wired again: it is checked by the same rules as a
//! new flow. The machine decides how a run continues with it.

mod edited_draft;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

pub use self::edited_draft::EditedDraft;

use crate::{
    Condition, Diagnostic, Digest, Draft, Join, NodeName, Pattern, SkipReach, SourceOutcome, Value, ValueName,
    draft::{DraftNode, DraftTask, FlowBody, LinkSpans},
    file,
};

/// The source of a flow: enough to build it again, and to edit it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowSource {
    /// The flow file.
    pub text: Arc<str>,
    /// The digests of the modules that it names, as resolved at submission, and those of its edits.
    pub modules: BTreeMap<String, Digest>,
    /// The edits since, in order.
    pub edits: Vec<Edit>,
}

/// One edit of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Adds the content of a text, written as a flow file without its name: tasks, nested flows, links and modules.
    Add {
        /// The text.
        text: Arc<str>,
    },
    /// Removes a task and its links.
    Remove {
        /// The task.
        task: NodeName,
        /// Whether it has run: then it stays for its rollback, but no longer takes part in the flow.
        ran: bool,
    },
    /// Links two nodes of one flow; this replaces existing links between them.
    Link {
        /// The source.
        from: NodeName,
        /// The target.
        to: NodeName,
        /// The outcome of the source that the target waits for.
        on: SourceOutcome,
        /// The condition of the link.
        when: Option<Condition>,
        /// How far a false condition reaches.
        reach: Option<SkipReach>,
        /// How the link joins the other links into its target.
        join: Join,
    },
    /// Removes the links between two nodes.
    Unlink {
        /// The source.
        from: NodeName,
        /// The target.
        to: NodeName,
    },
    /// Changes the module or task that a task calls.
    Use {
        /// The task.
        task: NodeName,
        /// `module#task` or `module`; the module is an alias of the flow, or a digest.
        uses: String,
    },
    /// Sets a parameter of a task to a constant.
    Set {
        /// The task.
        task: NodeName,
        /// The task's name for the parameter.
        parameter: ValueName,
        /// The value.
        value: Value,
    },
    /// Takes a parameter of a task from another value of the flow.
    Require {
        /// The task.
        task: NodeName,
        /// The task's name for the parameter.
        parameter: ValueName,
        /// The flow's name for the value.
        value: ValueName,
    },
}

impl fmt::Display for Edit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { text } => write!(out, "add {}", added_names(text).join(", ")),
            Self::Remove { task, .. } => write!(out, "remove {task}"),
            Self::Link { from, to, on, when, join, .. } => {
                write!(out, "link {from} {to}")?;
                match on {
                    SourceOutcome::Success => {}
                    SourceOutcome::Failure => out.write_str(" --on failure")?,
                    SourceOutcome::Any => out.write_str(" --on any")?,
                }
                when.iter().try_for_each(|when| write!(out, " --when {:?}", when.as_str()))?;
                if *join == Join::Any { out.write_str(" --join any") } else { Ok(()) }
            }
            Self::Unlink { from, to } => write!(out, "unlink {from} {to}"),
            Self::Use { task, uses } => write!(out, "use {task} {uses}"),
            // The value may be a secret, or long.
            Self::Set { task, parameter, .. } => write!(out, "set {task} {parameter}"),
            Self::Require { task, parameter, value } => write!(out, "require {task} {parameter}={value}"),
        }
    }
}

/// The nodes and links that a text adds.
fn added_names(text: &str) -> Vec<String> {
    let Ok(draft) = Edit::parse_addition(text) else { return vec!["an invalid text".into()] };
    let nodes = draft.body.nodes.iter().map(|node| node.name().to_string());
    nodes.chain(draft.body.links.iter().map(|link| format!("{} -> {}", link.from, link.to))).collect()
}

impl FlowSource {
    /// The draft of the flow with all its edits.
    ///
    /// # Errors
    /// Why the text or an edit cannot be read: a newer version of waft wrote it.
    pub fn draft(&self) -> Result<EditedDraft, String> {
        let draft = file::parse(&self.text).map_err(|diagnostics| join_messages(&diagnostics))?;
        let mut draft = EditedDraft::new(draft);
        self.edits.iter().try_for_each(|edit| draft.apply(edit))?;
        draft.pin(&self.modules);
        Ok(draft)
    }
}

fn join_messages(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| diagnostic.message.clone()).collect::<Vec<_>>().join("; ")
}

/// Every flow needs a name; the name of an addition is ignored.
const NAME: &str = "name = \"addition\"\n";

impl Edit {
    /// Parses an addition.
    ///
    /// # Errors
    /// Every diagnostic in it, as for a flow file.
    pub fn parse_addition(text: &str) -> Result<Draft, Vec<Diagnostic>> {
        let mut added = Self::read_addition(text);
        if added.diagnostics.is_empty() { Ok(added) } else { Err(std::mem::take(&mut added.diagnostics)) }
    }

    /// Reads an addition as far as possible: its diagnostics are in the draft.
    #[must_use]
    pub fn read_addition(text: &str) -> Draft {
        let shifted =
            |span: std::ops::Range<usize>| span.start.saturating_sub(NAME.len())..span.end.saturating_sub(NAME.len());
        let shifted = |diagnostic: Diagnostic| Diagnostic { span: diagnostic.span.map(shifted), ..diagnostic };
        let mut added = file::read(&format!("{NAME}{text}"));
        added.diagnostics = std::mem::take(&mut added.diagnostics).into_iter().map(shifted).collect();
        let FlowBody { pattern, controller, starts, .. } = &added.body;
        let has_triggers = !added.triggers.spans.is_empty();
        if *pattern != Pattern::default()
            || controller.is_some()
            || starts.is_some()
            || added.expires.is_some()
            || has_triggers
        {
            let message =
                "an addition must not set keys of the whole flow: a pattern, a retry, a time, or how often it fires";
            let hint = "leave them out, or put the addition into a nested flow of its own";
            added.diagnostics.push(Diagnostic::error(None, message).hint(hint));
        }
        added
    }

    /// The inputs that this edit adds to the flow.
    #[must_use]
    pub fn added_inputs(&self) -> BTreeSet<ValueName> {
        let Self::Add { text } = self else { return BTreeSet::new() };
        Self::read_addition(text).inputs.into_keys().collect()
    }
}

/// Removes the spans of a node, since they refer to a text other than the flow's.
fn without_spans(node: DraftNode) -> DraftNode {
    match node {
        DraftNode::Task(task) => DraftNode::Task(Box::new(DraftTask { spans: BTreeMap::new(), ..*task })),
        DraftNode::Flow(mut flow) => {
            flow.span = None;
            flow.body.nodes = flow.body.nodes.into_iter().map(without_spans).collect();
            flow.body.links.iter_mut().for_each(|link| link.spans = LinkSpans::default());
            DraftNode::Flow(flow)
        }
    }
}
