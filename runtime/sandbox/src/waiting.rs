//! Calls that wait for something outside their sandbox: they lend their slots, within bounds.
//!
//! A guest that computes yields at ticks, and says so ([`Watchdog::yielding`]). A guest that has not ended, has not yielded and is
//! not woken waits: for a response, a connection, a timer or a disk. Its call keeps the slot for as long as its [`Credit`] allows and no other
//! call wants the slot. The guest is polled again only with a slot.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::time::{Instant, sleep};

use crate::{
    call_slot::CallSlot,
    run::{Pause, Watchdog},
};

/// How long a call keeps its slot while it waits, beyond the time for which it computes: so a call that waits shortly between its work loses
/// nothing, and one that only takes naps keeps no slot from others.
const WAITING_AFTER: Duration = Duration::from_millis(20);

/// The pause after which a waiting call that had to keep its slot tries to lend it again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The maximum of what all waiting calls of a sandbox have, without their slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WaitingLimits {
    /// Their number. 0: a waiting call keeps its slot.
    pub calls: u16,
    /// The bytes of all their linear memories, tables, stacks, inputs, outputs and HTTP messages, and of the code of their modules.
    pub memory: u64,
}

/// The calls without a slot: those that wait for something, and those that wait for a slot.
#[derive(Debug)]
pub(crate) struct WaitingCalls {
    limits: WaitingLimits,
    /// The number of calls that may give their slots to others beyond the limits: each of those leaves its place here a moment later.
    swaps: u16,
    max_mappings: u64,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    calls: u16,
    /// With the code of each module once.
    memory: u64,
    mappings: u64,
    /// The code of the calls' modules, by [`Code::module`].
    code: HashMap<usize, UsedCode>,
}

#[derive(Debug, Default)]
struct UsedCode {
    calls: u16,
    bytes: u64,
}

/// What a call has in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// The bytes that it does not share.
    pub(crate) memory: u64,
    pub(crate) code: Code,
}

/// The machine code of a call's module. The calls of a module share it, and keep it in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Code {
    /// A number of the module that no other one has as long as the call has it.
    pub(crate) module: usize,
    pub(crate) bytes: u64,
}

/// A call that may be without its slot, until this is dropped.
struct Admitted<'a> {
    calls: &'a WaitingCalls,
    memory: u64,
    mappings: u64,
    module: usize,
}

impl WaitingCalls {
    /// Bounds the calls beside so many slots.
    pub(crate) fn new(limits: WaitingLimits, slots: u16, max_mappings: u64) -> Self {
        let swaps = if limits.calls == 0 { 0 } else { slots };
        Self { limits, swaps, max_mappings, used: Mutex::default() }
    }

    /// No call may lend its slot.
    pub(crate) fn none() -> Self {
        Self::new(WaitingLimits::default(), 0, 0)
    }

    /// The maximum number of calls without a slot.
    pub(crate) fn max_calls(&self) -> u32 {
        u32::from(self.limits.calls) + u32::from(self.swaps)
    }

    /// Lets a call wait without its slot, if the bounds allow one with so much memory and so many mappings.
    fn admit(&self, held: Held, mappings: u64) -> Option<Admitted<'_>> {
        self.add(held, mappings, |used, memory| {
            used.calls < self.limits.calls && used.memory.saturating_add(memory) <= self.limits.memory
        })
    }

    /// Lets a call give its slot to another call that is here, and leaves. That one takes its memory along, so the memory of one call may be
    /// beyond the limit for a moment.
    fn swap(&self, held: Held, mappings: u64) -> Option<Admitted<'_>> {
        self.add(held, mappings, |used, memory| {
            used.calls < self.limits.calls.saturating_add(self.swaps) && used.memory.max(memory) <= self.limits.memory
        })
    }

    /// Adds a call if that is allowed with the memory that it adds.
    fn add(
        &self,
        Held { memory, code }: Held,
        mappings: u64,
        is_allowed: impl FnOnce(&Used, u64) -> bool,
    ) -> Option<Admitted<'_>> {
        let mut used = self.lock();
        let added = memory.saturating_add(used.further_code(code));
        if used.mappings.saturating_add(mappings) > self.max_mappings || !is_allowed(&used, added) {
            return None;
        }
        used.calls += 1;
        used.memory += added;
        used.mappings += mappings;
        let of_module = used.code.entry(code.module).or_default();
        of_module.calls += 1;
        of_module.bytes = of_module.bytes.max(code.bytes);
        Some(Admitted { calls: self, memory, mappings, module: code.module })
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        // Nothing panics while it is changed.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    /// The bytes of a module's code that no other call has.
    fn further_code(&self, code: Code) -> u64 {
        code.bytes.saturating_sub(self.code.get(&code.module).map_or(0, |used| used.bytes))
    }

    /// Removes the code of a call. That of its last one is of no use any more.
    fn remove_code(&mut self, module: usize) {
        let Some(code) = self.code.get_mut(&module) else { return };
        code.calls -= 1;
        if code.calls == 0 {
            self.memory -= code.bytes;
            self.code.remove(&module);
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let mut used = self.calls.lock();
        used.calls -= 1;
        used.memory -= self.memory;
        used.mappings -= self.mappings;
        used.remove_code(self.module);
    }
}

/// What a call needs to lend its slot.
pub(crate) struct Lending<'a> {
    pub(crate) slot: &'a dyn CallSlot,
    pub(crate) waiting: &'a WaitingCalls,
    /// Its timeout, which stands still while the call waits for a slot.
    pub(crate) watch: &'a Watchdog,
    /// What it has in memory now.
    pub(crate) held: &'a (dyn Fn() -> Held + Sync),
    /// The memory mappings that it may have.
    pub(crate) mappings: u64,
}

/// How long a call may keep its slot while it waits: it earns that by computing.
struct Credit {
    left: Duration,
    /// Since when it computes, or waits with its slot.
    since: Instant,
    is_waiting: bool,
}

impl Credit {
    fn new() -> Self {
        Self { left: WAITING_AFTER, since: Instant::now(), is_waiting: false }
    }

    /// The call computes from now on, if it did not.
    fn computes(&mut self) {
        if self.is_waiting {
            self.left = self.left.saturating_sub(self.since.elapsed());
            (self.since, self.is_waiting) = (Instant::now(), false);
        }
    }

    /// The call waits with its slot from now on.
    fn waits(&mut self) {
        self.left = (self.left + self.since.elapsed()).min(WAITING_AFTER);
        (self.since, self.is_waiting) = (Instant::now(), true);
    }

    /// The call has a slot again, and computes from now on.
    fn returns(&mut self) {
        (self.since, self.is_waiting) = (Instant::now(), false);
    }
}

/// What a call does about its slot.
enum Stage<'a> {
    /// It has the slot.
    Computing,
    /// It waits, and has lent the slot.
    Waiting(Admitted<'a>),
    /// It waits for a slot.
    Returning { _admitted: Admitted<'a>, _pause: Pause<'a> },
}

/// Notes that the guest is to be polled.
struct GuestWaker {
    is_woken: AtomicBool,
    call: AtomicWaker,
}

impl Wake for GuestWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.call.wake();
    }
}

/// Runs a guest, which has a slot, and lends the slot while the guest waits. The guest is polled only with a slot, and only when it
/// was woken. Dropping the future leaves the slot as it is: its owner frees it.
pub(crate) async fn in_slot<T>(lending: Lending<'_>, guest: impl Future<Output = T>) -> T {
    let Lending { slot, waiting, watch, held, mappings } = lending;
    let woken = Arc::new(GuestWaker { is_woken: AtomicBool::new(true), call: AtomicWaker::new() });
    let waker = Waker::from(woken.clone());
    let mut stage = Stage::Computing;
    let mut credit = Credit::new();
    // It sets a timer once it is polled.
    let (mut guest, mut lends) = (pin!(guest), pin!(sleep(WAITING_AFTER)));
    let run = std::future::poll_fn(|context| {
        woken.call.register(context.waker());
        loop {
            stage = match std::mem::replace(&mut stage, Stage::Computing) {
                Stage::Computing => {
                    if woken.is_woken.swap(false, Ordering::AcqRel) {
                        credit.computes();
                        if let Poll::Ready(result) = guest.as_mut().poll(&mut Context::from_waker(&waker)) {
                            return Poll::Ready(result);
                        }
                        if !watch.yielding().is_set() {
                            credit.waits();
                            lends.as_mut().reset(Instant::now() + credit.left);
                        } else if let Some(admitted) = waiting.swap(held(), mappings)
                            && slot.give_way()
                        {
                            stage = Stage::Returning { _admitted: admitted, _pause: watch.pause() };
                            continue;
                        }
                    }
                    if watch.yielding().is_set() {
                        return Poll::Pending;
                    }
                    // A call that could go on must not wait for this one, which does nothing: also not beyond a bound.
                    let given = waiting.swap(held(), mappings).filter(|_| slot.lend_to_returning());
                    if given.is_none() && lends.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    match given.or_else(|| waiting.admit(held(), mappings).filter(|_| slot.lend())) {
                        Some(admitted) => {
                            credit.left = Duration::ZERO;
                            Stage::Waiting(admitted)
                        }
                        None => {
                            lends.as_mut().reset(Instant::now() + RETRY_AFTER);
                            Stage::Computing
                        }
                    }
                }
                Stage::Waiting(admitted) if woken.is_woken.load(Ordering::Acquire) => {
                    Stage::Returning { _admitted: admitted, _pause: watch.pause() }
                }
                waits @ Stage::Waiting(_) => {
                    stage = waits;
                    return Poll::Pending;
                }
                returns @ Stage::Returning { .. } => {
                    if slot.poll_take_back(context).is_pending() {
                        stage = returns;
                        return Poll::Pending;
                    }
                    credit.returns();
                    Stage::Computing
                }
            };
        }
    });
    run.await
}

#[cfg(test)]
mod tests;
