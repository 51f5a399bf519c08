//! The slots of a worker: how many calls compute at once, how long they compute, and how many jobs to prefetch for them.
//!
//! A call holds a slot from the arrival of its job to its result, including the check whether the call is still wanted, except
//! while it waits for something outside its sandbox: then it lends the slot to other calls. While the signal is published, the slot
//! serves the next job: waiting for the broker needs no core.
//!
//! A call that takes its slot back comes before new jobs. It gets a free slot, or one that [`Intake`](crate::intake::Intake) has
//! reserved for its next job, or else the first that another call gives up: when it ends or lends its slot, or after
//! [`TIME_SLICE`].

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use metrics::SlotCounts;
use sandbox::CallSlot;
use tokio::{sync::Notify, time::Instant};

/// Amount of work to prefetch for each slot, if calls take as long as before. It covers some round trips to the
/// broker.
const PREFETCH_TIME: Duration = Duration::from_millis(50);

/// Maximum prefetch count of one queue while no call waits, unless there are more slots. A broker delivers some thousand jobs per
/// second, so this is [`PREFETCH_TIME`] of its throughput.
const MAX_PREFETCH: u16 = 256;

/// Assumed length of calls before the first one: long, so that nothing is prefetched.
const INITIAL_CALL_LENGTH: Duration = Duration::from_secs(1);

/// How long a call may compute after it has waited, and still counts as one that needs a slot only shortly. Others give way to it. Calls that
/// compute for longer go on in the order in which they were begun: if all took turns, the timeouts of all would pass, and none would end.
const SHORT_BURST: Duration = Duration::from_millis(100);

/// How long a call computes before it gives way to one that waits for a slot again. It is some ticks of the sandbox, and as long as
/// a call waits before it lends its slot.
const TIME_SLICE: Duration = Duration::from_millis(20);

/// The slots of one worker.
#[derive(Debug)]
pub(crate) struct Slots {
    count: u16,
    state: Mutex<State>,
    /// Notified when a slot is free for a new job.
    freed: Notify,
}

#[derive(Debug)]
struct State {
    /// Number of slots that are neither reserved nor held by a call. Then no call waits for one.
    free: u16,
    /// Number of slots that are reserved for jobs that have not arrived.
    reserved: u16,
    /// Number of reservations whose slot a returning call has taken. At most `reserved`.
    taken: u16,
    /// The calls whose jobs have arrived, by their numbers.
    calls: HashMap<u64, CallState>,
    next_call: u64,
    /// Number of calls that hold a slot.
    computing: u16,
    /// The calls that wait for a slot again, in order. Those that need it for long are sorted by their numbers.
    returning: VecDeque<u64>,
    /// Number of times that the queues were opened. A consumer's prefetch counts only calls whose jobs it delivered.
    opening: u64,
    /// Number of calls that the prefetch of the open consumers counts.
    counted: u16,
    /// Length of calls, weighted towards the latest ones and towards long ones. Only the time with a slot counts, since fetched
    /// jobs wait for nothing else.
    length: Duration,
}

#[derive(Debug)]
struct CallState {
    place: Place,
    /// How long it has held a slot before now.
    held: Duration,
    /// How much of that was after it waited last.
    burst: Duration,
    has_waited: bool,
    /// When it began to wait for a slot last.
    returns_since: Instant,
    /// The opening whose consumer delivered its job; `None` once the delivery is settled.
    opening: Option<u64>,
}

impl CallState {
    fn new(opening: u64) -> Self {
        let place = Place::Computing { since: Instant::now() };
        let returns_since = Instant::now();
        Self {
            place,
            held: Duration::ZERO,
            burst: Duration::ZERO,
            has_waited: false,
            returns_since,
            opening: Some(opening),
        }
    }

    /// Whether it has computed for so long since it waited last that it counts as one that needs its slot for long.
    fn is_long(&self) -> bool {
        self.burst + self.computing_for() >= SHORT_BURST
    }

    /// How long it has held the slot that it holds.
    fn computing_for(&self) -> Duration {
        match self.place {
            Place::Computing { since } => since.elapsed(),
            Place::Waiting | Place::Returning(_) => Duration::ZERO,
        }
    }
}

#[derive(Debug)]
enum Place {
    /// It holds a slot.
    Computing { since: Instant },
    /// It waits for something outside its sandbox.
    Waiting,
    /// It waits for a slot.
    Returning(Option<Waker>),
}

impl Slots {
    pub(crate) fn new(count: u16) -> Arc<Self> {
        let state = State {
            free: count,
            reserved: 0,
            taken: 0,
            calls: HashMap::new(),
            next_call: 0,
            computing: 0,
            returning: VecDeque::new(),
            opening: 0,
            counted: 0,
            length: INITIAL_CALL_LENGTH,
        };
        Arc::new(Self { count, state: Mutex::new(state), freed: Notify::new() })
    }

    /// Waits for a free slot, and reserves it for the next job. One caller at a time. Cancel-safe.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Slot {
        loop {
            // A notification before it is polled is stored.
            let freed = self.freed.notified();
            if let Some(slot) = self.try_acquire() {
                return slot;
            }
            freed.await;
        }
    }

    fn try_acquire(self: &Arc<Self>) -> Option<Slot> {
        let mut state = self.lock();
        state.free = state.free.checked_sub(1)?;
        state.reserved += 1;
        Some(Slot { slots: self.clone(), call: None })
    }

    /// What the slots do now.
    pub(crate) fn counts(&self) -> SlotCounts {
        let state = self.lock();
        let computing = usize::from(state.computing);
        // A reserved slot is free: no job has arrived for it.
        let free = usize::from(self.count).saturating_sub(computing);
        SlotCounts { computing, waiting: state.calls.len().saturating_sub(computing), free }
    }

    /// Returns the prefetch count of a queue: its running jobs, one for each slot that none holds, plus as many as the slots process in
    /// [`PREFETCH_TIME`].
    pub(crate) fn prefetch(&self) -> u16 {
        let state = self.lock();
        let length = state.length.as_nanos().max(1);
        let prefetched = u128::from(self.count) * PREFETCH_TIME.as_nanos() / length;
        let prefetched = u16::try_from(prefetched).unwrap_or(MAX_PREFETCH).min(MAX_PREFETCH.saturating_sub(self.count));
        state.used_prefetch(self.count).saturating_add(prefetched).max(1)
    }

    /// Returns the lowest prefetch count with which each slot can have a job, while one slot is reserved for the next job. A returning call may
    /// have taken that one, and may lend it at any moment.
    pub(crate) fn min_prefetch(&self) -> u16 {
        let state = self.lock();
        state.used_prefetch(self.count).max(state.counted.saturating_add(1))
    }

    /// Records that the queues were opened again: their prefetch counts no call that runs now.
    pub(crate) fn opened(&self) {
        let mut state = self.lock();
        state.opening += 1;
        state.counted = 0;
    }

    /// Records that calls run longer than fetched jobs may wait.
    pub(crate) fn on_stalled(&self, wait: Duration) {
        let mut state = self.lock();
        state.length = state.length.max(wait);
    }

    /// Changes the state, and then wakes the call that got a slot, or the intake.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> (T, Freed)) -> T {
        let (result, freed) = change(&mut self.lock());
        match freed {
            Freed::Nothing | Freed::Call(None) => {}
            Freed::Call(Some(waker)) => waker.wake(),
            Freed::NewJobs => self.freed.notify_one(),
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the state is changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who can use a slot that was given up.
enum Freed {
    /// None was given up.
    Nothing,
    /// A returning call has it, and is to be woken.
    Call(Option<Waker>),
    /// It is free.
    NewJobs,
}

impl State {
    /// The calls that the prefetch counts, and the slots that no call holds.
    fn used_prefetch(&self, slots: u16) -> u16 {
        self.counted.saturating_add(slots.saturating_sub(self.computing))
    }

    /// Takes the returning call that is next: the first, unless the oldest that needs a slot for long has waited for as long as a short one may
    /// compute. So many short ones cannot keep the slots from it.
    fn pop_returning(&mut self) -> Option<u64> {
        let calls = &self.calls;
        let long = |id: &u64| calls.get(id).filter(|call| call.is_long());
        let oldest = self.returning.iter().enumerate().find_map(|(at, id)| Some((at, long(id)?)));
        let due = oldest.filter(|(_, call)| call.returns_since.elapsed() >= SHORT_BURST).map_or(0, |(at, _)| at);
        self.returning.remove(due)
    }

    /// Gives a slot that nobody holds to the next returning call, or to new jobs.
    fn release(&mut self) -> Freed {
        while let Some(id) = self.pop_returning() {
            let Some(call) = self.calls.get_mut(&id) else { continue };
            let place = std::mem::replace(&mut call.place, Place::Computing { since: Instant::now() });
            self.computing += 1;
            let waker = if let Place::Returning(waker) = place { waker } else { None };
            return Freed::Call(waker);
        }
        self.free += 1;
        Freed::NewJobs
    }

    /// Takes the slot of a call away, and leaves the call in this place. `Freed::Nothing` if it holds none.
    fn take_slot(&mut self, id: u64, place: Place) -> Freed {
        let Some(call) = self.calls.get_mut(&id) else { return Freed::Nothing };
        let Place::Computing { since } = call.place else { return Freed::Nothing };
        call.held += since.elapsed();
        call.burst += since.elapsed();
        call.place = place;
        self.computing -= 1;
        self.release()
    }

    /// Takes a slot that no call holds, free or reserved.
    fn take_unheld(&mut self) -> bool {
        if self.free > 0 {
            self.free -= 1;
        } else if self.taken < self.reserved {
            self.taken += 1;
        } else {
            return false;
        }
        self.computing += 1;
        true
    }

    /// Ends a reservation. `false` if its slot is gone.
    fn end_reservation(&mut self) -> bool {
        self.reserved -= 1;
        match self.taken.checked_sub(1) {
            Some(taken) => {
                self.taken = taken;
                false
            }
            None => true,
        }
    }

    /// The prefetch of the open consumers no longer counts a call.
    fn uncount(&mut self, opening: Option<u64>) {
        if opening == Some(self.opening) {
            self.counted = self.counted.saturating_sub(1);
        }
    }

    fn end(&mut self, id: u64) -> Freed {
        let freed = self.take_slot(id, Place::Waiting);
        let Some(CallState { held, opening, .. }) = self.calls.remove(&id) else { return freed };
        self.returning.retain(|returning| *returning != id);
        self.uncount(opening);
        self.add_length(held);
        freed
    }

    /// Lends the slot of a call. `Freed::Nothing` if it holds none.
    fn lend(&mut self, id: u64) -> Freed {
        let freed = self.take_slot(id, Place::Waiting);
        let Some(call) = self.calls.get_mut(&id) else { return freed };
        call.burst = Duration::ZERO;
        if !call.has_waited {
            // The next job does not wait for the end of this call.
            call.has_waited = true;
            let held = call.held;
            self.add_length(held);
        }
        freed
    }

    /// Gives the slot of a call to a returning one that comes before it: one that needs it only shortly, or, if this call needs it for long, an
    /// older one. `Freed::Nothing` if there is none.
    fn give_way(&mut self, id: u64) -> Freed {
        let calls = &self.calls;
        let is_long = |call: &u64| calls.get(call).is_some_and(CallState::is_long);
        let holder_is_long = is_long(&id);
        let short = self.returning.iter().position(|call| !is_long(call));
        let older = || self.returning.iter().position(|call| holder_is_long && *call < id);
        let Some(next) = short.or_else(older).and_then(|at| self.returning.remove(at)) else { return Freed::Nothing };
        self.returning.push_back(id);
        if holder_is_long {
            // The sort is stable, so the short ones keep their order.
            self.returning.make_contiguous().sort_by_key(|call| is_long(call).then_some(*call));
        }
        self.returning.push_front(next);
        if let Some(call) = self.calls.get_mut(&id) {
            call.returns_since = Instant::now();
        }
        self.take_slot(id, Place::Returning(None))
    }

    /// Adds the length of a call.
    fn add_length(&mut self, held: Duration) {
        // Long calls count at once, since jobs fetched behind them wait; short ones only when there are many of them.
        self.length = if held > self.length { (self.length + held) / 2 } else { (self.length * 9 + held) / 10 };
    }
}

/// A slot that is reserved for a job, or its call. Dropping it frees the slot.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    /// The number of the call; `None` until its job has arrived.
    call: Option<u64>,
}

impl Slot {
    /// Records that a job arrived for the slot, from a consumer that is open now. Returns nothing if a returning call has taken the
    /// slot meanwhile.
    pub(crate) fn begin(mut self) -> Option<Self> {
        let id = {
            let mut state = self.slots.lock();
            if state.taken > 0 {
                return None;
            }
            state.end_reservation();
            state.computing += 1;
            state.counted += 1;
            let (id, opening) = (state.next_call, state.opening);
            state.next_call += 1;
            state.calls.insert(id, CallState::new(opening));
            id
        };
        self.call = Some(id);
        Some(self)
    }

    /// Records that the job's delivery is settled while its call runs on, so the consumer's prefetch no longer counts
    /// it.
    pub(crate) fn lease(&self) {
        let mut state = self.slots.lock();
        let opening = self.call.and_then(|id| state.calls.get_mut(&id)?.opening.take());
        state.uncount(opening);
    }

    /// What the call uses to lend the slot.
    pub(crate) fn lendable(&self) -> Arc<dyn CallSlot> {
        match self.call {
            Some(call) => Arc::new(LendableSlot { slots: self.slots.clone(), call }),
            None => Arc::new(sandbox::KeptSlot),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.change(|state| match self.call {
            Some(id) => ((), state.end(id)),
            None if state.end_reservation() => ((), state.release()),
            None => ((), Freed::Nothing),
        });
    }
}

/// Whether a call has given its slot away, and to whom.
fn given(freed: Freed) -> (bool, Freed) {
    match freed {
        Freed::Nothing => (false, Freed::Nothing),
        freed @ (Freed::Call(_) | Freed::NewJobs) => (true, freed),
    }
}

/// The slot of a call that runs. It does nothing once the call has ended.
#[derive(Debug)]
struct LendableSlot {
    slots: Arc<Slots>,
    call: u64,
}

impl CallSlot for LendableSlot {
    fn lend(&self) -> bool {
        self.slots.change(|state| given(state.lend(self.call)))
    }

    fn lend_to_returning(&self) -> bool {
        self.slots.change(|state| match state.returning.is_empty() {
            true => (false, Freed::Nothing),
            false => given(state.lend(self.call)),
        })
    }

    fn give_way(&self) -> bool {
        self.slots.change(|state| {
            let has_computed = state.calls.get(&self.call).is_some_and(|call| call.computing_for() >= TIME_SLICE);
            if !has_computed {
                return (false, Freed::Nothing);
            }
            given(state.give_way(self.call))
        })
    }

    fn poll_take_back(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.slots.lock();
        match state.calls.get_mut(&self.call).map(|call| &mut call.place) {
            // The call has ended, or another one has left it the slot.
            None | Some(Place::Computing { .. }) => return Poll::Ready(()),
            Some(Place::Returning(waker)) => {
                *waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            Some(Place::Waiting) => {}
        }
        let has_slot = state.take_unheld();
        if !has_slot {
            state.returning.push_back(self.call);
        }
        if let Some(call) = state.calls.get_mut(&self.call) {
            call.returns_since = Instant::now();
            call.place = match has_slot {
                true => Place::Computing { since: Instant::now() },
                false => Place::Returning(Some(context.waker().clone())),
            };
        }
        if has_slot { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests;
