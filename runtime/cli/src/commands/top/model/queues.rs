//! The queues of jobs, and the tasks whose calls need permits.

use std::time::Duration;

use api::{JobQueue, JobQueues, Permits, PermitsQuery, QueuesQuery, TaskPermits};

use super::{
    connection::Failure,
    lists::{Cursor, Pages},
    loaded::{Loaded, MIN_PAUSE},
    size::Size,
};
use crate::commands::top::{
    keys::Movement,
    requests::{About, Question},
};

/// How often queues and permits are asked for while they are shown.
const EVERY: Duration = Duration::from_secs(5);

/// The number of queues on a page, and of tasks with permits.
const PAGE_QUEUES: usize = 100;
const PAGE_PERMITS: usize = 50;

/// The list that keys move in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Focus {
    Queues,
    Permits,
}

/// The queues and the permits.
#[derive(Debug)]
pub(crate) struct QueuesScreen {
    pub(crate) focus: Focus,
    pub(crate) queues: Loaded<Vec<JobQueue>>,
    pub(crate) queue_pages: Pages<String>,
    pub(crate) queue: Cursor,
    pub(crate) permits: Loaded<Permits>,
    pub(crate) permit_pages: Pages<String>,
    pub(crate) permit: Cursor,
    /// Only queues and permits in this namespace.
    namespace: Option<String>,
}

impl QueuesScreen {
    pub(crate) fn new(namespace: Option<String>) -> Self {
        Self {
            focus: Focus::Queues,
            queues: Loaded::new(MIN_PAUSE, EVERY),
            queue_pages: Pages::default(),
            queue: Cursor::default(),
            permits: Loaded::new(MIN_PAUSE, EVERY),
            permit_pages: Pages::default(),
            permit: Cursor::default(),
            namespace,
        }
    }

    pub(crate) fn queue_list(&self) -> &[JobQueue] {
        self.queues.value.as_deref().unwrap_or_default()
    }

    pub(crate) fn permit_list(&self) -> &[TaskPermits] {
        self.permits.value.as_ref().map(|permits| &permits.tasks[..]).unwrap_or_default()
    }

    pub(crate) fn questions(&mut self, now: Duration) -> Vec<Question> {
        let namespace = self.namespace.clone();
        let after = self.queue_pages.position();
        let queues = QueuesQuery { queue: None, namespace: namespace.clone(), limit: Some(PAGE_QUEUES), after };
        let after = self.permit_pages.position();
        let permits = PermitsQuery { flow: None, namespace, limit: Some(PAGE_PERMITS), after };
        let queues = self.queues.ask(now).map(|serial| Question { serial, about: About::Queues(queues) });
        let permits = self.permits.ask(now).map(|serial| Question { serial, about: About::Permits(permits) });
        queues.into_iter().chain(permits).collect()
    }

    pub(crate) fn take_queues(&mut self, serial: u64, answer: Result<JobQueues, Failure>, size: Size) {
        let (queues, next) = match answer {
            Ok(JobQueues { queues, next }) => (Ok(queues), next),
            Err(failure) => (Err(failure), None),
        };
        if self.queues.answer(serial, queues) {
            self.queue_pages.next = next;
            let count = self.queue_list().len();
            self.queue.select(self.queue.selected, count, size.queues());
        }
    }

    pub(crate) fn take_permits(&mut self, serial: u64, answer: Result<Permits, Failure>, size: Size) {
        if self.permits.answer(serial, answer) {
            self.permit_pages.next = self.permits.value.as_ref().and_then(|permits| permits.next.clone());
            let count = self.permit_list().len();
            self.permit.select(self.permit.selected, count, size.permits());
        }
    }

    pub(crate) fn go(&mut self, movement: Movement, size: Size) {
        match self.focus {
            Focus::Queues => {
                let count = self.queue_list().len();
                self.queue.go(movement, count, size.queues());
            }
            Focus::Permits => {
                let count = self.permit_list().len();
                self.permit.go(movement, count, size.permits());
            }
        }
    }

    /// Moves in the other list from now on.
    pub(crate) fn turn_focus(&mut self) {
        self.focus = match self.focus {
            Focus::Queues => Focus::Permits,
            Focus::Permits => Focus::Queues,
        };
    }

    pub(crate) fn turn_page(&mut self, forward: bool) {
        let pages = match self.focus {
            Focus::Queues => &mut self.queue_pages,
            Focus::Permits => &mut self.permit_pages,
        };
        let has_moved = if forward { pages.forward() } else { pages.back() };
        match self.focus {
            Focus::Queues if has_moved => {
                self.queues.restart();
                (self.queues.value, self.queue) = (None, Cursor::default());
            }
            Focus::Permits if has_moved => {
                self.permits.restart();
                (self.permits.value, self.permit) = (None, Cursor::default());
            }
            Focus::Queues | Focus::Permits => {}
        }
    }

    pub(crate) fn reload(&mut self) {
        self.queues.restart();
        self.permits.restart();
    }
}
