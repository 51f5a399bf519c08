//! A run whose machine panics: only this run stops, and whoever asks learns which event caused it.

use std::sync::Arc;

use engine::CommandError;
use flow::{
    Flow, NodeIndex, RunState,
    graph::{Input, InputUse, Role, Source},
};
use protocol::RunCommand;

use crate::harness::{Harness, linear};

/// A flow whose second task takes a value of a node that does not exist. Wiring never makes such a flow.
fn damaged() -> Arc<Flow> {
    let mut flow = Arc::unwrap_or_clone(linear(&["a", "b"]));
    let second = flow.nodes.iter_mut().find(|node| node.name.as_str() == "b").expect("there is one");
    let Role::Task(task) = &mut second.role else { panic!("it calls a guest") };
    let source = Source::Node { node: NodeIndex(99), value: "value".parse().unwrap() };
    let parameter = "other".parse().unwrap();
    task.inputs.push(Input { parameter, source, optional: false, used_by: InputUse::ApplyAndRollback });
    Arc::new(flow)
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_machine_panics_is_stopped_alone_and_names_the_event() {
    let mut harness = Harness::new().await;
    drop(harness.submit("damaged", &damaged()).await.expect("the run begins"));
    let first = harness.take_job().await.call;
    let watch = harness.submit("other", &linear(&["a", "b"])).await.expect("another run begins");
    let recorded = harness.facts("damaged").await;
    harness.signal(&first).await;
    for task in ["a", "b"] {
        let call = harness.answer_next().await;
        assert_eq!((call.run.as_str(), call.task.as_str()), ("other", task));
    }
    assert_eq!(Harness::end(watch).await.state(), RunState::Success, "the other run goes on");
    for command in [RunCommand::Cancel, RunCommand::Suspend] {
        let refused = harness.engine.command_local(&first.run, command).await.expect_err("the run is stopped");
        assert!(matches!(refused, CommandError::Failed { .. }), "{refused:?}");
        let reason = refused.to_string();
        for part in
            ["the run is damaged, or triggers a bug of waft: it is stopped", "signal of \"a\"", "index out of bounds"]
        {
            assert!(reason.contains(part), "{part} is missing in: {reason}");
        }
    }
    assert_eq!(harness.facts("damaged").await, recorded, "nothing was recorded");
    assert_eq!(harness.state("damaged").await, RunState::Running, "another version may drive it");
}
