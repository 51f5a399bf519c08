//! The keys of the dashboard, for its help.

/// The lines of the help.
pub(crate) const LINES: [&str; 50] = [
    "Everywhere",
    "  1 2 3            runs, workers and engines, queues and permits",
    "  up down, j k     select; PageUp, PageDown, Home, End too",
    "  [ ]              the page before, the next page",
    "  Ctrl-R           ask the server again, also after it refused the token",
    "  Ctrl-L           draw the screen anew",
    "  Ctrl-Z           stop; the shell's fg continues",
    "  ?                this help; any other key closes it",
    "  q, Ctrl-C        quit; the runs continue",
    "",
    "Runs",
    "  Enter            show the run",
    "  /                only runs whose id begins with a text, or that have",
    "                   it as the value of a label or as an input",
    "  f s l            only runs of a flow, in some states, with labels",
    "  x                without the conditions of these keys",
    "",
    "A run",
    "  g t e o          its graph, timeline, events, and output of guests",
    "  Tab              the next of these views",
    "  Enter            in the graph: close or open a flow or a list; show",
    "                   what a task has written. In the timeline: the same",
    "  a                the output of all tasks",
    "  Esc              back to the list",
    "",
    "Commands to the selected run; each asks before it is sent",
    "  C                cancel: stop it and roll it back",
    "  S                suspend: nothing new starts",
    "  R                resume it after a suspend",
    "  T                try failed rollbacks again, or start it again",
    "  K                in the graph: skip the failed rollback of a task",
    "                   that you have settled",
    "",
    "Workers",
    "  D                drain: the worker takes no new jobs",
    "  A                activate: it takes jobs again",
    "",
    "Queues and permits",
    "  Tab              the other list",
    "",
    "Marks",
    "  \u{25b8} in progress    \u{2713} success        \u{2717} failed",
    "  \u{21a9} rolled back    \u{21bb} will try again  \u{b7} not started, or left out",
    "  \u{2016} suspended",
    "",
    "In the timeline",
    "  = a call or a wait, - a rollback, > until now",
    "",
    "The colours repeat what marks and words say; NO_COLOR turns them off.",
    "docs/top.md describes the dashboard.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_fits_a_small_terminal() {
        assert!(LINES.iter().all(|line| line.chars().count() <= 76));
    }
}
