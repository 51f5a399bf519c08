//! The invariants of the machine that the harness checks after each step.

use std::collections::BTreeSet;

use super::Harness;
use crate::{Command, Event, Machine, NodeChange};
use flow::{CallId, State};

impl Harness {
    /// Checks that a rollback keeps one number from its start to its end, and that no other rollback of its node has the
    /// same.
    pub(super) fn assert_one_number_per_rollback(&self, change: &NodeChange) {
        let node = |published: &&NodeChange| (&published.name, published.firing) == (&change.name, change.firing);
        let mut earlier = self.published.iter().filter(node);
        if matches!(change.state, State::RolledBack | State::RollbackFailure) {
            let began = earlier.clone().rfind(|published| published.state == State::RollingBack);
            assert_eq!(began.map(|began| began.attempt), Some(change.attempt), "{change:?}");
        }
        if matches!(change.state, State::RollingBack | State::RolledBack) {
            let is_same =
                |published: &NodeChange| (published.state, published.attempt) == (change.state, change.attempt);
            assert!(!earlier.any(is_same), "published twice: {change:?}");
        }
    }

    pub(super) fn assert_replay_equals_live(&self) {
        let replayed = Machine::replay(self.machine.run().clone(), &self.records).unwrap();
        assert!(replayed == self.machine, "replay equals live");
    }

    pub(super) fn assert_snapshot_restores(&self) {
        let restored = Machine::restore(self.machine.run().clone(), self.machine.snapshot()).unwrap();
        if restored != self.machine {
            let (a, b) = (format!("{restored:#?}"), format!("{:#?}", self.machine));
            for (x, y) in a.lines().zip(b.lines()).filter(|(x, y)| x != y).take(12) {
                eprintln!("DIFF {x} | {y}");
            }
            for r in self.records.iter().rev().take(12) {
                eprintln!("REC {:?}", r.fact);
            }
        }
        assert!(restored == self.machine, "a snapshot restores the machine");
    }

    pub(super) fn assert_pending_equals_outstanding(&self) {
        let id = |command: &Command| match command {
            Command::Call(call) => Some(call.id.clone()),
            Command::Fetch(fetch) => {
                assert!(self.fetches.contains(fetch), "a repeated fetch was requested before");
                None
            }
            Command::Interrupt(_) | Command::Publish(_) => panic!("only calls and fetches are answered"),
        };
        let pending: BTreeSet<CallId> = self.machine.pending().iter().filter_map(id).collect();
        let leased: BTreeSet<CallId> = self.machine.leased_calls().map(|(call, _)| call).collect();
        let out: BTreeSet<CallId> = self.outstanding.iter().map(|call| call.id.clone()).collect();
        assert_eq!(self.machine.outstanding_calls().collect::<BTreeSet<_>>(), out);
        let withdrawable: BTreeSet<CallId> = self.machine.withdrawable_calls().collect();
        assert!(withdrawable.is_subset(&(&out - &leased)), "a withdrawable call is outstanding and not leased");
        let is_found = |call: &CallId| self.machine.is_withdrawable(call) == withdrawable.contains(call);
        assert!(out.iter().chain(&leased).all(is_found), "a question about one call has the same answer");
        assert_eq!(pending, &(&out - &leased) - &withdrawable, "a leased or withdrawable call is not sent again");
    }

    /// An engine neither sends a call that its run no longer needs, nor requests a permit for it. So the run must not need it again.
    pub(super) fn assert_no_call_is_wanted_again(&mut self) {
        let out: BTreeSet<CallId> = self.machine.outstanding_calls().collect();
        let leased: BTreeSet<CallId> = self.machine.leased_calls().map(|(call, _)| call).collect();
        self.unwanted.retain(|call| out.contains(call));
        let mut unstarted = self.unwanted.difference(&leased);
        assert!(unstarted.all(|call| self.machine.is_withdrawable(call)), "wanted again: {:?}", self.unwanted);
        self.unwanted.extend(self.machine.withdrawable_calls());
    }

    pub(super) fn assert_old_event_is_ignored(&self) {
        for signal in &self.answered {
            assert_eq!(self.machine.decide(self.now, &Event::Signal(signal.clone())), [], "{}", signal.call);
        }
        for event in &self.fetched {
            assert_eq!(self.machine.decide(self.now, event), [], "{event:?}");
        }
        assert_eq!(self.machine.decide(self.now, &Event::Start), []);
    }
}
