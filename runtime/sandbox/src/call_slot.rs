//! The slot of a call: the right to compute, which a call lends while it waits for something outside its sandbox.

use std::{
    fmt,
    task::{Context, Poll},
};

/// The slot of one call. A call has it when it starts.
///
/// The owner of the slot frees it when the call has ended, in whatever state the call has left it.
pub trait CallSlot: fmt::Debug + Send + Sync {
    /// Lends the slot to other calls, since this one waits. `false` if this call keeps it.
    fn lend(&self) -> bool;

    /// Lends the slot as [`CallSlot::lend`] does, but only if another call waits for one again.
    fn lend_to_returning(&self) -> bool;

    /// Called when the guest has computed for a while: gives the slot to a call that waits for one again, if that one is likely to need
    /// it only shortly, and this call has computed for long enough. `false` if this call keeps it.
    fn give_way(&self) -> bool;

    /// Takes a slot again after [`CallSlot::lend`] or [`CallSlot::give_way`]. Calls that wait for a slot get one
    /// before new calls, those that need it only shortly first. The waker of the last poll is woken.
    fn poll_take_back(&self, context: &mut Context<'_>) -> Poll<()>;
}

/// The slot of a call beside which no other waits for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptSlot;

impl CallSlot for KeptSlot {
    fn lend(&self) -> bool {
        false
    }

    fn lend_to_returning(&self) -> bool {
        false
    }

    fn give_way(&self) -> bool {
        false
    }

    fn poll_take_back(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}
