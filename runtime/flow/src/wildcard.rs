//! Texts in which `*` stands for any number of characters.

/// Whether a text matches a pattern in which each `*` stands for any number of characters.
#[must_use]
pub fn matches_wildcard(pattern: &str, text: &str) -> bool {
    let Some((start, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(start) else { return false };
    let (middle, end) = after.rsplit_once('*').unwrap_or(("", after));
    // The first place is the best one: it leaves most to the parts behind.
    for part in middle.split('*') {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(end)
}
