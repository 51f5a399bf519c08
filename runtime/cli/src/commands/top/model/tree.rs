//! The graph of a run as a tree: nested flows contain their nodes, and a list its elements.

use std::collections::{BTreeSet, HashMap};

use api::{Element, ElementProgress, Elements, Failure, GraphNode, GraphNodeKind, Node, NodeState, Run, RunGraph};

use crate::commands::show::call_location;

/// A row of the tree.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TreeRow {
    /// The number of flows and lists that contain it.
    pub(crate) depth: usize,
    /// The name of the node; `task[number]` for an element.
    pub(crate) name: String,
    pub(crate) kind: RowKind,
    pub(crate) state: Option<NodeState>,
    pub(crate) attempt: Option<u32>,
    /// When its last call was sent, and when it entered its state.
    pub(crate) started_at: Option<String>,
    pub(crate) at: Option<String>,
    pub(crate) worker: Option<String>,
    /// What else there is to say.
    pub(crate) note: String,
}

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowKind {
    Flow {
        is_collapsed: bool,
    },
    Task,
    /// A task that is called for each element of a list.
    List {
        is_open: bool,
    },
    Element,
    /// There are more elements than are shown.
    More,
}

/// The rows of a graph. The run has the attempts of the tasks; without it, they are left out.
pub(crate) fn rows(
    graph: &RunGraph,
    run: Option<&Run>,
    collapsed: &BTreeSet<String>,
    opened: Option<(&str, Option<&Elements>)>,
) -> Vec<TreeRow> {
    let nodes: HashMap<&str, &Node> =
        run.iter().flat_map(|run| &run.tasks).map(|node| (node.name.as_str(), node)).collect();
    let mut contents: HashMap<Option<&str>, Vec<&GraphNode>> = HashMap::new();
    for node in graph.nodes.iter().rev() {
        contents.entry(node.within.as_deref()).or_default().push(node);
    }
    let mut rows = Vec::with_capacity(graph.nodes.len());
    // The next node is the last one here.
    let mut waiting: Vec<(usize, &GraphNode)> =
        contents.remove(&None).into_iter().flatten().map(|node| (0, node)).collect();
    while let Some((depth, node)) = waiting.pop() {
        let elements = opened.filter(|(task, _)| *task == node.name);
        let kind = match node.kind {
            GraphNodeKind::Flow => RowKind::Flow { is_collapsed: collapsed.contains(&node.name) },
            GraphNodeKind::ForEach => RowKind::List { is_open: elements.is_some() },
            // A kind that only a newer server knows is shown as a task.
            _ => RowKind::Task,
        };
        rows.push(row(depth, kind, node, nodes.get(node.name.as_str()).copied()));
        if let Some((task, Some(elements))) = elements {
            rows.extend(element_rows(depth + 1, task, elements));
        }
        if kind == (RowKind::Flow { is_collapsed: false }) {
            // Removed, so that no node comes twice, whatever the server says.
            let within = contents.remove(&Some(node.name.as_str()));
            waiting.extend(within.into_iter().flatten().map(|child| (depth + 1, child)));
        }
    }
    rows
}

fn row(depth: usize, kind: RowKind, node: &GraphNode, task: Option<&Node>) -> TreeRow {
    TreeRow {
        depth,
        name: node.name.clone(),
        kind,
        state: node.state.clone(),
        attempt: task.and_then(|task| task.attempt),
        started_at: task.and_then(|task| task.started_at.clone()),
        at: task.and_then(|task| task.at.clone()),
        worker: task.and_then(|task| task.worker.clone()),
        note: note(node, task),
    }
}

fn note(node: &GraphNode, task: Option<&Node>) -> String {
    let mut parts = Vec::new();
    if let Some(ElementProgress { count, succeeded }) = node.elements {
        parts.push(format!("{succeeded} of {count} elements"));
    }
    parts.extend(node.retry.clone());
    parts.extend(node.triggers.iter().map(|trigger| format!("fires {trigger}")));
    if node.is_failure_handler {
        parts.push("handles failures".to_owned());
    }
    if node.removed {
        parts.push("removed by an edit".to_owned());
    }
    if let Some(task) = task {
        parts.extend(task.awaits.as_ref().map(|awaited| format!("waits for {}", awaited.word)));
        // Other calls have a worker, or wait for one that is there.
        let stuck = task.out.as_ref().filter(|out| out.unserved || out.silent_for.is_some());
        parts.extend(stuck.map(call_location));
        parts.extend(task.computed_by.as_ref().map(|call| format!("remembered from {}", call.run)));
        parts.extend(task.retry_in.map(|seconds| format!("again in {seconds:.1}s")));
        parts.extend(task.rollback_skipped.as_ref().map(|reason| format!("rollback skipped: {reason}")));
        parts.extend(task.failure.as_ref().map(failure_line));
    }
    parts.join(", ")
}

/// A failure on one line.
fn failure_line(Failure { kind, message, .. }: &Failure) -> String {
    format!("{kind}: {}", message.lines().next().unwrap_or_default())
}

fn element_rows(depth: usize, task: &str, elements: &Elements) -> Vec<TreeRow> {
    let empty = TreeRow {
        depth,
        name: String::new(),
        kind: RowKind::Element,
        state: None,
        attempt: None,
        started_at: None,
        at: None,
        worker: None,
        note: String::new(),
    };
    let row = |Element { number, state, attempt, failure }: &Element| TreeRow {
        name: format!("{task}[{number}]"),
        state: Some(state.clone()),
        attempt: *attempt,
        note: failure.as_ref().map(failure_line).unwrap_or_default(),
        ..empty.clone()
    };
    let mut rows: Vec<TreeRow> = elements.elements.iter().map(row).collect();
    if elements.next.is_some() {
        let note = format!("{} elements in all: ] shows the next ones", elements.count);
        rows.push(TreeRow { kind: RowKind::More, note, ..empty });
    }
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn graph() -> RunGraph {
        let node = |name: &str, kind: &str, within: Option<&str>| json!({"name": name, "kind": kind, "within": within});
        let nodes = [
            node("a", "task", None),
            node("f", "flow", None),
            node("b", "for-each", Some("f")),
            node("g", "flow", Some("f")),
            node("c", "wait", Some("g")),
            node("d", "task", Some("f")),
            node("e", "task", None),
        ];
        let graph = json!({"run": "r", "flow": "x", "revision": 1, "last_revision": 1, "nodes": nodes, "links": []});
        serde_json::from_value(graph).unwrap()
    }

    fn shown(rows: &[TreeRow]) -> Vec<String> {
        rows.iter().map(|row| format!("{}{}", " ".repeat(row.depth), row.name)).collect()
    }

    #[test]
    fn nested_flows_contain_their_nodes() {
        let all = rows(&graph(), None, &BTreeSet::new(), None);
        assert_eq!(shown(&all), ["a", "f", " b", " g", "  c", " d", "e"]);
        let collapsed = rows(&graph(), None, &BTreeSet::from(["f".to_owned()]), None);
        assert_eq!(shown(&collapsed), ["a", "f", "e"]);
        assert_eq!(collapsed[1].kind, RowKind::Flow { is_collapsed: true });
    }

    #[test]
    fn an_open_list_shows_its_elements() {
        let elements = json!({"run": "r", "task": "b", "firing": 1, "count": 9, "next": 1, "elements": [
            {"number": 0, "state": "success", "attempt": 1},
            {"number": 1, "state": "failure", "attempt": 2, "failure": {"kind": "trap", "message": "one\ntwo"}},
        ]});
        let elements: Elements = serde_json::from_value(elements).unwrap();
        let rows = rows(&graph(), None, &BTreeSet::new(), Some(("b", Some(&elements))));
        assert_eq!(shown(&rows[2..6]), [" b", "  b[0]", "  b[1]", "  "]);
        assert_eq!((rows[4].note.as_str(), rows[4].attempt), ("trap: one", Some(2)));
        assert_eq!((rows[5].kind, rows[5].note.as_str()), (RowKind::More, "9 elements in all: ] shows the next ones"));
    }

    #[test]
    fn a_graph_without_an_order_shows_each_node_at_most_once() {
        let mut graph = graph();
        let names = ["f", "f", "g", "f", "c", "d", "e"];
        for (node, name) in graph.nodes.iter_mut().zip(names) {
            (node.kind, node.name) = (GraphNodeKind::Flow, name.to_owned());
            node.within = node.within.is_some().then(|| "f".to_owned());
        }
        let rows = rows(&graph, None, &BTreeSet::new(), None);
        assert_eq!(rows.len(), graph.nodes.len());
    }
}
