//! The rules for remembered results.

use std::collections::BTreeSet;

use flow::{Action, Attempt, CallId, Digest, Firing, Namespace, RunState, Stored, Timestamp, Value, ValueKind, Values};
use protocol::{MemoAddress, MemoKey, RememberedResult};

use super::{append, append_as, info, run, write};
use crate::{Append, AppendOutcome, Logbook, MemoChanges, MemoLimits, NewResult, RolledBackTask, Version};

/// Forever, as far as these rules go.
const LATE: Timestamp = Timestamp::from_micros(1 << 40);

fn namespace(name: &str) -> Namespace {
    name.parse().expect("a valid name")
}

fn address(of: Option<&str>, key: u8) -> MemoAddress {
    MemoAddress { namespace: of.map(namespace), key: MemoKey::from_bytes([key; 32]) }
}

fn call(of: &str, task: &str, firing: u64) -> CallId {
    CallId {
        run: run(of),
        task: task.parse().expect("a valid name"),
        firing: Firing::new(firing),
        attempt: Attempt::FIRST,
        action: Action::Apply,
    }
}

/// A result that a task of a run has computed at a time.
fn computed(address: MemoAddress, computed_by: CallId, at: u64, value: Value) -> NewResult {
    let values = Values::from([("pan".parse().expect("a valid name"), value)]);
    let result = RememberedResult { computed_by, at: Timestamp::from_micros(at), values };
    NewResult { address, result, expires_at: None }
}

fn small(of: Option<&str>, key: u8, run: &str, at: u64) -> NewResult {
    computed(address(of, key), call(run, "mix", 1), at, Value::from(u64::from(key)))
}

fn remember(append: Append, remembered: Vec<NewResult>) -> Append {
    Append { memos: MemoChanges { remembered, forgotten: Vec::new() }, ..append }
}

async fn found(logbook: &impl Logbook, addresses: &[MemoAddress], at: Timestamp) -> Vec<Option<RememberedResult>> {
    logbook.remembered(addresses, at).await.expect("the logbook can be read")
}

/// The runs whose results are found.
async fn runs(logbook: &impl Logbook, addresses: &[MemoAddress]) -> Vec<Option<String>> {
    let results = found(logbook, addresses, LATE).await;
    results.into_iter().map(|result| Some(result?.computed_by.run.to_string())).collect()
}

pub(super) async fn a_result_is_remembered_with_the_records_of_its_run(logbook: impl Logbook) {
    let (one, other) = (small(None, 1, "a", 5), small(None, 2, "a", 5));
    let appended = vec![remember(append("a", 0, [1]), vec![one.clone(), other.clone()])];
    assert_eq!(write(&logbook, appended).await, [AppendOutcome::Durable]);
    let addresses = [address(None, 2), address(None, 3), address(None, 1)];
    let expected = [Some(other.result), None, Some(one.result)];
    assert_eq!(found(&logbook, &addresses, LATE).await, expected, "in the order of the addresses");
    assert_eq!(found(&logbook, &[], LATE).await, []);
    // A conflict writes nothing, and so does not change what is remembered.
    let conflicting = vec![remember(append("a", 0, [1]), vec![small(None, 3, "a", 6)])];
    assert_eq!(write(&logbook, conflicting).await, [AppendOutcome::Conflict(Version::new(1))]);
    assert_eq!(runs(&logbook, &[address(None, 3)]).await, [None]);
}

pub(super) async fn a_namespace_remembers_its_own_results(logbook: impl Logbook) {
    let appended = [(None, "a", "f"), (Some("shop"), "b", "shop/f"), (Some("bank"), "c", "bank/f")].map(
        |(namespace, name, flow)| {
            let append = append_as(name, 0, [1], info("s", flow, RunState::Running));
            remember(append, vec![small(namespace, 1, name, 5)])
        },
    );
    write(&logbook, appended.into()).await;
    let addresses = [address(None, 1), address(Some("shop"), 1), address(Some("bank"), 1), address(Some("other"), 1)];
    assert_eq!(runs(&logbook, &addresses).await, [Some("a".into()), Some("b".into()), Some("c".into()), None]);
    let limits = MemoLimits { results: 1, ..MemoLimits::default() };
    assert_eq!(logbook.trim_remembered(limits, LATE).await.expect("the logbook can be written"), 0);
    let usage = logbook.usage(&namespace("shop")).await.expect("the logbook can be read");
    let other = logbook.usage(&namespace("other")).await.expect("the logbook can be read");
    assert!(usage.bytes > other.bytes, "{usage:?}");
}

pub(super) async fn a_later_result_replaces_an_earlier_one(logbook: impl Logbook) {
    // Two runs have computed the same at once.
    let both = vec![
        remember(append("b", 0, [1]), vec![small(None, 1, "b", 5)]),
        remember(append("a", 0, [1]), vec![small(None, 1, "a", 5), small(None, 2, "a", 5)]),
    ];
    assert_eq!(write(&logbook, both).await, [AppendOutcome::Durable; 2]);
    assert!(runs(&logbook, &[address(None, 1)]).await[0].is_some());
    write(&logbook, vec![remember(append("c", 0, [1]), vec![small(None, 1, "c", 6)])]).await;
    let addresses = [address(None, 1), address(None, 2)];
    assert_eq!(runs(&logbook, &addresses).await, [Some("c".into()), Some("a".into())]);
}

pub(super) async fn an_expired_result_is_none(logbook: impl Logbook) {
    let expiring = |key, at| NewResult { expires_at: Some(Timestamp::from_micros(at)), ..small(None, key, "a", 5) };
    let results = vec![expiring(1, 10), expiring(2, 20), small(None, 3, "a", 5)];
    write(&logbook, vec![remember(append("a", 0, [1]), results)]).await;
    let addresses = [1, 2, 3].map(|key| address(None, key));
    let at = async |micros| {
        let found = found(&logbook, &addresses, Timestamp::from_micros(micros)).await;
        found.iter().map(Option::is_some).collect::<Vec<_>>()
    };
    assert_eq!(at(9).await, [true, true, true]);
    assert_eq!(at(10).await, [false, true, true]);
    let trim = async |micros| {
        let trimmed = logbook.trim_remembered(MemoLimits::default(), Timestamp::from_micros(micros)).await;
        trimmed.expect("the logbook can be written")
    };
    assert_eq!((trim(10).await, trim(10).await, trim(20).await), (1, 0, 1));
    assert_eq!(at(1).await, [false, false, true]);
}

pub(super) async fn what_a_rolled_back_task_computed_is_forgotten(logbook: impl Logbook) {
    let value = || Value::from(1);
    let results = vec![
        computed(address(None, 1), call("a", "mix", 1), 5, value()),
        computed(address(None, 2), call("a", "mix", 2), 5, value()),
        computed(address(None, 3), call("a", "bake", 1), 5, value()),
        computed(address(None, 4), call("a", "each[3]", 1), 5, value()),
    ];
    write(&logbook, vec![remember(append("a", 0, [1]), results)]).await;
    write(&logbook, vec![remember(append("b", 0, [1]), vec![small(None, 5, "b", 6)])]).await;
    let gone = |task: &str, firing| RolledBackTask {
        namespace: None,
        run: run("a"),
        task: task.parse().expect("a valid name"),
        firing: Firing::new(firing),
    };
    // One that is remembered and rolled back at once is forgotten.
    let remembered = vec![computed(address(None, 6), call("a", "bake", 1), 7, value())];
    let memos = MemoChanges { remembered, forgotten: vec![gone("mix", 1), gone("each[3]", 1), gone("bake", 1)] };
    write(&logbook, vec![Append { memos, ..append("a", 1, [2]) }]).await;
    let addresses = [1, 2, 3, 4, 5, 6].map(|key| address(None, key));
    let expected = [None, Some("a".into()), None, None, Some("b".into()), None];
    assert_eq!(runs(&logbook, &addresses).await, expected);
    // What another run has computed since counts on.
    write(&logbook, vec![remember(append("b", 1, [2]), vec![small(None, 2, "b", 8)])]).await;
    let memos = MemoChanges { remembered: Vec::new(), forgotten: vec![gone("mix", 2)] };
    write(&logbook, vec![Append { memos, ..append("a", 2, [3]) }]).await;
    assert_eq!(runs(&logbook, &addresses[1..2]).await, [Some("b".into())]);
    // A run of another namespace has the id of one that was deleted.
    let in_shop = computed(address(Some("shop"), 7), call("a", "bake", 1), 5, value());
    write(&logbook, vec![remember(append_as("c", 0, [1], info("s", "shop/f", RunState::Running)), vec![in_shop])])
        .await;
    let memos = MemoChanges { remembered: Vec::new(), forgotten: vec![gone("bake", 1)] };
    write(&logbook, vec![Append { memos, ..append("a", 3, [4]) }]).await;
    assert_eq!(runs(&logbook, &[address(Some("shop"), 7)]).await, [Some("a".into())]);
}

pub(super) async fn the_oldest_results_are_trimmed(logbook: impl Logbook) {
    let in_shop = |key, at| small(Some("shop"), key, "b", at);
    let results = vec![small(None, 1, "a", 7), small(None, 2, "a", 5), small(None, 3, "a", 6)];
    write(&logbook, vec![remember(append("a", 0, [1]), results)]).await;
    let flow = info("s", "shop/f", RunState::Running);
    write(&logbook, vec![remember(append_as("b", 0, [1], flow), vec![in_shop(1, 1), in_shop(2, 2)])]).await;
    let limits = MemoLimits { results: 2, ..MemoLimits::default() };
    let trim = async |limits| logbook.trim_remembered(limits, LATE).await.expect("the logbook can be written");
    assert_eq!((trim(limits).await, trim(limits).await), (1, 0));
    let addresses = [1, 2, 3].map(|key| address(None, key));
    assert_eq!(runs(&logbook, &addresses).await, [Some("a".into()), None, Some("a".into())]);
    // Each result has the bytes of its name and its value.
    let limits = MemoLimits { bytes: 7, ..MemoLimits::default() };
    assert_eq!(trim(limits).await, 2, "one of each namespace");
    assert_eq!(runs(&logbook, &addresses).await, [Some("a".into()), None, None]);
    let in_shop = [1, 2].map(|key| address(Some("shop"), key));
    assert_eq!(runs(&logbook, &in_shop).await, [None, Some("b".into())]);
    // More than one transaction deletes.
    let many = (0..1_200).map(|at| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&u64::to_le_bytes(at));
        let address = MemoAddress { namespace: None, key: MemoKey::from_bytes(key) };
        computed(address, call("a", "mix", 1), 10 + at, Value::from(1))
    });
    write(&logbook, vec![remember(append("a", 1, [2]), many.collect())]).await;
    let limits = MemoLimits { results: 1, ..MemoLimits::default() };
    assert_eq!(trim(limits).await, 1_200, "the youngest stays");
}

pub(super) async fn remembered_values_in_the_store_are_referenced(logbook: impl Logbook) {
    let stored = |byte| Stored { digest: Digest::from_bytes([byte; 32]), size: 100_000, form: ValueKind::Json };
    let result = computed(address(Some("shop"), 1), call("a", "mix", 1), 5, Value::Stored(stored(7)));
    let ended = append_as("a", 0, [1], info("s", "shop/f", RunState::Success));
    write(&logbook, vec![remember(ended, vec![result])]).await;
    // The run may go before the result.
    assert_eq!(logbook.delete_ended_runs(LATE).await.expect("the logbook can be written"), 1);
    let expected = BTreeSet::from([Digest::from_bytes([7; 32])]);
    assert_eq!(logbook.digests().await.expect("the logbook can be read"), expected);
    let usage = logbook.usage(&namespace("shop")).await.expect("the logbook can be read");
    assert_eq!(usage.digests, expected);
    let limits = MemoLimits { bytes: 50_000, ..MemoLimits::default() };
    assert_eq!(logbook.trim_remembered(limits, LATE).await.expect("the logbook can be written"), 1);
    assert_eq!(logbook.digests().await.expect("the logbook can be read"), BTreeSet::new());
}
