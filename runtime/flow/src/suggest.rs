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
pub(crate) fn hint(intended: &str) -> String {
    format!("did you mean {intended:?}?")
}

/// The known name closest to a wrong one, if any is close enough: by letters inserted, removed, changed, or swapped with
/// their neighbour.
pub(crate) fn closest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if wrong.len() > MAX_LEN {
        return None;
    }
    let length = wrong.chars().count();
    let max_distance = (length / 3).clamp(1, 3);
    let candidate = |name: &'a str| {
        let is_plausible = length.abs_diff(name.chars().count()) <= max_distance;
        let distance = is_plausible.then(|| strsim::osa_distance(wrong, name))?;
        (distance <= max_distance && distance < length).then_some((distance, name))
    };
    let candidates = known.into_iter().take(MAX_CANDIDATES).filter_map(candidate);
    candidates.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_is_suggested_and_none_that_is_far() {
        let known = ["timeout", "retry", "requires", "name", "use"];
        for (wrong, intended) in [("tiemout", "timeout"), ("require", "requires"), ("retyr", "retry"), ("nmae", "name")]
        {
            assert_eq!(closest(wrong, known), Some(intended));
        }
        for wrong in ["colour", "x", "", "us3r", &"timeout".repeat(100)] {
            assert_eq!(closest(wrong, known), None, "{wrong:?}");
        }
    }
}
