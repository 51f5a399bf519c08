//! `waft top`: shows the runs, workers and queues of a server in this terminal, live, and commands them with keys.
//!
//! [`model`] decides, without a terminal: it turns keys, answers and events into its next state, and into what to ask. [`view`] draws the
//! model into cells. This file connects both with the terminal, the server and the signals of the system.

mod backend;
mod feeds;
mod help;
mod keys;
mod model;
mod requests;
mod terminal;
mod view;

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use anyhow::anyhow;
use client::Client;
use flow::RunId;
use jiff::Timestamp;
use ratatui::{Terminal, backend::Backend as _};
use rustix::process::Signal as SignalNumber;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::{AbortHandle, JoinError, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};

use self::{
    backend::OutputBackend,
    feeds::{Received, Slot},
    keys::Key,
    model::{Effect, Incoming, Model, Now, Size},
    requests::{About, Answer, Answered},
    terminal::Screen,
    view::Palette,
};
use super::{list::run_filter, remote};
use crate::{
    arguments::TopFlags,
    colour,
    exit::{CliError, Exit},
    output::{self, Stream},
    sanitize,
    settings::Settings,
};

/// How often the model learns that time has passed, and changes that are no answer to a key are drawn.
const TICK: Duration = Duration::from_millis(100);

/// How often the screen is drawn without a change: durations grow.
const REDRAW_INTERVAL: Duration = Duration::from_secs(1);

/// How long a command that was sent may take after the dashboard was left.
const COMMAND_GRACE: Duration = Duration::from_secs(5);

/// The maximum number of parts of streams that wait. Then the streams wait.
const MAX_WAITING_PARTS: usize = 64;

pub(super) async fn run(settings: &Settings, TopFlags { run, filter }: TopFlags) -> Result<Exit, CliError> {
    if let Some(reason) = no_terminal() {
        let hint = "`waft list`, `waft show RUN`, `waft watch RUN`, `waft workers` and `waft queues` print lines instead, \
                    and `waft events` prints what happens";
        return Err(CliError::invalid(anyhow!("waft top needs a terminal, and {reason}")).hint(hint));
    }
    let run = run.map(|run| RunId::new(&run)).transpose().map_err(CliError::invalid)?;
    let client = remote::client(settings)?;
    let mut signals = Signals::listen().map_err(CliError::unreachable)?;
    let screen = Screen::open().map_err(CliError::unreachable)?;
    let keys = terminal::read_keys().map_err(CliError::unreachable)?;
    let size = OutputBackend::default().size().map(shown_size).unwrap_or(Size::LEAST);
    let start = Instant::now();
    let now = Now { elapsed: Duration::ZERO, wall: Timestamp::now() };
    let model = Model::new(client.server().to_owned(), run_filter(filter), run.map(|run| run.to_string()), now, size);
    let mut dashboard = Dashboard::new(client, model, start);
    let ended = dashboard.run(keys, &mut signals, &screen).await;
    drop(screen);
    dashboard.finish_commands().await;
    ended
}

/// Why there is no terminal to draw on; `None` if there is one.
fn no_terminal() -> Option<&'static str> {
    if !io::stdin().is_terminal() {
        Some("standard input is none")
    } else if !Stream::Out.is_terminal() {
        Some("standard output is none")
    } else if !colour::is_interactive(Stream::Out) {
        Some("TERM says that this one cannot be drawn on")
    } else {
        None
    }
}

fn shown_size(ratatui::layout::Size { width, height }: ratatui::layout::Size) -> Size {
    Size { columns: width, rows: height }
}

/// The signals of the system that concern the screen.
struct Signals {
    end: [Signal; 4],
    window: Signal,
    stop: Signal,
    resume: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let numbered = |number: SignalNumber| signal(SignalKind::from_raw(number.as_raw()));
        let [hangup, interrupt] = [SignalKind::hangup(), SignalKind::interrupt()];
        let [quit, terminate] = [SignalKind::quit(), SignalKind::terminate()];
        Ok(Self {
            end: [signal(hangup)?, signal(interrupt)?, signal(quit)?, signal(terminate)?],
            window: signal(SignalKind::window_change())?,
            stop: numbered(SignalNumber::TSTP)?,
            resume: numbered(SignalNumber::CONT)?,
        })
    }
}

/// Waits for one of the signals that end the process. Cancel-safe.
async fn any([a, b, c, d]: &mut [Signal; 4]) {
    tokio::select! {
        _ = a.recv() => {}
        _ = b.recv() => {}
        _ = c.recv() => {}
        _ = d.recv() => {}
    }
}

/// The dashboard at work.
struct Dashboard {
    client: Client,
    model: Model,
    terminal: Terminal<OutputBackend>,
    palette: Palette,
    start: Instant,
    questions: JoinSet<Answered>,
    /// Commands that were sent. They are not dropped when the dashboard is left.
    commands: JoinSet<Answered>,
    followers: JoinSet<()>,
    followed: BTreeMap<Slot, AbortHandle>,
    tx: mpsc::Sender<Received>,
    received: mpsc::Receiver<Received>,
}

/// Whether the dashboard goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Quit,
}

impl Dashboard {
    fn new(client: Client, model: Model, start: Instant) -> Self {
        let (tx, received) = mpsc::channel(MAX_WAITING_PARTS);
        let Ok(terminal) = Terminal::new(OutputBackend::default());
        Self {
            client,
            model,
            terminal,
            palette: if colour::on(Stream::Out) { Palette::Colours } else { Palette::None },
            start,
            questions: JoinSet::new(),
            commands: JoinSet::new(),
            followers: JoinSet::new(),
            followed: BTreeMap::new(),
            tx,
            received,
        }
    }

    /// Shows the dashboard until a person or a signal ends it.
    async fn run(
        &mut self,
        mut keys: mpsc::Receiver<Key>,
        Signals { end, window, stop, resume }: &mut Signals,
        screen: &Screen,
    ) -> Result<Exit, CliError> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut drawn_at, mut is_changed) = (self.start, true);
        loop {
            let incoming = tokio::select! {
                key = keys.recv() => match key {
                    Some(key) => Incoming::Key(key),
                    // The terminal is gone.
                    None => return Ok(Exit::Success),
                },
                Some(received) = self.received.recv() => Incoming::Received(received),
                Some(answered) = self.questions.join_next() => match joined(answered) {
                    Some(answered) => Incoming::Answered(Box::new(answered)),
                    None => continue,
                },
                Some(answered) = self.commands.join_next() => match joined(answered) {
                    Some(answered) => Incoming::Answered(Box::new(answered)),
                    None => continue,
                },
                Some(ended) = self.followers.join_next() => {
                    joined(ended);
                    continue;
                }
                _ = tick.tick() => Incoming::Tick,
                _ = window.recv() => Incoming::Resized(self.size()),
                _ = stop.recv() => {
                    if terminal::can_stop() {
                        screen.stop().map_err(CliError::unreachable)?;
                    }
                    Incoming::Resized(self.size())
                }
                _ = resume.recv() => {
                    screen.reopen().map_err(CliError::unreachable)?;
                    Incoming::Resized(self.size())
                }
                () = any(end) => {
                    return Err(CliError::new(Exit::Interrupted, anyhow!("stopped watching; the runs continue")));
                }
            };
            let is_tick = matches!(incoming, Incoming::Tick);
            let is_awaited = matches!(incoming, Incoming::Key(_) | Incoming::Resized(_));
            let effects = self.model.update(self.now(), incoming);
            if self.perform(effects) == Next::Quit {
                return Ok(Exit::Success);
            }
            is_changed |= !is_tick;
            if is_awaited || is_tick && (is_changed || drawn_at.elapsed() >= REDRAW_INTERVAL) {
                self.draw();
                (drawn_at, is_changed) = (Instant::now(), false);
            }
        }
    }

    fn now(&self) -> Now {
        Now { elapsed: self.start.elapsed(), wall: Timestamp::now() }
    }

    fn size(&self) -> Size {
        self.terminal.backend().size().map(shown_size).unwrap_or(Size::LEAST)
    }

    fn draw(&mut self) {
        let Self { terminal, model, palette, .. } = self;
        let Ok(_frame) = terminal.draw(|frame| view::draw(model, *palette, frame.buffer_mut()));
    }

    fn perform(&mut self, effects: Vec<Effect>) -> Next {
        for effect in effects {
            match effect {
                Effect::Ask(question) => {
                    let is_command = matches!(question.about, About::Command(_));
                    let asked = requests::ask(self.client.clone(), question);
                    if is_command {
                        self.commands.spawn(asked)
                    } else {
                        self.questions.spawn(asked)
                    };
                }
                Effect::Follow { feed, serial } => {
                    let slot = feed.slot();
                    let follower = feeds::follow(self.client.clone(), feed, serial, self.tx.clone());
                    let before = self.followed.insert(slot, self.followers.spawn(follower));
                    before.iter().for_each(AbortHandle::abort);
                }
                Effect::Unfollow(slot) => self.followed.remove(&slot).iter().for_each(AbortHandle::abort),
                Effect::Stop => self.ask_to_stop(),
                Effect::Redraw => {
                    let Ok(()) = self.terminal.clear();
                }
                Effect::Quit => return Next::Quit,
            }
        }
        Next::GoOn
    }

    fn ask_to_stop(&mut self) {
        if !terminal::can_stop() {
            self.model.say("no shell would continue waft top after a stop: q quits", true);
        } else if let Err(error) = terminal::ask_to_stop() {
            self.model.say(format!("could not stop: {error}"), true);
        }
    }

    /// Waits for the answers to commands that were sent before the dashboard was left, and prints them.
    async fn finish_commands(&mut self) {
        let answers = async {
            while let Some(answered) = self.commands.join_next().await {
                match joined(answered).map(|answered| answered.answer) {
                    Some(Answer::Command(_, Ok(done))) => output::note!("{}", sanitize::one_line(&done)),
                    Some(Answer::Command(command, Err(failure))) => {
                        let line = format!("error: {}: {}", command.target(), failure.text);
                        output::note!("{}", sanitize::one_line(&line));
                    }
                    // Only commands are here, and they are not aborted.
                    Some(_) | None => {}
                }
            }
        };
        if timeout(COMMAND_GRACE, answers).await.is_err() {
            output::note!("the server has not answered yet whether the last command took effect");
        }
    }
}

/// The result of a task; `None` if it was aborted. Its panic is passed on.
fn joined<Done>(result: Result<Done, JoinError>) -> Option<Done> {
    match result {
        Ok(done) => Some(done),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}
