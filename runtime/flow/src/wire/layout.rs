//! The layout of a draft in the arena: a flow's members are between its begin and its end.

use std::collections::BTreeMap;

use crate::{
    Diagnostic, FlowName, NodeIndex, NodeName, ValueName,
    draft::{DraftNode, DraftTask, FlowBody, Span},
    graph::ScopeIndex,
};

/// The maximum nesting depth of flows. Every walk over a draft recurses this deep, so deeper ones are refused. The TOML
/// parser stops at tables 80 deep, with a less clear message.
const MAX_DEPTH: usize = 64;

/// The draft, laid out.
pub(super) struct Layout<'d> {
    flows: Vec<FlowLayout<'d>>,
    slots: Vec<Slot<'d>>,
    positions: BTreeMap<&'d NodeName, MemberPosition>,
}

/// One flow of the draft.
pub(super) struct FlowLayout<'d> {
    pub(super) name: NodeName,
    pub(super) body: &'d FlowBody,
    /// Its position in the enclosing flow.
    pub(super) parent: Option<MemberPosition>,
    pub(super) begin: NodeIndex,
    pub(super) end: NodeIndex,
    /// Its tasks and nested flows, in reading order.
    pub(super) members: Vec<Member<'d>>,
    span: Span,
}

/// A task or nested flow among the members of a flow. A task begins and ends with the same node, except a `for_each` task,
/// which ends with its fan-in.
pub(super) struct Member<'d> {
    pub(super) name: &'d NodeName,
    pub(super) first: NodeIndex,
    pub(super) last: NodeIndex,
    pub(super) nested: Option<ScopeIndex>,
}

/// The index of a flow, and of a member in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct MemberPosition {
    pub(super) scope: ScopeIndex,
    pub(super) member: usize,
}

/// The content of one index of the arena.
pub(super) enum Slot<'d> {
    /// The begin of a flow, or its controller.
    Begin(ScopeIndex),
    Task {
        task: &'d DraftTask,
        position: MemberPosition,
    },
    /// The fan-in of the task before it.
    FanIn {
        task: &'d DraftTask,
        position: MemberPosition,
    },
    End(ScopeIndex),
}

impl<'d> Layout<'d> {
    pub(super) fn of(name: &FlowName, body: &'d FlowBody, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut layout = Self { flows: Vec::new(), slots: Vec::new(), positions: BTreeMap::new() };
        let name = NodeName::new(name.in_its_namespace()).expect("without a namespace, all names have the same rules");
        let root = layout.lay_out_scope(name, body, (None, None), 0, diagnostics);
        layout.check_controllers_name(root, diagnostics);
        layout
    }

    /// Lays out a flow and names its members. Returns its index.
    fn lay_out_scope(
        &mut self,
        name: NodeName,
        body: &'d FlowBody,
        (parent, span): (Option<MemberPosition>, Span),
        depth: usize,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> ScopeIndex {
        let scope = ScopeIndex(index(self.flows.len()));
        let begin = self.put(Slot::Begin(scope));
        self.flows.push(FlowLayout { name, body, parent, begin, end: begin, members: Vec::new(), span: span.clone() });
        if depth > MAX_DEPTH {
            let message = format!("flow {:?} is nested more than {MAX_DEPTH} deep", self.flow(scope).name);
            diagnostics.push(Diagnostic::error(span, message).hint("reduce the nesting"));
        } else {
            for node in &body.nodes {
                self.lay_out_member(scope, node, depth, diagnostics);
            }
        }
        let end = self.put(Slot::End(scope));
        self.flows[scope.0 as usize].end = end;
        scope
    }

    fn lay_out_member(
        &mut self,
        scope: ScopeIndex,
        node: &'d DraftNode,
        depth: usize,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let position = MemberPosition { scope, member: self.flow(scope).members.len() };
        // Its index is assigned before its content is laid out, to keep the order of the names.
        self.name(node, position, diagnostics);
        let member = match node {
            DraftNode::Task(task) => {
                let first = self.put(Slot::Task { task, position });
                let last = if task.for_each.is_some() { self.put(Slot::FanIn { task, position }) } else { first };
                Member { name: &task.name, first, last, nested: None }
            }
            DraftNode::Flow(flow) => {
                let parent = (Some(position), flow.span.clone());
                let nested = self.lay_out_scope(flow.name.clone(), &flow.body, parent, depth + 1, diagnostics);
                let FlowLayout { begin, end, .. } = *self.flow(nested);
                Member { name: &flow.name, first: begin, last: end, nested: Some(nested) }
            }
        };
        self.flows[scope.0 as usize].members.push(member);
    }

    fn name(&mut self, node: &'d DraftNode, position: MemberPosition, diagnostics: &mut Vec<Diagnostic>) {
        let name = node.name();
        if name.as_element().is_some() {
            let message = format!("{name:?} is how an element of a task is called, not a task");
            let hint = "name it with the characters A-Z a-z 0-9 _ -";
            diagnostics.push(Diagnostic::error(span_of(node), message).hint(hint));
        }
        if self.positions.contains_key(name) {
            let message = format!("the name {name:?} is used twice");
            let hint = "names are unique in the whole flow, nested flows included";
            diagnostics.push(Diagnostic::error(span_of(node), message).hint(hint));
        } else {
            self.positions.insert(name, position);
        }
    }

    /// A controller is published under the name of its flow.
    fn check_controllers_name(&self, root: ScopeIndex, diagnostics: &mut Vec<Diagnostic>) {
        let flow = self.flow(root);
        let Some(position) = self.positions.get(&flow.name) else { return };
        if flow.body.controller.is_some() {
            let node = self.flow(position.scope).members[position.member].first;
            let message =
                format!("{} has the name of the whole flow, which has a retry controller", self.describe(node));
            let hint = "a retry controller has the name of its flow: give one of them another name";
            diagnostics.push(Diagnostic::error(self.span(node, "name"), message).hint(hint));
        }
    }

    /// Warns about an empty nested flow in a file: its tasks were probably written outside it. A built flow may be
    /// empty.
    pub(super) fn warn_empty_flows(&self, diagnostics: &mut Vec<Diagnostic>) {
        for flow in self.flows.iter().filter(|flow| flow.members.is_empty()) {
            let (Some(parent), Some(span)) = (flow.parent, &flow.span) else { continue };
            let comes_after = |node: &DraftNode| match node {
                DraftNode::Task(task) => task.span("").is_some_and(|task_span| task_span.start > span.start),
                DraftNode::Flow(_) => false,
            };
            let retry =
                if flow.body.controller.is_some() { ", and its retry controller tries nothing again" } else { "" };
            let message = format!("flow {:?} has no task{retry}", flow.name);
            let (header, parent_header) = self.headers(parent.scope);
            let follows = self.flow(parent.scope).body.nodes.iter().any(comes_after);
            let hint = if follows {
                format!("a task in it begins with [[{header}.task]]; [[{parent_header}]] is one of the flow around it")
            } else {
                format!("a task in it begins with [[{header}.task]]; or leave the flow out")
            };
            diagnostics.push(Diagnostic::warning(Some(span.clone()), message).hint(hint));
        }
    }

    /// The headers of a nested flow and of a task in this flow.
    fn headers(&self, scope: ScopeIndex) -> (String, String) {
        let depth = std::iter::successors(Some(scope), |scope| Some(self.flow(*scope).parent?.scope)).count();
        let flow = vec!["flow"; depth].join(".");
        let task = format!("{}task", "flow.".repeat(depth - 1));
        (flow, task)
    }

    fn put(&mut self, slot: Slot<'d>) -> NodeIndex {
        self.slots.push(slot);
        NodeIndex(index(self.slots.len() - 1))
    }

    pub(super) fn flow(&self, scope: ScopeIndex) -> &FlowLayout<'d> {
        &self.flows[scope.0 as usize]
    }

    /// All flows, each before those nested in it.
    pub(super) fn scopes(&self) -> impl DoubleEndedIterator<Item = ScopeIndex> + use<> {
        (0..index(self.flows.len())).map(ScopeIndex)
    }

    pub(super) fn slot(&self, node: NodeIndex) -> &Slot<'d> {
        &self.slots[node.0 as usize]
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = (NodeIndex, &Slot<'d>)> {
        self.slots.iter().enumerate().map(|(slot_index, slot)| (NodeIndex(index(slot_index)), slot))
    }

    pub(super) fn tasks(&self) -> impl Iterator<Item = (NodeIndex, &'d DraftTask)> {
        self.slots().filter_map(|(index, _)| Some((index, self.task(index)?)))
    }

    /// The flow that contains a node. The begin and the end of a flow belong to that flow.
    pub(super) fn scope_of(&self, node: NodeIndex) -> ScopeIndex {
        match &self.slots[node.0 as usize] {
            Slot::Begin(scope) | Slot::End(scope) => *scope,
            Slot::Task { position, .. } | Slot::FanIn { position, .. } => position.scope,
        }
    }

    pub(super) fn task(&self, node: NodeIndex) -> Option<&'d DraftTask> {
        match &self.slots[node.0 as usize] {
            Slot::Task { task, .. } => Some(task),
            Slot::Begin(_) | Slot::FanIn { .. } | Slot::End(_) => None,
        }
    }

    pub(super) fn position(&self, name: &NodeName) -> Option<MemberPosition> {
        self.positions.get(name).copied()
    }

    /// The value that a flow's controller provides.
    pub(super) fn controller_value(&self, scope: ScopeIndex) -> Option<&'d ValueName> {
        self.flow(scope).body.controller.as_ref()?.provides.as_ref()
    }

    /// The member of a flow that is or contains a node; `None` when it contains no such node.
    pub(super) fn member_with(&self, scope: ScopeIndex, node: NodeIndex) -> Option<usize> {
        let members = &self.flow(scope).members;
        let member = members.partition_point(|member| member.last < node);
        members.get(member).is_some_and(|member| member.first <= node).then_some(member)
    }

    /// Describes a node for messages.
    pub(super) fn describe(&self, node: NodeIndex) -> String {
        match &self.slots[node.0 as usize] {
            Slot::Task { task, .. } | Slot::FanIn { task, .. } => format!("task {:?}", task.name),
            Slot::Begin(scope) | Slot::End(scope) => {
                let flow = self.flow(*scope);
                let kind = if flow.body.controller.is_some() { "the retry controller of flow" } else { "flow" };
                format!("{kind} {:?}", flow.name)
            }
        }
    }

    /// The span of a part of a node.
    pub(super) fn span(&self, node: NodeIndex, part: &str) -> Span {
        match &self.slots[node.0 as usize] {
            Slot::Task { task, .. } | Slot::FanIn { task, .. } => task.span(part),
            Slot::Begin(scope) | Slot::End(scope) => {
                let flow = self.flow(*scope);
                let controller = flow.body.controller.as_ref();
                controller.and_then(|controller| controller.span.clone()).or_else(|| flow.span.clone())
            }
        }
    }
}

fn span_of(node: &DraftNode) -> Span {
    match node {
        DraftNode::Task(task) => task.span("name"),
        DraftNode::Flow(flow) => flow.span.clone(),
    }
}

fn index(count: usize) -> u32 {
    u32::try_from(count).expect("a draft of 2^32 nodes does not fit the memory of a machine")
}
