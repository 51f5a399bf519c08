//! Tests how lines are read, and what a watcher keeps.

use super::*;
use crate::shares::{Sender, Shares};

#[test]
fn a_watcher_of_a_busy_run_reads_less_often() {
    let mut pacing = Pacing::default();
    let soon = Duration::from_micros(100);
    let pauses: Vec<u128> = (0..7).map(|_| pacing.pause(soon, 1).as_millis()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 20, 20]);
    assert_eq!(pacing.pause(MAX_PAUSE * 2, 1), Duration::ZERO, "a change after a quiet time is read at once");
    assert_eq!(pacing.pause(soon, 1), FIRST_PAUSE);
}

#[test]
fn many_watchers_of_a_busy_run_read_together_as_often_as_a_few() {
    for watchers in [8, 64, 100, 256] {
        let mut pacing = Pacing::default();
        let pauses: Vec<Duration> = (0..20).map(|_| pacing.pause(Duration::from_micros(100), watchers)).collect();
        assert_eq!((watchers as f64 / pauses[19].as_secs_f64()).round(), 400.0, "{watchers} wake in a second");
        assert_eq!(pacing.pause(MAX_PAUSE * 2, watchers), Duration::ZERO, "a change after a quiet time");
    }
}

#[test]
fn a_watcher_looks_for_changes_of_other_engines_more_seldom_the_longer_a_run_is_quiet() {
    let intervals = [0, 2, 5, 15, 100_000].map(|seconds| poll_interval(Duration::from_secs(seconds)).as_millis());
    assert_eq!(intervals, [250, 250, 500, 1_500, 2_000]);
}

#[test]
fn an_event_position_round_trips_through_its_id() {
    let version = Version::new(7);
    let positions: Vec<EventPosition> = (0..3).map(|index| EventPosition::after(version, index, 3)).collect();
    let ids: Vec<String> = positions.iter().map(|position| position.id()).collect();
    assert_eq!(ids, ["6-1", "6-2", "7"]);
    assert!(positions.is_sorted());
    assert!(ids.iter().zip(&positions).all(|(id, position)| EventPosition::parse(id) == Some(*position)));
    for bad in ["", "x", "1-", "-1", "1-x"] {
        assert_eq!(EventPosition::parse(bad), None);
    }
}

/// A logbook with the run `r`, whose flow was edited so many times; each edit has the text of the flow.
async fn edited_run(edits: u64, text_bytes: usize) -> Arc<dyn Logbook> {
    run_of("name = \"f\"\n[[task]]\nname = \"w\"\nwait = \"a word\"\n", edits, text_bytes).await
}

/// As [`edited_run`], of a flow file.
async fn run_of(text: &str, edits: u64, text_bytes: usize) -> Arc<dyn Logbook> {
    let draft = flow::file::parse(text).unwrap();
    let (flow, _) = flow::wire(&draft, &std::collections::BTreeMap::new(), &flow::Values::new()).unwrap();
    let text: Arc<str> = format!("{text}#{}", "x".repeat(text_bytes)).into();
    let source = flow::FlowSource { text, modules: std::collections::BTreeMap::new(), edits: Vec::new() };
    let flow = Arc::new(flow::Flow { origin: Some(Arc::new(source)), ..flow });
    let mut machine = Machine::new("r".parse().unwrap(), flow.clone());
    let mut records = machine.step(flow::Timestamp::from_micros(1), &machine::Event::Start).records;
    for _ in 0..edits {
        let edit = machine::Event::Edit { revision: machine.revision(), flow: flow.clone() };
        records.extend(machine.step(flow::Timestamp::from_micros(2), &edit).records);
    }
    assert!(records.len() as u64 > edits, "each edit has a record");
    let logbook = logbook::Memory::new();
    let append = logbook::Append {
        run: "r".parse().unwrap(),
        follows: Version::NONE,
        records,
        info: logbook::RunInfo { shard: "s".parse().unwrap(), flow: "f".parse().unwrap(), state: RunState::Success },
        logs: Vec::new(),
        published: Version::NONE,
        max_unended: logbook::MaxUnended::default(),
        memos: logbook::MemoChanges::default(),
    };
    logbook.append(vec![append]).await.unwrap();
    Arc::new(logbook)
}

#[tokio::test]
async fn a_slow_watcher_has_few_bytes_of_records_in_memory() {
    for (edits, text_bytes, most) in [(40, 300 << 10, 4), (8, 2 << 20, 1), (600, 10, MAX_RECORDS)] {
        let logbook = edited_run(edits, text_bytes).await;
        let summary = logbook.summary(&"r".parse().unwrap()).await.unwrap();
        let mut lines = Lines::open("r".parse().unwrap(), logbook, Arc::new(store::Memory::new())).await.unwrap();
        while lines.replay.version() < summary.version {
            assert!(matches!(lines.read().await.unwrap(), PageRead::Some));
            assert!((1..=most).contains(&lines.records.len()), "{} records", lines.records.len());
            while let Some(record) = lines.records.pop_front() {
                lines.replay.apply(&record).unwrap();
            }
        }
        assert!(matches!(lines.read().await.unwrap(), PageRead::Nothing));
    }
}

/// The lines of the run `r` for an event stream of a token.
async fn stream(logbook: &Arc<dyn Logbook>, shares: &Arc<Shares>) -> Lines {
    let share = shares.take(&Sender::Token("ann".into()), 1).unwrap();
    let lines = Lines::open("r".parse().unwrap(), logbook.clone(), Arc::new(store::Memory::new())).await.unwrap();
    lines.within(Some(StreamMemory::new(share, None)))
}

#[tokio::test]
async fn a_stream_takes_places_for_the_run_that_it_keeps_or_ends() {
    let (logbook, shares) = (edited_run(0, 20 << 20).await, Shares::new(8, 3));
    let mut first = stream(&logbook, &shares).await;
    first.catch_up(Duration::MAX).await.unwrap();
    let mut second = stream(&logbook, &shares).await;
    let ended = second.next().await.unwrap_err();
    assert!(matches!(ended, LinesError::Memory(StreamsTooLarge::OfSender)), "{ended:?}");
    assert!(second.replay.machine().is_none() && second.records.is_empty(), "it keeps nothing of the run");
    drop((first, second));
    stream(&logbook, &shares).await.catch_up(Duration::MAX).await.unwrap();
}

#[tokio::test]
async fn a_stream_of_a_small_run_with_many_records_needs_one_place() {
    let (logbook, shares) = (edited_run(80, 300 << 10).await, Shares::new(1, 1));
    let summary = logbook.summary(&"r".parse().unwrap()).await.unwrap();
    let mut lines = stream(&logbook, &shares).await;
    let mut bytes = 0;
    while lines.replay.version() < summary.version {
        assert!(matches!(lines.read().await.unwrap(), PageRead::Some));
        while let Some(record) = lines.records.pop_front() {
            bytes += encode_records(std::slice::from_ref(&record)).len() as u64;
            lines.replay.apply(&record).unwrap();
        }
    }
    assert!(bytes > stream_memory::PLACE_BYTES, "{bytes}");
}

/// All lines that can be read now.
async fn all(lines: &mut Lines) -> Vec<Line> {
    let mut all = Vec::new();
    loop {
        let read = lines.step().await.unwrap();
        all.extend(std::iter::from_fn(|| lines.next_received()));
        if matches!(read, PageRead::Nothing) {
            return all;
        }
    }
}

#[tokio::test]
async fn a_stream_of_a_run_with_many_nodes_has_the_same_lines() {
    let task = |number| format!("[[task]]\nname = \"w{number}\"\nwait = \"a word\"\n");
    let tasks: String = (0..1_000).map(task).collect();
    let logbook = run_of(&format!("name = \"f\"\npattern = \"linear\"\n{tasks}"), 3, 10).await;
    let mut watched = stream(&logbook, &Shares::new(8, 8)).await;
    let mut local = Lines::open("r".parse().unwrap(), logbook, Arc::new(store::Memory::new())).await.unwrap();
    let lines = all(&mut watched).await;
    assert!(!lines.is_empty() && lines == all(&mut local).await);
    let machine = watched.replay.machine().unwrap();
    assert!(stream_memory::of_machine(machine) > MAX_APPLIED_INLINE, "its first record is applied in another thread");
    assert!(Some(machine) == local.replay.machine());
}
