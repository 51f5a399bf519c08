//! The traces of this process, and the queue of the spans that its collector has not received.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use flow::{Labels, RunId};
use metrics::SpanOutcome;
use tokio::{sync::mpsc, task::futures::TaskLocalFuture};

use crate::{ActiveSpan, Kind, PARENT_LABEL, Sampler, Span, SpanContext, SpanId, TraceId, span::now};

/// The maximum number of spans that wait for the collector; further ones are dropped. Each has some hundred bytes, and a few kilobytes at
/// most.
pub const QUEUE_SPANS: usize = 4_096;

/// What is replaced by the id of a trace in the address of its page.
const TRACE_ID: &str = "{trace_id}";

/// What is replaced by the id of the span that the page is to show first.
const SPAN_ID: &str = "{span_id}";

/// The maximum length of the address of a page with its ids, in bytes: an answer of the API may have thousands of them.
const MAX_LINK_BYTES: usize = 512;

/// The address of the page of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTemplate(String);

impl LinkTemplate {
    /// Reads an address that has `{trace_id}` in it, and may have `{span_id}`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        if !text.contains(TRACE_ID) {
            return Err("it has no {trace_id}, which stands for the id of the trace");
        }
        // The dashboard makes a link of it.
        if !text.starts_with("https://") && !text.starts_with("http://") {
            return Err("it begins with neither https:// nor http://");
        }
        if text.chars().any(|character| character.is_control() || character.is_whitespace()) {
            return Err("it has a space or a control character");
        }
        let link = Self(text.to_owned());
        // Each id has the same length.
        if link.of(TraceId::of_run(""), SpanId::of_process("", 0)).len() > MAX_LINK_BYTES {
            return Err("it has more than 512 bytes once the ids are in it");
        }
        Ok(link)
    }

    fn of(&self, trace: TraceId, span: SpanId) -> String {
        self.0.replace(TRACE_ID, &trace.to_string()).replace(SPAN_ID, &span.to_string())
    }
}

/// How a process traces.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// Whether a run continues the trace of its submitter.
    pub accepts_parents: bool,
    /// The address of the page of a trace.
    pub link: Option<LinkTemplate>,
    /// A text that no other process has: the ids of spans follow from it.
    pub instance: String,
}

/// The traces of this process.
#[derive(Debug)]
pub struct Traces {
    config: Config,
    /// The number of spans that were begun here: each gets another id.
    begun: AtomicU64,
    queue: mpsc::Sender<Span>,
    /// The runs in memory that continue a trace of their submitter, for the lines of the log: how often each is in memory, and the trace.
    continued: Mutex<HashMap<RunId, (usize, TraceId)>>,
}

/// The spans that wait for the collector.
#[derive(Debug)]
pub struct SpanQueue(mpsc::Receiver<Span>);

impl SpanQueue {
    /// Moves waiting spans into `batch`, until it has `maximum` of them; waits until there is one. Returns their number: 0 means that no
    /// more will come. Cancel-safe.
    pub async fn next(&mut self, batch: &mut Vec<Span>, maximum: usize) -> usize {
        self.0.recv_many(batch, maximum.saturating_sub(batch.len())).await
    }

    /// Takes no more spans, so that [`SpanQueue::next`] ends once it has returned those that wait.
    pub fn close(&mut self) {
        self.0.close();
    }
}

static GLOBAL: OnceLock<Traces> = OnceLock::new();

tokio::task_local! {
    /// The span that the current task works for.
    static CURRENT: SpanContext;
}

/// Lets this process trace from now on. `None` if it does already.
#[must_use]
pub fn install(config: Config) -> Option<SpanQueue> {
    let (queue, spans) = mpsc::channel(QUEUE_SPANS);
    GLOBAL.set(Traces::new(config, queue)).ok().map(|()| SpanQueue(spans))
}

/// The traces of this process; `None` if nothing is traced.
#[must_use]
pub fn global() -> Option<&'static Traces> {
    GLOBAL.get()
}

/// The span that the current task works for.
#[must_use]
pub fn current() -> Option<SpanContext> {
    // A task has one only while something is traced, and the check costs less than a look at the task.
    global()?;
    CURRENT.try_with(|context| *context).ok()
}

/// Lets a future work for a span. Tasks that it spawns do not.
pub fn within<Work: Future>(context: SpanContext, work: Work) -> TaskLocalFuture<SpanContext, Work> {
    CURRENT.scope(context, work)
}

/// Begins a span below that of the current task.
pub fn child(kind: Kind, name: &str) -> ActiveSpan {
    match current() {
        Some(parent) => child_of(Some(parent), kind, || name.to_owned()),
        None => ActiveSpan::default(),
    }
}

/// Begins a span below another one. It is nothing if there is none, or if that is not recorded.
pub fn child_of(parent: Option<SpanContext>, kind: Kind, name: impl FnOnce() -> String) -> ActiveSpan {
    match (global(), parent.filter(|parent| parent.sampled)) {
        (Some(traces), Some(parent)) => traces.begin(parent, kind, &name()),
        (_, _) => ActiveSpan::default(),
    }
}

impl Traces {
    pub(crate) fn new(config: Config, queue: mpsc::Sender<Span>) -> Self {
        Self { config, begun: AtomicU64::new(0), queue, continued: Mutex::default() }
    }

    fn begin(&'static self, parent: SpanContext, kind: Kind, name: &str) -> ActiveSpan {
        let context = SpanContext { span: self.next_span_id(), ..parent };
        ActiveSpan::new(self, Span { parent: Some(parent), ..Span::at(context, kind, name, now()) })
    }

    /// The id of another span of this process.
    pub(crate) fn next_span_id(&self) -> SpanId {
        SpanId::of_process(&self.config.instance, self.begun.fetch_add(1, Relaxed))
    }

    /// Queues a finished span, or drops it.
    pub(crate) fn send(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            metrics::global().count_spans(SpanOutcome::Dropped, 1);
        }
    }

    pub(crate) fn samples(&self, trace: TraceId, parent: Option<SpanContext>) -> bool {
        self.config.sampler.samples(trace, parent)
    }

    /// Whether a run continues the trace of its submitter.
    #[must_use]
    pub fn accepts_parents(&self) -> bool {
        self.config.accepts_parents
    }

    /// The span of the submitter of a run with these labels; `None` if it has named none, or if the operator does not accept it.
    pub(crate) fn parent_of(&self, labels: &Labels) -> Option<SpanContext> {
        if !self.config.accepts_parents {
            return None;
        }
        labels.get(PARENT_LABEL)?.as_str().parse().ok()
    }

    /// The trace of a run with these labels.
    pub(crate) fn trace_of(&self, run: &RunId, labels: &Labels) -> TraceId {
        self.parent_of(labels).map_or_else(|| TraceId::of_run(run.as_str()), |parent| parent.trace)
    }

    /// The trace of a run, as far as this process knows it, for the lines of the log: it knows the labels of runs in memory.
    #[must_use]
    pub fn known_trace_of(&self, run: &str) -> TraceId {
        let continued = RunId::new(run).ok().and_then(|run| Some(self.continued().get(&run)?.1));
        continued.unwrap_or_else(|| TraceId::of_run(run))
    }

    /// The address of the page that shows a span in its trace, if the operator has said where there is one, and if the trace is recorded.
    pub(crate) fn link(&self, SpanContext { trace, span, sampled }: SpanContext) -> Option<String> {
        self.config.link.as_ref().filter(|_| sampled).map(|link| link.of(trace, span))
    }

    /// The maximum length of the address of a page, in bytes; 0 if no page is named.
    #[must_use]
    pub fn link_bytes(&self) -> usize {
        self.config.link.as_ref().map_or(0, |_| MAX_LINK_BYTES)
    }

    /// A run is in memory that continues a trace.
    pub(crate) fn add_continued(&self, run: &RunId, trace: TraceId) {
        self.continued().entry(run.clone()).or_insert((0, trace)).0 += 1;
    }

    /// The run is no longer in memory.
    pub(crate) fn remove_continued(&self, run: &RunId) {
        let mut continued = self.continued();
        if let Some((count, _)) = continued.get_mut(run) {
            *count -= 1;
            if *count == 0 {
                continued.remove(run);
            }
        }
    }

    fn continued(&self) -> MutexGuard<'_, HashMap<RunId, (usize, TraceId)>> {
        // Each change leaves a consistent map.
        self.continued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(accepts_parents: bool, capacity: usize) -> (Traces, SpanQueue) {
        let (queue, spans) = mpsc::channel(capacity);
        let link = LinkTemplate::new("https://traces.example.com/trace/{trace_id}").ok();
        let config = Config { sampler: Sampler::default(), accepts_parents, link, instance: "i".into() };
        (Traces::new(config, queue), SpanQueue(spans))
    }

    #[tokio::test]
    async fn a_full_queue_drops_spans_and_counts_them() {
        let (traces, mut queue) = traces(true, 2);
        let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        let dropped = || {
            let lines = metrics::global().render();
            let line = lines.lines().find(|line| line.starts_with("waft_spans_total{outcome=\"dropped\"}")).unwrap();
            line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()
        };
        let before = dropped();
        for at in 0..5 {
            traces.send(Span::at(context, Kind::Internal, "s", at));
        }
        assert!(dropped() >= before + 3);
        let mut batch = Vec::new();
        assert_eq!(queue.next(&mut batch, 512).await, 2);
        queue.close();
        traces.send(Span::at(context, Kind::Internal, "s", 5));
        assert_eq!(queue.next(&mut batch, 512).await, 0);
        assert_eq!(batch.iter().map(|span| span.start).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_run_continues_the_trace_that_its_labels_name_if_the_operator_accepts_that() {
        let run: RunId = "r".parse().unwrap();
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let named = Labels::of([(PARENT_LABEL, traceparent)]).unwrap();
        let trace = |accepts, labels: &Labels| traces(accepts, 1).0.trace_of(&run, labels);
        assert_eq!(trace(true, &named).to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let own = TraceId::of_run("r");
        assert_eq!(trace(false, &named), own);
        assert_eq!(trace(true, &Labels::default()), own);
        assert_eq!(trace(true, &Labels::of([(PARENT_LABEL, "hostile")]).unwrap()), own);
    }

    #[test]
    fn the_log_knows_the_traces_of_runs_in_memory() {
        let (traces, _queue) = traces(true, 1);
        let run: RunId = "r".parse().unwrap();
        let trace = TraceId::of_run("of a submitter");
        traces.add_continued(&run, trace);
        traces.add_continued(&run, trace);
        traces.remove_continued(&run);
        assert_eq!(traces.known_trace_of("r"), trace);
        traces.remove_continued(&run);
        assert_eq!(traces.known_trace_of("r"), TraceId::of_run("r"));
        assert!(traces.continued().is_empty());
    }

    #[test]
    fn a_link_names_the_trace() {
        let (traces, _queue) = traces(true, 1);
        let context: SpanContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        let SpanContext { trace, span, .. } = context;
        assert_eq!(traces.link(context), Some(format!("https://traces.example.com/trace/{trace}")));
        assert_eq!(traces.link(SpanContext { sampled: false, ..context }), None);
        let with_span = LinkTemplate::new("http://jaeger.test/trace/{trace_id}?uiFind={span_id}").unwrap();
        assert_eq!(with_span.of(trace, span), format!("http://jaeger.test/trace/{trace}?uiFind={span}"));
        let long = format!("https://a.test/{}", TRACE_ID.repeat(16));
        for refused in ["https://traces.example.com", "javascript:alert({trace_id})", "https://a b/{trace_id}", &long] {
            assert!(LinkTemplate::new(refused).is_err(), "{refused}");
        }
    }
}
