//! Checks that the documentation, the alert rules and the dashboard name exactly the metrics that there are.

use std::{collections::BTreeSet, path::PathBuf};

use metrics::names;

fn read(file: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn the_page_describes_each_metric_as_it_is() {
    let page = read("docs/metrics.md");
    // A row begins with the name, the type and the labels.
    let rows: Vec<String> = page
        .lines()
        .filter(|line| line.starts_with("| `waft_") || line.starts_with("| `process_"))
        .map(|line| {
            let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(columns.len(), 5, "{line}");
            assert!(columns.iter().enumerate().all(|(at, text)| at == 2 || !text.is_empty()), "{line}");
            columns[..3].join(" | ")
        })
        .collect();
    let defined: Vec<String> = names::ALL
        .iter()
        .map(|definition| {
            let labels: Vec<String> = definition.labels.iter().map(|label| format!("`{label}`")).collect();
            format!("`{}` | {} | {}", definition.name, definition.kind.as_str(), labels.join(", "))
        })
        .collect();
    assert_eq!(rows, defined, "docs/metrics.md has one row for each metric, in the order of names.rs");
}

/// The names of metrics in a text.
fn used(text: &str) -> BTreeSet<String> {
    let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let words = text.split(|char| !is_word(char));
    words.filter(|word| word.starts_with("waft_") || word.starts_with("process_")).map(str::to_owned).collect()
}

/// The names of the series of all metrics.
fn series() -> BTreeSet<String> {
    let of_metric = |definition: &names::Definition| match definition.kind {
        names::Kind::Histogram(_) => {
            ["_bucket", "_sum", "_count"].map(|suffix| format!("{}{suffix}", definition.name)).to_vec()
        }
        names::Kind::Counter | names::Kind::Gauge => vec![definition.name.to_owned()],
    };
    names::ALL.iter().flat_map(of_metric).collect()
}

#[test]
fn rules_and_dashboard_use_only_metrics_that_exist() {
    let series = series();
    for file in ["docs/monitoring/alerts.yml", "docs/monitoring/dashboard.json", "docs/monitoring/alerts-test.yml"] {
        let used = used(&read(file));
        assert!(used.len() > 5, "{file} uses metrics: {used:?}");
        let unknown: Vec<&String> = used.difference(&series).collect();
        assert!(unknown.is_empty(), "{file} uses {unknown:?}, which no process has");
    }
}

/// The selectors of a text, `waft_runs_total{flow="a"}`: each metric's series, with the names of the labels in braces.
fn selectors(text: &str) -> Vec<(String, Vec<String>)> {
    let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let mut selectors = Vec::new();
    for (at, _) in text.match_indices('{') {
        let name = text[..at].rsplit(|char| !is_word(char)).next().unwrap_or_default();
        if !name.starts_with("waft_") && !name.starts_with("process_") {
            continue;
        }
        let inside = text[at + 1..].split('}').next().unwrap_or_default();
        let label = |part: &str| part.split(['=', '!']).next().unwrap_or_default().trim().to_owned();
        selectors.push((name.to_owned(), inside.split(',').map(label).collect()));
    }
    selectors
}

#[test]
fn selectors_use_only_labels_that_exist() {
    for file in ["docs/monitoring/alerts.yml", "docs/monitoring/dashboard.json", "docs/monitoring/alerts-test.yml"] {
        let selectors = selectors(&read(file));
        assert!(selectors.len() > 5, "{file} selects series: {selectors:?}");
        for (series, labels) in selectors {
            let is_of = |definition: &&names::Definition| {
                let suffix = series.strip_prefix(definition.name);
                suffix.is_some_and(|suffix| ["", "_bucket", "_sum", "_count"].contains(&suffix))
            };
            let definition = names::ALL.iter().find(is_of).unwrap_or_else(|| panic!("{file}: {series}"));
            for label in labels {
                let is_known = definition.labels.contains(&&*label) || ["instance", "le"].contains(&&*label);
                assert!(is_known, "{file}: {series} has no label {label}");
            }
        }
    }
}

#[test]
fn the_page_describes_each_alert_and_no_other() {
    let rules = read("docs/monitoring/alerts.yml");
    let alerts: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let page = read("docs/metrics.md");
    let described: BTreeSet<&str> =
        page.split('`').filter(|word| word.starts_with("Waft") && word.chars().all(char::is_alphanumeric)).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    assert_eq!(described, alerts);
}

#[test]
fn the_dashboard_is_json_with_one_expression_for_each_query() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("docs/monitoring/dashboard.json")).expect("it is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let mut ids = BTreeSet::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{}", panel["title"]);
        let queries = panel["targets"].as_array().expect("it has queries");
        assert!(!queries.is_empty() && queries.iter().all(|query| query["expr"].is_string()), "{}", panel["title"]);
    }
    assert!(ids.len() >= 10, "{} panels", ids.len());
}
