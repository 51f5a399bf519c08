//! Removes the values of secrets from what a guest leaves: a server may have sent them to the guest in another form.

use std::sync::Arc;

use bytes::Bytes;
use flow::{Failure, Value};
use gateway::UsedSecrets;
use protocol::{HttpExchange, HttpExchanges, RecordedAnswer, RecordedRequest};
use sandbox::{CallReport, Completion, Level, Observer, Standard};

/// Removes the values from what a guest says while it runs.
pub(crate) struct RedactingObserver {
    observer: Arc<dyn Observer>,
    used: UsedSecrets,
}

impl RedactingObserver {
    pub(crate) fn new(observer: Arc<dyn Observer>, used: UsedSecrets) -> Self {
        Self { observer, used }
    }
}

impl Observer for RedactingObserver {
    fn log(&self, level: Level, line: &str) {
        self.observer.log(level, self.used.redact_text(line).as_deref().unwrap_or(line));
    }

    fn print(&self, standard: Standard, bytes: &[u8]) {
        self.observer.print(standard, self.used.redact_bytes(bytes).as_deref().unwrap_or(bytes));
    }

    fn progress(&self, fraction: f64, message: &str) {
        self.observer.progress(fraction, self.used.redact_text(message).as_deref().unwrap_or(message));
    }
}

/// A report without the values: in its log, its failure and its values.
pub(crate) fn redacted(mut report: CallReport, used: &UsedSecrets) -> CallReport {
    for line in &mut report.log {
        redact_text(&mut line.message, used);
    }
    for printed in [&mut report.stdout, &mut report.stderr] {
        if let Some(redacted) = used.redact_bytes(printed) {
            *printed = Bytes::from(redacted);
        }
    }
    match &mut report.completion {
        Completion::Succeeded(values) => values.values_mut().for_each(|value| redact_value(value, used)),
        Completion::Failed(Failure { kind: _, message, details }) => {
            redact_text(message, used);
            if let Some(redacted) = details.as_ref().and_then(|details| used.redact_json(details)) {
                *details = Some(redacted);
            }
        }
        Completion::Interrupted => {}
    }
    report
}

/// Removes the values from recorded exchanges: a guest that knows a value may have written it into a request.
pub(crate) fn redact_exchanges(exchanges: &mut HttpExchanges, used: &UsedSecrets) {
    for HttpExchange { request: RecordedRequest { method: _, url, headers, body }, answer, took: _ } in
        &mut exchanges.exchanges
    {
        redact_text(url, used);
        redact_parts(headers, body, used);
        if let RecordedAnswer::Response { status: _, headers, body } = answer {
            redact_parts(headers, body, used);
        }
    }
}

fn redact_parts(headers: &mut [(String, Vec<u8>)], body: &mut Vec<u8>, used: &UsedSecrets) {
    for bytes in headers.iter_mut().map(|(_, value)| value).chain([body]) {
        if let Some(redacted) = used.redact_bytes(bytes) {
            *bytes = redacted;
        }
    }
}

fn redact_text(text: &mut String, used: &UsedSecrets) {
    if let Some(redacted) = used.redact_text(text) {
        *text = redacted;
    }
}

fn redact_value(value: &mut Value, used: &UsedSecrets) {
    let redacted = match value {
        Value::Json(json) => used.redact_json(json).map(Value::Json),
        Value::Bytes(bytes) => used.redact_bytes(bytes).map(|bytes| Value::Bytes(bytes.into())),
        // A guest returns values, and no references to the store.
        Value::Stored(_) => None,
    };
    if let Some(redacted) = redacted {
        *value = redacted;
    }
}
