//! The spans of a run, as its engine makes them: the run, its firings, its attempts, and the appends of its records.
//!
//! Their ids follow from the names of the run and its calls. So a job that is sent again names the same span, and an engine that takes a
//! run over makes the spans that are still missing. A span is made when the record that ends it is durable, once: nothing is made where
//! records are read again.

use std::collections::BTreeMap;

use flow::{CallId, Firing, FlowName, Labels, RunId, RunState, Timestamp};

use crate::{
    Kind, Span, SpanContext, SpanId, TraceId, Traces, global,
    span::{now, of_record},
};

/// The label of a run with the header `traceparent` of its submitter. Labels are in the first record, so every engine knows it.
pub const PARENT_LABEL: &str = "traceparent";

/// How an attempt has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// It succeeded.
    Succeeded,
    /// It took a remembered result.
    Remembered,
    /// It failed, for a reason of this kind.
    Failed(&'static str),
    /// Its worker was lost.
    Lost,
    /// It was withdrawn before a worker started it.
    Withdrawn,
}

/// The trace of a run in the memory of its engine.
#[derive(Debug)]
pub struct RunTrace {
    traces: &'static Traces,
    run: RunId,
    /// The span of the submitter.
    parent: Option<SpanContext>,
    root: SpanContext,
    started_at: Option<Timestamp>,
    /// When each open firing was triggered; `None` for a run that fires once.
    firings: Option<BTreeMap<Firing, Timestamp>>,
}

impl RunTrace {
    /// The trace of a run with these labels; `None` if nothing is traced. A run that may fire more than once has a trace for each firing
    /// beside its own: a trace that grows for months could not be shown.
    #[must_use]
    pub fn of(run: &RunId, labels: &Labels, fires_often: bool) -> Option<Box<Self>> {
        global().map(|traces| Self::new(traces, run, labels, fires_often))
    }

    fn new(traces: &'static Traces, run: &RunId, labels: &Labels, fires_often: bool) -> Box<Self> {
        let parent = traces.parent_of(labels);
        let trace = traces.trace_of(run, labels);
        let root = SpanContext { trace, span: SpanId::of_run(run), sampled: traces.samples(trace, parent) };
        if parent.is_some() {
            traces.add_continued(run, trace);
        }
        let firings = fires_often.then(BTreeMap::new);
        Box::new(Self { traces, run: run.clone(), parent, root, started_at: None, firings })
    }

    /// The span of a firing; that of the run if it fires once.
    fn of_firing(&self, firing: Firing) -> SpanContext {
        if self.firings.is_none() {
            return self.root;
        }
        let trace = TraceId::of_firing(&self.run, firing);
        let sampled = self.traces.samples(trace, None);
        SpanContext { trace, span: SpanId::of_firing(&self.run, firing), sampled }
    }

    /// The span of an attempt: its job names it.
    #[must_use]
    pub fn of_attempt(&self, call: &CallId) -> SpanContext {
        SpanContext { span: SpanId::of_attempt(call), ..self.of_firing(call.firing) }
    }

    /// The id of the trace of the run.
    #[must_use]
    pub fn id(&self) -> TraceId {
        self.root.trace
    }

    /// The address of the page of the trace of the run; `None` if no page is named, or if the trace is not recorded.
    #[must_use]
    pub fn link(&self) -> Option<String> {
        self.traces.link(self.root)
    }

    /// The address of the page that shows an attempt, in the same way.
    #[must_use]
    pub fn link_of_attempt(&self, call: &CallId) -> Option<String> {
        self.traces.link(self.of_attempt(call))
    }

    /// The run has started.
    pub fn start(&mut self, at: Timestamp) {
        self.started_at = Some(at);
    }

    /// A firing was triggered.
    pub fn trigger(&mut self, firing: Firing, at: Timestamp) {
        if let Some(firings) = &mut self.firings {
            firings.insert(firing, at);
        }
    }

    /// A firing has ended, here or where its records were read.
    pub fn forget(&mut self, firing: Firing) {
        if let Some(firings) = &mut self.firings {
            firings.remove(&firing);
        }
    }

    /// The run has ended. A run that is retried may end again, and then its span is sent again.
    pub fn end(&self, flow: &FlowName, state: RunState, at: Timestamp) {
        let mut span = self.span(self.root, Kind::Internal, &format!("run {flow}"), (self.started_at, at));
        span.parent = self.parent;
        self.finish(span, flow, state);
    }

    /// A firing of the run has ended.
    pub fn end_firing(&mut self, flow: &FlowName, firing: Firing, state: RunState, at: Timestamp) {
        let triggered_at = self.firings.as_mut().and_then(|firings| firings.remove(&firing));
        let name = format!("firing {flow}");
        let mut span = self.span(self.of_firing(firing), Kind::Internal, &name, (triggered_at, at));
        span.link = Some(self.root);
        span.set("waft.firing", firing.get());
        self.finish(span, flow, state);
    }

    /// An attempt has ended that was with the workers from one time to another.
    pub fn end_attempt(&self, flow: &FlowName, call: &CallId, (since, at): (Timestamp, Timestamp), end: AttemptEnd) {
        let firing = self.of_firing(call.firing);
        let name = format!("{} {}", call.action, call.task.base());
        let mut span = self.span(self.of_attempt(call), Kind::Internal, &name, (Some(since), at));
        span.parent = Some(firing);
        span.set("waft.flow.name", flow.as_str());
        span.set("waft.task.name", call.task.as_str());
        span.set("waft.firing", call.firing.get());
        span.set("waft.attempt", u64::from(call.attempt.get()));
        span.set("waft.action", call.action.as_str());
        match end {
            AttemptEnd::Succeeded => span.set("waft.outcome", "success"),
            AttemptEnd::Remembered => span.set("waft.outcome", "remembered"),
            AttemptEnd::Withdrawn => span.set("waft.outcome", "withdrawn"),
            AttemptEnd::Lost => {
                span.set("waft.outcome", "lost");
                span.fail("lost");
            }
            AttemptEnd::Failed(kind) => {
                span.set("waft.outcome", "failure");
                span.fail(kind);
            }
        }
        self.send(span);
    }

    /// Records of the run were appended; `began_at` is in nanoseconds since 1970, see [`RunTrace::clock`]. Records about no firing of a run
    /// that may fire more than once have no span: there is no end to them.
    pub fn append(&self, firing: Option<Firing>, records: usize, began_at: u64) {
        let parent = match (firing, &self.firings) {
            (Some(firing), Some(_)) => self.of_firing(firing),
            (None, Some(_)) => return,
            (_, None) => self.root,
        };
        let context = SpanContext { span: self.traces.next_span_id(), ..parent };
        let mut span = Span::at(context, Kind::Client, "append records", began_at);
        span.end = now().max(began_at);
        span.parent = Some(parent);
        span.set("waft.run.id", self.run.as_str());
        span.set("db.operation.name", "append");
        span.set("db.operation.batch.size", records);
        self.send(span);
    }

    /// The time for [`RunTrace::append`]; 0 if nothing is traced.
    #[must_use]
    pub fn clock() -> u64 {
        global().map_or(0, |_| now())
    }

    fn span(&self, context: SpanContext, kind: Kind, name: &str, (start, end): (Option<Timestamp>, Timestamp)) -> Span {
        let end = of_record(end);
        // It is not known for what began before a snapshot; and the clock may have been set back.
        let start = start.map_or(end, of_record).min(end);
        let mut span = Span { end, ..Span::at(context, kind, name, start) };
        span.set("waft.run.id", self.run.as_str());
        span
    }

    fn finish(&self, mut span: Span, flow: &FlowName, state: RunState) {
        span.set("waft.flow.name", flow.as_str());
        span.set("waft.run.state", state.as_str());
        match state {
            RunState::Failure | RunState::RolledBack => span.fail(state.as_str()),
            RunState::Pending | RunState::Running | RunState::Success | RunState::Suspending | RunState::Suspended => {}
        }
        self.send(span);
    }

    fn send(&self, span: Span) {
        if span.context.sampled {
            self.traces.send(span);
        }
    }
}

impl Drop for RunTrace {
    fn drop(&mut self) {
        if self.parent.is_some() {
            self.traces.remove_continued(&self.run);
        }
    }
}

#[cfg(test)]
mod tests {
    use flow::{Action, Attempt};
    use tokio::sync::mpsc;

    use super::*;
    use crate::{Config, LinkTemplate, Sampler, Value};

    const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn traces(sampler: Sampler) -> (&'static Traces, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(100);
        let link = LinkTemplate::new("https://t.test/{trace_id}/{span_id}").ok();
        let config = Config { sampler, accepts_parents: true, link, instance: "i".into() };
        (Box::leak(Box::new(Traces::new(config, queue))), spans)
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn call(firing: u64) -> CallId {
        let (firing, attempt) = (Firing::new(firing), Attempt::FIRST);
        CallId { run: "r".parse().unwrap(), task: "t".parse().unwrap(), firing, attempt, action: Action::Apply }
    }

    #[test]
    fn another_engine_makes_the_same_spans() {
        let (run, flow, labels) = ("r".parse().unwrap(), "f".parse().unwrap(), Labels::default());
        let made = |restarts: bool| {
            let (traces, mut spans) = traces(Sampler::default());
            let mut trace = RunTrace::new(traces, &run, &labels, false);
            trace.start(at(1));
            trace.end_attempt(&flow, &call(1), (at(2), at(3)), AttemptEnd::Failed("timeout"));
            if restarts {
                trace = RunTrace::new(traces, &run, &labels, false);
                trace.start(at(1));
            }
            trace.end(&flow, RunState::Failure, at(4));
            [spans.try_recv().unwrap(), spans.try_recv().unwrap()]
        };
        let [attempt, root] = made(false);
        assert_eq!([&attempt, &root], made(true).each_ref());
        assert_eq!(root.context.trace, TraceId::of_run("r"));
        assert_eq!((attempt.parent, root.parent), (Some(root.context), None));
        assert_eq!((root.start, root.end), (1_000_000_000, 4_000_000_000));
        assert_eq!((&*attempt.name, &*root.name), ("apply t", "run f"));
        assert!(attempt.has_failed && root.has_failed);
        assert!(attempt.attributes.contains(&("error.type", Value::from("timeout"))));
    }

    #[test]
    fn a_run_continues_the_trace_of_its_submitter() {
        let (traces, mut spans) = traces(Sampler::default());
        let labels = Labels::of([(PARENT_LABEL, TRACEPARENT)]).unwrap();
        let (run, flow) = ("r".parse().unwrap(), "f".parse().unwrap());
        let trace = RunTrace::new(traces, &run, &labels, false);
        assert!(trace.of_attempt(&call(1)).to_string().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
        assert_eq!(traces.known_trace_of("r").to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        trace.end(&flow, RunState::Success, at(4));
        assert_eq!(spans.try_recv().unwrap().parent, Some(TRACEPARENT.parse().unwrap()));
        drop(trace);
        assert_eq!(traces.known_trace_of("r"), TraceId::of_run("r"));
    }

    #[test]
    fn each_firing_of_a_run_that_fires_often_has_a_trace_of_its_own() {
        let (traces, mut spans) = traces(Sampler::default());
        let (run, flow) = ("r".parse().unwrap(), "f".parse().unwrap());
        let mut trace = RunTrace::new(traces, &run, &Labels::default(), true);
        for firing in [1, 2] {
            trace.trigger(Firing::new(firing), at(firing));
            trace.append(Some(Firing::new(firing)), 1, 1);
            trace.append(None, 1, 1);
            trace.end_firing(&flow, Firing::new(firing), RunState::Success, at(9));
        }
        let made: Vec<Span> = std::iter::from_fn(|| spans.try_recv().ok()).collect();
        let [append1, firing1, append2, firing2] = &made[..] else { panic!("{made:?}") };
        assert_ne!(firing1.context.trace, firing2.context.trace);
        assert_eq!(append1.parent, Some(firing1.context));
        assert_eq!(append2.parent, Some(firing2.context));
        assert_eq!((firing1.link, firing2.start), (Some(trace.root), 2_000_000_000));
        let SpanContext { trace: id, span, .. } = trace.of_attempt(&call(2));
        assert_eq!(id, firing2.context.trace);
        assert_eq!(trace.link_of_attempt(&call(2)), Some(format!("https://t.test/{id}/{span}")));
        let SpanContext { trace: id, span, .. } = trace.root;
        assert_eq!((trace.id(), trace.link()), (id, Some(format!("https://t.test/{id}/{span}"))));
        assert!(trace.firings.as_ref().unwrap().is_empty());
    }

    #[test]
    fn what_is_not_sampled_is_passed_on_and_not_sent() {
        let (traces, mut spans) = traces(Sampler::AlwaysOff);
        let (run, flow) = ("r".parse().unwrap(), "f".parse().unwrap());
        let trace = RunTrace::new(traces, &run, &Labels::default(), false);
        assert!(trace.of_attempt(&call(1)).to_string().ends_with("-00"));
        assert_eq!((trace.link(), trace.link_of_attempt(&call(1))), (None, None));
        trace.append(None, 3, 1);
        trace.end_attempt(&flow, &call(1), (at(2), at(3)), AttemptEnd::Succeeded);
        trace.end(&flow, RunState::Success, at(4));
        assert!(spans.try_recv().is_err());
    }
}
