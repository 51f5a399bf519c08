//! Tests what an attempt contains, and why it cannot be read.

use flow::{FailureSummary, Outcome, Stored, TaskResult, ValueKind};
use logbook::{Append, MaxUnended, RunInfo};
use machine::Event;

use super::*;

/// An attempt to roll back, with a stored value of this digest as an input under two names and as a provided value.
fn attempt(module: Digest, value: Digest, size: u64) -> AttemptWithoutContents {
    let stored = Value::Stored(Stored { digest: value, size, form: ValueKind::Bytes });
    let named = |names: &[&str]| names.iter().map(|name| (name.parse().unwrap(), stored.clone())).collect::<Values>();
    let call = CallId {
        run: "r".parse().unwrap(),
        task: "t".parse().unwrap(),
        firing: Firing::FIRST,
        attempt: Attempt::FIRST,
        action: Action::Rollback,
    };
    let job = Job {
        flow: "f".parse().unwrap(),
        module,
        export: None,
        inputs: named(&["one", "other"]),
        rollback: Some((Outcome::Provided(named(&["provided"])), FailureSummary::default())),
        required_outputs: Vec::new(),
        limits: flow::Limits::default(),
        access: flow::Access::default(),
        at: flow::Timestamp::from_micros(1),
        expires_at: None,
        signal_to: String::new(),
        fetch_from: String::new(),
        delivery_limit: None,
        keys: protocol::EngineSecret::new([7; 32]).call_keys(&call, []),
        call,
    };
    let log = CallLog { http: None, ..CallLog::default() };
    let contents = BTreeMap::new();
    AttemptWithoutContents(RecordedAttempt { job, outcome: None, worker: None, ended_at: None, log, contents })
}

#[tokio::test]
async fn a_content_with_several_names_counts_once() {
    let store = store::Memory::new();
    let (module, value) = (store.put("module".into()).await.unwrap(), store.put("value".into()).await.unwrap());
    let found = attempt(module, value, 5);
    assert_eq!(found.size(&store).await.unwrap(), 11);
    let recorded = found.with_contents(&store).await.unwrap();
    assert_eq!(recorded.contents, [(module, b"module".to_vec()), (value, b"value".to_vec())].into());
}

#[tokio::test]
async fn deleted_content_is_no_failure_of_the_server() {
    let store = store::Memory::new();
    let module = store.put("module".into()).await.unwrap();
    let missing = Digest::from_bytes([3; 32]);
    let error = attempt(module, missing, 5).size(&store).await.unwrap_err();
    assert_eq!(error.to_string(), format!("a value of the attempt is not in the store any more: {missing}"));
    let problem = Problem::from(error).into_document();
    assert_eq!((problem.status, problem.kind.as_str()), (404, "urn:waft:problem:no-such-content"));
    // It may be deleted in between.
    let error = attempt(missing, module, 5).with_contents(&store).await.unwrap_err();
    assert!(matches!(error, AttemptError::Deleted { what: "the module", .. }), "{error}");
}

#[tokio::test]
async fn a_store_that_has_nothing_is_noticed_by_the_module_whatever_its_digest_is() {
    let (low, high) = (Digest::from_bytes([3; 32]), Digest::from_bytes([200; 32]));
    for (module, value) in [(low, high), (high, low)] {
        let found = attempt(module, value, 5);
        let error = found.size(&store::Memory::new()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the module of the attempt is not in the store any more: {module}"));
    }
}

/// A run of one task whose job was delivered twice.
async fn run_with_two_results(answers: [TaskResult; 2]) -> Arc<dyn Logbook> {
    let text = "name = \"f\"\n[[task]]\nname = \"t\"\nuse = \"g\"\n[modules]\ng = \"g.wasm\"\n";
    let task = flow::TaskInfo {
        name: "noop".parse().unwrap(),
        doc: String::new(),
        requires: Vec::new(),
        provides: Vec::new(),
        rollback: flow::Rollback::None,
        retry: None,
        limits: flow::LimitOverrides::default(),
    };
    let content = flow::ModuleContent::Tasks(vec![task]);
    let info = flow::ModuleInfo { digest: Digest::from_bytes([1; 32]), content };
    let draft = flow::file::parse(text).unwrap();
    let (flow, _) = flow::wire(&draft, &BTreeMap::from([("g".into(), info)]), &Values::new()).unwrap();
    let run: RunId = "r".parse().unwrap();
    let mut machine = Machine::new(run.clone(), Arc::new(flow));
    let mut records = machine.step(flow::Timestamp::from_micros(1), &Event::Start).records;
    for (execution, answer) in (1..).zip(answers) {
        let call = CallId {
            run: run.clone(),
            task: "t".parse().unwrap(),
            firing: Firing::FIRST,
            attempt: Attempt::FIRST,
            action: Action::Apply,
        };
        let execution = flow::Execution::new(execution);
        let worker = Some(format!("worker-{execution}").parse().unwrap());
        let signal = flow::Signal { call, answer, execution, redelivered: false, worker };
        records.extend(machine.step(flow::Timestamp::from_micros(2), &Event::Signal(signal)).records);
    }
    assert!(records.iter().any(|record| matches!(record.fact, Fact::LateOutcome { .. })), "{records:?}");
    let logbook = logbook::Memory::new();
    let append = Append {
        run,
        follows: Version::NONE,
        records,
        info: RunInfo { shard: "s".parse().unwrap(), flow: "f".parse().unwrap(), state: flow::RunState::Success },
        logs: Vec::new(),
        published: Version::NONE,
        max_unended: MaxUnended::default(),
        memos: logbook::MemoChanges::default(),
    };
    logbook.append(vec![append]).await.unwrap();
    Arc::new(logbook)
}

#[tokio::test]
async fn the_outcome_of_an_attempt_is_the_one_that_its_run_went_on_with() {
    let wanted = WantedAttempt {
        run: "r".parse().unwrap(),
        task: "t".parse().unwrap(),
        action: Action::Apply,
        firing: None,
        attempt: None,
    };
    let failed = |kind| TaskResult::Failed(flow::Failure::new(kind, "no"));
    let succeeded = || TaskResult::Succeeded(Values::new());
    let find = async |answers| {
        let AttemptWithoutContents(found) = find(&run_with_two_results(answers).await, &wanted).await.unwrap();
        (found.outcome.unwrap(), found.worker.unwrap().to_string())
    };
    let (outcome, worker) = find([succeeded(), failed(FailureKind::Permanent)]).await;
    assert_eq!((outcome, worker.as_str()), (RecordedOutcome::Succeeded(Values::new()), "worker-1"));
    let (outcome, worker) = find([failed(FailureKind::Permanent), succeeded()]).await;
    assert!(matches!(outcome, RecordedOutcome::Failed(_)) && worker == "worker-1", "{outcome:?}");
}

#[test]
fn the_named_maximum_is_that_of_the_contents() {
    assert!(check_size(MAX_CONTENT_BYTES).is_ok());
    let error = check_size(MAX_CONTENT_BYTES + 1).unwrap_err();
    assert!(error.to_string().ends_with("and at most 224MiB can be replayed"), "{error}");
}
