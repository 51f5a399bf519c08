//! Counts the words of a text in parallel: fetch it, split it into parts, count each, merge the counts. Four parts, each with a
//! task of its own; or any number of parts, each an element of a list.

use std::collections::BTreeMap;

use waft_guest::{http, prelude::*};

/// The maximum number of most frequent words in a summary.
const MOST_FREQUENT: usize = 10;

/// The four parts of a text. Concatenated, they are the text.
#[derive(Debug, Clone, PartialEq, Provides)]
pub struct Parts {
    /// The first quarter, up to the end of a word.
    pub first_part: String,
    /// The second quarter.
    pub second_part: String,
    /// The third quarter.
    pub third_part: String,
    /// The last quarter.
    pub fourth_part: String,
}

/// The counts of a text.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// The number of characters.
    pub characters: u64,
    /// The number of line ends.
    pub lines: u64,
    /// The number of occurrences of each word, in lower case.
    pub words: BTreeMap<String, u64>,
}

/// A summary of a whole text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// The number of characters.
    pub characters: u64,
    /// The number of line ends.
    pub lines: u64,
    /// The number of words.
    pub words: u64,
    /// The number of different words.
    pub different_words: u64,
    /// The most frequent words with their numbers of occurrences.
    pub most_frequent: Vec<(String, u64)>,
}

/// Fetches a text by HTTP.
#[task(provides = "text", retry(attempts = 5, initial = "200ms"))]
fn fetch(
    /// Its address. The flow has to ask for the request, and the operator has to grant it.
    url: &str,
) -> Result<String, Failure> {
    let response = http::get(url)?.success()?;
    let text = response.text()?.to_owned();
    log::info!("fetched {} bytes", text.len());
    Ok(text)
}

/// Splits a text into four parts of about the same size, between words.
#[task(provides = fields)]
fn split(
    /// The text.
    text: &str,
) -> Parts {
    let (first_part, rest) = split_off(text, 4);
    let (second_part, rest) = split_off(rest, 3);
    let (third_part, fourth_part) = split_off(rest, 2);
    Parts {
        first_part: first_part.into(),
        second_part: second_part.into(),
        third_part: third_part.into(),
        fourth_part: fourth_part.into(),
    }
}

/// Cuts a text between words into parts of about the given size.
#[task(provides = "parts")]
fn cut(
    /// The text: `--set-file text=PATH`.
    text: &str,
    /// The approximate size of a part in bytes; the default is 4096.
    bytes: Option<u32>,
) -> Vec<String> {
    let bytes = bytes.unwrap_or(4_096).max(1) as usize;
    let (mut parts, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let about = rest.floor_char_boundary(bytes);
        let end = rest[about..].find(char::is_whitespace).map_or(rest.len(), |space| about + space);
        // A part has at least one character, so that the loop ends.
        let end = if end == 0 { rest.ceil_char_boundary(1) } else { end };
        let (part, remaining) = rest.split_at(end);
        parts.push(part.to_owned());
        rest = remaining;
    }
    parts
}

/// Counts the words of a text.
#[task(provides = "counts")]
fn count(
    /// The text, or a part of it that ends between words.
    text: &str,
) -> Counts {
    let mut counts = Counts {
        characters: text.chars().count() as u64,
        lines: text.matches('\n').count() as u64,
        words: BTreeMap::new(),
    };
    for word in words(text) {
        *counts.words.entry(word.to_lowercase()).or_default() += 1;
    }
    log::info!("{} different words in {} characters", counts.words.len(), counts.characters);
    counts
}

/// Merges the counts of the four parts.
#[task(provides = "summary")]
fn merge(first: Counts, second: Counts, third: Counts, fourth: Counts) -> Summary {
    merge_all(vec![first, second, third, fourth])
}

/// Merges the counts of any number of parts.
#[task(provides = "summary")]
fn merge_all(counts: Vec<Counts>) -> Summary {
    let mut total = Counts::default();
    for part in counts {
        total.characters += part.characters;
        total.lines += part.lines;
        for (word, times) in part.words {
            *total.words.entry(word).or_default() += times;
        }
    }
    let (words, different_words) = (total.words.values().sum(), total.words.len() as u64);
    let mut most_frequent: Vec<(String, u64)> = total.words.into_iter().collect();
    most_frequent.sort_by(|(a, often), (b, more_often)| more_often.cmp(often).then_with(|| a.cmp(b)));
    most_frequent.truncate(MOST_FREQUENT);
    Summary { characters: total.characters, lines: total.lines, words, different_words, most_frequent }
}

/// Splits off the first of `parts` equal parts, up to the next space.
fn split_off(text: &str, parts: usize) -> (&str, &str) {
    let about = text.floor_char_boundary(text.len() / parts);
    let end = text[about..].find(char::is_whitespace).map_or(text.len(), |space| about + space);
    text.split_at(end)
}

/// Words consist of letters and digits; an apostrophe inside a word belongs to it.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_alphanumeric() && character != '\'')
        .map(|word| word.trim_matches('\''))
        .filter(|word| !word.is_empty())
}

waft_guest::export!(fetch, split, cut, count, merge, merge_all);

#[cfg(test)]
mod tests {
    use super::*;

    const POEM: &str = "It's a long way to the end,\nand the way back is the same way.\nÄpfel, äpfel!\n";

    #[test]
    fn a_text_is_fetched_and_a_missing_one_is_a_permanent_failure() {
        use waft_guest::Retryable;
        let answer = |request: &http::Request| {
            Ok(match request.url() {
                "http://a.example/poem" => http::Response::new(200, POEM),
                _ => http::Response::new(404, "there is no such text"),
            })
        };
        http::answer_with(answer, || {
            assert_eq!(fetch("http://a.example/poem").unwrap(), POEM);
            assert_eq!(fetch("http://a.example/prose").unwrap_err().retryable(), Retryable::Permanent);
        });
    }

    #[test]
    fn the_concatenated_parts_are_the_text() {
        for text in ["", "one", "one two", POEM, "ä ö ü ß", "nospaceanywhereatall", "   "] {
            let Parts { first_part, second_part, third_part, fourth_part } = split(text);
            assert_eq!([first_part, second_part, third_part, fourth_part].concat(), text);
        }
    }

    #[test]
    fn chunks_concatenate_to_the_input() {
        for text in ["", "one", "one two", POEM, "ä ö ü ß", "nospaceanywhereatall", "   "] {
            for bytes in [1, 3, 10, 1_000] {
                assert_eq!(cut(text, Some(bytes)).concat(), text);
            }
        }
        assert_eq!(cut("one two three", Some(4)), ["one two", " three"]);
    }

    #[test]
    fn merged_counts_equal_the_counts_of_the_whole() {
        let Parts { first_part, second_part, third_part, fourth_part } = split(POEM);
        let merged = merge(count(&first_part), count(&second_part), count(&third_part), count(&fourth_part));
        let whole = merge(count(POEM), Counts::default(), Counts::default(), Counts::default());
        assert_eq!(merged, whole);
        assert_eq!((whole.words, whole.different_words, whole.lines), (17, 12, 3));
        assert_eq!(whole.most_frequent[..3], [("the".into(), 3), ("way".into(), 3), ("äpfel".into(), 2)]);
    }
}
