//! One run: its graph, its timeline, its events, and what its guests write.

use std::{collections::BTreeSet, time::Duration};

use api::{BulkAction, Elements, ElementsQuery, NodeState, Run, RunGraph, Timeline, TimelineAttempt};

use super::{
    connection::Failure,
    dialog::Confirmation,
    lists::{Cursor, Pages, Tail},
    loaded::{Loaded, MIN_PAUSE},
    size::Size,
    timeline_pages::{self, PageEnd},
    tree::{self, RowKind, TreeRow},
};
use crate::commands::top::{
    feeds::{ChangeRow, Feed},
    keys::Movement,
    requests::{About, Question},
};

/// The time after which the run is read again without an event: where its calls are changes without one.
const EVERY: Duration = Duration::from_secs(5);

/// The number of elements on a page of a list.
const PAGE_ELEMENTS: usize = 100;

/// The number of events and of lines that are kept.
const MAX_CHANGES: usize = 1_000;
const MAX_LINES: usize = 2_000;

/// A view of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pane {
    Graph,
    Timeline,
    Events,
    Logs,
}

impl Pane {
    pub(crate) const ALL: [Self; 4] = [Self::Graph, Self::Timeline, Self::Events, Self::Logs];

    /// The view after or before it.
    pub(crate) fn turn(self, forward: bool) -> Self {
        let place = Self::ALL.iter().position(|pane| *pane == self).unwrap_or_default();
        let step = if forward { 1 } else { Self::ALL.len() - 1 };
        Self::ALL[(place + step) % Self::ALL.len()]
    }
}

/// The elements of a list that is open in the tree.
#[derive(Debug)]
pub(crate) struct OpenList {
    pub(crate) task: String,
    pub(crate) pages: Pages<u32>,
    pub(crate) elements: Loaded<Elements>,
}

/// One run.
#[derive(Debug)]
pub(crate) struct RunScreen {
    pub(crate) id: String,
    pub(crate) pane: Pane,
    pub(crate) run: Loaded<Box<Run>>,
    pub(crate) graph: Loaded<Box<RunGraph>>,
    pub(crate) timeline: Loaded<Timeline>,
    pub(crate) timeline_pages: Pages<PageEnd>,
    pub(crate) open_list: Option<OpenList>,
    collapsed: BTreeSet<String>,
    /// The rows of the tree.
    pub(crate) rows: Vec<TreeRow>,
    pub(crate) cursor: Cursor,
    /// The selected attempt of the timeline.
    pub(crate) attempt: Cursor,
    pub(crate) changes: Tail<ChangeRow>,
    pub(crate) lines: Tail<String>,
    /// The task whose lines are shown; all of them without one.
    pub(crate) task: Option<String>,
}

impl RunScreen {
    pub(crate) fn new(id: String) -> Self {
        Self {
            id,
            pane: Pane::Graph,
            run: Loaded::new(MIN_PAUSE, EVERY),
            graph: Loaded::new(MIN_PAUSE, EVERY),
            timeline: Loaded::new(MIN_PAUSE, EVERY),
            timeline_pages: Pages::default(),
            open_list: None,
            collapsed: BTreeSet::new(),
            rows: Vec::new(),
            cursor: Cursor::default(),
            attempt: Cursor::default(),
            changes: Tail::new(MAX_CHANGES),
            lines: Tail::new(MAX_LINES),
            task: None,
        }
    }

    /// What to ask now: only what is shown.
    pub(crate) fn questions(&mut self, now: Duration) -> Vec<Question> {
        let id = &self.id;
        let question = |serial: u64, about: About| Question { serial, about };
        let mut questions = Vec::new();
        questions.extend(self.run.ask(now).map(|serial| question(serial, About::Run(id.clone()))));
        match self.pane {
            Pane::Graph => {
                questions.extend(self.graph.ask(now).map(|serial| question(serial, About::Graph(id.clone()))));
                if let Some(list) = &mut self.open_list {
                    let query = ElementsQuery { after: list.pages.position(), ..ElementsQuery::default() };
                    let query = query.limit(PAGE_ELEMENTS);
                    let about = |serial| question(serial, About::Elements(id.clone(), list.task.clone(), query));
                    questions.extend(list.elements.ask(now).map(about));
                }
            }
            Pane::Timeline => {
                let query = timeline_pages::query(self.timeline_pages.position());
                let about = |serial| question(serial, About::Timeline(id.clone(), query));
                questions.extend(self.timeline.ask(now).map(about));
            }
            Pane::Events | Pane::Logs => {}
        }
        questions
    }

    /// The streams of events that are shown.
    pub(crate) fn feeds(&self) -> Vec<Feed> {
        let lines = Feed::Lines { run: self.id.clone(), task: self.task.clone() };
        let lines = (self.pane == Pane::Logs).then_some(lines);
        std::iter::once(Feed::Changes { run: self.id.clone() }).chain(lines).collect()
    }

    /// Something may have changed.
    pub(crate) fn expire(&mut self) {
        self.run.expire();
        self.graph.expire();
        self.timeline.expire();
        self.open_list.iter_mut().for_each(|list| list.elements.expire());
    }

    /// Asks again for everything, at once.
    pub(crate) fn reload(&mut self) {
        self.run.restart();
        self.graph.restart();
        self.timeline.restart();
        self.open_list.iter_mut().for_each(|list| list.elements.restart());
    }

    /// Takes the run. Returns whether it goes on.
    pub(crate) fn take_run(&mut self, serial: u64, answer: Result<Box<Run>, Failure>, size: Size) -> bool {
        if !self.run.answer(serial, answer) {
            return false;
        }
        self.rebuild(size);
        self.run.value.as_ref().is_some_and(|run| !run.state.is_final())
    }

    pub(crate) fn take_graph(&mut self, serial: u64, answer: Result<Box<RunGraph>, Failure>, size: Size) {
        if self.graph.answer(serial, answer) {
            self.rebuild(size);
        }
    }

    pub(crate) fn take_elements(&mut self, task: &str, serial: u64, answer: Result<Elements, Failure>, size: Size) {
        let Some(list) = self.open_list.as_mut().filter(|list| list.task == task) else { return };
        if list.elements.answer(serial, answer) {
            list.pages.next = list.elements.value.as_ref().and_then(|elements| elements.next);
            self.rebuild(size);
        }
    }

    pub(crate) fn take_timeline(&mut self, serial: u64, answer: Result<Timeline, Failure>, size: Size) {
        let was_empty = self.timeline.value.is_none();
        if !self.timeline.answer(serial, answer) {
            return;
        }
        let Some(timeline) = &mut self.timeline.value else { return };
        self.timeline_pages.next = timeline_pages::cut(timeline, self.timeline_pages.position().as_ref());
        // The last attempts are those of now.
        let row = if was_empty { usize::MAX } else { self.attempt.selected };
        self.attempt.select(row, timeline.attempts.len(), size.list_with_details());
    }

    /// Makes the rows of the tree anew. The selected one stays selected.
    fn rebuild(&mut self, size: Size) {
        let Some(graph) = &self.graph.value else { return };
        let selected = self.rows.get(self.cursor.selected).map(|row| (row.kind == RowKind::More, row.name.clone()));
        let opened = self.open_list.as_ref().map(|list| (list.task.as_str(), list.elements.value.as_ref()));
        self.rows = tree::rows(graph, self.run.value.as_deref(), &self.collapsed, opened);
        let is_selected = |row: &TreeRow| selected.as_ref() == Some(&(row.kind == RowKind::More, row.name.clone()));
        let found = self.rows.iter().position(is_selected);
        self.cursor.select(found.unwrap_or(self.cursor.selected), self.rows.len(), size.list_with_details());
    }

    /// The selected row of the tree.
    pub(crate) fn selected(&self) -> Option<&TreeRow> {
        self.rows.get(self.cursor.selected)
    }

    /// The selected attempt of the timeline.
    pub(crate) fn selected_attempt(&self) -> Option<&TimelineAttempt> {
        self.timeline.value.as_ref()?.attempts.get(self.attempt.selected)
    }

    pub(crate) fn go(&mut self, movement: Movement, size: Size) {
        match self.pane {
            Pane::Graph => self.cursor.go(movement, self.rows.len(), size.list_with_details()),
            Pane::Timeline => {
                let count = self.timeline.value.as_ref().map_or(0, |timeline| timeline.attempts.len());
                self.attempt.go(movement, count, size.list_with_details());
            }
            Pane::Events => self.changes.go(movement, size.list()),
            Pane::Logs => self.lines.go(movement, size.list()),
        }
    }

    /// Opens what is selected: a flow or a list in the tree, or else the lines of a task.
    pub(crate) fn open(&mut self, size: Size) {
        match self.pane {
            Pane::Graph => {
                let Some(TreeRow { name, kind, .. }) = self.selected().cloned() else { return };
                match kind {
                    RowKind::Flow { is_collapsed: true } => {
                        self.collapsed.remove(&name);
                    }
                    RowKind::Flow { is_collapsed: false } => {
                        self.collapsed.insert(name);
                    }
                    RowKind::List { is_open: true } => self.open_list = None,
                    RowKind::List { is_open: false } => {
                        let (pages, elements) = (Pages::default(), Loaded::new(MIN_PAUSE, EVERY));
                        self.open_list = Some(OpenList { task: name, pages, elements });
                    }
                    RowKind::More => self.turn_page(true),
                    RowKind::Task | RowKind::Element => self.show_lines(Some(name)),
                }
                self.rebuild(size);
            }
            Pane::Timeline => {
                if let Some(attempt) = self.selected_attempt() {
                    let task = attempt.task.clone();
                    self.show_lines(Some(task));
                }
            }
            Pane::Events | Pane::Logs => {}
        }
    }

    /// Shows the lines of a task and its elements, or of all.
    pub(crate) fn show_lines(&mut self, task: Option<String>) {
        (self.pane, self.task) = (Pane::Logs, task);
    }

    /// Shows the earlier or later page of what has pages: attempts, or elements of the open list.
    pub(crate) fn turn_page(&mut self, forward: bool) {
        match self.pane {
            Pane::Graph => {
                let Some(list) = &mut self.open_list else { return };
                let has_moved = if forward { list.pages.forward() } else { list.pages.back() };
                if has_moved {
                    list.elements.restart();
                }
            }
            Pane::Timeline => {
                // The first page has the last attempts, so the key for the page before goes forward here.
                let pages = &mut self.timeline_pages;
                let has_moved = if forward { pages.back() } else { pages.forward() };
                if has_moved {
                    self.timeline.restart();
                    self.timeline.value = None;
                }
            }
            Pane::Events | Pane::Logs => {}
        }
    }

    /// A command to the run.
    ///
    /// # Errors
    /// The run is not known yet, or in no state for it.
    pub(crate) fn command(&self, action: BulkAction) -> Result<Confirmation, String> {
        let run = self.run.value.as_ref().ok_or("the run is not known yet")?;
        Confirmation::of_run(action, &self.id, &run.flow, &run.state)
    }

    /// The selected task, if its rollback has failed.
    ///
    /// # Errors
    /// There is no such task; the reason is for the person.
    pub(crate) fn skippable(&self) -> Result<String, String> {
        let row = self.selected().filter(|_| self.pane == Pane::Graph).ok_or("select a task in the graph first")?;
        match (&row.kind, &row.state) {
            (RowKind::Task | RowKind::List { .. }, Some(NodeState::RollbackFailure)) => Ok(row.name.clone()),
            (_, state) => {
                let state = state.as_ref().map_or("without a state", NodeState::as_str);
                Err(format!("{} is {state}: only a task in rollback-failure can be skipped", row.name))
            }
        }
    }
}
