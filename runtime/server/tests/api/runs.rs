//! Runs: lists, commands, and what is shown of one run.

use super::*;

#[tokio::test]
async fn pages_of_a_list_continue() {
    let harness = Harness::new().await;
    for number in 0..5 {
        harness.run(&format!("r{number}"), if number % 2 == 0 { "even" } else { "odd" }).await;
    }
    let client = harness.client();
    let mut query = ListQuery::default().limit(2);
    let mut found = Vec::new();
    loop {
        let page = client.list(&query).await.unwrap();
        assert!(page.runs.len() <= 2);
        found.extend(page.runs.into_iter().map(|run| run.run));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(found, ["r4", "r3", "r2", "r1", "r0"]);
    let ids = async |query: ListQuery| {
        client.list(&query).await.unwrap().runs.into_iter().map(|run| run.run).collect::<Vec<_>>()
    };
    assert_eq!(ids(ListQuery::default().flow("odd")).await, ["r3", "r1"]);
    assert_eq!(ids(ListQuery::default().state(RunState::Running).state(RunState::Success)).await.len(), 5);
    assert!(ids(ListQuery::default().state(RunState::Success)).await.is_empty());
    let since = |time: &str| ListQuery::default().since(time);
    assert!(ids(since("2999-01-01T00:00:00Z")).await.is_empty());
    assert_eq!(ids(since("2000-01-01T00:00:00+01:00")).await.len(), 5);
}

#[tokio::test]
async fn a_run_is_commanded_and_watched_to_its_end() {
    let harness = Harness::new().await;
    harness.run("r1", "f").await;
    let client = harness.client();
    let mut watch = client.watch("r1");
    let first = watch.next().await.unwrap().unwrap();
    assert!(
        first.line.starts_with("{\"event\":\"run\",\"state\":\"running\",\"run\":\"r1\",\"flow\":\"f\""),
        "{first:?}"
    );
    let started = watch.next().await.unwrap().unwrap();
    assert!(started.line.contains("\"name\":\"t\",\"state\":\"running\""), "{started:?}");
    let shown = client.run("r1").await.unwrap();
    assert_eq!((shown.state, shown.revision), (RunState::Running, 1));
    assert_eq!(shown.tasks.len(), 1);
    assert_eq!((&shown.tasks[0].state, shown.tasks[0].attempt), (&NodeState::Running, Some(1)));
    assert_eq!(refusal(client.resume("r1").await).status, 409);
    assert_eq!(client.suspend("r1").await.unwrap().state, RunState::Suspending);
    let skip = |reason: &str| SkipRollback::new("t", reason);
    let problem = refusal(client.skip("r1", &skip(" ")).await);
    assert!(problem.status == 400 && problem.detail.contains("reason"), "{problem:?}");
    assert_eq!(refusal(client.skip("r1", &skip("done")).await).status, 409);
    harness.engine.abandon("r1".parse().unwrap()).await.unwrap();
    let suspended = watch.next().await.unwrap().unwrap();
    assert_eq!(suspended.run_state(), Some(RunState::Suspended), "{suspended:?}");
    // A watcher that reconnects receives the events that followed, and none twice.
    let mut late = client.watch_after("r1", &started.id);
    assert_eq!(late.next().await.unwrap().unwrap(), suspended);
    assert_eq!(client.resume("r1").await.unwrap().state, RunState::Running);
    let resumed = watch.next().await.unwrap().unwrap();
    assert_eq!(late.next().await.unwrap().unwrap(), resumed);
}

#[tokio::test]
async fn a_run_shows_queue_coverage_lease_holder_and_lost_workers() {
    let harness = Harness::new().await;
    harness.run("r", "f").await;
    let task = || async { harness.client().run("r").await.unwrap().tasks.remove(0) };
    let out = task().await.out.unwrap();
    assert_eq!((out.queue.as_str(), out.unserved, out.worker), ("default", true, None));
    let mut jobs = harness.broker.consume("waft.jobs.default", 1).await.unwrap();
    let delivery = jobs.next().await.unwrap();
    let job = Job::decode(&delivery.message.body).unwrap();
    delivery.accept();
    // Its queue has a consumer now. An answer of the broker is shown for a second.
    while task().await.out.unwrap().unserved {}
    let worker = || "w".parse().unwrap();
    let number = protocol::HeartbeatNumber { execution: flow::Execution::new(1), count: 1 };
    let heartbeat = Report::Heartbeat { call: job.call.clone(), worker: worker(), number };
    harness.broker.publish(report(&job, &heartbeat)).await.unwrap();
    let mut out = task().await.out.unwrap();
    while out.worker.is_none() {
        out = task().await.out.unwrap();
    }
    assert_eq!((out.worker.as_deref(), out.silent_for), (Some("w"), None));
    harness.broker.publish(report(&job, &Report::Released { call: job.call.clone(), worker: worker() })).await.unwrap();
    let mut lost = task().await.lost;
    while lost.is_empty() {
        lost = task().await.lost;
    }
    assert_eq!((lost[0].worker.as_deref(), lost[0].attempt, lost.len()), (Some("w"), 1, 1));
}

#[tokio::test]
async fn a_cancelled_run_is_cancelling_until_it_is_rolled_back() {
    let harness = Harness::new().await;
    harness.run("r", "f").await;
    assert!(!harness.client().run("r").await.unwrap().cancelling);
    let response = harness.client().cancel("r").await.unwrap();
    assert_eq!((response.state, response.cancelling), (RunState::Running, true));
    let mut run = harness.client().run("r").await.unwrap();
    while run.state == RunState::Running {
        assert!(run.cancelling);
        run = harness.client().run("r").await.unwrap();
    }
    assert_eq!((run.state, run.cancelling), (RunState::RolledBack, false));
}

#[tokio::test]
async fn the_stream_of_an_ended_run_is_complete_and_ends() {
    let harness = Harness::new().await;
    // The input of its controller's `for_each` is no list, so it calls no guest.
    let text = "name = \"f\"\nretry = { for_each = \"list\" }\n[inputs]\nlist = []\n\
                [[task]]\nname = \"t\"\nuse = \"m\"\n[modules]\nm = \"m\"\n";
    let none = flow::Json::parse("18446744073709551615").unwrap();
    let inputs = [("list".parse().unwrap(), flow::Value::Json(none))].into();
    let flow = Arc::new(flow::Flow { inputs, ..(*flow_of(text)).clone() });
    let mut watched = harness.engine.submit("r1".parse().unwrap(), flow).await.unwrap();
    while watched.next().await.is_some() {}
    let client = harness.client();
    let mut watch = client.watch("r1");
    let mut events = Vec::new();
    while let Some(event) = watch.next().await.unwrap() {
        events.push(event);
    }
    assert_eq!(events.last().unwrap().run_state(), Some(RunState::RolledBack), "{events:#?}");
    let mut last = client.watch_after("r1", &events[events.len() - 2].id);
    assert_eq!(last.next().await.unwrap().as_ref(), events.last());
    assert_eq!(last.next().await.unwrap(), None);
    let run = client.run("r1").await.unwrap();
    assert_eq!((&run.state, &run.tasks[1].state), (&RunState::RolledBack, &NodeState::Pending));
    assert!(run.failures["f"].message.contains("list"), "{run:?}");
    assert_eq!(run.inputs.json("list"), Some("18446744073709551615"), "no digit is lost");
    assert!(run.provides.is_empty(), "no task provided a value: {run:?}");
    assert_eq!(refusal(client.cancel("r1").await).status, 409);
}

/// A logbook that trims the run `r` whenever its records are about to be read.
struct TrimsBeforeReads(Arc<Memory>);

#[async_trait]
impl AppendInterceptor for TrimsBeforeReads {
    async fn before(&self, _: &[Append]) -> Result<(), AppendError> {
        Ok(())
    }

    async fn after(&self) -> Result<(), AppendError> {
        Ok(())
    }

    async fn before_read(&self) {
        let (logbook, run) = (&self.0, RunId::new("r").unwrap());
        let history = logbook.load(&run).await.unwrap();
        let version = history.version();
        logbook.mark_published(&[(run.clone(), version)]).await.unwrap();
        logbook.save_snapshot(&run, version, history.into_machine().unwrap().snapshot()).await.unwrap();
        logbook.trim(&run, version).await.unwrap();
    }
}

#[tokio::test]
async fn a_run_is_shown_and_watched_while_its_records_are_trimmed() {
    let memory = Arc::new(Memory::new());
    let logbook = Arc::new(InterceptedLogbook::new(memory.clone(), Arc::new(TrimsBeforeReads(memory.clone()))));
    let harness = Harness::over(config(None), dependencies_over(logbook).await).await;
    harness.run("r", "f").await;
    let shown = harness.client().run("r").await.unwrap();
    assert_eq!((shown.state, shown.tasks.len()), (RunState::Running, 1));
    assert!(memory.trim_point(&"r".parse().unwrap()).await.unwrap().is_some(), "it was trimmed meanwhile");
    let first = harness.client().watch("r").next().await.unwrap();
    assert!(format!("{first:?}").contains("trimmed"), "{first:?}");
    let problem = refusal(harness.client().attempt("r", "w", &[]).await);
    assert_eq!(problem.status, 404);
    let trimmed = "records were trimmed, and what they contained cannot be replayed";
    assert!(problem.detail.starts_with("run r has no apply of w") && problem.detail.contains(trimmed), "{problem:?}");
    let query = [("call", "neither".to_owned())];
    assert_eq!(refusal(harness.client().attempt("r", "w", &query).await).status, 400);
    assert_eq!(refusal(harness.client().attempt("none", "w", &[]).await).status, 404);
    assert!(
        harness
            .client()
            .exchanges("r", &client::api::ExchangesQuery::default().task("w"))
            .await
            .unwrap()
            .attempts
            .is_empty()
    );
}

#[tokio::test]
async fn a_run_of_many_tasks_is_shown_whole() {
    // More than a run may have that is read without a turn.
    const TASKS: usize = 1_200;
    let tasks: String = (0..TASKS).map(|number| format!("[[task]]\nname = \"w{number}\"\nwait = \"x\"\n")).collect();
    let text = format!("name = \"many\"\npattern = \"linear\"\n{tasks}");
    let harness = Harness::over(Config { max_request_bytes: 1 << 20, ..config(None) }, dependencies().await).await;
    let client = harness.client();
    let submitted = client.submit(&submission(&text).run("many")).await.unwrap();
    assert_eq!(submitted.tasks.len(), TASKS, "the answer is large");
    let mut shown = client.run("many").await.unwrap();
    while shown.tasks[0].awaits.is_none() {
        shown = client.run("many").await.unwrap();
    }
    assert_eq!(shown.tasks.iter().filter(|task| task.awaits.is_some()).count(), 1);
    let names = |run: &client::api::Run| run.tasks.iter().map(|task| task.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&shown), names(&submitted));
    // Submitted again, it is compared and shown.
    assert_eq!(names(&client.submit(&submission(&text).run("many")).await.unwrap()), names(&shown));
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let harness = Harness::new().await;
    harness.run("r1", "f").await;
    let response = harness.request(Method::GET, "/v1/runs/r1/events").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    harness.stop.cancel();
    assert!(response.text().await.unwrap().contains("data: {\"event\":\"run\""));
    harness.serving.wait().await;
}
