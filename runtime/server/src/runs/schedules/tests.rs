//! Tests what a page of schedules shows.

use std::collections::BTreeMap;

use flow::{Digest, LimitOverrides, ModuleContent, ModuleInfo, Rollback, RunId, Shard, TaskInfo, Values};
use logbook::{Append, MaxUnended, MemoChanges, Memory, RunInfo, Version};
use machine::Event;

use super::*;

const MINUTE: u64 = 60_000_000;

const EACH_MINUTE: &str = "persistent = true\n[[schedule]]\ncron = \"* * * * *\"\nto = \"t\"\nmissed = \"skip\"\n";

/// Adds a run of a task that started at a minute and was not driven for the next six.
async fn add(logbook: &Memory, run: &str, flow: &str, minute: u64, keys: &str) {
    let task = TaskInfo {
        name: "noop".parse().unwrap(),
        doc: String::new(),
        requires: Vec::new(),
        provides: Vec::new(),
        rollback: Rollback::Guest { requires: Vec::new() },
        retry: None,
        limits: LimitOverrides::default(),
    };
    let info = ModuleInfo { digest: Digest::from_bytes([1; 32]), content: ModuleContent::Tasks(vec![task]) };
    let (top, tables) = keys.split_once('\n').unwrap_or_default();
    let text = format!(
        "name = \"{flow}\"\n{top}\n[modules]\ng = \"g.wasm\"\n[[task]]\nname = \"t\"\nuse = \"g#noop\"\n{tables}"
    );
    let draft = flow::file::parse(&text).unwrap();
    let (wired, _) = flow::wire(&draft, &BTreeMap::from([("g".into(), info)]), &Values::new()).unwrap();
    let run: RunId = run.parse().unwrap();
    let mut machine = Machine::new(run.clone(), Arc::new(wired));
    let mut records = machine.step(Timestamp::from_micros(minute * MINUTE + 1), &Event::Start).records;
    records.extend(machine.step(Timestamp::from_micros((minute + 6) * MINUTE), &Event::Tick).records);
    let append = Append {
        run,
        follows: Version::NONE,
        records,
        info: RunInfo { shard: Shard::new("s").unwrap(), flow: flow.parse().unwrap(), state: RunState::Running },
        logs: Vec::new(),
        published: Version::NONE,
        max_unended: MaxUnended::default(),
        memos: MemoChanges::default(),
    };
    logbook.append(vec![append]).await.unwrap();
}

fn filter(namespace: &str, limit: usize) -> Filter {
    Filter { namespace: Some(namespace.parse().unwrap()), limit, ..Filter::default() }
}

async fn read_page(logbook: &Arc<dyn Logbook>, filter: &Filter) -> Schedules {
    read(logbook, page(&**logbook, filter).await.unwrap()).await
}

#[tokio::test]
async fn a_schedule_has_its_next_time_and_the_number_of_missed_ones() {
    let logbook = Memory::new();
    add(&logbook, "scheduled", "shop/f", 0, EACH_MINUTE).await;
    add(&logbook, "other", "other/f", 1, EACH_MINUTE).await;
    let logbook: Arc<dyn Logbook> = Arc::new(logbook);
    let Schedules { schedules, unreadable, next } = read_page(&logbook, &filter("shop", 50)).await;
    assert_eq!((unreadable.len(), next), (0, None));
    let [schedule] = &schedules[..] else { panic!("{schedules:?}") };
    assert_eq!((&*schedule.run, &*schedule.flow, &*schedule.task), ("scheduled", "shop/f", "t"));
    assert_eq!((&*schedule.cron, &*schedule.zone), ("* * * * *", "UTC"));
    assert_eq!(schedule.next, Some(rfc3339(Timestamp::from_micros(7 * MINUTE))));
    let skipped: Vec<(&str, u64)> = schedule.skipped.iter().map(|skip| (skip.reason.as_str(), skip.count)).collect();
    assert_eq!((skipped, schedule.backlog.is_none()), (vec![("missed", 6)], true));
}

#[tokio::test]
async fn a_page_of_runs_without_schedules_leads_to_the_next_page() {
    let logbook = Memory::new();
    add(&logbook, "scheduled", "shop/f", 0, EACH_MINUTE).await;
    add(&logbook, "plain", "shop/g", 1, "").await;
    let logbook: Arc<dyn Logbook> = Arc::new(logbook);
    let first = read_page(&logbook, &filter("shop", 1)).await;
    assert_eq!(first.schedules.len(), 0, "the youngest run has none");
    let after = Some(parse_cursor(&first.next.expect("there is another run")).unwrap());
    let second = read_page(&logbook, &Filter { after, ..filter("shop", 1) }).await;
    assert_eq!((second.schedules.len(), second.next), (1, None));
}

#[tokio::test]
async fn a_page_with_many_bytes_ends_before_its_runs() {
    const RUNS: u64 = 8;
    let logbook = Memory::new();
    // As long as a line may be, about, and as many as a flow may have.
    let line = format!("{} * * * *", vec!["0"; 450].join(","));
    let schedule = format!("[[schedule]]\ncron = \"{line}\"\nto = \"t\"\nmissed = \"skip\"\n");
    let keys = format!("persistent = true\n{}", schedule.repeat(256));
    for number in 0..RUNS {
        add(&logbook, &format!("r{number}"), "shop/f", number, &keys).await;
    }
    let logbook: Arc<dyn Logbook> = Arc::new(logbook);
    let of_a_run = 256 * (line.len() + BYTES_AROUND + 100);
    let (mut filter, mut runs, mut pages) = (filter("shop", MAX_RUNS), Vec::new(), 0);
    loop {
        let page = read_page(&logbook, &filter).await;
        let bytes = serde_json::to_vec(&page).unwrap().len();
        assert!(bytes < MAX_BYTES + of_a_run, "{bytes} bytes");
        runs.extend(page.schedules.into_iter().map(|schedule| schedule.run));
        pages += 1;
        let Some(next) = page.next else { break };
        filter.after = Some(parse_cursor(&next).unwrap());
    }
    let youngest_first = (0..RUNS).rev().flat_map(|number| vec![format!("r{number}"); 256]);
    assert_eq!(runs, youngest_first.collect::<Vec<_>>(), "no run is left out, and none is there twice");
    assert!(pages > 1);
}

/// A run that is read when its time has passed; `None` if the logbook has an error.
fn reading(
    run: &str,
    takes: Option<Duration>,
) -> (Summary, impl Future<Output = Result<Vec<Schedule>, LoadError>> + use<>) {
    let at = Timestamp::from_micros(1);
    let info = RunInfo { shard: "s".parse().unwrap(), flow: "f".parse().unwrap(), state: RunState::Running };
    let (run, labels): (RunId, _) = (run.parse().unwrap(), flow::Labels::default());
    let summary = Summary { run, info, labels, version: Version::NONE, started_at: at, changed_at: at };
    let reading = async move {
        let takes = takes.ok_or(LoadError::Unavailable { reason: "it took too long".to_owned() })?;
        tokio::time::sleep(takes).await;
        Ok(Vec::new())
    };
    (summary, reading)
}

#[tokio::test(start_paused = true)]
async fn a_page_that_takes_long_leads_to_the_next_one() {
    let second = Some(Duration::from_secs(1));
    let names: Vec<String> = (0..100).map(|number| format!("r{number}")).collect();
    let began = Instant::now();
    let page = collect(names.iter().map(|run| reading(run, second)), None).await;
    assert_eq!(began.elapsed().as_secs(), TIME_LIMIT.as_secs());
    let (_, last) = parse_cursor(&page.next.expect("there are other runs")).unwrap();
    assert!(["r8", "r9"].contains(&last.as_str()), "{last}");
    assert!(page.unreadable.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_be_read_now_hides_no_others() {
    let reads = [("slow", Some(Duration::MAX)), ("one", Some(Duration::ZERO))];
    let page = collect(reads.into_iter().map(|(run, takes)| reading(run, takes)), Some("next".to_owned())).await;
    assert_eq!(page.unreadable, ["slow"], "no page would lead behind it");
    assert!(page.next.is_some_and(|next| next != "next"), "the other one is on the next page");
    let reads = [("failing", None), ("one", Some(Duration::ZERO)), ("slow", Some(Duration::MAX))];
    let page = collect(reads.into_iter().map(|(run, takes)| reading(run, takes)), None).await;
    assert_eq!(page.unreadable, ["failing"]);
    assert!(page.next.is_some(), "the slow one begins the next page");
}
