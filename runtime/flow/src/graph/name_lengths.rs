//! The lengths of names: a notification has the names of its flow, task and run in its routing key, and AMQP carries only short keys.

use super::{Flow, Node, Role};
use crate::{FlowName, NodeName, RunId};

/// The maximum bytes of the names of a flow, a task and a run together: a routing key has at most 255. It is
/// `<flow>.<task>.<run>.<state>`, and the longest state is `rollback-failure`.
const MAX_NAMES_BYTES: usize = 255 - "...rollback-failure".len();

/// The bytes that the largest number of an element adds to the name of its task.
const ELEMENT_BYTES: usize = "[4294967295]".len();

/// The bytes of a run id that waft chooses itself: a UUID.
const CHOSEN_RUN_BYTES: usize = 36;

/// Why a flow cannot have a run with this id: no broker could carry the notifications of one of its tasks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the run id {run:?} is {excess} bytes too long for task {task:?} of flow {flow:?}: the three names have {} bytes together, and \
     at most {MAX_NAMES_BYTES} fit into the routing key of a notification",
    MAX_NAMES_BYTES + excess
)]
pub struct RunIdTooLong {
    /// The run id.
    pub run: RunId,
    /// The flow.
    pub flow: FlowName,
    /// The task with the longest name.
    pub task: NodeName,
    /// The bytes that are too many. The number of an element of a list counts with the name of its task.
    pub excess: usize,
}

impl Flow {
    /// Checks that the notifications of a run with this id can be sent.
    ///
    /// # Errors
    /// [`RunIdTooLong`] when no broker could carry the notifications of one of its tasks.
    pub fn check_run_id(&self, run: &RunId) -> Result<(), RunIdTooLong> {
        let length = |node: &Node| task_bytes(&node.name, matches!(node.role, Role::ForEach(_)));
        // The begin and the end of a flow are never published.
        let published = self.nodes.iter().filter(|node| !matches!(node.role, Role::Begin | Role::End));
        let Some(longest) = published.max_by_key(|node| length(node)) else { return Ok(()) };
        match excess(&self.name, length(longest), run.as_str().len()) {
            0 => Ok(()),
            excess => {
                let (flow, task) = (self.name.clone(), longest.name.clone());
                Err(RunIdTooLong { run: run.clone(), flow, task, excess })
            }
        }
    }
}

/// The bytes by which the name of a task is too long for a flow, even if waft chooses the ids of its runs; 0 if it is not.
pub(crate) fn excess_of_task(flow: &FlowName, task: &NodeName, is_for_each: bool) -> usize {
    excess(flow, task_bytes(task, is_for_each), CHOSEN_RUN_BYTES)
}

fn task_bytes(task: &NodeName, is_for_each: bool) -> usize {
    task.as_str().len() + if is_for_each { ELEMENT_BYTES } else { 0 }
}

fn excess(flow: &FlowName, task_bytes: usize, run_bytes: usize) -> usize {
    (flow.as_str().len() + task_bytes + run_bytes).saturating_sub(MAX_NAMES_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;

    #[test]
    fn the_longest_names_that_are_allowed_make_the_longest_key() {
        let (flow, task) = (FlowName::new("f".repeat(100)).unwrap(), NodeName::new("t".repeat(88)).unwrap());
        assert_eq!(excess_of_task(&flow, &task, true), 0);
        let key = |state: State| format!("{flow}.{}.{}.{state}", task.element(u32::MAX), "r".repeat(CHOSEN_RUN_BYTES));
        let longest = State::ALL.into_iter().map(|state| key(state).len()).max();
        assert_eq!(longest, Some(255));
        let task = NodeName::new("t".repeat(89)).unwrap();
        assert_eq!((excess_of_task(&flow, &task, true), excess_of_task(&flow, &task, false)), (1, 0));
    }
}
