//! An operator drains workers.

use super::*;

/// Runs `waft workers` as an operator of the broker, and returns what it prints.
fn operate(waft: &Waft, broker: &TestBroker, arguments: &[&str]) -> CommandOutput {
    let url = broker.url(Role::Operator);
    waft.run([&["workers"][..], arguments, &["--json", "--broker", url.as_str()]].concat())
}

#[test]
fn a_drained_worker_leaves_jobs_to_others_until_it_is_resumed() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    let (one, two) = (format!("{queue}-one"), format!("{queue}-two"));
    let _one = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &one]);
    let drained = operate(&waft, &broker, &["drain", &one]).expect(0).end();
    assert_eq!(drained, json!({"worker": one, "state": "draining", "busy": 0}));
    let flow = one_task(&queue, "hostile#noop", "");
    let run = start_run(&waft, &broker, &flow);
    let two_process = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &two]);
    let by = |output: &CommandOutput| {
        let success = output.json().into_iter().find(|line| line["state"] == "success" && line["name"] == "t");
        success.map(|line| line["worker"].clone())
    };
    assert_eq!(by(ended(run).expect(0)), Some(json!(two)));
    two_process.kill();
    operate(&waft, &broker, &["resume", &one]).expect(0);
    assert_eq!(by(ended(start_run(&waft, &broker, &flow)).expect(0)), Some(json!(one)));
    let missing = operate(&waft, &broker, &["drain", &format!("{queue}-none")]);
    assert!(missing.expect(2).stderr.contains("has not answered"), "{}", missing.stderr);
}

#[test]
fn a_run_whose_only_worker_is_drained_advises_to_start_one() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    let _worker = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &queue]);
    operate(&waft, &broker, &["drain", &queue]).expect(0);
    let flow = waft.flow(&one_task(&queue, "hostile#noop", ""));
    let mut run = Process::spawn(waft.command(["run", "--broker", &broker.url(Role::Engine)]).arg(flow));
    run.wait_for(&format!("no worker takes jobs from the queue {queue}: start one with `waft worker"));
    operate(&waft, &broker, &["resume", &queue]).expect(0);
    assert!(run.wait().success(), "{}", run.output());
}

#[test]
fn a_worker_exits_when_the_calls_that_it_has_have_ended() {
    let (waft, broker, queue) = (Waft::default(), TestBroker::shared(), unique("q"));
    let mut worker = Process::worker(&waft, &broker, &["--queues", &queue, "--name", &queue]);
    let sleeps = one_task(&queue, "hostile#sleep", "with = { ms = 3000 }\nprovides = []\n");
    let run = start_run(&waft, &broker, &sleeps);
    wait_until_busy(&waft, &broker, &queue, 1);
    let listed = workers(&waft, &broker).into_iter().find(|worker| worker["name"] == queue.as_str());
    let listed = listed.expect("it is listed");
    let call = &listed["calls"][0];
    assert_eq!((&call["flow"], &call["task"], &call["call"]), (&json!("f"), &json!("t"), &json!("apply")));
    let exiting = operate(&waft, &broker, &["drain", &queue, "--exit"]).expect(0).end();
    assert_eq!(exiting["state"], "exiting");
    ended(run).expect(0);
    assert!(worker.wait().success(), "{}", worker.output());
}
