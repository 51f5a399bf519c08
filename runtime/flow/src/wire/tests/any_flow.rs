//! Properties of all flows: no text makes reading or wiring panic, and every wired flow is consistent.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{MODULES, modules};
use crate::{
    Flow, Node, NodeIndex, NodeName, Pattern, Task, ValueName, Values,
    draft::{DraftNode, FlowBody, Renames},
    file,
    graph::{Role, ScopeIndex, Source},
    picture, render,
    seeded_rng::SeededRng,
    wire,
};

/// Reads, wires, reports and draws a flow.
fn use_in_every_way(text: &str) {
    let diagnostics = match file::parse(text) {
        Ok(draft) => match wire(&draft, &modules(), &Values::new()) {
            Ok((flow, warnings)) => {
                let pictures = [picture::dot(&flow), picture::mermaid(&flow), picture::svg(&flow)];
                assert!(pictures.iter().all(|picture| !picture.is_empty()));
                warnings
            }
            Err(diagnostics) => diagnostics,
        },
        Err(diagnostics) => diagnostics,
    };
    assert_eq!(render(&diagnostics, "f.toml", text).is_empty(), diagnostics.is_empty());
    for diagnostic in &diagnostics {
        assert!(diagnostic.hint.is_some(), "{} has no hint", diagnostic.message);
        assert!(
            !diagnostic.message.contains(char::is_control),
            "{:?} contains a control character",
            diagnostic.message
        );
    }
}

/// The flows of the tables, with some of their lines moved, removed, duplicated or exchanged.
fn shuffled_lines(rng: &mut SeededRng) -> String {
    let tables = [
        include_str!("../diagnostics.txt"),
        include_str!("../sources.txt"),
        include_str!("../../file/diagnostics.txt"),
    ];
    let cases = tables.iter().flat_map(|table| table.split("=== ").skip(1));
    let flows: Vec<&str> = cases.map(|case| case.split_once('\n').unwrap().1.split("---\n").next().unwrap()).collect();
    let mut lines: Vec<&str> = rng.pick(&flows).lines().chain(MODULES.lines()).collect();
    let other: Vec<&str> = rng.pick(&flows).lines().collect();
    for _ in 0..rng.below(6) {
        let at = rng.below(lines.len());
        match rng.below(4) {
            0 if lines.len() > 1 => drop(lines.remove(at)),
            1 => lines.insert(at, rng.pick(&other)),
            2 => lines.insert(at, lines[rng.below(lines.len())]),
            _ => lines[at] = rng.pick(&other),
        }
    }
    let mut text = lines.join("\n");
    for _ in 0..rng.below(3) {
        let at = text.floor_char_boundary(rng.below(text.len() + 1));
        text.insert(at, rng.pick(&['"', '\'', '[', ']', '{', '}', '#', '=', '\n', '\u{1b}', 'ä', '0', '.', ',', '-']));
    }
    text
}

/// A flow of tasks whose requirements are optional, so that most of these flows are wired.
fn random_flow(rng: &mut SeededRng) -> String {
    let mut random = Random { text: String::new(), names: 0 };
    random.body(rng, "f", "", 0);
    format!("{}{MODULES}", random.text)
}

struct Random {
    text: String,
    names: usize,
}

impl Random {
    fn body(&mut self, rng: &mut SeededRng, name: &str, prefix: &str, depth: usize) {
        let pattern = rng.pick(&["graph", "graph", "linear", "unordered"]);
        let controller = rng.pick(&["", "", "", "retry = { times = 2, provides = \"v0\" }\n"]);
        self.text += &format!("name = \"{name}\"\npattern = \"{pattern}\"\n{controller}");
        let mut members = Vec::new();
        for _ in 0..rng.below(6) {
            self.names += 1;
            let name = format!("n{}", self.names);
            if depth < 2 && rng.below(4) == 0 {
                self.text += &format!("[[{prefix}flow]]\n");
                self.body(rng, &name, &format!("{prefix}flow."), depth + 1);
            } else {
                self.text += &format!("[[{prefix}task]]\nname = \"{name}\"\nuse = \"m#any\"\n");
                self.text += &format!("requires = {{ one = \"v{}\", two = \"v{}\" }}\n", rng.below(5), rng.below(5));
                let left = if rng.below(2) == 0 { format!("left = \"v{}\"", rng.below(5)) } else { String::new() };
                self.text += &format!("provides = {{ {left} }}\n");
            }
            members.push(name);
        }
        for _ in 0..rng.below(8) {
            let (from, to) = (rng.below(members.len().max(1)), rng.below(members.len().max(1)));
            if from != to && (from < to || (pattern != "linear" && rng.below(8) == 0)) {
                let (from, to) = (&members[from], &members[to]);
                self.text += &format!("[[{prefix}link]]\nfrom = \"{from}\"\nto = \"{to}\"\n");
            }
        }
    }
}

/// All direct and indirect successors of each node.
fn successors(flow: &Flow) -> Vec<BTreeSet<NodeIndex>> {
    let mut successors = vec![BTreeSet::new(); flow.nodes.len()];
    for index in flow.indices() {
        let mut work = vec![index];
        while let Some(next) = work.pop() {
            work.extend(flow.node(next).after.iter().filter(|after| successors[index.0 as usize].insert(**after)));
        }
    }
    successors
}

fn check_arena_invariants(flow: &Flow, successors: &[BTreeSet<NodeIndex>]) {
    let last = NodeIndex(u32::try_from(flow.nodes.len() - 1).unwrap());
    let ends = |scope: ScopeIndex| (flow.scope(scope).begin, flow.scope(scope).end);
    assert_eq!(ends(ScopeIndex::ROOT), (NodeIndex(0), last));
    for index in flow.indices() {
        let Node { before, after, scope, name, .. } = flow.node(index);
        assert!(!successors[index.0 as usize].contains(&index), "{name} comes after itself");
        assert!(before.is_sorted() && after.is_sorted());
        assert!(after.iter().all(|after| flow.node(*after).before.contains(&index)));
        assert_eq!(before.is_empty(), index == NodeIndex(0), "all but the first have a predecessor");
        assert_eq!(after.is_empty(), index == last, "all but the last have a successor");
        let (begin, end) = ends(*scope);
        assert!(begin <= index && index <= end);
        assert!(index == begin || successors[begin.0 as usize].contains(&index), "{name} comes after its flow begins");
        assert!(index == end || successors[index.0 as usize].contains(&end), "{name} comes before its flow ends");
    }
}

fn provides(node: &Node, value: &ValueName) -> bool {
    match &node.role {
        Role::Task(task) => task.provides.values().any(|provided| provided == value),
        Role::Controller(controller) => controller.provides.as_ref() == Some(value),
        Role::Wait(_) | Role::ForEach(_) | Role::FanIn(_) | Role::Begin | Role::End => false,
    }
}

/// Facts of a draft: the required values of each task, and the flows whose order also follows values.
#[derive(Default)]
struct DraftFacts {
    requires: BTreeMap<NodeName, Renames>,
    graphs: BTreeSet<NodeName>,
}

impl DraftFacts {
    fn collect(&mut self, name: &NodeName, body: &FlowBody) {
        if body.pattern == Pattern::Graph {
            self.graphs.insert(name.clone());
        }
        for node in &body.nodes {
            match node {
                DraftNode::Task(task) => {
                    self.requires.insert(task.name.clone(), task.requires.clone().unwrap_or_default());
                }
                DraftNode::Flow(flow) => self.collect(&flow.name, &flow.body),
            }
        }
    }
}

/// Compares each source with the result of a search of the whole graph.
fn check_nearest_provider(flow: &Flow, successors: &[BTreeSet<NodeIndex>], facts: &DraftFacts) {
    let precedes = |one: NodeIndex, other: NodeIndex| successors[one.0 as usize].contains(&other);
    for (task, name, Task { inputs, .. }) in flow.tasks() {
        for input in inputs {
            let value = &facts.requires[name][&input.parameter];
            let providers = || flow.indices().filter(|index| *index != task && provides(flow.node(*index), value));
            let earlier: Vec<NodeIndex> = providers().filter(|provider| precedes(*provider, task)).collect();
            match &input.source {
                Source::Node { node: provider, .. } if earlier.contains(provider) => {
                    let is_nearest = earlier.iter().all(|other| other == provider || precedes(*other, *provider));
                    assert!(is_nearest, "{name} takes {value} of {}, but another is nearer", flow.node(*provider).name);
                }
                // A link reversed the order, and no other provider exists.
                Source::Node { .. } | Source::Absent => assert!(earlier.is_empty(), "{name} could have {value}"),
                Source::Constant(_)
                | Source::Element
                | Source::RunInput(_)
                | Source::Failure(_)
                | Source::LoopCarried { .. } => {
                    panic!("there are none")
                }
            }
            let scope = flow.node(task).scope;
            if facts.graphs.contains(&flow.node(flow.scope(scope).begin).name) {
                let is_in_scope = |provider: &NodeIndex| {
                    flow.node(*provider).scope == scope && matches!(flow.node(*provider).role, Role::Task(_))
                };
                for other in providers().filter(is_in_scope) {
                    let is_ordered = precedes(other, task) || precedes(task, other);
                    assert!(is_ordered, "{name} and {} have no order", flow.node(other).name);
                }
            }
        }
    }
}

/// Whether a random flow was wired; checks then that it is right.
fn is_wired_right(seed: u64) -> bool {
    let text = random_flow(&mut SeededRng(seed));
    let draft = file::parse(&text).unwrap_or_else(|diagnostics| panic!("{}", render(&diagnostics, "f", &text)));
    let Ok((flow, _)) = wire(&draft, &modules(), &Values::new()) else { return false };
    let successors = successors(&flow);
    check_arena_invariants(&flow, &successors);
    let mut facts = DraftFacts::default();
    facts.collect(&"f".parse().unwrap(), &draft.body);
    check_nearest_provider(&flow, &successors, &facts);
    true
}

#[test]
fn most_random_flows_are_wired() {
    let wired = (0..1_000).filter(|seed| is_wired_right(*seed)).count();
    assert!(wired > 500, "only {wired} of 1000 flows are wired");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn a_wired_flow_satisfies_the_arena_invariants(seed in any::<u64>()) {
        is_wired_right(seed);
    }

    #[test]
    fn a_shuffled_flow_never_panics(seed in any::<u64>()) {
        use_in_every_way(&shuffled_lines(&mut SeededRng(seed)));
    }

    #[test]
    fn no_text_makes_reading_panic(text in any::<String>(), line in ".*") {
        use_in_every_way(&text);
        use_in_every_way(&format!("name = \"f\"\n{line}\n[[task]]\n{text}"));
    }
}
