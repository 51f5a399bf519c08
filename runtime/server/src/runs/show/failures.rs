//! Limits the bytes of failures in an answer that shows a run.

use api::Failure;

/// The maximum bytes of the failures of a run in an answer, and as much of those of its tasks. A run may have as many failures as tasks,
/// each with a long message.
const MAX_BYTES: usize = 4 << 20;

/// The characters of a message that are left if the failure does not fit.
const SHOWN: usize = 100;

/// The bytes of failures that an answer may still have.
pub(super) struct FailureBudget(usize);

impl FailureBudget {
    pub(super) const fn new() -> Self {
        Self(MAX_BYTES)
    }

    /// Shows the next failure: whole if it fits, and else the beginning of its message.
    pub(super) fn fit(&mut self, failure: Failure) -> Failure {
        if let Some(left) = self.0.checked_sub(size(&failure)) {
            self.0 = left;
            return failure;
        }
        let shown: String = failure.message.chars().take(SHOWN).collect();
        let message = format!("{shown}… (cut: the answer has more than {} MiB of failures)", MAX_BYTES >> 20);
        Failure { message, details: None, apply: None, ..failure }
    }
}

fn size(failure: &Failure) -> usize {
    let details = failure.details.as_ref().map_or(0, |details| details.get().len());
    failure.message.len() + details + failure.apply.as_deref().map_or(0, size)
}

#[cfg(test)]
mod tests {
    use flow::FailureKind;

    use super::*;

    #[test]
    fn failures_that_do_not_fit_are_cut() {
        let mut budget = FailureBudget::new();
        let failure = Failure::from(&flow::Failure::new(FailureKind::Permanent, "m".repeat(10_000)));
        let whole = MAX_BYTES / size(&failure);
        for number in 0..whole + 10 {
            let shown = budget.fit(failure.clone());
            assert_eq!(shown.message == failure.message, number < whole, "{number}");
            assert!(shown.message.starts_with(&"m".repeat(SHOWN)));
        }
        let nested = Failure { apply: Some(Box::new(failure.clone())), ..failure };
        let cut = FailureBudget(15_000).fit(nested);
        assert!(cut.apply.is_none() && cut.message.len() < 200, "the failure of the apply counts too: {}", cut.message);
        let short = Failure::from(&flow::Failure::new(FailureKind::Permanent, "short"));
        assert_eq!(budget.fit(short).message, "short", "one that fits is whole, whatever came before");
    }
}
