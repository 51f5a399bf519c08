//! Writes keys, texts and JSON values as TOML without losing digits.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// A key, without quotes where possible.
pub(super) fn key(key: &str) -> String {
    let is_bare = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    if !key.is_empty() && key.chars().all(is_bare) { key.into() } else { text(key) }
}

/// A text in quotes. JSON's escapes are valid in TOML, which requires one more character to be escaped.
pub(super) fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

/// Entries of a table on one line.
pub(super) fn braces(entries: &[String]) -> String {
    if entries.is_empty() { "{}".into() } else { format!("{{ {} }}", entries.join(", ")) }
}

/// A JSON text as a TOML value.
///
/// # Errors
/// The content that TOML cannot express. [`crate::Json`] bounds the nesting, and therefore this recursion.
pub(super) fn json(written: &str) -> Result<String, &'static str> {
    const INVALID_STRING: &str = "half a character";
    let written = written.trim();
    match written.as_bytes().first() {
        Some(b'{') => {
            let entries: BTreeMap<String, &RawValue> = serde_json::from_str(written).map_err(|_| INVALID_STRING)?;
            let mut written = Vec::new();
            for (name, value) in entries {
                written.push(format!("{} = {}", key(&name), json(value.get())?));
            }
            Ok(braces(&written))
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(written).map_err(|_| INVALID_STRING)?;
            let elements: Vec<String> = elements.iter().map(|element| json(element.get())).collect::<Result<_, _>>()?;
            Ok(format!("[{}]", elements.join(", ")))
        }
        Some(b'"') => serde_json::from_str::<String>(written).map(|string| text(&string)).map_err(|_| INVALID_STRING),
        Some(b'n') => Err("null"),
        // An integer would lose the sign.
        Some(_) if written == "-0" => Ok("-0.0".into()),
        Some(_) | None => Ok(written.into()),
    }
}
