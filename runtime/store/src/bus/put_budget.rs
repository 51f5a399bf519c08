//! How much the holders of jobs may store. A job's key has no end, so a worker could store content with it for ever.

use std::collections::{HashMap, VecDeque};

use flow::CallId;

/// How many times the largest output one call may store. It stores each output once, and again after a lost reply, or when another
/// worker makes the call anew after the first was lost.
const OUTPUTS_PER_CALL: u64 = 8;

/// The maximum number of calls whose sizes are remembered; then that of the call that began first is forgotten. So the budget
/// limits a worker that has the keys of few calls, and the disk needs other limits for a worker that has many.
const MAX_CALLS: usize = 4_096;

/// What each call has stored.
pub(super) struct PutBudget {
    max_output: u64,
    used: HashMap<CallId, u64>,
    /// The calls, in the order in which they began to store.
    order: VecDeque<CallId>,
}

/// Why a content is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BudgetError {
    /// It is larger than the output of any call may be.
    #[error(
        "its {size} bytes are more than the {max_output} bytes that `output` under [limits] allows the tasks of this server"
    )]
    TooLarge { size: u64, max_output: u64 },
    /// The call has stored too much.
    #[error(
        "its call has stored {used} bytes already, which is as much as {OUTPUTS_PER_CALL} outputs of the largest size"
    )]
    Used { used: u64 },
}

impl PutBudget {
    pub(super) fn new(max_output: u64) -> Self {
        Self { max_output, used: HashMap::new(), order: VecDeque::new() }
    }

    /// Counts a content that a call stores.
    pub(super) fn spend(&mut self, call: &CallId, size: u64) -> Result<(), BudgetError> {
        let max_output = self.max_output;
        if size > max_output {
            return Err(BudgetError::TooLarge { size, max_output });
        }
        if let Some(used) = self.used.get_mut(call) {
            if used.saturating_add(size) > max_output.saturating_mul(OUTPUTS_PER_CALL) {
                return Err(BudgetError::Used { used: *used });
            }
            *used += size;
            return Ok(());
        }
        if self.order.len() >= MAX_CALLS
            && let Some(first) = self.order.pop_front()
        {
            self.used.remove(&first);
        }
        self.order.push_back(call.clone());
        self.used.insert(call.clone(), size);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flow::{Action, Attempt, Firing};

    use super::*;

    fn call(attempt: u64) -> CallId {
        CallId {
            run: "r".parse().unwrap(),
            task: "t".parse().unwrap(),
            firing: Firing::new(attempt),
            attempt: Attempt::FIRST,
            action: Action::Apply,
        }
    }

    #[test]
    fn a_call_stores_some_outputs_and_no_more() {
        let mut budget = PutBudget::new(100);
        assert_eq!(budget.spend(&call(1), 101), Err(BudgetError::TooLarge { size: 101, max_output: 100 }));
        for _ in 0..8 {
            assert_eq!(budget.spend(&call(1), 100), Ok(()));
        }
        assert_eq!(budget.spend(&call(1), 1), Err(BudgetError::Used { used: 800 }));
        assert_eq!(budget.spend(&call(2), 100), Ok(()), "another call has its own budget");
    }

    #[test]
    fn the_sizes_of_few_calls_are_remembered() {
        let mut budget = PutBudget::new(1);
        for number in 0..2 * MAX_CALLS as u64 {
            assert_eq!(budget.spend(&call(number), 1), Ok(()));
        }
        assert_eq!((budget.used.len(), budget.order.len()), (MAX_CALLS, MAX_CALLS));
    }
}
