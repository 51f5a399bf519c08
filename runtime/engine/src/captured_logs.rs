//! The log lines that a test causes.

use std::{
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    dispatcher::{self, DefaultGuard},
    field::{Field, Visit},
    span,
};

/// Captures the log lines of this thread, from level info on, while it lives.
pub(crate) struct CapturedLogs {
    lines: Lines,
    /// With a single subscriber in the process, tracing asks the thread that reaches a log statement first whether the
    /// statement is enabled, which may be the thread of another test. With two, it asks both.
    _second: Dispatch,
    _guard: DefaultGuard,
}

/// Lines such as `WARN message=a text run=r`.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl CapturedLogs {
    pub(crate) fn start() -> Self {
        let lines = Lines::default();
        let second = Dispatch::new(lines.clone());
        let guard = dispatcher::set_default(&Dispatch::new(lines.clone()));
        Self { lines, _second: second, _guard: guard }
    }

    /// The lines since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The only line since the last call.
    pub(crate) fn take_one(&self) -> String {
        let lines = self.take();
        let [line] = &lines[..] else { panic!("{} lines: {lines:#?}", lines.len()) };
        line.clone()
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
