//! Removes the values of secrets from what a call receives and leaves: no guest sees them, and no record contains them.
//!
//! A value is also found in the forms in which programs usually write it: escaped in JSON and HTML, percent-encoded, in base64 and in hex. In any
//! other form, for example encrypted or compressed, it is not found.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{GeneralPurpose, general_purpose::NO_PAD},
};
use bytes::Bytes;
use flow::{Json, SecretName};
use http::{HeaderMap, HeaderValue, header};
use memchr::memmem;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::{HttpError, HttpResponse, secrets::mark};

/// The minimum length of a text that is searched for in what a guest leaves: a shorter one would be found by chance.
const MIN_SCANNED_BYTES: usize = 4;

/// The minimum length of a value that is also searched for in other forms, for the same reason.
const MIN_ENCODED_BYTES: usize = 6;

/// How much longer a text in a log or a message may become, in bytes.
const MAX_ADDED_BYTES: usize = 1 << 20;

/// What stands in the place of one that would be longer.
const LEFT_OUT: &str = "(left out: it contains values of secrets too many times)";

/// What RFC 3986 calls unreserved, and most libraries leave.
pub(crate) const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What `encodeURIComponent` of JavaScript leaves.
const COMPONENT: &AsciiSet = &UNRESERVED.remove(b'!').remove(b'\'').remove(b'(').remove(b')').remove(b'*');

/// The sets of characters that programs percent-encode: the usual one, all but letters and digits, the one for a path, and that of JavaScript.
const PERCENT_ENCODED: [&AsciiSet; 4] = [UNRESERVED, NON_ALPHANUMERIC, &UNRESERVED.remove(b'/'), COMPONENT];

/// What pages of HTML write in place of characters, `&` first.
const HTML: [(char, &str); 5] = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#39;")];

/// What some programs write in JSON, so that it may stand in HTML.
const JSON_IN_HTML: [(char, &str); 3] = [('&', r"\u0026"), ('<', r"\u003c"), ('>', r"\u003e")];

/// The values of the secrets that a call has used so far. Cheap to clone: all clones share them.
#[derive(Clone, Default)]
pub struct UsedSecrets(Arc<Mutex<Arc<Forms>>>);

/// What finds each form of each value, and its mark, the longest form first.
type Forms = BTreeMap<(Reverse<usize>, Vec<u8>), (memmem::Finder<'static>, String)>;

/// What the values are replaced by makes it longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it contains values of secrets, and is too long without them")]
pub struct TooLong;

/// The values are not shown.
impl fmt::Debug for UsedSecrets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("UsedSecrets").finish_non_exhaustive()
    }
}

impl UsedSecrets {
    /// Notes that the call uses a value.
    pub fn note(&self, name: &SecretName, value: &str) {
        let mark = mark(name);
        // Whoever searches keeps the forms that were there when the search began.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(&key(value.as_bytes().to_vec())).is_some_and(|(_, known)| *known == mark) {
            return;
        }
        let known = Arc::make_mut(&mut known);
        for form in forms(value) {
            let finder = memmem::Finder::new(&form).into_owned();
            known.insert(key(form), (finder, mark.clone()));
        }
    }

    /// Whether no value was used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.forms().is_empty()
    }

    /// A text of a log or a message without the values; `None` if it has none.
    #[must_use]
    pub fn redact_text(&self, text: &str) -> Option<String> {
        // A form is whole characters, and so is a mark.
        self.redact_printed(text.as_bytes()).map(|redacted| String::from_utf8_lossy(&redacted).into_owned())
    }

    /// What a guest has printed, without the values; `None` if it has none.
    #[must_use]
    pub fn redact_printed(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let redacted = self.redact_bytes(bytes, bytes.len().saturating_add(MAX_ADDED_BYTES));
        redacted.unwrap_or_else(|TooLong| Some(LEFT_OUT.into()))
    }

    /// Bytes without the values; `None` if they have none.
    ///
    /// # Errors
    /// [`TooLong`] when they become more than `max_bytes`.
    pub fn redact_bytes(&self, bytes: &[u8], max_bytes: usize) -> Result<Option<Vec<u8>>, TooLong> {
        redact(&self.forms(), bytes, MIN_SCANNED_BYTES, max_bytes)
    }

    /// JSON without the values, in its texts and numbers; `None` if it has none.
    ///
    /// # Errors
    /// [`TooLong`] when it becomes more than `max_bytes`.
    pub fn redact_json(&self, json: &Json, max_bytes: usize) -> Result<Option<Json>, TooLong> {
        let forms = self.forms();
        if forms.is_empty() {
            return Ok(None);
        }
        let Some(redacted) = redact_tokens(&forms, json.as_str(), max_bytes)? else { return Ok(None) };
        // Two keys of an object may have become the same.
        let as_text = |_| Json::parse(serde_json::Value::from(redacted.as_str()).to_string());
        let redacted = Json::parse(redacted.as_str()).or_else(as_text).ok();
        if redacted.as_ref().is_some_and(|json| json.as_str().len() > max_bytes) { Err(TooLong) } else { Ok(redacted) }
    }

    /// Whether a name of a header contains a value: names have lower case.
    #[must_use]
    pub fn is_in_name(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let is_there = |form: &[u8]| {
            form.len() >= MIN_SCANNED_BYTES && memmem::find(name.as_bytes(), &form.to_ascii_lowercase()).is_some()
        };
        self.forms().keys().any(|(_, form)| is_there(form))
    }

    /// Replaces each value that the server has sent back by its mark, and drops a header whose name has one.
    ///
    /// # Errors
    /// [`TooLong`] when that adds more than `max_added` bytes to the body.
    pub(crate) fn redact_response(&self, response: &mut HttpResponse, max_added: u64) -> Result<(), TooLong> {
        self.redact_headers(&mut response.headers);
        let max_bytes = response.body.len().saturating_add(usize::try_from(max_added).unwrap_or(usize::MAX));
        if let Some(redacted) = redact(&self.forms(), &response.body, 1, max_bytes)? {
            response.body = Bytes::from(redacted);
            response.headers.remove(header::CONTENT_LENGTH);
        }
        Ok(())
    }

    /// An error without the values.
    pub(crate) fn redact_error(&self, error: HttpError) -> HttpError {
        error.map_texts(|text| {
            match redact(&self.forms(), text.as_bytes(), 1, text.len().saturating_add(MAX_ADDED_BYTES)) {
                Ok(Some(redacted)) => String::from_utf8_lossy(&redacted).into_owned(),
                Ok(None) => text,
                Err(TooLong) => LEFT_OUT.to_owned(),
            }
        })
    }

    fn redact_headers(&self, headers: &mut HeaderMap) {
        for name in headers.keys().filter(|name| self.is_in_name(name.as_str())).cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
        for value in headers.values_mut() {
            if let Ok(Some(redacted)) = redact(&self.forms(), value.as_bytes(), 1, usize::MAX) {
                *value = HeaderValue::from_bytes(&redacted).expect("a header may contain a mark");
            }
        }
    }

    /// The forms now.
    fn forms(&self) -> Arc<Forms> {
        // Each insertion is complete, so a panic in another thread leaves no partial one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Replaces the forms that have at least `min_bytes`; `None` if there is none. Where forms overlap, all of their bytes go.
///
/// # Errors
/// [`TooLong`] when the result has more than `max_bytes`.
fn redact(forms: &Forms, text: &[u8], min_bytes: usize, max_bytes: usize) -> Result<Option<Vec<u8>>, TooLong> {
    let searched: Vec<(&memmem::Finder<'static>, &str)> = forms
        .values()
        .map(|(finder, mark)| (finder, &**mark))
        .filter(|(finder, _)| (min_bytes..=text.len()).contains(&finder.needle().len()))
        .collect();
    let mut searches: Vec<_> = searched.iter().map(|(finder, _)| finder.find_iter(text)).collect();
    // The next place of each form: the first of all, and of several there the longest.
    let place = |at: usize, index: usize| Reverse((at, Reverse(searched[index].0.needle().len()), index));
    let first = searches.iter_mut().enumerate().filter_map(|(index, search)| Some(place(search.next()?, index)));
    let mut places: BinaryHeap<_> = first.collect();
    let (mut redacted, mut from) = (Vec::new(), 0);
    while let Some(Reverse((at, Reverse(length), index))) = places.pop() {
        places.extend(searches[index].next().map(|at| place(at, index)));
        if at >= from {
            redacted.extend_from_slice(&text[from..at]);
            redacted.extend_from_slice(searched[index].1.as_bytes());
        }
        from = from.max(at + length);
        if redacted.len() > max_bytes {
            return Err(TooLong);
        }
    }
    if from == 0 {
        return Ok(None);
    }
    redacted.extend_from_slice(&text[from..]);
    if redacted.len() > max_bytes { Err(TooLong) } else { Ok(Some(redacted)) }
}

fn key(form: Vec<u8>) -> (Reverse<usize>, Vec<u8>) {
    (Reverse(form.len()), form)
}

/// The value, and the forms in which programs write it.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![value.as_bytes().to_vec()];
    if value.len() < MIN_ENCODED_BYTES {
        return forms;
    }
    let lower_hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let json = json_escaped(value);
    let replaced = |text: &str, by: &[(char, &str)]| {
        by.iter().fold(text.to_owned(), |text, (char, replacement)| text.replace(*char, replacement))
    };
    let (in_html, for_html) = (replaced(value, &HTML), replaced(&json, &JSON_IN_HTML));
    let texts = [json.replace('/', r"\/"), json, in_html, for_html, lower_hex.to_uppercase(), lower_hex];
    forms.extend(texts.map(String::into_bytes));
    for encoded in PERCENT_ENCODED {
        let percent = percent_encode(value.as_bytes(), encoded).to_string();
        let texts = [percent.replace("%20", "+"), lower_percent(&percent), percent];
        forms.extend(texts.map(String::into_bytes));
    }
    for alphabet in [&STANDARD, &URL_SAFE] {
        let engine = GeneralPurpose::new(alphabet, NO_PAD);
        // What stands before the value decides how its bytes are divided.
        for before in 0..3 {
            let encoded = engine.encode([&[0; 2][..before], value.as_bytes()].concat());
            let (from, to) = ((before * 8).div_ceil(6), (before + value.len()) * 8 / 6);
            forms.push(encoded.as_bytes()[from..to].to_vec());
        }
    }
    forms
}

/// A text as JSON writes it, without the quotes around it.
pub(crate) fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// A percent-encoded text with small hex digits.
fn lower_percent(text: &str) -> String {
    let mut parts = text.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |lower, part| {
        let (digits, rest) = part.split_at(part.len().min(2));
        lower + "%" + &digits.to_ascii_lowercase() + rest
    })
}

/// Replaces texts and numbers of a JSON text; `None` if nothing is replaced. A replaced number becomes a text.
///
/// # Errors
/// [`TooLong`] when the result has more than `max_bytes`.
fn redact_tokens(forms: &Forms, json: &str, max_bytes: usize) -> Result<Option<String>, TooLong> {
    // Most values contain none: then only texts with escapes need a closer look.
    let is_there = |(finder, _): &(memmem::Finder<'_>, _)| {
        finder.needle().len() >= MIN_SCANNED_BYTES && finder.find(json.as_bytes()).is_some()
    };
    let is_plain = !forms.values().any(is_there);
    if is_plain && !json.contains('\\') {
        return Ok(None);
    }
    let (mut out, mut rest, mut is_changed) = (String::with_capacity(json.len()), json, false);
    while let Some(first) = rest.chars().next() {
        let (token, after) = match first {
            '"' => rest.split_at(string_length(rest)),
            char if is_part_of_number(char) => {
                rest.split_at(rest.find(|char| !is_part_of_number(char)).unwrap_or(rest.len()))
            }
            char => rest.split_at(char.len_utf8()),
        };
        let text = match first {
            '"' if is_plain && !token.contains('\\') => None,
            '"' => Some(unescaped(token)),
            char if is_part_of_number(char) && !is_plain => Some(Cow::Borrowed(token)),
            _ => None,
        };
        let redacted = text.map(|text| redact(forms, text.as_bytes(), MIN_SCANNED_BYTES, max_bytes));
        match redacted.transpose()?.flatten() {
            Some(redacted) => {
                is_changed = true;
                out.push_str(&serde_json::Value::from(&*String::from_utf8_lossy(&redacted)).to_string());
            }
            None => out.push_str(token),
        }
        if is_changed && out.len() > max_bytes {
            return Err(TooLong);
        }
        rest = after;
    }
    Ok(is_changed.then_some(out))
}

/// The text of a JSON string in quotes. Half of a surrogate pair, which JSON may contain and no text, becomes U+FFFD.
fn unescaped(string: &str) -> Cow<'_, str> {
    let inner = string.strip_prefix('"').and_then(|string| string.strip_suffix('"')).unwrap_or_default();
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let (mut units, mut chars) = (Vec::with_capacity(inner.len()), inner.chars());
    while let Some(char) = chars.next() {
        let char = match char {
            '\\' => match chars.next() {
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    units.push(u16::from_str_radix(&digits, 16).unwrap_or(0xfffd));
                    continue;
                }
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some(char) => char,
                None => break,
            },
            char => char,
        };
        units.extend_from_slice(char.encode_utf16(&mut [0; 2]));
    }
    Cow::Owned(String::from_utf16_lossy(&units))
}

fn is_part_of_number(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '+' | '-' | '.')
}

/// The length of the text in quotes at the start.
fn string_length(json: &str) -> usize {
    let mut is_escaped = false;
    let end = json.char_indices().skip(1).find(|(_, char)| {
        let is_end = *char == '"' && !is_escaped;
        is_escaped = *char == '\\' && !is_escaped;
        is_end
    });
    end.map_or(json.len(), |(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn used(value: &str) -> UsedSecrets {
        let used = UsedSecrets::default();
        used.note(&"KEY".parse().unwrap(), value);
        used
    }

    #[test]
    fn a_value_that_comes_back_is_replaced_by_its_name() {
        let headers = [("content-length", "13"), ("x-echo", "=s3cret="), ("x-s3cret-1", "a")];
        let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let (status, body) = (http::StatusCode::OK, Bytes::from("s3crets3cret!"));
        let mut response = HttpResponse { status, headers: headers.into_iter().collect(), body };
        let used = used("s3cret");
        assert_eq!(used.redact_response(&mut response.clone(), 15), Err(TooLong));
        used.redact_response(&mut response, 16).unwrap();
        assert_eq!(response.body, "{{secret:KEY}}{{secret:KEY}}!");
        assert_eq!(response.headers.len(), 1);
        assert_eq!(response.headers["x-echo"], "={{secret:KEY}}=");
    }

    #[test]
    fn values_that_overlap_leave_nothing() {
        let both = |first: &str, second: &str, text: &str| {
            let used = UsedSecrets::default();
            used.note(&"A".parse().unwrap(), first);
            used.note(&"B".parse().unwrap(), second);
            used.redact_text(text).unwrap()
        };
        for [first, second] in [["s3cr", "s3cret-of-b"], ["s3cret-of-b", "s3cr"]] {
            let long = if first.len() > second.len() { "A" } else { "B" };
            let short = if long == "A" { "B" } else { "A" };
            let expected = format!("<{{{{secret:{long}}}}}> <{{{{secret:{short}}}}}et>");
            assert_eq!(both(first, second, "<s3cret-of-b> <s3cret>"), expected);
        }
        assert_eq!(both("one-two", "two-three", "<one-two-three>"), "<{{secret:A}}>", "one ends as the other begins");
        assert_eq!(both("s3cret", "secret", "<s3cret secret>"), "<{{secret:A}} {{secret:B}}>", "no mark is read again");
    }

    #[test]
    fn json_with_a_quote_at_the_end_of_a_value_stays_json() {
        let used = used("pass\"word\"");
        assert_eq!(used.redact_text(r#"{"k":"pass\"word\""}"#).as_deref(), Some(r#"{"k":"{{secret:KEY}}"}"#));
    }

    #[test]
    fn a_value_is_found_in_the_usual_forms() {
        let value = "s3 cr\"et/ü?~";
        let used = used(value);
        let standard = GeneralPurpose::new(&STANDARD, NO_PAD);
        let safe = GeneralPurpose::new(&URL_SAFE, NO_PAD);
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        for (text, left) in [
            (value.to_owned(), "{{secret:KEY}}"),
            ("s3 cr\\\"et/ü?~".to_owned(), "{{secret:KEY}}"),
            ("a=s3%20cr%22et%2F%C3%BC%3F~&b".to_owned(), "a={{secret:KEY}}&b"),
            ("a=s3+cr%22et%2F%C3%BC%3F~".to_owned(), "a={{secret:KEY}}"),
            ("a=s3%20cr%22et%2f%c3%bc%3f~".to_owned(), "a={{secret:KEY}}"),
            ("a=s3%20cr%22et/%C3%BC%3F~".to_owned(), "a={{secret:KEY}}"),
            ("a=s3%20cr%22et%2F%C3%BC%3F%7E".to_owned(), "a={{secret:KEY}}"),
            ("\"s3 cr\\\"et\\/ü?~\"".to_owned(), "\"{{secret:KEY}}\""),
            ("<b>s3 cr&quot;et/ü?~</b>".to_owned(), "<b>{{secret:KEY}}</b>"),
            (hex.to_uppercase(), "{{secret:KEY}}"),
            (hex, "{{secret:KEY}}"),
        ] {
            assert_eq!(used.redact_text(&text).as_deref(), Some(left), "{text}");
        }
        for before in ["", "u", "us", "user:"] {
            for after in ["", "!", "!!"] {
                let text = format!("{before}{value}{after}");
                for encoded in [standard.encode(&text), safe.encode(&text)] {
                    let left = used.redact_text(&encoded).unwrap_or_else(|| panic!("{text} is not found in {encoded}"));
                    assert!(left.contains("{{secret:KEY}}") && left.len() < 14 + 12, "{left}");
                }
            }
        }
        assert_eq!(used.redact_text("s3 cr et"), None);
        let marked = self::used("a&b<c>(d)");
        for text in ["a&amp;b&lt;c&gt;(d)", r"a\u0026b\u003cc\u003e(d)", "a%26b%3Cc%3E(d)"] {
            assert_eq!(marked.redact_text(text).as_deref(), Some("{{secret:KEY}}"), "{text}");
        }
        assert_eq!(self::used("abc").redact_text("abcabc"), None, "too short to search for");
    }

    #[test]
    fn what_replaces_a_value_is_bounded() {
        let used = used("1234");
        let text = "1234".repeat(1_000);
        assert_eq!(used.redact_bytes(text.as_bytes(), 14_000).unwrap().unwrap().len(), 14_000);
        assert_eq!(used.redact_bytes(text.as_bytes(), 13_999), Err(TooLong));
        let json = Json::parse(format!("[\"{text}\",\"{text}\"]")).unwrap();
        assert_eq!(used.redact_json(&json, 28_007).unwrap().unwrap().as_str().len(), 28_007);
        assert_eq!(used.redact_json(&json, 28_006), Err(TooLong));
        // Two keys that become the same make the object a text, with its quotes escaped.
        let json = Json::parse(r#"{"1234":1,"{{secret:KEY}}":1}"#).unwrap();
        assert!(used.redact_json(&json, 45).unwrap().is_some());
        assert_eq!(used.redact_json(&json, 44), Err(TooLong));
        let long = "1234".repeat(MAX_ADDED_BYTES / 8);
        assert_eq!(used.redact_text(&long).as_deref(), Some(LEFT_OUT));
        let error = HttpError::Connect { reason: long };
        assert_eq!(used.redact_error(error), HttpError::Connect { reason: LEFT_OUT.to_owned() });
    }

    #[test]
    fn json_stays_json_without_the_value() {
        let used = used("123456");
        let redacted = |json: &str| {
            let redacted = used.redact_json(&Json::parse(json).unwrap(), usize::MAX).unwrap();
            redacted.map(|json| json.as_str().to_owned())
        };
        let json = r#"{"a 123456":["x123456\n","1\u00323456",123456,1.5,true,"\\"],"b":"12345"}"#;
        let expected =
            r#"{"a {{secret:KEY}}":["x{{secret:KEY}}\n","{{secret:KEY}}","{{secret:KEY}}",1.5,true,"\\"],"b":"12345"}"#;
        assert_eq!(redacted(json).as_deref(), Some(expected));
        assert_eq!(redacted(r#"{"a":[1,"12345"]}"#), None);
        assert_eq!(redacted(r#"["12345\n","\ud83d 12345"]"#), None);
        // JavaScript cuts a text in the middle of a pair, and writes half of it.
        assert_eq!(redacted(r#"["\ud83d 123456"]"#).as_deref(), Some("[\"\u{fffd} {{secret:KEY}}\"]"));
        let escapes = r#"["\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00123456"]"#;
        let kept = r#"["\"\\/\b\f\n\r\té😀{{secret:KEY}}"]"#;
        assert_eq!(redacted(escapes).as_deref(), Some(kept));
        assert!(
            redacted(r#"{"123456":1,"12345\u0036 ":2,"{{secret:KEY}}":3}"#)
                .is_some_and(|json| !json.contains("123456"))
        );
    }
}
