//! The calls whose lookups have not begun, in turns: a namespace, and in it a run, waits for one call of each other, however many those have.

use std::collections::VecDeque;

use flow::{CallId, Namespace, RunId};
use protocol::MemoAddress;
use tokio::time::{Duration, Instant};

use crate::turns::{Turn, Turns};

type WaitingCall = (CallId, MemoAddress);

/// The waiting calls. A plain value.
#[derive(Default)]
pub(super) struct LookupQueue {
    namespaces: Turns<Option<Namespace>, Turns<RunId, VecDeque<WaitingCall>>>,
    /// The calls in the order of their arrival, also those that were taken since.
    arrivals: VecDeque<(Instant, CallId)>,
}

impl LookupQueue {
    pub(super) fn push(&mut self, call: CallId, address: MemoAddress) {
        self.arrivals.push_back((Instant::now(), call.clone()));
        self.namespaces.entry(address.namespace.clone()).entry(call.run.clone()).push_back((call, address));
    }

    /// Takes the next call.
    pub(super) fn pop(&mut self) -> Option<WaitingCall> {
        let turn = |is_empty| if is_empty { Turn::WasLast } else { Turn::IsOver };
        self.namespaces.take(|runs| {
            let call = runs.take(|calls| (calls.pop_front(), turn(calls.is_empty())));
            (call, turn(runs.is_empty()))
        })
    }

    /// Returns the oldest call if it came this long ago, and forgets its time. It may have been taken since.
    pub(super) fn next_arrived_before(&mut self, time: Duration) -> Option<CallId> {
        let (_, call) = self.arrivals.pop_front_if(|(at, _)| at.elapsed() >= time)?;
        Some(call)
    }
}
