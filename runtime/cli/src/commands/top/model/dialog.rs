//! Questions to the person: a line of text, and whether to send a command.

use api::{BulkAction, RunState};

use crate::commands::top::{keys::Key, requests::Command};

/// A question to the person. While there is one, keys are answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dialog {
    /// A part of the filter for runs.
    Filter { part: FilterPart, line: Line },
    /// Why a failed rollback needs no more work.
    Reason { run: String, task: String, line: Line },
    /// Whether to send a command.
    Confirm(Confirmation),
}

/// A part of the filter for runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FilterPart {
    Flow,
    State,
    Label,
    Text,
}

/// A command, and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Confirmation {
    pub(crate) command: Command,
    /// The question.
    pub(crate) title: String,
    /// What will happen.
    pub(crate) effect: String,
}

impl Confirmation {
    /// A command to a run. The state is the last one that is known.
    ///
    /// # Errors
    /// The run is in no state for it; the reason is for the person.
    pub(crate) fn of_run(action: BulkAction, run: &str, flow: &str, state: &RunState) -> Result<Self, String> {
        // The server decides about a state that only a newer one knows.
        let is_unknown = matches!(state, RunState::Unknown(_));
        let (is_allowed, verb, needs) = match action {
            BulkAction::Cancel => (!state.is_final(), "Cancel", "only a run that has not ended can be cancelled"),
            BulkAction::Suspend => {
                let is_allowed = matches!(state, RunState::Pending | RunState::Running);
                (is_allowed, "Suspend", "only a pending or running run can be suspended")
            }
            BulkAction::Resume => {
                let is_allowed = matches!(state, RunState::Suspending | RunState::Suspended);
                (is_allowed, "Resume", "only a suspended run can be resumed")
            }
            BulkAction::Retry => {
                let is_allowed = matches!(state, RunState::Failure | RunState::RolledBack);
                (is_allowed, "Retry", "only a run that failed or was rolled back can be retried")
            }
        };
        if !is_allowed && !is_unknown {
            return Err(format!("{run} is {state}: {needs}"));
        }
        let effect = match (action, state) {
            (BulkAction::Cancel, _) => {
                "waft stops its running calls, withdraws those that wait, and rolls back all that its tasks have \
                 applied."
            }
            (BulkAction::Suspend, _) => "Running calls may finish. Nothing new starts until the run is resumed.",
            (BulkAction::Resume, _) => "It goes on where it was suspended.",
            (BulkAction::Retry, RunState::Failure) => "waft tries the rollbacks that failed again.",
            (BulkAction::Retry, RunState::RolledBack) => "It starts from its beginning, and calls its tasks again.",
            (BulkAction::Retry, _) => "waft tries failed rollbacks again, or starts the run again.",
        };
        Ok(Self {
            command: Command::Run { run: run.to_owned(), action },
            title: format!("{verb} run {run}?"),
            effect: format!("Its flow is {flow}, and it is {state}. {effect}"),
        })
    }

    /// Counts a failed rollback as done.
    pub(crate) fn of_skip(run: String, task: String, reason: String) -> Self {
        let title = format!("Skip the rollback of {task} in run {run}?");
        let effect = format!(
            "waft counts it as done, and rolls back the rest of the run. No guest is called for it. \
             The run's history keeps the reason: {reason}"
        );
        Self { command: Command::Skip { run, task, reason }, title, effect }
    }

    /// Lets a worker take no new jobs.
    pub(crate) fn of_drain(worker: &str, busy: u32) -> Self {
        let calls = match busy {
            0 => "It makes no call now.".to_owned(),
            1 => "The call that it makes may finish.".to_owned(),
            more => format!("The {more} calls that it makes may finish."),
        };
        Self {
            command: Command::Drain { worker: worker.to_owned() },
            title: format!("Drain worker {worker}?"),
            effect: format!("It takes no new jobs until you activate it again. {calls} It does not exit."),
        }
    }

    /// Lets a drained worker take jobs again.
    pub(crate) fn of_activate(worker: &str) -> Self {
        Self {
            command: Command::Activate { worker: worker.to_owned() },
            title: format!("Activate worker {worker}?"),
            effect: "It takes jobs from its queues again.".to_owned(),
        }
    }
}

/// The maximum length of a typed line, in characters.
const MAX_LINE: usize = 500;

/// A line that is being typed. The cursor is at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Line(pub(crate) String);

/// What a key means for a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typed {
    /// The line is being edited.
    More,
    Done,
    Abandoned,
}

impl Line {
    /// Takes a key.
    pub(crate) fn key(&mut self, key: &Key) -> Typed {
        match key {
            Key::Char(char) => self.insert(&char.to_string()),
            // Its line ends and control characters are no answers.
            Key::Paste(text) => self.insert(&text.replace(char::is_control, " ")),
            Key::Backspace => {
                self.0.pop();
            }
            Key::Control('u') => self.0.clear(),
            Key::Control('w') => {
                let mut chars = self.0.trim_end().char_indices();
                let space = chars.rfind(|(_, char)| char.is_whitespace());
                self.0.truncate(space.map_or(0, |(at, char)| at + char.len_utf8()));
            }
            Key::Enter => return Typed::Done,
            Key::Escape => return Typed::Abandoned,
            Key::Control(_) | Key::Tab | Key::BackTab | Key::Left | Key::Right | Key::Move(_) => {}
        }
        Typed::More
    }

    fn insert(&mut self, text: &str) {
        let room = MAX_LINE.saturating_sub(self.0.chars().count());
        self.0.extend(text.chars().take(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirmation_names_what_will_happen() {
        let of = |action, state: &str| Confirmation::of_run(action, "r1", "bake", &state.into());
        let confirmation = of(BulkAction::Cancel, "running").unwrap();
        assert_eq!(confirmation.title, "Cancel run r1?");
        assert!(confirmation.effect.starts_with("Its flow is bake, and it is running. waft stops its running calls"));
        assert!(of(BulkAction::Retry, "failure").unwrap().effect.contains("the rollbacks that failed"));
        assert!(of(BulkAction::Retry, "rolled-back").unwrap().effect.contains("from its beginning"));
        assert_eq!(
            of(BulkAction::Resume, "success").unwrap_err(),
            "r1 is success: only a suspended run can be resumed"
        );
        assert!(of(BulkAction::Suspend, "weary").is_ok(), "the server decides about a state of a newer one");
        let skip = Confirmation::of_skip("r1".into(), "pan".into(), "washed".into());
        assert!(skip.effect.ends_with("the reason: washed"), "{}", skip.effect);
        assert!(Confirmation::of_drain("w", 2).effect.contains("2 calls"));
    }

    #[test]
    fn a_line_is_edited_at_its_end() {
        let mut line = Line::default();
        let mut typed = |keys: &[Key]| {
            keys.iter().for_each(|key| assert_eq!(line.key(key), Typed::More));
            line.0.clone()
        };
        assert_eq!(typed(&[Key::Char('漢'), Key::Char('a'), Key::Backspace]), "漢");
        assert_eq!(typed(&[Key::Paste(" two\nwords".into())]), "漢 two words");
        assert_eq!(typed(&[Key::Control('w')]), "漢 two ");
        assert_eq!(typed(&[Key::Control('w')]), "漢 ");
        assert_eq!(typed(&[Key::Control('u')]), "");
        assert_eq!(typed(&[Key::Paste("x".repeat(10_000))]).len(), MAX_LINE);
        assert_eq!((line.key(&Key::Escape), line.key(&Key::Enter)), (Typed::Abandoned, Typed::Done));
    }
}
