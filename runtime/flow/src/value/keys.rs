//! Finds duplicate keys in one object of a JSON text.
//!
//! JSON parsers take the first, the last or none of two equal keys, so readers interpret such a text differently.

use std::borrow::Cow;

/// A list or an object whose end has not come yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    List,
    Object,
}

/// A key that occurs twice in one object of the text, at any depth. The text must be JSON; for any other text the result is
/// meaningless. It is iterative, so that deep nesting costs no stack, and takes a few bytes of memory for each byte of the text.
pub(super) fn find_duplicate_key(text: &str) -> Option<String> {
    if !text.contains('{') {
        return None;
    }
    // The lists and objects around the index, outermost first.
    let mut open: Vec<Open> = Vec::new();
    // The keys of the open objects, those of the innermost last, and where those of each object begin.
    let mut keys: Vec<Cow<'_, str>> = Vec::new();
    let mut starts: Vec<usize> = Vec::new();
    let mut expects_key = false;
    let (bytes, mut index) = (text.as_bytes(), 0);
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'{' => {
                open.push(Open::Object);
                starts.push(keys.len());
                expects_key = true;
            }
            b'[' => {
                open.push(Open::List);
                expects_key = false;
            }
            b'}' | b']' => {
                if open.pop() == Some(Open::Object) {
                    let start = starts.pop().unwrap_or_default();
                    if let Some(key) = duplicate(&mut keys[start..]) {
                        return Some(key);
                    }
                    keys.truncate(start);
                }
                expects_key = false;
            }
            b',' => expects_key = open.last() == Some(&Open::Object),
            b'"' => {
                let end = end_of_string(bytes, index);
                if expects_key {
                    keys.push(unescaped(&text[index..end]));
                }
                expects_key = false;
                index = end;
                continue;
            }
            _ => {}
        }
        index += 1;
    }
    None
}

/// A key that occurs twice among those of one object.
fn duplicate(keys: &mut [Cow<'_, str>]) -> Option<String> {
    keys.sort_unstable();
    keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone().into_owned())
}

/// The end of a string that begins at `start`: the index after its closing quote.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut index = start + 1;
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'"' => return index + 1,
            b'\\' => index += 2,
            _ => index += 1,
        }
    }
    bytes.len()
}

/// The unescaped text of a quoted string. A string that is not valid Unicode, such as half of a surrogate pair, stays as
/// written.
fn unescaped(quoted: &str) -> Cow<'_, str> {
    if quoted.contains('\\') {
        return serde_json::from_str::<String>(quoted).map_or(Cow::Borrowed(quoted), Cow::Owned);
    }
    Cow::Borrowed(quoted.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::find_duplicate_key;

    #[test]
    fn a_duplicate_key_is_found_at_any_depth() {
        for (text, key) in [
            (r#"{"a":1,"a":2}"#, "a"),
            (r#"{ "a" : {"b":1} , "c":[ {"d":{}, "e":[], "d":null} ] }"#, "d"),
            (r#"[[{"x":"{\"x\":1}","y":",","x":1}]]"#, "x"),
            (r#"{"\u0061":1,"a":2}"#, "a"),
            (r#"{"\"":1,"b":2,"\u0022":2}"#, "\""),
            (r#"{"":1,"":2}"#, ""),
            (r#"{"\ud800":1,"\ud800":2}"#, "\"\\ud800\""),
            (r#"{"a":{"b":[{"c":1}]},"d":{"a":1,"b":1},"e":1,"a":2}"#, "a"),
        ] {
            assert_eq!(find_duplicate_key(text).as_deref(), Some(key), "{text}");
        }
    }

    #[test]
    fn equal_keys_in_two_objects_are_no_duplicates() {
        for text in [
            r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}"#,
            r#"["a","a",{"b":"a","c":"a"}]"#,
            r#"{"a":["a","a"],"A":1,"\\":2,"\\\\":3}"#,
            r#""{\"a\":1,\"a\":2}""#,
            "17",
        ] {
            assert_eq!(find_duplicate_key(text), None, "{text}");
        }
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        let depth = 200_000;
        let text = format!("{}{{\"a\":1,\"a\":1}}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(find_duplicate_key(&text).as_deref(), Some("a"));
        let objects = |key: &str| format!("{}{{\"a\":1,\"{key}\":1}}{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert_eq!(find_duplicate_key(&objects("a")).as_deref(), Some("a"));
        assert_eq!(find_duplicate_key(&objects("b")), None);
    }
}
