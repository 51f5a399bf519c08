//! The state of the dashboard: a plain value without a terminal, a network or a clock.
//!
//! [`Model::update`] takes what has happened, and returns what to do: questions to the server, streams to follow, and what concerns the
//! process. The view draws the model, and changes nothing.

mod connection;
mod dialog;
mod following;
mod lists;
mod loaded;
mod queues;
mod run;
mod runs;
mod size;
mod timeline_pages;
mod tree;
mod workers;

#[cfg(test)]
mod tests;

use std::time::Duration;

use api::{BulkAction, RunFilter};
use jiff::Timestamp;

pub(crate) use connection::{Connection, Failure};
pub(crate) use dialog::{Confirmation, Dialog, FilterPart, Line};
pub(crate) use lists::{Cursor, Tail};
pub(crate) use loaded::Loaded;
pub(crate) use queues::{Focus, QueuesScreen};
pub(crate) use run::{Pane, RunScreen};
pub(crate) use runs::RunsScreen;
pub(crate) use size::{DETAILS, ENGINES, Size, WORKER_CALLS};
pub(crate) use tree::{RowKind, TreeRow};
pub(crate) use workers::WorkersScreen;

use self::{dialog::Typed, following::Following};
use super::{
    feeds::{Feed, Item, Received, Slot},
    help,
    keys::{Key, Movement},
    requests::{About, Answer, Answered, Question},
};

/// How long a message stays, unless a key is pressed before.
const MESSAGE_TIME: Duration = Duration::from_secs(15);

/// The time: since the start of the dashboard, for pauses, and of day, to show how long something takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) elapsed: Duration,
    pub(crate) wall: Timestamp,
}

/// What has happened.
#[derive(Debug)]
pub(crate) enum Incoming {
    Key(Key),
    Answered(Box<Answered>),
    Received(Received),
    Resized(Size),
    /// Some time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Effect {
    Ask(Question),
    /// Follows a stream, in place of the one with the same slot.
    Follow {
        feed: Feed,
        serial: u64,
    },
    Unfollow(Slot),
    /// Stops the process, as Ctrl-Z does.
    Stop,
    /// Draws the whole screen anew.
    Redraw,
    Quit,
}

/// What is on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Screen {
    Runs,
    Run,
    Workers,
    Queues,
}

/// A message for the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) text: String,
    pub(crate) is_error: bool,
    at: Duration,
}

/// The state of the dashboard.
#[derive(Debug)]
pub(crate) struct Model {
    /// The address of the server.
    pub(crate) server: String,
    pub(crate) now: Now,
    pub(crate) size: Size,
    pub(crate) screen: Screen,
    pub(crate) runs: RunsScreen,
    /// The run that was opened last.
    pub(crate) run: Option<RunScreen>,
    pub(crate) workers: WorkersScreen,
    pub(crate) queues: QueuesScreen,
    pub(crate) dialog: Option<Dialog>,
    /// The first shown line of the help, while it is shown.
    pub(crate) help: Option<usize>,
    pub(crate) message: Option<Message>,
    pub(crate) connection: Connection,
    following: Following,
}

impl Model {
    /// The dashboard of a server, with the list of runs or one of them.
    pub(crate) fn new(server: String, filter: RunFilter, run: Option<String>, now: Now, size: Size) -> Self {
        Self {
            server,
            now,
            size,
            screen: if run.is_some() { Screen::Run } else { Screen::Runs },
            queues: QueuesScreen::new(filter.namespace.clone()),
            runs: RunsScreen::new(filter),
            run: run.map(RunScreen::new),
            workers: WorkersScreen::default(),
            dialog: None,
            help: None,
            message: None,
            connection: Connection::Connecting,
            following: Following::default(),
        }
    }

    /// Takes what has happened, and returns what to do now.
    pub(crate) fn update(&mut self, now: Now, incoming: Incoming) -> Vec<Effect> {
        self.now = now;
        let mut effects = match incoming {
            Incoming::Key(key) => self.key(&key),
            Incoming::Answered(answered) => {
                self.answered(*answered);
                Vec::new()
            }
            Incoming::Received(received) => {
                self.received(received);
                Vec::new()
            }
            Incoming::Resized(size) => {
                self.size = size;
                vec![Effect::Redraw]
            }
            Incoming::Tick => Vec::new(),
        };
        if self.message.as_ref().is_some_and(|message| now.elapsed.saturating_sub(message.at) > MESSAGE_TIME) {
            self.message = None;
        }
        if self.connection.may_ask(now.elapsed) {
            effects.extend(self.questions().into_iter().map(Effect::Ask));
        }
        effects.extend(self.follow());
        effects
    }

    /// Shows a message.
    pub(crate) fn say(&mut self, text: impl Into<String>, is_error: bool) {
        self.message = Some(Message { text: text.into(), is_error, at: self.now.elapsed });
    }

    /// What to ask for the screen now.
    fn questions(&mut self) -> Vec<Question> {
        let now = self.now.elapsed;
        match (self.screen, &mut self.run) {
            (Screen::Run, Some(run)) => run.questions(now),
            (Screen::Runs | Screen::Run, _) => self.runs.questions(now),
            (Screen::Workers, _) => self.workers.questions(now),
            (Screen::Queues, _) => self.queues.questions(now),
        }
    }

    /// The streams to follow or to leave.
    fn follow(&mut self) -> Vec<Effect> {
        let wanted = match (&self.connection, self.screen, &self.run) {
            (Connection::Denied { .. }, _, _) | (_, Screen::Workers | Screen::Queues, _) => Vec::new(),
            (_, Screen::Run, Some(run)) => run.feeds(),
            (_, Screen::Runs | Screen::Run, _) => vec![self.runs.feed()],
        };
        let may_ask = self.connection.may_ask(self.now.elapsed);
        let effects = self.following.follow(self.now.elapsed, may_ask, wanted);
        for effect in &effects {
            let Effect::Follow { feed, .. } = effect else { continue };
            // The stream begins at the start of the run.
            match (feed.slot(), &mut self.run) {
                (Slot::Changes, Some(run)) => run.changes.clear(),
                (Slot::Lines, Some(run)) => run.lines.clear(),
                (Slot::Runs | Slot::Changes | Slot::Lines, _) => {}
            }
        }
        effects
    }

    fn answered(&mut self, Answered { serial, answer }: Answered) {
        match answer.failure() {
            Some(failure) => self.connection.failed(self.now.elapsed, failure),
            None => self.connection.answered(),
        }
        let size = self.size;
        // An answer about a run that was left is not wanted any more.
        match answer {
            Answer::Runs(answer) => self.runs.take(serial, answer, size.list()),
            Answer::Counts(answer) => {
                self.runs.counts.answer(serial, answer);
            }
            Answer::Run(id, answer) => {
                let Some(run) = self.run.as_mut().filter(|run| run.id == id) else { return };
                let goes_on = run.take_run(serial, answer, size);
                if goes_on && run.changes.is_complete {
                    self.following.reopen(self.now.elapsed);
                }
            }
            Answer::Graph(id, answer) => self.of_run(&id, |run| run.take_graph(serial, answer, size)),
            Answer::Timeline(id, answer) => self.of_run(&id, |run| run.take_timeline(serial, answer, size)),
            Answer::Elements(id, task, answer) => {
                self.of_run(&id, |run| run.take_elements(&task, serial, answer, size));
            }
            Answer::Workers(answer) => self.workers.take(serial, answer, size.workers()),
            Answer::Engines(answer) => {
                self.workers.engines.answer(serial, answer);
            }
            Answer::Queues(answer) => self.queues.take_queues(serial, answer, size),
            Answer::Permits(answer) => self.queues.take_permits(serial, answer, size),
            Answer::Command(command, answer) => {
                match answer {
                    Ok(done) => self.say(done, false),
                    Err(failure) => self.say(format!("{}: {}", command.target(), failure.text), true),
                }
                self.expire();
            }
        }
    }

    /// Passes an answer to the run that it is about, unless the run was left.
    fn of_run(&mut self, id: &str, take: impl FnOnce(&mut RunScreen)) {
        if let Some(run) = self.run.as_mut().filter(|run| run.id == id) {
            take(run);
        }
    }

    fn received(&mut self, Received { slot, serial, items }: Received) {
        if !self.following.is_current(slot, serial) {
            return;
        }
        for item in items {
            match item {
                Item::Runs(event) => self.runs.event(&event),
                Item::Change(row) => {
                    if let Some(run) = &mut self.run {
                        run.changes.push(row);
                        run.expire();
                    }
                }
                Item::Line(line) => {
                    if let Some(run) = &mut self.run {
                        run.lines.push(line);
                    }
                }
                Item::End => {
                    self.following.ended(slot);
                    match (slot, &mut self.run) {
                        (Slot::Changes, Some(run)) => run.changes.is_complete = true,
                        (Slot::Lines, Some(run)) => run.lines.is_complete = true,
                        (Slot::Runs | Slot::Changes | Slot::Lines, _) => {}
                    }
                }
                Item::Failed(failure) => {
                    self.connection.failed(self.now.elapsed, &failure);
                    self.following.broke(self.now.elapsed, slot);
                }
            }
        }
    }

    /// Something may have changed.
    fn expire(&mut self) {
        self.runs.expire();
        self.run.iter_mut().for_each(RunScreen::expire);
        self.workers.workers.expire();
    }

    fn key(&mut self, key: &Key) -> Vec<Effect> {
        self.message = None;
        match key {
            Key::Control('c') => return vec![Effect::Quit],
            Key::Control('z') => return vec![Effect::Stop],
            Key::Control('l') => return vec![Effect::Redraw],
            key if self.help.is_some() => self.help_key(key),
            key if self.dialog.is_some() => return self.dialog_key(key),
            Key::Control('r') => self.reload(),
            Key::Char('q') => return vec![Effect::Quit],
            Key::Char('?') => self.help = Some(0),
            Key::Char('1') => self.show(Screen::Runs),
            Key::Char('2') => self.show(Screen::Workers),
            Key::Char('3') => self.show(Screen::Queues),
            key => match key.movement() {
                Some(movement) => self.go(movement),
                None => self.screen_key(key),
            },
        }
        Vec::new()
    }

    fn help_key(&mut self, key: &Key) {
        let top = self.help.unwrap_or_default();
        let page = self.size.list();
        self.help = match key.movement() {
            Some(Movement::Up) => Some(top.saturating_sub(1)),
            Some(Movement::Down) => Some(top.saturating_add(1)),
            Some(Movement::PageUp) => Some(top.saturating_sub(page)),
            Some(Movement::PageDown) => Some(top.saturating_add(page)),
            Some(Movement::First) => Some(0),
            Some(Movement::Last) => Some(usize::MAX),
            None => None,
        };
        self.help = self.help.map(|top| top.min(help::LINES.len().saturating_sub(page)));
    }

    fn dialog_key(&mut self, key: &Key) -> Vec<Effect> {
        let Some(dialog) = self.dialog.take() else { return Vec::new() };
        match dialog {
            Dialog::Filter { part, mut line } => match line.key(key) {
                Typed::More => self.dialog = Some(Dialog::Filter { part, line }),
                Typed::Done => self.runs.set_part(part, &line.0),
                Typed::Abandoned => {}
            },
            Dialog::Reason { run, task, mut line } => match line.key(key) {
                Typed::Done if !line.0.trim().is_empty() => {
                    let reason = line.0.trim().to_owned();
                    self.dialog = Some(Dialog::Confirm(Confirmation::of_skip(run, task, reason)));
                }
                Typed::Done | Typed::More => self.dialog = Some(Dialog::Reason { run, task, line }),
                Typed::Abandoned => {}
            },
            Dialog::Confirm(confirmation) => match key {
                Key::Char('y' | 'Y') => {
                    self.say(format!("sent: {}", confirmation.title.trim_end_matches('?')), false);
                    let about = About::Command(confirmation.command);
                    return vec![Effect::Ask(Question { serial: 0, about })];
                }
                Key::Char('n' | 'N' | 'q') | Key::Escape => self.say("nothing was done", false),
                // Only a key that says yes or no is an answer: one that was typed too early is none.
                _ => self.dialog = Some(Dialog::Confirm(confirmation)),
            },
        }
        Vec::new()
    }

    /// Shows a screen, and reads what it shows.
    fn show(&mut self, screen: Screen) {
        self.screen = screen;
        self.expire();
    }

    /// Asks for everything again, also after the server has denied the token.
    fn reload(&mut self) {
        self.connection = Connection::Connecting;
        self.runs.reload();
        self.run.iter_mut().for_each(RunScreen::reload);
        self.workers.reload();
        self.queues.reload();
    }

    fn go(&mut self, movement: Movement) {
        let size = self.size;
        match (self.screen, &mut self.run) {
            (Screen::Run, Some(run)) => run.go(movement, size),
            (Screen::Runs | Screen::Run, _) => {
                let count = self.runs.runs().len();
                self.runs.cursor.go(movement, count, size.list());
            }
            (Screen::Workers, _) => {
                let count = self.workers.list().len();
                self.workers.cursor.go(movement, count, size.workers());
            }
            (Screen::Queues, _) => self.queues.go(movement, size),
        }
    }

    fn screen_key(&mut self, key: &Key) {
        match self.screen {
            Screen::Runs => self.runs_key(key),
            Screen::Run => self.run_key(key),
            Screen::Workers => self.workers_key(key),
            Screen::Queues => self.queues_key(key),
        }
    }

    fn runs_key(&mut self, key: &Key) {
        let filter = |runs: &RunsScreen, part: FilterPart| {
            let line = Line(runs.part(part));
            Some(Dialog::Filter { part, line })
        };
        match key {
            Key::Enter | Key::Right => {
                if let Some(run) = self.runs.selected() {
                    self.run = Some(RunScreen::new(run.run.clone()));
                    self.show(Screen::Run);
                }
            }
            Key::Char('/') => self.dialog = filter(&self.runs, FilterPart::Text),
            Key::Char('f') => self.dialog = filter(&self.runs, FilterPart::Flow),
            Key::Char('s') => self.dialog = filter(&self.runs, FilterPart::State),
            Key::Char('l') => self.dialog = filter(&self.runs, FilterPart::Label),
            Key::Char('x') => self.runs.clear_filter(),
            Key::Char(']') => self.runs.forward(),
            Key::Char('[') => self.runs.back(),
            Key::Char(char) => {
                if let Some(action) = action(*char) {
                    self.confirm(self.runs.command(action));
                }
            }
            _ => {}
        }
    }

    fn run_key(&mut self, key: &Key) {
        let size = self.size;
        let Some(run) = &mut self.run else { return };
        match key {
            Key::Escape | Key::Backspace | Key::Left => self.show(Screen::Runs),
            Key::Enter | Key::Right => run.open(size),
            Key::Tab => run.pane = run.pane.turn(true),
            Key::BackTab => run.pane = run.pane.turn(false),
            Key::Char('g') => run.pane = Pane::Graph,
            Key::Char('t') => run.pane = Pane::Timeline,
            Key::Char('e') => run.pane = Pane::Events,
            Key::Char('o') => run.pane = Pane::Logs,
            Key::Char('a') => run.show_lines(None),
            Key::Char(']') => run.turn_page(true),
            Key::Char('[') => run.turn_page(false),
            Key::Char('K') => match run.skippable() {
                Ok(task) => {
                    let (run, line) = (run.id.clone(), Line::default());
                    self.dialog = Some(Dialog::Reason { run, task, line });
                }
                Err(reason) => self.say(reason, true),
            },
            Key::Char(char) => {
                if let Some(action) = action(*char) {
                    let confirmation = run.command(action);
                    self.confirm(confirmation);
                }
            }
            _ => {}
        }
    }

    fn workers_key(&mut self, key: &Key) {
        match key {
            Key::Char('D') => self.confirm(self.workers.drain()),
            Key::Char('A') => self.confirm(self.workers.activate()),
            _ => {}
        }
    }

    fn queues_key(&mut self, key: &Key) {
        match key {
            Key::Tab | Key::BackTab => self.queues.turn_focus(),
            Key::Char(']') => self.queues.turn_page(true),
            Key::Char('[') => self.queues.turn_page(false),
            _ => {}
        }
    }

    /// Asks the person whether to send a command, or says why it makes no sense.
    fn confirm(&mut self, confirmation: Result<Confirmation, String>) {
        match confirmation {
            Ok(confirmation) => self.dialog = Some(Dialog::Confirm(confirmation)),
            Err(reason) => self.say(reason, true),
        }
    }
}

/// The command to a run that a key means. They are capital letters, so that none is given by chance.
const fn action(char: char) -> Option<BulkAction> {
    match char {
        'C' => Some(BulkAction::Cancel),
        'S' => Some(BulkAction::Suspend),
        'R' => Some(BulkAction::Resume),
        'T' => Some(BulkAction::Retry),
        _ => None,
    }
}
