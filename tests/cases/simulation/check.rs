//! What has to be true of every world, once it is calm.

use std::collections::BTreeMap;

use flow::{Action, Fact, Machine, NodeIndex, Record, Role, RunId, RunState, State};

use super::guests::Entry;

/// Checks one run against the ledger; a mistake comes with the run's records and what its guests truly did.
pub(crate) fn run(run: &RunId, records: &[Record], ledger: &[Entry]) -> Result<RunState, String> {
    checked(run, records, ledger).map_err(|mistake| {
        let record = |record: &Record| match &record.fact {
            Fact::RunStarted { .. } => format!("{} run-started", record.at.as_micros()),
            fact => format!("{} {fact:?}", record.at.as_micros()),
        };
        let records: Vec<String> = records.iter().map(record).collect();
        let mine = ledger.iter().filter(|entry| entry.run == *run);
        let done: Vec<String> = mine
            .map(|entry| format!("{} {} {} attempt {}", entry.at, entry.action, entry.task, entry.attempt))
            .collect();
        format!("{mistake}\nrecords:\n  {}\nledger:\n  {}", records.join("\n  "), done.join("\n  "))
    })
}

fn checked(run: &RunId, records: &[Record], ledger: &[Entry]) -> Result<RunState, String> {
    let machine = Machine::replay(run.clone(), records).map_err(|error| format!("{run}: {error}"))?;
    let restored = Machine::restore(run.clone(), machine.snapshot()).map_err(|error| error.to_string())?;
    if restored != machine {
        return Err(format!("{run}: its snapshot restores another machine"));
    }
    if !machine.state().is_final() {
        return Err(format!("{run} is {} in the end: {:?}", machine.state(), machine.calls_out().collect::<Vec<_>>()));
    }
    each_attempt_is_answered_once(run, records)?;
    let mine: Vec<&Entry> = ledger.iter().filter(|entry| entry.run == *run).collect();
    what_succeeded_was_applied(run, &machine, records, &mine)?;
    nothing_unwanted_stands(run, &machine, &mine)?;
    Ok(machine.state())
}

fn each_attempt_is_answered_once(run: &RunId, records: &[Record]) -> Result<(), String> {
    let mut answered = BTreeMap::new();
    for record in records {
        let key = match &record.fact {
            Fact::Succeeded { attempt, .. } | Fact::Failed { attempt, .. } => (attempt, Action::Apply),
            Fact::RolledBack { attempt, .. } | Fact::RollbackFailed { attempt, .. } => (attempt, Action::Rollback),
            _ => continue,
        };
        let times = answered.entry((key.0.node, key.0.attempt, key.1)).or_insert(0);
        *times += 1;
        if *times > 1 {
            return Err(format!("{run}: {key:?} is recorded twice"));
        }
    }
    Ok(())
}

fn what_succeeded_was_applied(
    run: &RunId,
    machine: &Machine,
    records: &[Record],
    ledger: &[&Entry],
) -> Result<(), String> {
    for record in records {
        let (attempt, action) = match &record.fact {
            Fact::Succeeded { attempt, .. } => (attempt, Action::Apply),
            Fact::RolledBack { attempt, .. } => (attempt, Action::Rollback),
            _ => continue,
        };
        let name = &machine.flow().node(attempt.node).name;
        if !ledger.iter().any(|entry| entry.task == *name && entry.action == action) {
            return Err(format!("{run}: {action} of {name} is recorded and never happened"));
        }
    }
    Ok(())
}

/// After the last thing that an apply did which nobody wants any more comes a rollback of it.
fn nothing_unwanted_stands(run: &RunId, machine: &Machine, ledger: &[&Entry]) -> Result<(), String> {
    let is_unwanted = |index| match machine.node_state(index) {
        State::RolledBack | State::Ignored => true,
        _ => machine.state() == RunState::RolledBack,
    };
    let unwanted = |index: &NodeIndex| can_roll_back(machine, *index) && is_unwanted(*index);
    for (_, name, _) in machine.flow().tasks().filter(|(index, _, _)| unwanted(index)) {
        let last = ledger.iter().rev().find(|entry| entry.task == *name);
        if last.is_some_and(|entry| entry.action == Action::Apply) {
            return Err(format!("{run} is {}, and what {name} applied stands", machine.state()));
        }
    }
    Ok(())
}

fn can_roll_back(machine: &Machine, index: NodeIndex) -> bool {
    matches!(&machine.flow().node(index).role, Role::Task(task) if task.rollback)
}
