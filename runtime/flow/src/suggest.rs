//! "Did you mean": finds the known name that a wrong one probably meant.

/// The maximum number of known names to compare, so that the cost of a file full of errors is proportional to its size.
const MAX_CANDIDATES: usize = 1_000;

/// The maximum number of errors with a suggestion. Nobody reads more, and each search takes time.
pub(crate) const MAX_SUGGESTIONS: usize = 200;

/// No key or name of waft is longer.
const MAX_LEN: usize = 100;

/// A hint with the known name closest to a wrong one, if any is close enough.
pub(crate) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(wrong, known).map(hint)
}

/// The hint with the intended name.
pub(crate) fn hint(meant: &str) -> String {
    format!("did you mean {meant:?}?")
}

/// The known name closest to a wrong one, if any is close enough.
pub(crate) fn closest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if wrong.len() > MAX_LEN {
        return None;
    }
    let wrong: Vec<char> = wrong.chars().collect();
    let within = (wrong.len() / 3).clamp(1, 3);
    let near = |name: &'a str| {
        let name_chars: Vec<char> = name.chars().collect();
        let plausible = wrong.len().abs_diff(name_chars.len()) <= within;
        let distance = plausible.then(|| distance(&wrong, &name_chars))?;
        (distance <= within && distance < wrong.len()).then_some((distance, name))
    };
    known.into_iter().take(MAX_CANDIDATES).filter_map(near).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// The edit distance: letters inserted, removed, changed, or swapped with their neighbour.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, one) in from.iter().enumerate() {
        let mut this = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let changed = last[column] + usize::from(one != other);
            let mut best = changed.min(last[column + 1] + 1).min(this[column] + 1);
            let swapped = row > 0 && column > 0 && *one == to[column - 1] && from[row - 1] == *other;
            if swapped {
                best = best.min(before_last[column - 1] + 1);
            }
            this.push(best);
        }
        before_last = std::mem::replace(&mut last, this);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_is_suggested_and_none_that_is_far() {
        let known = ["timeout", "retry", "requires", "name", "use"];
        for (wrong, meant) in [("tiemout", "timeout"), ("require", "requires"), ("retyr", "retry"), ("nmae", "name")] {
            assert_eq!(closest(wrong, known), Some(meant));
        }
        for wrong in ["colour", "x", "", "us3r", &"timeout".repeat(100)] {
            assert_eq!(closest(wrong, known), None, "{wrong:?}");
        }
    }
}
