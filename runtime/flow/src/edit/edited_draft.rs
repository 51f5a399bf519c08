//! A draft while edits change it.
//!
//! A flow may have tens of thousands of nodes and links, and a run thousands of edits. So each edit finds the nodes and links that it
//! names by their names, and looks at no others.

use std::collections::{BTreeMap, BTreeSet};

use super::{Edit, join_messages, without_spans};
use crate::{
    Digest, Draft, NodeName,
    draft::{
        DraftLink, DraftListener, DraftNode, DraftSchedule, DraftTask, DraftTaskKind, FlowBody, LinkSpans,
        ModuleReference,
    },
    suggest,
    wire::MAX_SCHEDULES,
};

/// A draft, and its nodes and links by name.
#[derive(Debug)]
pub struct EditedDraft {
    /// The draft without its nodes, links, listeners and schedules.
    draft: Draft,
    /// The content of the whole flow, and then of each nested flow, in the order of the file.
    scopes: Vec<ScopeContent>,
    /// The scopes that have a node of a name: one, unless the flow is invalid.
    scopes_with: BTreeMap<NodeName, BTreeSet<usize>>,
    listeners: Indexed<NodeName, DraftListener>,
    schedules: Indexed<NodeName, DraftSchedule>,
    /// The number of errors with a suggestion so far.
    suggestions: usize,
}

/// The nodes and links of one flow.
#[derive(Debug)]
struct ScopeContent {
    /// The scope around a nested flow, and its index among the nodes there.
    parent: Option<(usize, usize)>,
    nodes: Indexed<NodeName, DraftNode>,
    links: Indexed<LinkKey, DraftLink>,
}

/// How an edit names links.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LinkKey {
    /// All links with this end.
    End(NodeName),
    /// All links between two nodes.
    Between(NodeName, NodeName),
}

impl EditedDraft {
    /// Prepares a draft for edits.
    #[must_use]
    pub fn new(mut draft: Draft) -> Self {
        let body = take_content(&mut draft.body);
        let (listeners, schedules) = (std::mem::take(&mut draft.listeners), std::mem::take(&mut draft.schedules));
        let mut edited = Self {
            draft,
            scopes: Vec::new(),
            scopes_with: BTreeMap::new(),
            listeners: Indexed::default(),
            schedules: Indexed::default(),
            suggestions: 0,
        };
        edited.add_scope(None, body);
        edited.add_triggers(listeners, schedules);
        edited
    }

    /// The draft with its edits.
    #[must_use]
    pub fn into_draft(mut self) -> Draft {
        // A nested flow comes after the flow around it.
        while let Some(ScopeContent { parent, nodes, links }) = self.scopes.pop() {
            let body = match parent {
                None => &mut self.draft.body,
                Some((scope, index)) => match self.scopes[scope].nodes.items[index].as_mut() {
                    Some(DraftNode::Flow(flow)) => &mut flow.body,
                    // It had the name of a task that was removed.
                    Some(DraftNode::Task(_)) | None => continue,
                },
            };
            (body.nodes, body.links) = (nodes.into_items(), links.into_items());
        }
        let (listeners, schedules) = (self.listeners.into_items(), self.schedules.into_items());
        Draft { listeners, schedules, ..self.draft }
    }

    /// Lets its modules be those that were found before.
    pub(super) fn pin(&mut self, modules: &BTreeMap<String, Digest>) {
        for (alias, digest) in modules {
            let reference = ModuleReference { text: digest.to_string(), ..ModuleReference::default() };
            self.draft.modules.insert(alias.clone(), reference);
        }
    }

    /// The first alias of an added text that the flow already uses for another module.
    #[must_use]
    pub fn conflicting_alias(&self, text: &str) -> Option<String> {
        let added = Edit::parse_addition(text).ok()?;
        let is_other = |(alias, reference): &(String, ModuleReference)| {
            self.draft.modules.get(alias).is_some_and(|known| known.text != reference.text)
        };
        added.modules.into_iter().find(is_other).map(|(alias, _)| alias)
    }

    /// Applies an edit.
    ///
    /// # Errors
    /// Why the edit is invalid, for people.
    pub fn apply(&mut self, edit: &Edit) -> Result<(), String> {
        match edit {
            Edit::Add { text } => self.add(text),
            Edit::Remove { task, ran } => self.remove(task, *ran),
            Edit::Link { from, to, on, when, reach, join } => {
                let links = &mut self.scope_with(from)?.links;
                links.remove(&LinkKey::Between(from.clone(), to.clone()));
                let (on, when, reach, join) = (*on, when.clone(), *reach, *join);
                let (from, to, spans) = (from.clone(), to.clone(), LinkSpans::default());
                push_link(links, DraftLink { from, to, on, when, reach, join, spans });
                Ok(())
            }
            Edit::Unlink { from, to } => {
                let links = &mut self.scope_with(from)?.links;
                if links.remove(&LinkKey::Between(from.clone(), to.clone())) {
                    return Ok(());
                }
                Err(format!(
                    "there is no link {from} -> {to}; where one requires a value of the other, `require` takes it elsewhere"
                ))
            }
            Edit::Use { task, uses } => {
                let module = uses.split('#').next().unwrap_or_default();
                if !self.draft.modules.contains_key(module) {
                    let reference = ModuleReference { text: module.into(), ..ModuleReference::default() };
                    self.draft.modules.insert(module.into(), reference);
                }
                match &mut self.task(task)?.kind {
                    DraftTaskKind::Call(current) => current.clone_from(uses),
                    DraftTaskKind::Wait(_) => return Err(format!("task {task:?} waits, and calls no module")),
                }
                Ok(())
            }
            Edit::Set { task, parameter, value } => {
                self.task(task)?.with.insert(parameter.clone(), value.clone());
                Ok(())
            }
            Edit::Require { task, parameter, value } => {
                let draft_task = self.task(task)?;
                draft_task.with.remove(parameter);
                draft_task.requires.get_or_insert_default().insert(parameter.clone(), value.clone());
                Ok(())
            }
        }
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        let added = Edit::parse_addition(text).map_err(|diagnostics| join_messages(&diagnostics))?;
        let schedules = self.schedules.len + added.schedules.len();
        if schedules > MAX_SCHEDULES {
            // Each takes kilobytes in memory until the flow is wired.
            let message = format!("the flow would have {schedules} [[schedule]] or more");
            return Err(format!("{message}, and the maximum is {MAX_SCHEDULES}"));
        }
        for (alias, reference) in added.modules {
            self.draft.modules.entry(alias).or_insert(reference);
        }
        self.draft.inputs.extend(added.inputs);
        let listeners = added.listeners.into_iter().map(|listener| DraftListener { span: None, ..listener });
        let schedules = added.schedules.into_iter().map(|schedule| DraftSchedule { span: None, ..schedule });
        self.add_triggers(listeners, schedules);
        added.body.nodes.into_iter().map(without_spans).for_each(|node| self.add_node(0, node));
        for link in added.body.links {
            push_link(&mut self.scopes[0].links, DraftLink { spans: LinkSpans::default(), ..link });
        }
        Ok(())
    }

    fn add_triggers(
        &mut self,
        listeners: impl IntoIterator<Item = DraftListener>,
        schedules: impl IntoIterator<Item = DraftSchedule>,
    ) {
        for listener in listeners {
            let to = listener.to.clone();
            self.listeners.push(listener, [to]);
        }
        for schedule in schedules {
            let to = schedule.to.clone();
            self.schedules.push(schedule, [to]);
        }
    }

    /// Adds the content of a flow. Flows nest no deeper than the reader of flow files allows.
    fn add_scope(&mut self, parent: Option<(usize, usize)>, (nodes, links): (Vec<DraftNode>, Vec<DraftLink>)) {
        let scope = self.scopes.len();
        self.scopes.push(ScopeContent { parent, nodes: Indexed::default(), links: Indexed::default() });
        nodes.into_iter().for_each(|node| self.add_node(scope, node));
        links.into_iter().for_each(|link| push_link(&mut self.scopes[scope].links, link));
    }

    fn add_node(&mut self, scope: usize, mut node: DraftNode) {
        let (name, index) = (node.name().clone(), self.scopes[scope].nodes.items.len());
        let content = match &mut node {
            DraftNode::Task(_) => None,
            DraftNode::Flow(flow) => Some(take_content(&mut flow.body)),
        };
        self.scopes_with.entry(name.clone()).or_default().insert(scope);
        self.scopes[scope].nodes.push(node, [name]);
        if let Some(content) = content {
            self.add_scope(Some((scope, index)), content);
        }
    }

    fn remove(&mut self, task: &NodeName, ran: bool) -> Result<(), String> {
        let draft_task = self.task(task)?;
        if ran {
            draft_task.retired = true;
        } else {
            let scopes = self.scopes_with.get_mut(task);
            let scope = scopes.and_then(BTreeSet::pop_first).expect("the task was found in a scope");
            let ScopeContent { nodes, links, .. } = &mut self.scopes[scope];
            nodes.remove(task);
            links.remove(&LinkKey::End(task.clone()));
        }
        self.listeners.remove(task);
        self.schedules.remove(task);
        Ok(())
    }

    /// The flow that contains a node.
    fn scope_with(&mut self, name: &NodeName) -> Result<&mut ScopeContent, String> {
        let scope = self.scopes_with.get(name).and_then(BTreeSet::first);
        scope.map(|scope| &mut self.scopes[*scope]).ok_or_else(|| format!("the flow has no node {name:?}"))
    }

    fn task(&mut self, name: &NodeName) -> Result<&mut DraftTask, String> {
        let scope = self.scopes_with.get(name).and_then(BTreeSet::first).copied();
        let Some(scope) = scope else {
            let hint = self.suggest(name);
            return Err(format!(
                "the flow has no task {name:?}{}",
                hint.map(|hint| format!(": {hint}")).unwrap_or_default()
            ));
        };
        match self.scopes[scope].nodes.first_mut(name) {
            Some(DraftNode::Task(task)) => Ok(task),
            Some(DraftNode::Flow(_)) => Err(format!("{name:?} is a nested flow, and not a task")),
            None => unreachable!("scopes_with names only scopes that have a node of the name"),
        }
    }

    /// A suggestion for a name that no node has. Each takes time, so only the first errors get one.
    fn suggest(&mut self, name: &NodeName) -> Option<String> {
        self.suggestions += 1;
        let names = self.scopes.iter().flat_map(|scope| scope.nodes.iter()).map(|node| node.name().as_str());
        (self.suggestions <= suggest::MAX_SUGGESTIONS).then(|| suggest::did_you_mean(name.as_str(), names)).flatten()
    }
}

fn take_content(body: &mut FlowBody) -> (Vec<DraftNode>, Vec<DraftLink>) {
    (std::mem::take(&mut body.nodes), std::mem::take(&mut body.links))
}

fn push_link(links: &mut Indexed<LinkKey, DraftLink>, link: DraftLink) {
    let (from, to) = (link.from.clone(), link.to.clone());
    let keys = [LinkKey::End(from.clone()), LinkKey::End(to.clone()), LinkKey::Between(from, to)];
    links.push(link, keys);
}

/// Items in order, which are found and removed by key. An item may have several keys, and a key several items.
#[derive(Debug)]
struct Indexed<Key, Item> {
    /// `None` for a removed item.
    items: Vec<Option<Item>>,
    /// The indices of the items with a key. Some may have been removed by another of their keys.
    by_key: BTreeMap<Key, Vec<usize>>,
    /// The number of items that were not removed.
    len: usize,
}

impl<Key, Item> Default for Indexed<Key, Item> {
    fn default() -> Self {
        Self { items: Vec::new(), by_key: BTreeMap::new(), len: 0 }
    }
}

impl<Key: Ord, Item> Indexed<Key, Item> {
    fn push(&mut self, item: Item, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            self.by_key.entry(key).or_default().push(self.items.len());
        }
        self.items.push(Some(item));
        self.len += 1;
    }

    fn first_mut(&mut self, key: &Key) -> Option<&mut Item> {
        let indices = self.by_key.get(key)?;
        let first = indices.iter().find(|index| self.items[**index].is_some())?;
        self.items[*first].as_mut()
    }

    /// Removes all items with a key. Returns whether there was one.
    fn remove(&mut self, key: &Key) -> bool {
        let indices = self.by_key.remove(key).unwrap_or_default();
        let removed = indices.into_iter().filter_map(|index| self.items[index].take()).count();
        self.len -= removed;
        removed > 0
    }

    fn iter(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().flatten()
    }

    fn into_items(self) -> Vec<Item> {
        self.items.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Join, SourceOutcome, file};

    const FLOW: &str = r#"
name = "f"
task = [{ name = "a", wait = "x" }, { name = "b", wait = "x" }, { name = "c", wait = "x" }]
flow = [{ name = "inner", task = [{ name = "d", wait = "x" }, { name = "e", wait = "x" }], link = [{ from = "d", to = "e" }] }]
link = [{ from = "a", to = "b" }, { from = "b", to = "c" }, { from = "a", to = "inner" }]
"#;

    fn name(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn link(from: &str, to: &str) -> Edit {
        let (on, join) = (SourceOutcome::Success, Join::All);
        Edit::Link { from: name(from), to: name(to), on, when: None, reach: None, join }
    }

    fn remove(task: &str) -> Edit {
        Edit::Remove { task: name(task), ran: false }
    }

    fn add(text: &str) -> Edit {
        Edit::Add { text: text.into() }
    }

    /// The nodes and links of a flow, and of those in it.
    fn outline(body: &FlowBody) -> String {
        let node = |node: &DraftNode| match node {
            DraftNode::Task(task) => task.name.to_string(),
            DraftNode::Flow(flow) => format!("{}({})", flow.name, outline(&flow.body)),
        };
        let links = body.links.iter().map(|link| format!("{}->{}", link.from, link.to));
        body.nodes.iter().map(node).chain(links).collect::<Vec<_>>().join(" ")
    }

    fn edited(edits: &[Edit]) -> Result<String, String> {
        let mut draft = EditedDraft::new(file::parse(FLOW).unwrap());
        edits.iter().try_for_each(|edit| draft.apply(edit))?;
        Ok(outline(&draft.into_draft().body))
    }

    #[test]
    fn without_edits_a_draft_stays_as_it_is() {
        assert_eq!(edited(&[]).unwrap(), "a b c inner(d e d->e) a->b b->c a->inner");
    }

    #[test]
    fn nodes_and_links_keep_their_order() {
        assert_eq!(edited(&[remove("b")]).unwrap(), "a c inner(d e d->e) a->inner");
        assert_eq!(edited(&[remove("d"), remove("a")]).unwrap(), "b c inner(e) b->c");
        assert_eq!(
            edited(&[link("a", "b")]).unwrap(),
            "a b c inner(d e d->e) b->c a->inner a->b",
            "a link is replaced"
        );
        let unlink = Edit::Unlink { from: name("d"), to: name("e") };
        assert_eq!(edited(&[unlink.clone(), link("e", "d")]).unwrap(), "a b c inner(d e e->d) a->b b->c a->inner");
        let again = edited(&[unlink.clone(), unlink]).unwrap_err();
        assert!(again.starts_with("there is no link d -> e"), "{again}");
        let more = "task = [{ name = \"b\", wait = \"y\" }]\nflow = [{ name = \"g\", task = [{ name = \"h\", wait = \"x\" }] }]";
        let replaced = edited(&[remove("b"), add(more), link("b", "c"), remove("h")]).unwrap();
        assert_eq!(replaced, "a c inner(d e d->e) b g() a->inner b->c");
    }

    #[test]
    fn a_removed_task_is_gone_until_another_has_its_name() {
        let gone = edited(&[remove("b"), remove("b")]).unwrap_err();
        assert!(gone.starts_with("the flow has no task \"b\""), "{gone}");
        assert_eq!(edited(&[remove("c"), link("c", "a")]).unwrap_err(), "the flow has no node \"c\"");
        let listening =
            "task = [{ name = \"z\", wait = \"x\" }]\nlisten = [{ flow = \"g\", task = \"t\", to = \"z\" }]";
        let mut draft = EditedDraft::new(file::parse(FLOW).unwrap());
        for edit in [add(listening), remove("z"), add(listening)] {
            draft.apply(&edit).unwrap();
        }
        assert_eq!(draft.into_draft().listeners.len(), 1);
    }

    #[test]
    fn only_the_first_errors_have_a_suggestion() {
        let mut draft =
            EditedDraft::new(file::parse("name = \"f\"\ntask = [{ name = \"task\", wait = \"x\" }]").unwrap());
        let mut wrong = || draft.apply(&remove("tusk")).unwrap_err();
        assert!(wrong().ends_with("did you mean \"task\"?"));
        let with_suggestion = (1..300).filter(|_| wrong().contains("did you mean")).count();
        assert_eq!(with_suggestion, suggest::MAX_SUGGESTIONS - 1);
    }
}
