//! The list of runs: a page of those that a filter selects.

use std::{collections::BTreeMap, time::Duration};

use api::{BulkAction, EventsQuery, ListQuery, RunCounts, RunFilter, Runs, RunsEvent, Summary};

use super::{
    connection::Failure,
    dialog::{Confirmation, FilterPart},
    lists::{Cursor, Pages},
    loaded::{Loaded, MIN_PAUSE},
};
use crate::commands::top::{
    feeds::Feed,
    requests::{About, Question},
};

/// The number of runs on a page.
pub(crate) const PAGE_RUNS: usize = 200;

/// The time after which the page is read again without an event. So a lost server is noticed.
const EVERY: Duration = Duration::from_secs(10);

/// The minimum time between two counts: the server reads all runs of the filter for it.
const COUNTS_PAUSE: Duration = Duration::from_secs(10);

/// The time after which runs are counted again without an event.
const COUNTS_EVERY: Duration = Duration::from_secs(60);

/// The list of runs.
#[derive(Debug)]
pub(crate) struct RunsScreen {
    pub(crate) filter: RunFilter,
    pub(crate) pages: Pages<String>,
    pub(crate) page: Loaded<Vec<Summary>>,
    pub(crate) counts: Loaded<RunCounts>,
    pub(crate) cursor: Cursor,
}

impl RunsScreen {
    pub(crate) fn new(filter: RunFilter) -> Self {
        Self {
            filter,
            pages: Pages::default(),
            page: Loaded::new(MIN_PAUSE, EVERY),
            counts: Loaded::new(COUNTS_PAUSE, COUNTS_EVERY),
            cursor: Cursor::default(),
        }
    }

    /// The runs on the page.
    pub(crate) fn runs(&self) -> &[Summary] {
        self.page.value.as_deref().unwrap_or_default()
    }

    /// The selected run.
    pub(crate) fn selected(&self) -> Option<&Summary> {
        self.runs().get(self.cursor.selected)
    }

    /// What to ask now.
    pub(crate) fn questions(&mut self, now: Duration) -> Vec<Question> {
        let page = self.page.ask(now).map(|serial| Question { serial, about: About::Runs(self.query()) });
        let counts = self.counts.ask(now);
        let counts = counts.map(|serial| Question { serial, about: About::Counts(self.filter.clone()) });
        page.into_iter().chain(counts).collect()
    }

    fn query(&self) -> ListQuery {
        let RunFilter { flow, namespace, label, text, state, since, until } = self.filter.clone();
        let (limit, after) = (Some(PAGE_RUNS), self.pages.position());
        ListQuery { flow, namespace, label, text, state, since, until, limit, after }
    }

    /// The events that concern the list. They cannot be selected by a text or a time.
    pub(crate) fn feed(&self) -> Feed {
        let RunFilter { flow, namespace, label, .. } = self.filter.clone();
        Feed::Runs(EventsQuery { flow, namespace, label, kind: Some("run".into()), state: None })
    }

    /// Takes a page of runs. The selected run stays selected.
    pub(crate) fn take(&mut self, serial: u64, answer: Result<Runs, Failure>, visible: usize) {
        let selected = self.selected().map(|run| run.run.clone());
        let (runs, next) = match answer {
            Ok(Runs { runs, next }) => (Ok(runs), next),
            Err(failure) => (Err(failure), None),
        };
        if !self.page.answer(serial, runs) {
            return;
        }
        self.pages.next = next;
        let runs = self.runs();
        let found = selected.and_then(|id| runs.iter().position(|run| run.run == id));
        let (row, count) = (found.unwrap_or(self.cursor.selected), runs.len());
        self.cursor.select(row, count, visible);
    }

    /// Takes an event of all runs: a row changes at once, and the list is read again soon.
    pub(crate) fn event(&mut self, event: &RunsEvent) {
        match event {
            RunsEvent::Run(event) => {
                let row = self.page.value.iter_mut().flatten().find(|run| run.run == event.run);
                // New runs are on the first page.
                let is_shown = row.is_some() || self.pages.number() == 1;
                if let Some(row) = row {
                    row.state = event.state.clone();
                    row.changed_at.clone_from(&event.at);
                }
                if is_shown {
                    self.page.expire();
                }
                self.counts.expire();
            }
            RunsEvent::Lost(_) => self.expire(),
            RunsEvent::Node(_) | RunsEvent::Unknown => {}
        }
    }

    /// Something may have changed.
    pub(crate) fn expire(&mut self) {
        self.page.expire();
        self.counts.expire();
    }

    /// Asks again for everything, at once.
    pub(crate) fn reload(&mut self) {
        self.page.restart();
        self.counts.restart();
    }

    /// Shows the next page, if there is one.
    pub(crate) fn forward(&mut self) {
        if self.pages.forward() {
            self.turn();
        }
    }

    /// Shows the page before, if there is one.
    pub(crate) fn back(&mut self) {
        if self.pages.back() {
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.page.restart();
        (self.page.value, self.cursor) = (None, Cursor::default());
    }

    /// The text of a part of the filter.
    pub(crate) fn part(&self, part: FilterPart) -> String {
        match part {
            FilterPart::Flow => self.filter.flow.clone().unwrap_or_default(),
            FilterPart::State => self.filter.state.clone().unwrap_or_default(),
            FilterPart::Label => self.filter.label.join(" "),
            FilterPart::Text => self.filter.text.clone().unwrap_or_default(),
        }
    }

    /// Replaces a part of the filter; an empty text removes it.
    pub(crate) fn set_part(&mut self, part: FilterPart, text: &str) {
        let text = text.trim();
        let given = (!text.is_empty()).then(|| text.to_owned());
        let words = || text.split([' ', ',']).filter(|word| !word.is_empty());
        match part {
            FilterPart::Flow => self.filter.flow = given,
            FilterPart::State => self.filter.state = given.map(|_| words().collect::<Vec<_>>().join(",")),
            // A value may contain a comma.
            FilterPart::Label => self.filter.label = text.split_whitespace().map(str::to_owned).collect(),
            FilterPart::Text => self.filter.text = given,
        }
        self.refilter();
    }

    /// Removes the conditions that keys can set. The namespace and the times come from the command line, and no key brings them back: a
    /// command could be for a run that the person had left out.
    pub(crate) fn clear_filter(&mut self) {
        let RunFilter { namespace, since, until, .. } = std::mem::take(&mut self.filter);
        self.filter = RunFilter { namespace, since, until, ..RunFilter::default() };
        self.refilter();
    }

    fn refilter(&mut self) {
        self.pages.restart();
        self.turn();
        self.counts.restart();
        self.counts.value = None;
    }

    /// A command to the selected run.
    ///
    /// # Errors
    /// There is none, or it is in no state for it.
    pub(crate) fn command(&self, action: BulkAction) -> Result<Confirmation, String> {
        let run = self.selected().ok_or("no run is selected")?;
        Confirmation::of_run(action, &run.run, &run.flow, &run.state)
    }

    /// The number of runs in each state, and of all.
    pub(crate) fn totals(&self) -> Option<(u64, BTreeMap<&str, u64>)> {
        let counts = self.counts.value.as_ref()?;
        let mut states: BTreeMap<&str, u64> = BTreeMap::new();
        for (state, count) in counts.flows.iter().flat_map(|flow| &flow.states) {
            *states.entry(state.as_str()).or_default() += count;
        }
        Some((counts.total, states))
    }
}
