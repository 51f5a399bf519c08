//! Builds flows in Rust: the result is the same [`Draft`] that a flow file parses to.
//!
//! An invalid name or text becomes a diagnostic of the draft, so that building reads as one chain and [`crate::wire`]
//! reports all diagnostics.

mod for_each;
mod triggers;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, marker::PhantomData, num::NonZeroU32, str::FromStr, time::Duration};

pub use self::triggers::ScheduleBuilder;
use crate::{
    Access, Condition, Diagnostic, Draft, FlowName, Join, LimitOverrides, MAX_DELIVERY_LIMIT, Memo, Otherwise, Pace,
    Pattern, QueueName, Rate, RetryPolicy, SkipReach, SourceOutcome, StartTime, Strategy, Value, ValueName, Values,
    draft::{
        DraftController, DraftFlow, DraftForEach, DraftLink, DraftNode, DraftTask, DraftTaskKind, LinkSpans,
        ModuleReference, Renames,
    },
    invalid::InvalidName,
};

/// The level of the whole flow, which has modules and inputs.
#[derive(Debug)]
pub enum RootFlow {}

/// The level of a nested flow.
#[derive(Debug)]
pub enum NestedFlow {}

/// Builds a flow, node by node. See [`Draft::builder`].
#[derive(Debug)]
pub struct Builder<Level = RootFlow> {
    draft: Draft,
    level: PhantomData<Level>,
}

/// Builds one task of a flow.
#[derive(Debug)]
pub struct TaskBuilder {
    owner: String,
    requires: Option<Renames>,
    provides: Option<Renames>,
    with: Values,
    retry: Option<RetryPolicy>,
    limits: LimitOverrides,
    access: Access,
    queue: Option<QueueName>,
    priority: i32,
    pace: Pace,
    expires: Option<Duration>,
    delivery_limit: Option<NonZeroU32>,
    rollback: Option<bool>,
    starts: Option<StartTime>,
    deadline: Option<Duration>,
    for_each: Option<DraftForEach>,
    diagnostics: Vec<Diagnostic>,
}

/// Builds one link of a flow.
#[derive(Debug, Default)]
pub struct LinkBuilder {
    on: SourceOutcome,
    when: Option<Condition>,
    reach: Option<SkipReach>,
    join: Join,
    diagnostics: Vec<Diagnostic>,
}

impl Draft {
    /// Creates the builder of a flow.
    ///
    /// ```
    /// use waft_flow::Draft;
    ///
    /// let draft = Draft::builder("tea")?
    ///     .module("kitchen", "kitchen.wasm")
    ///     .task("boil", "kitchen#boil", |task| task.provides("water", "hot_water"))
    ///     .task("brew", "kitchen#brew", |task| task.requires("water", "hot_water").timeout("5m"))
    ///     .build();
    /// # Ok::<(), waft_flow::invalid::InvalidName>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidName`] when the name of the flow is invalid.
    pub fn builder(name: impl AsRef<str>) -> Result<Builder, InvalidName> {
        let name = Some(FlowName::new(name)?);
        Ok(Builder { draft: Draft { name, ..Draft::default() }, level: PhantomData })
    }

    /// Creates the builder of an addition to a running flow: it has no name of its own, and no settings of the whole flow.
    #[must_use]
    pub fn addition() -> Builder {
        Builder { draft: Draft::default(), level: PhantomData }
    }
}

impl Builder<RootFlow> {
    /// Adds a module: a path, a tag, or `sha256:…`.
    #[must_use]
    pub fn module(mut self, alias: impl Into<String>, reference: impl Into<String>) -> Self {
        self.draft
            .modules
            .insert(alias.into(), ModuleReference { text: reference.into(), ..ModuleReference::default() });
        self
    }

    /// Adds an input value of runs.
    #[must_use]
    pub fn input(mut self, name: impl AsRef<str>, value: impl Into<Value>) -> Self {
        if let Some(name) = parse_name(name.as_ref(), "an input", &mut self.draft.diagnostics) {
            self.draft.inputs.insert(name, value.into());
        }
        self
    }

    /// Finishes the draft, including its diagnostics.
    #[must_use]
    pub fn build(self) -> Draft {
        self.draft
    }
}

impl<Level> Builder<Level> {
    /// Sets the source of the nodes' order.
    #[must_use]
    pub fn pattern(mut self, pattern: Pattern) -> Self {
        self.draft.body.pattern = pattern;
        self
    }

    /// Adds a task. `uses` is `module#task`, or `module` where that has one task.
    #[must_use]
    pub fn task(
        mut self,
        name: impl AsRef<str>,
        uses: impl Into<String>,
        build: impl FnOnce(TaskBuilder) -> TaskBuilder,
    ) -> Self {
        let built = build(TaskBuilder::new(format!("task {:?}", name.as_ref())));
        self.add_task(name.as_ref(), DraftTaskKind::Call(uses.into()), built);
        self
    }

    /// Adds a task that calls no guest, and waits for a notification.
    #[must_use]
    pub fn wait(
        mut self,
        name: impl AsRef<str>,
        waits_for: impl Into<String>,
        build: impl FnOnce(TaskBuilder) -> TaskBuilder,
    ) -> Self {
        let built = build(TaskBuilder::new(format!("task {:?}", name.as_ref())));
        self.add_task(name.as_ref(), DraftTaskKind::Wait(waits_for.into()), built);
        self
    }

    fn add_task(&mut self, name: &str, kind: DraftTaskKind, built: TaskBuilder) {
        self.draft.diagnostics.extend(built.diagnostics);
        let Some(name) = parse_name(name, "a task", &mut self.draft.diagnostics) else { return };
        let task = DraftTask {
            name,
            kind,
            requires: built.requires,
            provides: built.provides,
            with: built.with,
            retry: built.retry,
            limits: built.limits,
            access: built.access,
            queue: built.queue,
            priority: built.priority,
            pace: built.pace,
            expires: built.expires,
            delivery_limit: built.delivery_limit,
            rollback: built.rollback,
            starts: built.starts,
            deadline: built.deadline,
            for_each: built.for_each,
            retired: false,
            spans: BTreeMap::new(),
        };
        self.draft.body.nodes.push(DraftNode::Task(Box::new(task)));
    }

    /// Adds a nested flow.
    #[must_use]
    pub fn flow(
        mut self,
        name: impl AsRef<str>,
        build: impl FnOnce(Builder<NestedFlow>) -> Builder<NestedFlow>,
    ) -> Self {
        let Draft { body, diagnostics, .. } = build(Builder { draft: Draft::default(), level: PhantomData }).draft;
        self.draft.diagnostics.extend(diagnostics);
        if let Some(name) = parse_name(name.as_ref(), "a flow", &mut self.draft.diagnostics) {
            self.draft.body.nodes.push(DraftNode::Flow(DraftFlow { name, body, span: None }));
        }
        self
    }

    /// Adds a link: `to` comes after `from`, regardless of their values.
    #[must_use]
    pub fn link(self, from: impl AsRef<str>, to: impl AsRef<str>) -> Self {
        self.link_with(from, to, |link| link)
    }

    /// Adds a link with options: the awaited outcome of `from`, or a condition.
    #[must_use]
    pub fn link_with(
        mut self,
        from: impl AsRef<str>,
        to: impl AsRef<str>,
        build: impl FnOnce(LinkBuilder) -> LinkBuilder,
    ) -> Self {
        let LinkBuilder { on, when, reach, join, diagnostics } = build(LinkBuilder::default());
        self.draft.diagnostics.extend(diagnostics);
        let from = parse_name(from.as_ref(), "the source of a link", &mut self.draft.diagnostics);
        let to = parse_name(to.as_ref(), "the target of a link", &mut self.draft.diagnostics);
        if let (Some(from), Some(to)) = (from, to) {
            let spans = LinkSpans::default();
            self.draft.body.links.push(DraftLink { from, to, on, when, reach, join, spans });
        }
        self
    }

    /// Sets the start time or delay of the flow once it could start; for the whole flow, from the start of the run.
    #[must_use]
    pub fn starts(mut self, starts: StartTime) -> Self {
        self.draft.body.starts = Some(starts);
        self
    }

    /// Adds a retry controller that provides nothing.
    #[must_use]
    pub fn retry(mut self, strategy: Strategy, otherwise: Otherwise) -> Self {
        self.draft.body.controller = Some(DraftController { strategy, otherwise, provides: None, span: None });
        self
    }

    /// Adds a retry controller that provides its attempt number, or its value.
    #[must_use]
    pub fn retry_as(mut self, provides: impl AsRef<str>, strategy: Strategy, otherwise: Otherwise) -> Self {
        let provides = parse_name(provides.as_ref(), "what a retry controller provides", &mut self.draft.diagnostics);
        self.draft.body.controller = Some(DraftController { strategy, otherwise, provides, span: None });
        self
    }
}

impl LinkBuilder {
    /// Sets the outcome of the source that the link waits for.
    #[must_use]
    pub fn on(self, on: SourceOutcome) -> Self {
        Self { on, ..self }
    }

    /// Sets a condition in CEL over the source's values and the run's inputs: `false` skips the target.
    #[must_use]
    pub fn when(mut self, condition: impl AsRef<str>) -> Self {
        match Condition::new(condition.as_ref()) {
            Ok(condition) => self.when = Some(condition),
            Err(error) => self.diagnostics.push(Diagnostic::rejected(None, "the condition of a link", &error)),
        }
        self
    }

    /// Sets how far a false condition reaches.
    #[must_use]
    pub fn reach(self, reach: SkipReach) -> Self {
        Self { reach: Some(reach), ..self }
    }

    /// Sets how the link joins the other links into its target.
    #[must_use]
    pub fn join(self, join: Join) -> Self {
        Self { join, ..self }
    }
}

impl TaskBuilder {
    fn new(owner: String) -> Self {
        Self {
            owner,
            requires: None,
            provides: None,
            with: Values::new(),
            retry: None,
            limits: LimitOverrides::default(),
            access: Access::default(),
            queue: None,
            priority: 0,
            pace: Pace::default(),
            expires: None,
            delivery_limit: None,
            rollback: None,
            starts: None,
            deadline: None,
            for_each: None,
            diagnostics: Vec::new(),
        }
    }

    /// Sets the start time or delay once the task could start.
    #[must_use]
    pub fn starts(self, starts: StartTime) -> Self {
        Self { starts: Some(starts), ..self }
    }

    /// Sets how long a waiting task waits before it fails.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// The parameter `own_name` takes the value with the flow's name `flow_name`.
    #[must_use]
    pub fn requires(mut self, own_name: impl AsRef<str>, flow_name: impl AsRef<str>) -> Self {
        let pair = self.pair("requires", own_name.as_ref(), flow_name.as_ref());
        self.requires.get_or_insert_default().extend(pair);
        self
    }

    /// These parameters take the values of the same names.
    #[must_use]
    pub fn requires_same(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.requires.get_or_insert_default();
        names.into_iter().fold(self, |task, name| task.requires(name.as_ref(), name.as_ref()))
    }

    /// Provides the task's value `own_name` under the flow's name `flow_name`. Values that are not named are not provided.
    #[must_use]
    pub fn provides(mut self, own_name: impl AsRef<str>, flow_name: impl AsRef<str>) -> Self {
        let pair = self.pair("provides", own_name.as_ref(), flow_name.as_ref());
        self.provides.get_or_insert_default().extend(pair);
        self
    }

    /// Provides these values under the same names. Values that are not named are not provided.
    #[must_use]
    pub fn provides_same(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.provides.get_or_insert_default();
        names.into_iter().fold(self, |task, name| task.provides(name.as_ref(), name.as_ref()))
    }

    /// Sets a parameter to a constant.
    #[must_use]
    pub fn with(mut self, parameter: impl AsRef<str>, value: impl Into<Value>) -> Self {
        let owner = format!("\"with\" of {}", self.owner);
        if let Some(parameter) = parse_name(parameter.as_ref(), &owner, &mut self.diagnostics) {
            self.with.insert(parameter, value.into());
        }
        self
    }

    /// Sets the retry policy for a failed call.
    #[must_use]
    pub fn retry(self, retry: RetryPolicy) -> Self {
        Self { retry: Some(retry), ..self }
    }

    /// Sets what the task asks for beyond its sandbox; an operator has to grant it, too. This replaces what was set before.
    #[must_use]
    pub fn allow(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// Lets the namespace remember the results. Call it after [`Self::allow`], which replaces it.
    #[must_use]
    pub fn memo(self, memo: Memo) -> Self {
        Self { access: Access { memo: Some(memo), ..self.access }, ..self }
    }

    /// Sets limits that differ from the module's and the defaults; this replaces limits set before.
    #[must_use]
    pub fn limits(self, limits: LimitOverrides) -> Self {
        Self { limits, ..self }
    }

    /// Sets the timeout of a call, as in a flow file: `30s`.
    #[must_use]
    pub fn timeout(mut self, text: impl AsRef<str>) -> Self {
        match crate::parse_duration(text.as_ref()) {
            Ok(timeout) => self.limits.timeout = Some(timeout),
            Err(error) => {
                self.diagnostics.push(Diagnostic::rejected(None, &format!("\"timeout\" of {}", self.owner), &error));
            }
        }
        self
    }

    /// Sets the queue of its jobs.
    #[must_use]
    pub fn queue(mut self, queue: impl AsRef<str>) -> Self {
        let owner = format!("\"queue\" of {}", self.owner);
        self.queue = parse_name(queue.as_ref(), &owner, &mut self.diagnostics).or(self.queue);
        self
    }

    /// Sets the priority; higher runs first.
    #[must_use]
    pub fn priority(self, priority: i32) -> Self {
        Self { priority, ..self }
    }

    /// Sets how long each of its applies may wait for a worker before it fails.
    #[must_use]
    pub fn expires(self, expires: Duration) -> Self {
        Self { expires: Some(expires), ..self }
    }

    /// Sets the number of workers that may be lost with one of its calls before the call fails as poison: at least 1, and at
    /// most [`MAX_DELIVERY_LIMIT`].
    #[must_use]
    pub fn delivery_limit(self, limit: u32) -> Self {
        Self { delivery_limit: NonZeroU32::new(limit.clamp(1, MAX_DELIVERY_LIMIT)), ..self }
    }

    /// Sets the maximum of parallel applies, over all workers, engines and runs of the flow: from 1 to [`Pace::MAX_RUNNING`].
    #[must_use]
    pub fn max_running(mut self, count: u32) -> Self {
        self.pace.max_running = self.count("max_running", count, Pace::MAX_RUNNING).or(self.pace.max_running);
        self
    }

    /// Sets the maximum start rate of its applies, such as `10/s`, over all workers, engines and runs of the flow.
    #[must_use]
    pub fn rate(mut self, text: impl AsRef<str>) -> Self {
        match Rate::parse(text.as_ref()) {
            Ok(rate) => self.pace.rate = Some(rate),
            Err(error) => {
                self.diagnostics.push(Diagnostic::rejected(None, &format!("\"rate\" of {}", self.owner), &error))
            }
        }
        self
    }

    /// Sets whether a guest rolls it back; by default the module decides.
    #[must_use]
    pub fn rollback(self, rollback: bool) -> Self {
        Self { rollback: Some(rollback), ..self }
    }

    /// A number from 1 to `most`; or a diagnostic, if it is another.
    fn count(&mut self, key: &str, count: u32, most: u32) -> Option<NonZeroU32> {
        let valid = NonZeroU32::new(count).filter(|count| count.get() <= most);
        let diagnostic = Diagnostic::error(None, format!("{key:?} of {} is {count}", self.owner));
        let diagnostic = diagnostic.hint(format!("write a whole number from 1 to {most}"));
        self.diagnostics.extend(valid.is_none().then_some(diagnostic));
        valid
    }

    fn pair(&mut self, key: &str, own_name: &str, flow_name: &str) -> Option<(ValueName, ValueName)> {
        let owner = format!("{key:?} of {}", self.owner);
        let parsed_own = parse_name(own_name, &owner, &mut self.diagnostics);
        // A name that stands for both is reported once.
        let parsed_flow = if flow_name == own_name {
            parsed_own.clone()
        } else {
            parse_name(flow_name, &owner, &mut self.diagnostics)
        };
        parsed_own.zip(parsed_flow)
    }
}

/// Parses a name, or reports a diagnostic of the item to be named.
fn parse_name<Name>(text: &str, owner: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Name>
where
    Name: FromStr<Err = InvalidName>,
{
    let parsed = text.parse();
    diagnostics.extend(parsed.as_ref().err().map(|error| Diagnostic::rejected(None, owner, error)));
    parsed.ok()
}
