//! The log on standard error: lines for people, or JSON for programs.

use std::{env, fmt};

use anyhow::anyhow;
use clap::ValueEnum;
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormattedFields,
        format::{JsonFields, Writer},
    },
    registry::LookupSpan,
};

use crate::{
    arguments::Arguments,
    colour,
    exit::CliError,
    output::{self, Stream},
};

/// The variable with the format, which the flag overrides.
const FORMAT_VARIABLE: &str = "WAFT_LOG_FORMAT";

/// The crates whose log lines are shown. Other libraries are shown from a warning on, and lapin never: it logs whole
/// messages.
const LOG_TARGETS: [&str; 8] = ["waft", "server", "engine", "worker", "sandbox", "logbook", "store", "broker"];

/// The format of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// Logs from now on.
///
/// # Errors
/// A variable with an unknown format.
pub(crate) fn start(arguments: &Arguments) -> Result<(), CliError> {
    let format = format(arguments.shared.log_format, env::var(FORMAT_VARIABLE).ok())?;
    let level = match arguments.shared.verbose {
        0 if arguments.command.is_service() => "info",
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let ours: String = LOG_TARGETS.iter().map(|target| format!("{target}={level},")).collect();
    // The summary shows how a run ended; a service prints none.
    let has_summary = arguments.shared.verbose == 0 && !arguments.command.is_service();
    let ending = if has_summary { "off" } else { "info" };
    let default = format!("warn,{ours}lapin=off,waft::run={ending}");
    let filter = match arguments.command.owns_terminal() && Stream::Err.is_terminal() {
        true => EnvFilter::new("off"),
        false => EnvFilter::try_from_env("WAFT_LOG").unwrap_or_else(|_| EnvFilter::new(default)),
    };
    // A log line that cannot be written is lost: reporting it on the same stream would be no use.
    let logs = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_target(false);
    match format {
        LogFormat::Text => logs.with_writer(|| output::Log).with_ansi(colour::on(Stream::Err)).compact().init(),
        LogFormat::Json => {
            let logs = logs.with_writer(|| output::JsonLog).with_ansi(false);
            logs.fmt_fields(JsonFields::new()).event_format(JsonLines).init();
        }
    }
    Ok(())
}

fn format(flag: Option<LogFormat>, variable: Option<String>) -> Result<LogFormat, CliError> {
    match (flag, variable.filter(|text| !text.is_empty())) {
        (Some(format), _) => Ok(format),
        (None, None) => Ok(LogFormat::Text),
        (None, Some(text)) => LogFormat::from_str(&text, true).map_err(|_| {
            CliError::invalid(anyhow!("{FORMAT_VARIABLE} is {text:?}, which is no format of the log"))
                .hint("set it to text or json, or unset it")
        }),
    }
}

/// Writes each event as one JSON object. The fields of its spans are beside its own, such as the `run`, `task` and `attempt` of a call.
/// A line with a `run` has its `trace_id`, if the process traces.
struct JsonLines;

impl<S: Subscriber + for<'lookup> LookupSpan<'lookup>> FormatEvent<S, JsonFields> for JsonLines {
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<JsonFields>>();
            // They are empty for a span without fields.
            if let Some(Ok(Value::Object(fields))) = fields.map(|fields| serde_json::from_str(&fields.fields)) {
                line.extend(fields);
            }
        }
        event.record(&mut Fields(&mut line));
        if !line.contains_key("trace_id")
            && let (Some(traces), Some(Value::String(run))) = (traces::global(), line.get("run"))
        {
            let trace = traces.known_trace_of(run).to_string();
            line.insert("trace_id".into(), trace.into());
        }
        let metadata = event.metadata();
        // Fields of this name would be about something else.
        line.insert("timestamp".into(), jiff::Timestamp::now().to_string().into());
        line.insert("level".into(), metadata.level().as_str().into());
        line.insert("target".into(), metadata.target().into());
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// Adds the fields of an event.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing::{info_span, subscriber::with_default, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_the_fields_of_its_spans_and_hostile_text_starts_no_other() {
        let written = Written::default();
        let writer = written.clone();
        let logs = tracing_subscriber::fmt().with_writer(move || writer.clone());
        let logs = logs.with_ansi(false).fmt_fields(JsonFields::new()).event_format(JsonLines).finish();
        with_default(logs, || {
            let span = info_span!("call", run = %"r1", task = %"t", attempt = %2, trace_id = Some("4bf9"));
            let _entered = span.enter();
            warn!(error = "no\n{\"level\":\"forged\"}", count = 3, failed = true, "the \"call\" failed");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["message"], "the \"call\" failed");
        assert_eq!((&line["run"], &line["task"], &line["attempt"]), (&"r1".into(), &"t".into(), &"2".into()));
        assert_eq!((&line["trace_id"], &line["count"], &line["failed"]), (&"4bf9".into(), &3.into(), &true.into()));
        assert_eq!(line["error"], "no\n{\"level\":\"forged\"}");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn the_flag_overrides_the_variable_and_an_unknown_format_is_refused() {
        assert_eq!(format(None, None).ok(), Some(LogFormat::Text));
        assert_eq!(format(None, Some("JSON".into())).ok(), Some(LogFormat::Json));
        assert_eq!(format(Some(LogFormat::Text), Some("json".into())).ok(), Some(LogFormat::Text));
        assert!(
            format(None, Some("xml".into())).is_err_and(|error| error.error.to_string().contains("WAFT_LOG_FORMAT"))
        );
    }
}
