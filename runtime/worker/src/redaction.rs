//! Removes the values of secrets from what a guest leaves: a server may have sent them to the guest in another form.

use std::sync::Arc;

use bytes::Bytes;
use flow::{Failure, FailureKind, Limits, MAX_DETAILS_BYTES, Size, Value, Values, without_details};
use gateway::{TooLong, UsedSecrets};
use protocol::{HttpExchange, HttpExchanges, RecordedAnswer, RecordedHttpFailure, RecordedRequest};
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
        self.observer.print(standard, self.used.redact_printed(bytes).as_deref().unwrap_or(bytes));
    }

    fn progress(&self, fraction: f64, message: &str) {
        self.observer.progress(fraction, self.used.redact_text(message).as_deref().unwrap_or(message));
    }
}

/// What a call leaves, without the values: in its log, its failure, its values and its recorded exchanges. A guest that knows a value
/// may have written it into a request too.
pub(crate) async fn redacted(
    report: CallReport,
    exchanges: Option<HttpExchanges>,
    used: &UsedSecrets,
    limits: &Limits,
) -> (CallReport, Option<HttpExchanges>) {
    if used.is_empty() {
        return (report, exchanges);
    }
    let (used, limits) = (used.clone(), *limits);
    // It may be hundreds of megabytes.
    let redacted = tokio::task::spawn_blocking(move || {
        let report = redact_report(report, &used, &limits);
        let exchanges = exchanges.map(|mut exchanges| {
            redact_exchanges(&mut exchanges, &used);
            exchanges
        });
        (report, exchanges)
    });
    redacted.await.expect("redaction does not panic")
}

fn redact_report(mut report: CallReport, used: &UsedSecrets, limits: &Limits) -> CallReport {
    for line in &mut report.log {
        redact_text(&mut line.message, used);
    }
    for printed in [&mut report.stdout, &mut report.stderr] {
        if let Some(redacted) = used.redact_printed(printed) {
            *printed = Bytes::from(redacted);
        }
    }
    match &mut report.completion {
        Completion::Succeeded(values) => {
            if redact_values(values, used, limits).is_err() {
                report.completion = Completion::Failed(too_long(limits));
            }
        }
        Completion::Failed(failure) => report.completion = Completion::Failed(redacted_failure(failure.clone(), used)),
        Completion::Interrupted => {}
    }
    report
}

/// Removes the values of secrets from those that a guest provides.
///
/// # Errors
/// [`TooLong`] when these have more bytes than the call may provide.
fn redact_values(values: &mut Values, used: &UsedSecrets, limits: &Limits) -> Result<(), TooLong> {
    let max = usize::try_from(limits.output).unwrap_or(usize::MAX);
    let (mut left, mut is_changed) = (max, false);
    for (name, value) in values {
        let redacted = match value {
            Value::Json(json) => used.redact_json(json, left)?.map(Value::Json),
            Value::Bytes(bytes) => used.redact_bytes(bytes, left)?.map(|bytes| Value::Bytes(bytes.into())),
            // A guest returns values, and no references to the store.
            Value::Stored(_) => None,
        };
        if let Some(redacted) = redacted {
            (*value, is_changed) = (redacted, true);
        }
        let size = name.as_str().len().saturating_add(value.size());
        left = match left.checked_sub(size) {
            Some(left) => left,
            None if is_changed => return Err(TooLong),
            // They were too long before: the engine says so.
            None => 0,
        };
    }
    Ok(())
}

fn too_long(limits: &Limits) -> Failure {
    let limit = Size(limits.output);
    let reason = "its values contain secrets of the operator, and with {{secret:NAME}} in their place they are larger than the limit";
    Failure::new(FailureKind::OutputLimit, format!("{reason} `output` of {limit}"))
}

fn redacted_failure(mut failure: Failure, used: &UsedSecrets) -> Failure {
    redact_text(&mut failure.message, used);
    match failure.details.as_ref().map(|details| used.redact_json(details, MAX_DETAILS_BYTES)) {
        None | Some(Ok(None)) => {}
        Some(Ok(Some(redacted))) => failure.details = Some(redacted),
        Some(Err(error @ TooLong)) => {
            failure.message = without_details(&failure.message, &error.to_string());
            failure.details = None;
        }
    }
    failure.bounded()
}

fn redact_exchanges(exchanges: &mut HttpExchanges, used: &UsedSecrets) {
    for HttpExchange { request, answer, took: _ } in &mut exchanges.exchanges {
        let RecordedRequest { method, url, headers, body } = request;
        redact_text(method, used);
        redact_text(url, used);
        redact_message(headers, body, used);
        match answer {
            RecordedAnswer::Response { status: _, headers, body } => redact_message(headers, body, used),
            RecordedAnswer::DeniedAtOnce(reason) => redact_text(reason, used),
            RecordedAnswer::Failed(failure) => redact_http_failure(failure, used),
            RecordedAnswer::None => {}
        }
    }
}

fn redact_http_failure(failure: &mut RecordedHttpFailure, used: &UsedSecrets) {
    match failure {
        RecordedHttpFailure::Denied(text)
        | RecordedHttpFailure::Secret { name: _, reason: text }
        | RecordedHttpFailure::Connect(text)
        | RecordedHttpFailure::Tls(text)
        | RecordedHttpFailure::Protocol(text) => redact_text(text, used),
        RecordedHttpFailure::NoAddress { host, reason } => {
            redact_text(host, used);
            redact_text(reason, used);
        }
        RecordedHttpFailure::Timeout(_) | RecordedHttpFailure::TooLarge(_) | RecordedHttpFailure::TooMany(_) => {}
    }
}

/// A header whose name contains a value goes: no name may contain what replaces the value.
fn redact_message(headers: &mut Vec<(String, Vec<u8>)>, body: &mut Vec<u8>, used: &UsedSecrets) {
    headers.retain(|(name, _)| !used.is_in_name(name));
    for bytes in headers.iter_mut().map(|(_, value)| value).chain([body]) {
        if let Some(redacted) = used.redact_printed(bytes) {
            *bytes = redacted;
        }
    }
}

fn redact_text(text: &mut String, used: &UsedSecrets) {
    if let Some(redacted) = used.redact_text(text) {
        *text = redacted;
    }
}

#[cfg(test)]
mod tests;
