//! Tests of what is counted and shown, through the text that Prometheus reads.

use std::sync::Arc;

use crate::{Line, parse};

use super::*;

fn flow(name: impl AsRef<str>) -> FlowName {
    FlowName::new(name).expect("a name")
}

fn task(name: impl AsRef<str>) -> NodeName {
    NodeName::new(name).expect("a name")
}

/// The samples of a metric: the values of its labels, and the number.
fn samples(metrics: &Metrics, wanted: &str) -> Vec<(Vec<String>, f64)> {
    let lines = parse(&metrics.render()).expect("it is in the format");
    let of_metric = lines.into_iter().filter_map(|line| match line {
        Line::Sample { name, labels, number } if name == wanted => Some((labels.into_values().collect(), number)),
        Line::Sample { .. } | Line::Help { .. } | Line::Type { .. } => None,
    });
    of_metric.collect()
}

/// The sum of the samples of a metric.
fn sum(metrics: &Metrics, wanted: &str) -> f64 {
    samples(metrics, wanted).iter().map(|(_, number)| number).sum()
}

#[test]
fn every_metric_is_written_once_with_its_definition() {
    let metrics = Metrics::new("1.2.3");
    metrics.set_process(ProcessUsage { max_open_files: Some(1), ..ProcessUsage::default() });
    metrics.set_shards([("1".parse().expect("a name"), true)]);
    metrics.set_queues(vec![QueueLength { queue: "waft.quarantine".into(), messages: 2, consumers: 0 }]);
    metrics.count_run(&flow("f"), RunState::Success);
    metrics.count_firing(&flow("f"), RunState::Success);
    metrics.count_attempts(&flow("f"), [(&task("t"), AttemptOutcome::Lost)]);
    let lines = parse(&metrics.render()).expect("it is in the format");
    let mut written = Vec::new();
    let mut has_samples = Vec::new();
    for line in &lines {
        match line {
            Line::Help { name, help } => written.push((name.clone(), help.clone(), String::new())),
            Line::Type { kind, .. } => written.last_mut().expect("a description comes before").2 = kind.clone(),
            Line::Sample { labels, .. } => {
                let (name, ..) = written.last().expect("a description comes before");
                let mut labels: Vec<String> = labels.keys().filter(|label| *label != "le").cloned().collect();
                labels.sort();
                has_samples.push((name.clone(), labels));
            }
        }
    }
    let defined = |definition: &names::Definition| {
        (definition.name.to_owned(), definition.help.to_owned(), definition.kind.as_str().to_owned())
    };
    assert_eq!(written, names::ALL.iter().map(defined).collect::<Vec<_>>());
    for definition in names::ALL {
        let mut labels: Vec<String> = definition.labels.iter().map(|label| (*label).to_owned()).collect();
        labels.sort();
        assert!(has_samples.contains(&(definition.name.to_owned(), labels)), "{} has no sample", definition.name);
    }
}

#[test]
fn a_hundred_thousand_flows_have_a_thousand_series_and_lose_no_count() {
    let metrics = Metrics::new("1");
    for number in 0..100_000 {
        let name = flow(format!("f{number}"));
        metrics.count_run(&name, RunState::Success);
        metrics.count_attempts(&name, [(&task(format!("t{number}")), AttemptOutcome::Failure)]);
    }
    let runs = samples(&metrics, "waft_runs_total");
    assert_eq!(runs.len(), 1_000 * 3 + 1, "one of each state for each flow, and one of all others");
    assert_eq!(sum(&metrics, "waft_runs_total"), 100_000.0);
    assert!(runs.contains(&(vec![OTHER.into(), "success".into()], 99_000.0)));
    let attempts = samples(&metrics, "waft_attempts_total");
    assert_eq!(attempts.len(), 1_000 * 4 + 1);
    assert!(attempts.contains(&(vec![OTHER.into(), "failure".into(), OTHER.into()], 99_000.0)));
    let text = metrics.render();
    assert!(text.len() < 1 << 20, "{} bytes", text.len());
}

#[test]
fn an_operator_sets_the_maximum() {
    let metrics = Metrics::new("1");
    metrics.set_max_names(2);
    for name in ["a", "b", "c", "d", "a"] {
        metrics.count_run(&flow(name), RunState::RolledBack);
    }
    assert_eq!(samples(&metrics, "waft_runs_total").len(), 2 * 3 + 1);
    metrics.set_max_names(0);
    metrics.count_run(&flow("e"), RunState::RolledBack);
    let other = (vec![OTHER.into(), "rolled-back".into()], 3.0);
    assert!(samples(&metrics, "waft_runs_total").contains(&other));
}

#[test]
fn a_flow_with_the_name_of_all_others_counts_with_them() {
    let metrics = Metrics::new("1");
    metrics.set_max_names(1);
    metrics.count_run(&flow(OTHER), RunState::Success);
    metrics.count_run(&flow("a"), RunState::Success);
    metrics.count_run(&flow("b"), RunState::Success);
    metrics.count_attempts(&flow(OTHER), [(&task(OTHER), AttemptOutcome::Success)]);
    metrics.count_attempts(&flow("a"), [(&task(OTHER), AttemptOutcome::Success)]);
    // The parser refuses a series that comes twice.
    assert!(samples(&metrics, "waft_runs_total").contains(&(vec![OTHER.into(), "success".into()], 2.0)));
    let attempts = samples(&metrics, "waft_attempts_total");
    assert!(attempts.contains(&(vec![OTHER.into(), "success".into(), OTHER.into()], 1.0)));
    assert!(attempts.contains(&(vec!["a".into(), "success".into(), OTHER.into()], 1.0)));
}

#[test]
fn only_ends_of_runs_are_counted() {
    let metrics = Metrics::new("1");
    for state in RunState::ALL {
        metrics.count_run(&flow("f"), state);
    }
    assert_eq!(sum(&metrics, "waft_runs_total"), 3.0);
}

#[test]
fn the_slots_of_a_worker_count_until_it_has_ended() {
    let metrics = Metrics::new("1");
    let worker = Arc::new(SlotCounts { computing: 1, waiting: 2, free: 3 });
    for _ in 0..2 {
        let worker = Arc::downgrade(&worker);
        metrics.add_slots(move || worker.upgrade().map(|counts| *counts));
    }
    let of = |state: &str| {
        let all = samples(&metrics, "waft_worker_slots");
        all.into_iter().find(|(labels, _)| labels[0] == state).map(|(_, number)| number)
    };
    assert_eq!((of("computing"), of("waiting"), of("free")), (Some(2.0), Some(4.0), Some(6.0)));
    drop(worker);
    assert_eq!((of("computing"), of("waiting"), of("free")), (Some(0.0), Some(0.0), Some(0.0)));
}
