//! Tests of the pictures of a flow.

use std::collections::BTreeMap;

use super::{
    OutlineLink, ShapeKind, dot,
    layers::{Arrow, Layers, lay_out},
    mermaid, outline, svg, svg_with_states,
};
use crate::{Digest, Flow, ModuleContent, ModuleInfo, SourceOutcome, State, Values, file, seeded_rng::SeededRng, wire};

fn flow(text: &str) -> Flow {
    let text = format!("{text}\n[modules]\nm = \"m.wasm\"");
    let info = ModuleInfo { digest: Digest::from_bytes([1; 32]), content: ModuleContent::Command };
    wire(&file::parse(&text).unwrap(), &BTreeMap::from([("m".into(), info)]), &Values::new()).unwrap().0
}

/// Values, links, a nested flow with a retry controller, an empty one, and a name that is a keyword of Mermaid.
const CAKE: &str = r#"
    name = "cake"
    retry = { times = 3 }
    [[task]]
    name = "mix"
    use = "m"
    provides = ["batter", "bowl"]
    [[flow]]
    name = "pans"
    pattern = "linear"
    retry = { for_each = [1, 2], otherwise = "rollback-all", provides = "size" }
    [[flow.task]]
    name = "pan"
    use = "m"
    requires = ["batter", "bowl", "size"]
    provides = ["pan"]
    [[flow.task]]
    name = "grease"
    use = "m"
    [[flow]]
    name = "nothing"
    [[task]]
    name = "end"
    use = "m"
    requires = ["pan"]
    [[link]]
    from = "nothing"
    to = "end"
"#;

#[test]
fn dot_draws_nested_flows_as_clusters_and_values_on_edges() {
    let expected = r#"digraph "cake" {
  compound=true;
  node [shape=box, style=rounded];
  label="cake (retry: 3 in all)";
  "mix";
  subgraph "cluster_pans" {
    label="pans (retry: for each of 2 values, then rollback-all)";
    "pan";
    "grease";
    "pan" -> "grease";
  }
  subgraph "cluster_nothing" {
    label="nothing";
    "empty:nothing" [style=invis, label=""];
  }
  "end";
  "mix" -> "pan" [lhead="cluster_pans", label="batter, bowl"];
  "grease" -> "end" [ltail="cluster_pans", label="pan"];
  "empty:nothing" -> "end" [ltail="cluster_nothing"];
}
"#;
    assert_eq!(dot(&flow(CAKE)), expected);
}

#[test]
fn mermaid_draws_nested_flows_as_subgraphs_and_values_on_edges() {
    let expected = r#"---
title: "cake (retry: 3 in all)"
---
flowchart TB
  t1["mix"]
  subgraph f1["pans (retry: for each of 2 values, then rollback-all)"]
    t3["pan"]
    t4["grease"]
    t3 --> t4
  end
  f2["nothing"]
  t8["end"]
  t1 -->|"batter, bowl"| f1
  f1 -->|"pan"| t8
  f2 --> t8
"#;
    assert_eq!(mermaid(&flow(CAKE)), expected);
}

#[test]
fn svg_shows_the_states_of_tasks_as_colours_and_as_text() {
    let flow = flow(CAKE);
    let index = |name: &str| flow.indices().find(|index| flow.node(*index).name.as_str() == name).unwrap();
    let states = BTreeMap::from([(index("mix"), State::RolledBack), (index("pan"), State::RollbackFailure)]);
    let picture = svg_with_states(&flow, 7, &states);
    for shape in [
        "<rect class=\"task rolled-back\"",
        "text-anchor=\"middle\">rolled-back</text>",
        "<rect class=\"task rollback-failure\"",
        "text-anchor=\"middle\">rollback-failure</text>",
        "<rect class=\"task pending\"",
        "<marker id=\"head-7\"",
        "marker-end=\"url(#head-7)\"",
    ] {
        assert!(picture.contains(shape), "{shape} is not in {picture}");
    }
    assert!(!svg(&flow).contains("class=\"task "), "a flow without states has none");
}

#[test]
fn svg_shows_every_task_every_flow_with_its_controller_and_every_value() {
    let picture = svg(&flow(CAKE));
    let texts: Vec<&str> = picture
        .lines()
        .filter_map(|line| line.strip_prefix("<text ")?.strip_suffix("</text>")?.split('>').nth(1))
        .collect();
    let expected = [
        "cake (retry: 3 in all)",
        "mix",
        "pans (retry: for each of 2 values, then rollback-all)",
        "pan",
        "grease",
        "nothing",
        "end",
        "batter, bowl",
        "pan",
    ];
    assert_eq!(texts, expected);
    let count = |pattern: &str| picture.matches(pattern).count();
    assert_eq!((count("class=\"task\""), count("class=\"flow\""), count("class=\"arrow\"")), (4, 2, 4));
}

#[test]
fn a_link_that_reverses_a_value_is_drawn_in_its_direction() {
    let reversed = flow(
        "name = \"f\"\n[[task]]\nname = \"late\"\nuse = \"m\"\nprovides = [\"x\"]\n\
         [[task]]\nname = \"early\"\nuse = \"m\"\nrequires = [\"x\"]\n[[link]]\nfrom = \"early\"\nto = \"late\"",
    );
    assert!(dot(&reversed).contains("  \"early\" -> \"late\";\n"));
    assert!(!dot(&reversed).contains("\"late\" -> \"early\""));
}

#[test]
fn an_empty_flow_is_drawn() {
    let nothing = flow("name = \"nothing\"");
    assert!(dot(&nothing).contains("nothing") && mermaid(&nothing).contains("nothing"));
    assert!(svg(&nothing).contains(">nothing</text>"));
}

/// Random boxes and arrows without cycles.
fn random_layers(seed: u64) -> (Vec<(f64, f64)>, Vec<Arrow>, Layers) {
    let mut rng = SeededRng(seed);
    let boxes = 1 + rng.below(20);
    let sizes: Vec<(f64, f64)> =
        (0..boxes).map(|_| (20.0 + rng.below(100) as f64, 10.0 + rng.below(50) as f64)).collect();
    let arrows = (0..rng.below(30)).map(|_| (rng.below(boxes), rng.below(boxes)));
    let arrows: Vec<Arrow> =
        arrows.filter(|(from, to)| from < to).map(|(from, to)| Arrow { from, to, label: 30.0 }).collect();
    let layers = lay_out(&sizes, &arrows);
    (sizes, arrows, layers)
}

#[test]
fn boxes_stand_inside_and_apart_and_arrows_lead_down_from_one_to_the_other() {
    for seed in 0..300 {
        let (sizes, arrows, layers) = random_layers(seed);
        let rect = |index: usize| (layers.corners[index], sizes[index]);
        let close = |one: f64, other: f64| (one - other).abs() < 0.001;
        for index in 0..sizes.len() {
            let ((x, y), (width, height)) = rect(index);
            assert!(x > -0.001 && y > -0.001 && x + width < layers.width + 0.001 && y + height < layers.height + 0.001);
            for other in 0..index {
                let ((other_x, other_y), (other_width, other_height)) = rect(other);
                let is_apart = x + width < other_x || other_x + other_width < x;
                assert!(is_apart || y + height < other_y || other_y + other_height < y, "boxes overlap, seed {seed}");
            }
        }
        for (Arrow { from, to, .. }, path) in arrows.iter().zip(&layers.arrow_paths) {
            let (((x, y), (width, height)), ((to_x, to_y), (to_width, _))) = (rect(*from), rect(*to));
            let (first, last) = (path[0], path[path.len() - 1]);
            assert!(close(first.0, x + width / 2.0) && close(first.1, y + height), "it begins below its box");
            assert!(close(last.0, to_x + to_width / 2.0) && close(last.1, to_y), "it ends above its box");
            assert!(path.windows(2).all(|pair| pair[0].1 <= pair[1].1 + 0.001), "it leads down");
        }
    }
}

#[test]
fn values_of_one_task_share_an_arrow_label() {
    let sources = ["batter", "first_oven", "second_oven", "icing"];
    let provider = |value: &str| format!("[[task]]\nname = \"{value}\"\nuse = \"m\"\nprovides = [\"{value}\"]\n");
    let text = format!(
        "name = \"f\"\n{}[[task]]\nname = \"bake\"\nuse = \"m\"\nrequires = {sources:?}",
        sources.map(provider).concat()
    );
    let picture = svg(&flow(&text));
    let attribute = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}=\"")).unwrap();
        rest.split('"').next().unwrap().parse::<f64>().unwrap()
    };
    let mut spans: Vec<(f64, f64)> = Vec::new();
    for line in picture.lines().filter(|line| line.contains("class=\"value\"")) {
        let label = line.split(['>', '<']).nth(2).unwrap();
        let (center, half) = (attribute(line, "x"), label.len() as f64 * 3.3);
        spans.push((center - half, center + half));
    }
    spans.sort_by(|one, other| one.0.total_cmp(&other.0));
    assert_eq!(spans.len(), 4);
    assert!(spans.windows(2).all(|pair| pair[0].1 < pair[1].0), "labels overlap: {spans:?}");
}

#[test]
fn a_tasks_triggers_are_drawn_beside_its_name() {
    let text = r#"
        name = "balancer"
        persistent = true
        cyclic = true
        [[task]]
        name = "add-ip"
        use = "m"
        [[task]]
        name = "each"
        use = "m"
        for_each = [1]
        as = "x"
        requires = ["x"]
        [[link]]
        from = "add-ip"
        to = "each"
        [[link]]
        from = "each"
        to = "add-ip"
        [[listen]]
        flow = "create-server"
        task = "kick-server"
        to = "add-ip"
        [[schedule]]
        cron = "0 3 * * *"
        zone = "Europe/Berlin"
        to = "add-ip"
    "#;
    let flow = flow(text);
    let titles: Vec<String> = flow.indices().flat_map(|index| flow.describe_triggers(index)).collect();
    assert_eq!(titles, ["when create-server.kick-server succeeds", "at 0 3 * * * (Europe/Berlin)", "again after each"]);
    let mermaid = mermaid(&flow);
    assert!(mermaid.contains("each (for each)") && mermaid.contains("again after each)"), "{mermaid}");
}

#[test]
fn an_outline_names_what_contains_each_shape_and_what_each_arrow_carries() {
    let outlined = outline(&flow(CAKE));
    assert_eq!(outlined.retry.as_deref(), Some("retry: 3 in all"));
    let shapes: Vec<String> = outlined
        .shapes
        .iter()
        .map(|shape| {
            let within = shape.within.as_ref().map(|within| format!(" in {within}")).unwrap_or_default();
            let retry = shape.retry.as_ref().map(|retry| format!(", {retry}")).unwrap_or_default();
            format!("{:?} {}{within}{retry}", shape.kind, shape.name)
        })
        .collect();
    assert_eq!(
        shapes,
        [
            "Task mix",
            "Flow pans, retry: for each of 2 values, then rollback-all",
            "Flow nothing",
            "Task end",
            "Task pan in pans",
            "Task grease in pans",
        ]
    );
    let arrows: Vec<String> = outlined
        .arrows
        .iter()
        .map(|arrow| {
            let values: Vec<String> = arrow.values.iter().map(ToString::to_string).collect();
            format!("{} -> {} [{}]", arrow.from, arrow.to, values.join(" "))
        })
        .collect();
    assert_eq!(
        arrows,
        ["mix -> pans [batter bowl]", "pans -> end [pan]", "nothing -> end []", "pan -> grease []"],
        "each arrow connects what is directly in one flow"
    );
}

#[test]
fn an_outline_has_conditions_failure_handlers_lists_and_back_edges() {
    let outlined = outline(&flow(
        r#"
        name = "shop"
        cyclic = true
        [[task]]
        name = "orders"
        use = "m"
        provides = ["list"]
        [[task]]
        name = "pack"
        use = "m"
        for_each = "list"
        as = "order"
        requires = ["order"]
        [[task]]
        name = "apologize"
        use = "m"
        [[link]]
        from = "orders"
        to = "pack"
        when = "size(list) > 0"
        [[link]]
        from = "pack"
        to = "apologize"
        on = "failure"
        [[link]]
        from = "pack"
        to = "orders"
        "#,
    ));
    let kinds: Vec<(String, ShapeKind, bool)> =
        outlined.shapes.iter().map(|shape| (shape.name.to_string(), shape.kind, shape.is_failure_handler)).collect();
    assert_eq!(
        kinds,
        [
            ("orders".to_owned(), ShapeKind::Task, false),
            ("pack".to_owned(), ShapeKind::ForEach, false),
            ("apologize".to_owned(), ShapeKind::Task, true),
        ]
    );
    let arrow = |from: &str, to: &str| {
        let found = outlined.arrows.iter().find(|arrow| arrow.from.as_str() == from && arrow.to.as_str() == to);
        found.unwrap_or_else(|| panic!("there is an arrow from {from} to {to}"))
    };
    let condition = OutlineLink { on: SourceOutcome::Success, when: Some("size(list) > 0".to_owned()) };
    assert_eq!(arrow("orders", "pack").links, [condition]);
    assert_eq!(arrow("pack", "apologize").links, [OutlineLink { on: SourceOutcome::Failure, when: None }]);
    assert_eq!([arrow("orders", "pack").is_back_edge, arrow("pack", "orders").is_back_edge], [false, true]);
}
