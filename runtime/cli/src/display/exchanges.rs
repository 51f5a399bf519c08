//! Formats recorded HTTP exchanges for people. All texts come from guests and servers, so each is cleaned.

use api::{AttemptExchanges, Body, Exchange, Header};

use super::log::Title;

/// The maximum number of lines of a body that are shown; `--json` shows all.
const MAX_BODY_LINES: usize = 40;

/// The maximum length of a shown line of a body, in characters.
const MAX_LINE_CHARS: usize = 400;

/// The exchanges of an attempt, line by line.
pub(crate) fn lines(attempt: &AttemptExchanges) -> Vec<String> {
    let AttemptExchanges { task, attempt: number, firing, call, exchanges, cut, missing, .. } = attempt;
    let title = Title::new(task, call.as_str(), *firing, *number);
    let mut lines: Vec<String> = exchanges.iter().flat_map(exchange).map(|line| title.about(&line)).collect();
    if exchanges.is_empty() && missing.is_none() {
        lines.push(title.about("sent no request"));
    }
    lines.extend(missing.iter().map(|reason| title.about(&format!("… its record cannot be read: {reason}"))));
    lines.extend(cut.then(|| title.about("… there was more than is recorded")));
    lines
}

fn exchange(exchange: &Exchange) -> Vec<String> {
    let Exchange { method, url, headers: sent, body: request, response, error, seconds } = exchange;
    let mut lines = vec![format!("> {method} {url}")];
    lines.extend(headers('>', sent));
    lines.extend(body('>', request));
    if let Some(response) = response {
        lines.push(format!("< {} after {seconds:.3}s", response.status));
        lines.extend(headers('<', &response.headers));
        lines.extend(body('<', &response.body));
    }
    lines.extend(error.iter().map(|error| format!("< no response after {seconds:.3}s: {error}")));
    lines
}

fn headers(mark: char, headers: &[Header]) -> impl Iterator<Item = String> {
    headers.iter().map(move |Header { name, value }| format!("{mark}   {name}: {value}"))
}

fn body(mark: char, Body { bytes, text, .. }: &Body) -> Vec<String> {
    let Some(text) = text else { return vec![format!("{mark}   {bytes} bytes that are no text")] };
    let cut = |line: &str| line.chars().take(MAX_LINE_CHARS).collect::<String>();
    let mut lines: Vec<String> =
        text.lines().take(MAX_BODY_LINES).map(|line| format!("{mark}   {}", cut(line))).collect();
    let left_out =
        text.lines().count() > MAX_BODY_LINES || text.lines().any(|line| line.chars().count() > MAX_LINE_CHARS);
    lines.extend(left_out.then(|| format!("{mark}   … {bytes} bytes in all; --json shows them")));
    lines
}
