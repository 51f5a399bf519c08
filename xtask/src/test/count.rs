//! Counts test results in the output of the test runners.

use std::ops::AddAssign;

/// The numbers of passed and failed tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) passed: usize,
    pub(super) failed: usize,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl Count {
    /// Counts by the closing lines in an output: one for each test binary of `cargo test`, and one of nextest.
    pub(super) fn of(text: &str) -> Self {
        let mut count = Self::default();
        for line in text.lines() {
            count += closing_of_cargo(line).or_else(|| closing_of_nextest(line)).unwrap_or_default();
        }
        count
    }

    fn add(&mut self, number: usize, outcome: &str) {
        match outcome {
            "passed" => self.passed += number,
            "failed" | "timed out" | "exec failed" => self.failed += number,
            // Skipped, ignored, measured or filtered out: these tests did not run.
            _ => {}
        }
    }
}

/// `test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s`
fn closing_of_cargo(line: &str) -> Option<Count> {
    let (_, numbers) = line.trim_start().strip_prefix("test result: ")?.split_once(". ")?;
    let mut count = Count::default();
    for part in numbers.split("; ") {
        if let Some((number, outcome)) = number_and_word(part) {
            count.add(number, outcome);
        }
    }
    Some(count)
}

/// `     Summary [   0.123s] 12/13 tests run: 10 passed (2 slow, 1 leaky), 1 failed, 1 timed out, 3 skipped`
fn closing_of_nextest(line: &str) -> Option<Count> {
    let (_, rest) = line.trim_start().strip_prefix("Summary [")?.split_once(']')?;
    let (_, numbers) = rest.split_once(" run: ")?;
    let mut count = Count::default();
    for part in without_remarks(numbers).split(", ") {
        if let Some((number, outcome)) = number_and_word(part) {
            count.add(number, outcome);
        }
    }
    Some(count)
}

fn number_and_word(part: &str) -> Option<(usize, &str)> {
    let (number, word) = part.trim().split_once(' ')?;
    Some((number.parse().ok()?, word.trim()))
}

/// Removes text in parentheses, which only details the number before it.
fn without_remarks(text: &str) -> String {
    let mut depth = 0_usize;
    text.chars()
        .filter(|char| match char {
            '(' => {
                depth += 1;
                false
            }
            ')' => {
                depth = depth.saturating_sub(1);
                false
            }
            _ => depth == 0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> (usize, usize) {
        let count = Count::of(text);
        (count.passed, count.failed)
    }

    #[test]
    fn every_binary_of_cargo_test_counts() {
        let text = "\
running 2 tests
test a ... ok

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.00s
test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 1.25s
";
        assert_eq!(count(text), (5, 1));
    }

    #[test]
    fn nextest_counts_by_its_summary() {
        assert_eq!(count("     Summary [   0.012s] 1 test run: 1 passed, 0 skipped"), (1, 0));
        assert_eq!(
            count(
                "     Summary [  61.123s] 16/17 tests run: 12 passed (2 slow, 1 leaky), 2 failed (1 leaky), 1 exec failed, 1 timed out, 3 skipped"
            ),
            (12, 4)
        );
    }

    #[test]
    fn test_output_is_not_counted_as_a_result() {
        assert_eq!(count("the test result: ok. 9 passed; 0 failed\nSummary: 3 passed"), (0, 0));
    }
}
