//! The properties that every simulation must have after the fault phase.

use std::collections::{BTreeMap, BTreeSet};

use flow::{Action, Attempt, Firing, NodeIndex, NodeName, RunId, RunState, State};
use machine::{Fact, Machine, Record};

use super::guests::Entry;

/// Checks one run against the ledger; an error contains the run's records and the actual effects of its guests.
pub(crate) fn run(run: &RunId, records: &[Record], ledger: &[Entry]) -> Result<RunState, String> {
    checked(run, records, ledger).map_err(|error| {
        let record = |record: &Record| match &record.fact {
            Fact::RunStarted { .. } => format!("{} run-started", record.at.as_micros()),
            fact => format!("{} {fact:?}", record.at.as_micros()),
        };
        let records: Vec<String> = records.iter().map(record).collect();
        let own_entries = ledger.iter().filter(|entry| entry.run == *run);
        let effects: Vec<String> = own_entries
            .map(|entry| {
                let Entry { at, action, task, firing, attempt, .. } = entry;
                format!("{at} {action} {task} firing {firing} attempt {attempt}")
            })
            .collect();
        format!("{error}\nrecords:\n  {}\nledger:\n  {}", records.join("\n  "), effects.join("\n  "))
    })
}

fn checked(run: &RunId, records: &[Record], ledger: &[Entry]) -> Result<RunState, String> {
    let machine = Machine::replay(run.clone(), records).map_err(|error| format!("{run}: {error}"))?;
    let restored = Machine::restore(run.clone(), machine.snapshot()).map_err(|error| error.to_string())?;
    if restored != machine {
        return Err(format!("{run}: its snapshot restores another machine"));
    }
    if !machine.state().is_final() {
        return Err(format!(
            "{run} ends in state {}: {:?}",
            machine.state(),
            machine.outstanding_calls().collect::<Vec<_>>()
        ));
    }
    let results = named_results(run, records)?;
    each_attempt_is_recorded_once(run, &results)?;
    let own_entries: Vec<&Entry> = ledger.iter().filter(|entry| entry.run == *run).collect();
    recorded_successes_happened(run, &results, &own_entries)?;
    match machine.flow().triggers {
        Some(_) => no_effect_of_a_rolled_back_firing_remains(run, &machine, records, &own_entries)?,
        None => no_unwanted_effect_remains(run, &machine, &own_entries)?,
    }
    Ok(machine.state())
}

/// The recorded results: the task, its firing and attempt, the action, and whether it succeeded.
type TaskResults = Vec<(NodeName, (Firing, Attempt), Action, bool)>;

/// Results by node name: an edit changes the indices of nodes, but not their names.
fn named_results(run: &RunId, records: &[Record]) -> Result<TaskResults, String> {
    let mut machine: Option<Machine> = None;
    let mut results = TaskResults::new();
    for record in records {
        let result = match &record.fact {
            Fact::Succeeded { attempt, .. } => Some((attempt, Action::Apply, true)),
            // No guest was called for a remembered result.
            Fact::Remembered { attempt, .. } | Fact::Failed { attempt, .. } => Some((attempt, Action::Apply, false)),
            Fact::RolledBack { attempt, .. } => Some((attempt, Action::Rollback, true)),
            Fact::RollbackFailed { attempt, .. } => Some((attempt, Action::Rollback, false)),
            _ => None,
        };
        if let (Some(machine), Some((attempt, action, succeeded))) = (&machine, result) {
            // Fan-ins and waiting tasks succeed or fail without a call.
            results.extend(
                machine
                    .call_of(record.firing, attempt.node)
                    .map(|(name, _)| (name, (attempt.firing, attempt.attempt), action, succeeded)),
            );
        }
        if let Fact::RunStarted { flow, .. } = &record.fact {
            machine = Some(Machine::new(run.clone(), flow.clone()));
        }
        let commands = machine.as_mut().map(|machine| machine.evolve(record));
        commands.transpose().map_err(|error| format!("{run}: {error}"))?;
    }
    Ok(results)
}

fn each_attempt_is_recorded_once(run: &RunId, results: &TaskResults) -> Result<(), String> {
    let mut recorded = BTreeSet::new();
    for (name, (firing, attempt), action, _) in results {
        if !recorded.insert((name, firing, attempt, action)) {
            return Err(format!("{run}: {action} of {name}, firing {firing}, attempt {attempt}, is recorded twice"));
        }
    }
    Ok(())
}

fn recorded_successes_happened(run: &RunId, results: &TaskResults, ledger: &[&Entry]) -> Result<(), String> {
    for (name, _, action, _) in results.iter().filter(|(_, _, _, succeeded)| *succeeded) {
        if !ledger.iter().any(|entry| entry.task == *name && entry.action == *action) {
            return Err(format!("{run}: {action} of {name} is recorded, but never happened"));
        }
    }
    Ok(())
}

/// Checks that a rollback follows the last effect of every apply whose result is no longer needed.
fn no_unwanted_effect_remains(run: &RunId, machine: &Machine, ledger: &[&Entry]) -> Result<(), String> {
    let is_unwanted = |index: NodeIndex| match machine.node_state(index) {
        State::RolledBack | State::Ignored => true,
        _ => machine.state() == RunState::RolledBack,
    };
    for (_, name, _) in machine.flow().tasks().filter(|(index, _, task)| task.rollback && is_unwanted(*index)) {
        if let Some(name) = remaining_effect(ledger, name, None) {
            return Err(format!("{run} is {}, but the effect of {name} remains", machine.state()));
        }
    }
    Ok(())
}

/// Checks that a rollback follows the last effect of every apply in a firing that was rolled back.
fn no_effect_of_a_rolled_back_firing_remains(
    run: &RunId,
    machine: &Machine,
    records: &[Record],
    ledger: &[&Entry],
) -> Result<(), String> {
    let mut final_states = BTreeMap::new();
    for record in records {
        if let (Some(firing), Fact::RunStateChanged { state }) = (record.firing, &record.fact) {
            final_states.insert(firing, *state);
        }
    }
    let rolled_back = final_states.into_iter().filter(|(_, state)| *state == RunState::RolledBack);
    for (firing, _) in rolled_back {
        for (index, name, task) in machine.flow().tasks() {
            let is_failure_handler = machine.flow().node(index).is_failure_handler;
            if let Some(name) =
                remaining_effect(ledger, name, Some(firing)).filter(|_| task.rollback && !is_failure_handler)
            {
                return Err(format!("firing {firing} of {run} was rolled back, but the effect of {name} remains"));
            }
        }
    }
    Ok(())
}

/// The task, or an element of it, whose last effect is an apply.
fn remaining_effect(ledger: &[&Entry], task: &NodeName, firing: Option<Firing>) -> Option<NodeName> {
    let is_of_task = |entry: &&&Entry| entry.task.base() == *task && firing.is_none_or(|firing| entry.firing == firing);
    let last: BTreeMap<&NodeName, Action> =
        ledger.iter().filter(is_of_task).map(|entry| (&entry.task, entry.action)).collect();
    last.into_iter().find(|(_, action)| *action == Action::Apply).map(|(name, _)| name.clone())
}
