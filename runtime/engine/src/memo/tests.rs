//! Tests of lookups, of what waits for them, and of the limits of what is remembered.

use flow::{Attempt, Firing, RunState};
use logbook::{Append, MaxUnended, Memory, Memos as _, RunInfo, Version};
use protocol::MemoKey;

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_000);

fn address(number: u8) -> MemoAddress {
    MemoAddress { namespace: None, key: MemoKey::from_bytes([number; 32]) }
}

/// A logbook with results of these numbers, in the order of their numbers.
async fn remembering(numbers: std::ops::Range<u8>) -> Arc<Memory> {
    let logbook = Arc::new(Memory::new());
    let run: RunId = "r".parse().expect("a valid name");
    let result = |number: u8| {
        let computed_by = CallId {
            run: run.clone(),
            task: "t".parse().expect("a valid name"),
            firing: Firing::FIRST,
            attempt: Attempt::FIRST,
            action: Action::Apply,
        };
        let at = Timestamp::from_micros(number.into());
        let result = RememberedResult { computed_by, at, values: Values::new() };
        NewResult { address: address(number), result, expires_at: None }
    };
    let info = RunInfo {
        shard: "s".parse().expect("a valid name"),
        flow: "f".parse().expect("a valid name"),
        state: RunState::Running,
    };
    let append = Append {
        run: run.clone(),
        follows: Version::NONE,
        records: vec![Record { at: NOW, firing: None, fact: Fact::Resumed }],
        info,
        logs: Vec::new(),
        published: Version::NONE,
        max_unended: MaxUnended::default(),
        memos: MemoChanges { remembered: numbers.map(result).collect(), forgotten: Vec::new() },
    };
    logbook.append(vec![append]).await.expect("memory can be written");
    logbook
}

/// The numbers of the remembered results.
async fn known(logbook: &Memory) -> Vec<u8> {
    let addresses: Vec<MemoAddress> = (0..10).map(address).collect();
    let found = logbook.remembered(&addresses, NOW).await.expect("memory can be read");
    (0..10).zip(found).filter(|(_, result)| result.is_some()).map(|(number, _)| number).collect()
}

/// Begins to trim, if it is due, and waits for its end. Returns whether it was due.
async fn trims(trim: &mut MemoTrim) -> bool {
    trim.start_if_due(NOW);
    let is_due = !trim.running.is_empty();
    while trim.running.join_next().await.is_some() {}
    is_due
}

#[tokio::test(start_paused = true)]
async fn results_are_trimmed_at_the_start_then_each_minute_and_after_many() {
    let logbook = remembering(0..5).await;
    let mut trim = MemoTrim::new(logbook.clone(), MemoLimits { results: 40, ..MemoLimits::NONE });
    assert!(trims(&mut trim).await, "an earlier process may have left too many");
    assert_eq!(known(&logbook).await, [0, 1, 2, 3, 4]);
    assert!(!trims(&mut trim).await);
    tokio::time::advance(TRIM_INTERVAL).await;
    assert!(!trims(&mut trim).await, "nothing was added");
    trim.on_added(1);
    assert!(trims(&mut trim).await);
    trim.on_added(4);
    assert!(!trims(&mut trim).await, "a tenth of the limit");
    trim.on_added(1);
    assert!(trims(&mut trim).await, "more than that");
    trim.limits.results = 2;
    trim.on_added(1);
    assert!(trims(&mut trim).await);
    assert_eq!(known(&logbook).await, [3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_whose_job_was_sent_meanwhile_finds_nothing() {
    let logbook = remembering(0..3).await;
    let mut lookups = Lookups::new(logbook, Arc::new(store::Memory::new()));
    let call = |run: &str, attempt| CallId {
        run: run.parse().expect("a valid name"),
        task: "t".parse().expect("a valid name"),
        firing: Firing::FIRST,
        attempt: Attempt::new(attempt),
        action: Action::Apply,
    };
    for (run, attempt) in [("r", 1), ("r", 2), ("loaded", 1), ("other", 9)] {
        lookups.add(call(run, attempt), address(u8::try_from(attempt).expect("it is small")));
    }
    lookups.add(call("r", 1), address(2));
    // The last of them begins no lookup at all.
    lookups.forget(&call("other", 9));
    lookups.start(NOW);
    lookups.forget(&call("r", 2));
    lookups.forget_run(&"loaded".parse().expect("a valid name"));
    let ended = lookups.next().await;
    let found: Vec<_> = ended.iter().map(|ended| (ended.call.clone(), ended.result.is_some())).collect();
    assert_eq!(found, [(call("r", 1), true)]);
    assert!(lookups.is_empty() && lookups.next().await.is_empty());
    // One that is not remembered leads to its job.
    lookups.add(call("r", 3), address(9));
    lookups.start(NOW);
    let ended = lookups.next().await;
    assert_eq!(ended.iter().map(|ended| ended.result.is_some()).collect::<Vec<_>>(), [false]);
}

/// A call of a run, and an address in a namespace.
fn waiting(run: &str, attempt: u32, namespace: Option<&str>) -> (CallId, MemoAddress) {
    let call = CallId {
        run: run.parse().expect("a valid name"),
        task: "t".parse().expect("a valid name"),
        firing: Firing::FIRST,
        attempt: Attempt::new(attempt),
        action: Action::Apply,
    };
    let namespace = namespace.map(|namespace| namespace.parse().expect("a valid name"));
    (call, MemoAddress { namespace, ..address(1) })
}

#[tokio::test(start_paused = true)]
async fn namespaces_and_in_them_runs_take_turns() {
    let mut queue = LookupQueue::default();
    let many = (1..100).map(|attempt| waiting("many", attempt, Some("shop")));
    let others = [waiting("few", 1, Some("shop")), waiting("bank", 1, Some("bank")), waiting("none", 1, None)];
    many.chain(others).for_each(|(call, address)| queue.push(call, address));
    let order: Vec<String> =
        std::iter::from_fn(|| queue.pop()).map(|(call, _)| format!("{}-{}", call.run, call.attempt)).collect();
    assert_eq!(order[..6], ["many-1", "bank-1", "none-1", "few-1", "many-2", "many-3"]);
    assert_eq!(order.len(), 102);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_does_not_begin_in_time_is_given_up() {
    let logbook: Arc<dyn Logbook> = Arc::new(Memory::new());
    let mut lookups = Lookups::new(logbook, Arc::new(store::Memory::new()));
    for attempt in 1..=2_000 {
        let (call, address) = waiting("r", attempt, None);
        lookups.add(call, address);
    }
    lookups.start(NOW);
    tokio::time::advance(LOOKUP_TIMEOUT / 2).await;
    assert!(lookups.give_up_overdue().is_empty(), "they may still begin");
    tokio::time::advance(LOOKUP_TIMEOUT / 2).await;
    let running = MAX_LOOKUPS * MAX_LOOKUP_CALLS;
    let given_up = [lookups.give_up_overdue().len(), lookups.give_up_overdue().len(), lookups.give_up_overdue().len()];
    assert_eq!(given_up, [MAX_GIVEN_UP, 2_000 - running - MAX_GIVEN_UP, 0], "a bounded number at once");
    let mut ended = 0;
    while !lookups.is_empty() {
        ended += lookups.next().await.len();
        lookups.start(NOW);
    }
    assert_eq!(ended, running, "each call is made once");
}
