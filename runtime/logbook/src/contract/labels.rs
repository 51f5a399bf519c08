//! Rules of labels, and of the runs that are found by them.

use std::sync::Arc;

use flow::{Flow, FlowName, Json, LabelCondition, LabelValue, Labels, Revision, RunState, Timestamp, Value};
use machine::{Event, Fact, Machine, Record};

use super::{append_as, flow, info, names, run, write, write_one};
use crate::{Append, AppendOutcome, Filter, Logbook, Memory, Version};

/// The first record of a run with labels and inputs.
fn labelled(name: &str, at: u64, info: crate::RunInfo, labels: &[&str], inputs: &[(&str, &str)]) -> Append {
    let inputs = inputs
        .iter()
        .map(|(name, text)| (name.parse().expect("a valid name"), Value::Json(Json::parse(*text).expect("JSON"))));
    let flow = Arc::new(Flow { inputs: inputs.collect(), ..(*flow()).clone() });
    let labels = Labels::parse(labels).expect("valid labels");
    let fact = Fact::RunStarted { flow, revision: Revision::FIRST, labels };
    let records = vec![Record { at: Timestamp::from_micros(at), firing: None, fact }];
    Append { records, ..append_as(name, 0, [at], info) }
}

fn label(condition: &str) -> LabelCondition {
    condition.parse().expect("a valid condition")
}

fn labels(conditions: &[&str]) -> Filter {
    Filter { labels: conditions.iter().map(|condition| label(condition)).collect(), ..Filter::default() }
}

fn text(text: &str) -> Filter {
    Filter { text: Some(LabelValue::new(text).expect("a valid text")), ..Filter::default() }
}

pub(super) async fn labels_are_stored_with_the_first_records(logbook: impl Logbook) {
    let running = || info("s", "f", RunState::Running);
    let first = labelled("a", 1, running(), &["team=shop", "empty="], &[]);
    assert_eq!(write_one(&logbook, first.clone()).await, AppendOutcome::Durable);
    let other = labelled("a", 1, running(), &["team=bank"], &[]);
    assert_eq!(write_one(&logbook, other).await, AppendOutcome::Conflict(Version::new(1)));
    write(&logbook, vec![append_as("a", 1, [2], running()), append_as("b", 0, [3], running())]).await;
    let known = Labels::parse(["team=shop", "empty="]).expect("valid labels");
    let list = logbook.list(&Filter::default()).await.expect("the logbook can be read");
    let list: Vec<_> = list.into_iter().map(|summary| (summary.run, summary.labels)).collect();
    assert_eq!(list, [(run("b"), Labels::default()), (run("a"), known.clone())]);
    assert_eq!(logbook.summary(&run("a")).await.expect("the run is there").labels, known);
    let history = logbook.load(&run("a")).await.expect("the run is there");
    assert_eq!(history.records[0], first.records[0], "they are part of the first record");
    assert_eq!(names(&logbook, labels(&["team=bank"])).await, [""; 0]);
}

pub(super) async fn labels_survive_a_trim_and_end_with_the_run(logbook: impl Logbook) {
    let known = Labels::parse(["team=shop"]).expect("valid labels");
    let mut machine = Machine::labelled(run("long"), flow(), known.clone());
    let records = machine.step(Timestamp::from_micros(5), &Event::Start).records;
    let version = Version::NONE.after(&records);
    let ended = info("s", "f", RunState::Success);
    write(&logbook, vec![Append { records, ..append_as("long", 0, [5], ended.clone()) }]).await;
    logbook.mark_published(&[(run("long"), version)]).await.expect("the logbook can be written");
    logbook.save_snapshot(&run("long"), version, machine.snapshot()).await.expect("the logbook can be written");
    logbook.trim(&run("long"), version).await.expect("the logbook can be written");
    assert!(logbook.trim_point(&run("long")).await.expect("the run is there").is_some());
    assert_eq!(logbook.summary(&run("long")).await.expect("the run is there").labels, known);
    assert_eq!(names(&logbook, labels(&["team=shop"])).await, ["long"]);
    logbook.delete_ended_runs(Timestamp::from_micros(u64::MAX >> 1)).await.expect("the logbook can be written");
    assert_eq!(names(&logbook, labels(&["team"])).await, [""; 0]);
    assert_eq!(names(&logbook, text("shop")).await, [""; 0]);
    write(&logbook, vec![append_as("long", 0, [6], ended)]).await;
    assert_eq!(names(&logbook, labels(&["team"])).await, [""; 0], "another run with its id has not its labels");
    assert_eq!(names(&logbook, text("lon")).await, ["long"]);
}

pub(super) async fn runs_are_found_by_labels_and_texts(logbook: impl Logbook) {
    let running = || info("s", "f", RunState::Running);
    let hostile = r#"50% _off' "x" \ ; --"#;
    let of = |name: &str, at, labels: &[&str], inputs: &[(&str, &str)]| labelled(name, at, running(), labels, inputs);
    let runs = vec![
        of("order-1", 1, &["team=shop", "order=4711"], &[]),
        of("order-2", 2, &["team=shop", "order=4712"], &[("guest", r#""Ann""#), ("photo", r#"{"a":1}"#)]),
        of("other", 3, &["team=bank", &format!("note={hostile}")], &[("order", "4711"), ("again", "4711")]),
        of("4711-x", 4, &[], &[("nul", r#""a\u0000b""#)]),
        of("4711", 5, &["same=4711"], &[("same", r#""4711""#)]),
    ];
    assert!(write(&logbook, runs).await.iter().all(|outcome| *outcome == AppendOutcome::Durable));
    for (conditions, expected) in [
        (&["team=shop"][..], &["order-2", "order-1"][..]),
        (&["team"], &["other", "order-2", "order-1"]),
        (&["team", "order"], &["order-2", "order-1"]),
        (&["team=shop", "order=4711"], &["order-1"]),
        (&["order=4711", "team=bank"], &[]),
        (&["team=sho"], &[]),
        (&["team=%"], &[]),
        (&["tea_"], &[]),
        (&["team="], &[]),
        (&[&format!("note={hostile}")], &["other"]),
    ] {
        assert_eq!(names(&logbook, labels(conditions)).await, expected, "{conditions:?}");
    }
    for (searched, expected) in [
        ("4711", &["4711", "4711-x", "other", "order-1"][..]),
        ("order", &["order-2", "order-1"]),
        ("order-1", &["order-1"]),
        ("Ann", &["order-2"]),
        ("ann", &[]),
        ("shop", &["order-2", "order-1"]),
        ("%", &[]),
        ("order_1", &[]),
        ("or%", &[]),
        ("a", &[]),
        (hostile, &["other"]),
        ("' OR 1=1 --", &[]),
    ] {
        assert_eq!(names(&logbook, text(searched)).await, expected, "{searched}");
        let counted = logbook.counts(&text(searched), 10).await.expect("the logbook can be read");
        assert_eq!(counted.total, expected.len() as u64, "{searched}");
    }
    let both = Filter { labels: vec![label("team=shop")], ..text("4711") };
    assert_eq!(names(&logbook, both).await, ["order-1"]);
}

/// Many runs: some labels are rare, others are of more runs than are counted to choose an index.
fn many() -> Vec<Append> {
    let append = |number: u64| {
        let state = RunState::ALL[usize::try_from(number % 7).expect("it is small")];
        let flow = ["f", "g", "shop/f", "shop/g", "shopper/f"][usize::try_from(number % 5).expect("it is small")];
        let mut labels = vec!["all=1".to_owned(), format!("tens={}", number / 10), format!("mod={}", number % 13)];
        if number.is_multiple_of(211) {
            labels.push("rare=x".to_owned());
        }
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let input = (number % 17).to_string();
        // Several runs start at the same time.
        labelled(&format!("r{number:04}"), number / 3, info("s", flow, state), &labels, &[("i", &input)])
    };
    (0..1_500).map(append).collect()
}

/// Filters that combine all conditions.
fn filters() -> Vec<Filter> {
    let at = |micros| Some(Timestamp::from_micros(micros));
    let mut filters = vec![Filter::default()];
    let mut combine = |change: &dyn Fn(&mut Filter)| {
        let changed = filters.iter().cloned().map(|mut filter| {
            change(&mut filter);
            filter
        });
        let changed: Vec<Filter> = changed.collect();
        filters.extend(changed);
    };
    combine(&|filter| filter.labels = vec![label("all=1"), label("mod=3")]);
    combine(&|filter| filter.text = Some(LabelValue::new("r01").expect("a valid text")));
    combine(&|filter| filter.namespace = Some("shop".parse().expect("a valid name")));
    combine(&|filter| filter.states = vec![RunState::Running, RunState::Failure]);
    combine(&|filter| filter.since = at(100));
    let flow = |name: &str| Some(name.parse::<FlowName>().expect("a valid name"));
    filters.push(Filter { flow: flow("shop/f"), ..text("3") });
    filters.push(Filter { flow: flow("f"), ..labels(&["all", "rare"]) });
    filters.push(Filter { until: at(40), ..text("r") });
    filters.push(Filter { namespace: Some("shopper".parse().expect("a valid name")), ..text("r1") });
    filters.push(labels(&["tens=7", "all=1"]));
    filters.push(labels(&["all=1", "rare=x", "mod"]));
    filters.push(text("16"));
    filters
}

pub(super) async fn pages_and_counts_are_those_of_the_filter(logbook: impl Logbook) {
    let expected = Memory::new();
    assert!(write(&logbook, many()).await.iter().all(|outcome| *outcome == AppendOutcome::Durable));
    write(&expected, many()).await;
    for filter in filters() {
        let all = names(&expected, Filter { limit: usize::MAX, ..filter.clone() }).await;
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = Filter { after: after.clone(), limit: 97, ..filter.clone() };
            let page = logbook.list(&page).await.expect("the logbook can be read");
            let Some(last) = page.last() else { break };
            after = Some((last.started_at, last.run.clone()));
            paged.extend(page.iter().map(|summary| summary.run.to_string()));
        }
        assert_eq!(paged, all, "{filter:?}");
        let counts = logbook.counts(&filter, 3).await.expect("the logbook can be read");
        assert_eq!(counts, expected.counts(&filter, 3).await.expect("it is in memory"), "{filter:?}");
        assert_eq!(counts.total, all.len() as u64, "{filter:?}");
    }
    let of_all = logbook.counts(&Filter::default(), 3).await.expect("the logbook can be read");
    assert!(of_all.more && of_all.flows.len() == 3, "{of_all:?}");
    let of_all = logbook.counts(&Filter::default(), 5).await.expect("the logbook can be read");
    assert!(!of_all.more && of_all.flows.len() == 5 && of_all.total == 1_500, "{of_all:?}");
    let sum: u64 = of_all.flows.values().flatten().map(|(_, count)| count).sum();
    assert_eq!(sum, 1_500);
}
