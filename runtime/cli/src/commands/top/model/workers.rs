//! The workers that answer, and the engines.

use std::time::Duration;

use api::{Engines, Worker, WorkerState, Workers};

use super::{
    connection::Failure,
    dialog::Confirmation,
    lists::Cursor,
    loaded::{Loaded, MIN_PAUSE},
};
use crate::commands::top::requests::{About, Question};

/// How often workers and engines are asked while they are shown.
const EVERY: Duration = Duration::from_secs(5);

/// The workers and the engines.
#[derive(Debug)]
pub(crate) struct WorkersScreen {
    pub(crate) workers: Loaded<Vec<Worker>>,
    pub(crate) engines: Loaded<Engines>,
    pub(crate) cursor: Cursor,
}

impl Default for WorkersScreen {
    fn default() -> Self {
        let (workers, engines) = (Loaded::new(MIN_PAUSE, EVERY), Loaded::new(MIN_PAUSE, EVERY));
        Self { workers, engines, cursor: Cursor::default() }
    }
}

impl WorkersScreen {
    pub(crate) fn list(&self) -> &[Worker] {
        self.workers.value.as_deref().unwrap_or_default()
    }

    pub(crate) fn selected(&self) -> Option<&Worker> {
        self.list().get(self.cursor.selected)
    }

    pub(crate) fn questions(&mut self, now: Duration) -> Vec<Question> {
        let workers = self.workers.ask(now).map(|serial| Question { serial, about: About::Workers });
        let engines = self.engines.ask(now).map(|serial| Question { serial, about: About::Engines });
        workers.into_iter().chain(engines).collect()
    }

    /// Takes the workers. The selected one stays selected.
    pub(crate) fn take(&mut self, serial: u64, answer: Result<Workers, Failure>, visible: usize) {
        let selected = self.selected().map(|worker| worker.name.clone());
        if self.workers.answer(serial, answer.map(|Workers { workers }| workers)) {
            let found = selected.and_then(|name| self.list().iter().position(|worker| worker.name == name));
            let count = self.list().len();
            self.cursor.select(found.unwrap_or(self.cursor.selected), count, visible);
        }
    }

    pub(crate) fn reload(&mut self) {
        self.workers.restart();
        self.engines.restart();
    }

    /// Drains the selected worker.
    ///
    /// # Errors
    /// There is none, or it takes no jobs already.
    pub(crate) fn drain(&self) -> Result<Confirmation, String> {
        let worker = self.selected().ok_or("no worker is selected")?;
        match &worker.state {
            Some(state @ (WorkerState::Draining | WorkerState::Exiting)) => {
                Err(format!("{} is {state} already", worker.name))
            }
            // The server decides about an earlier version, and about a state that only a newer one knows.
            Some(_) | None => Ok(Confirmation::of_drain(&worker.name, worker.busy)),
        }
    }

    /// Lets the selected worker take jobs again.
    ///
    /// # Errors
    /// There is none, or it takes jobs already.
    pub(crate) fn activate(&self) -> Result<Confirmation, String> {
        let worker = self.selected().ok_or("no worker is selected")?;
        if worker.state == Some(WorkerState::Active) {
            return Err(format!("{} takes jobs already", worker.name));
        }
        Ok(Confirmation::of_activate(&worker.name))
    }
}
