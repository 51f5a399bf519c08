//! Measures remembered results beside calls: the same flow, whose tasks have run before, with `memo` and without.

use crate::{
    Bench,
    installation::{Installation, TASKS},
    report::Pairs,
};

/// The number of rounds of each, in alternation.
const ROUNDS: usize = 8;

/// The number of tasks that wait for each other.
const STEPS: usize = 200;

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let installation = Installation::start(bench).await?;
    for (pattern, tasks) in [("unordered", TASKS), ("linear", STEPS)] {
        let (remembered, called) = (format!("{pattern}-memo.toml"), format!("{pattern}.toml"));
        for (file, keys) in [(&remembered, "memo = true\n"), (&called, "")] {
            let name = file.trim_end_matches(".toml");
            let head = format!("name = \"{name}\"\npattern = \"{pattern}\"\n[modules]\nguest = \"guest.wasm\"\n");
            // Each task has inputs of its own, so each has a result of its own.
            let task = |task| format!("use = \"guest#echo\"\nwith = {{ value = {task} }}\nprovides = []\n{keys}");
            installation.write_flow(file, head, tasks, task)?;
            // Nothing is remembered yet.
            installation.round_of(file).await?;
        }
        let mut pairs = Pairs::default();
        for _ in 0..ROUNDS {
            let remembered = installation.round_of(&remembered).await? / tasks as f64;
            let called = installation.round_of(&called).await? / tasks as f64;
            pairs.push(remembered, called);
        }
        pairs.print_times(&format!("{pattern}, remembered"), "called");
    }
    Ok(())
}
