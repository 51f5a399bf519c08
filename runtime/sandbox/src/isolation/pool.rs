//! The children that have loaded a module: those that make a call, and those that wait for the next one.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use flow::{Digest, FlowName, Limits, Namespace};
use tokio_util::task::TaskTracker;

use super::{
    message::{Start, Started},
    process::{CallProcess, StartError},
};
use crate::{
    confined::Program,
    engines::{Backtraces, EngineKind},
};

/// How long a child waits for the next call of its module before it is ended.
const IDLE_LIFETIME: Duration = Duration::from_secs(60);

/// Memory of a child beyond what its guest may use, in bytes: the program, and what its allocator reserves.
const BASE_MEMORY: u64 = 3 << 30;

/// Children by module. No child makes calls of two modules, or of two owners.
pub(crate) struct Pool {
    program: Program,
    /// The maximum memory of a child in bytes, without its code.
    memory: u64,
    backtraces: Backtraces,
    /// The maximum number of children that wait or make a call. There are more only while modules are loaded.
    max_children: usize,
    state: Mutex<PoolState>,
    /// Ends idle children.
    reaper: TaskTracker,
}

#[derive(Default)]
struct PoolState {
    /// The children that wait, the longest first.
    idle: Vec<IdleChild>,
    busy: usize,
    has_reaper: bool,
}

struct IdleChild {
    since: Instant,
    child: Child,
}

/// A child and what it is for.
struct Child {
    process: CallProcess,
    digest: Digest,
    kind: EngineKind,
    /// Whose data it has seen.
    owner: Option<Owner>,
}

/// Whose data a call has: the namespace of its flow. Flows without one have a common owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner(Option<Namespace>);

impl Owner {
    pub(super) fn of(flow: &FlowName) -> Self {
        Self(flow.namespace())
    }
}

/// A child that one call has for itself. Dropping it ends the child.
pub(super) struct Member {
    pool: Arc<Pool>,
    /// `None` once it was released.
    child: Option<Child>,
}

impl Pool {
    /// Creates a pool without children. A call never has higher limits than these.
    pub(crate) fn new(program: Program, max_children: usize, max_limits: &Limits, backtraces: Backtraces) -> Self {
        let (memory, state, reaper) = (memory(max_limits), Mutex::default(), TaskTracker::new());
        Self { program, memory, backtraces, max_children, state, reaper }
    }

    /// Takes a child that has loaded a module, or starts one. `owner` is whose data the child will see; without an owner, the
    /// child has seen no data.
    pub(super) async fn take(
        self: &Arc<Self>,
        digest: Digest,
        kind: EngineKind,
        owner: Option<Owner>,
        code: &[u8],
    ) -> Result<Member, StartError> {
        let mut member = match self.take_idle(digest, kind, owner.as_ref()) {
            Some(child) => Member { pool: self.clone(), child: Some(child) },
            None => self.start(digest, kind, code).await?.0,
        };
        if let Some(child) = &mut member.child {
            child.owner = owner.or(child.owner.take());
        }
        Ok(member)
    }

    /// Starts a child, and ends the one that has waited longest if there are too many. Also returns what the child says of its
    /// module.
    pub(super) async fn start(
        self: &Arc<Self>,
        digest: Digest,
        kind: EngineKind,
        code: &[u8],
    ) -> Result<(Member, Started), StartError> {
        let excess = {
            let mut state = self.state();
            state.busy += 1;
            state.excess(self.max_children)
        };
        drop(excess);
        let mut member = Member { pool: self.clone(), child: None };
        let memory = self.memory.saturating_add(2 * code.len() as u64);
        let start = Start { kind, memory, backtraces: self.backtraces };
        let (process, started) = CallProcess::start(&self.program, &start, code).await?;
        member.child = Some(Child { process, digest, kind: kind.with(started.allocation), owner: None });
        Ok((member, started))
    }

    fn take_idle(&self, digest: Digest, kind: EngineKind, owner: Option<&Owner>) -> Option<Child> {
        loop {
            let mut child = {
                let mut state = self.state();
                // The youngest, so that the others can be ended.
                let position = state.idle.iter().rposition(|idle| idle.child.fits(digest, kind, owner))?;
                let child = state.idle.remove(position).child;
                state.busy += 1;
                child
            };
            match child.process.check_idle() {
                Ok(()) => return Some(child),
                Err(reason) => tracing::warn!(digest = %digest.short(), "a process that waited for a call {reason}"),
            }
            self.state().busy -= 1;
        }
    }

    fn release(self: &Arc<Self>, child: Child) {
        let excess = {
            let mut state = self.state();
            state.idle.push(IdleChild { since: Instant::now(), child });
            if !state.has_reaper {
                state.has_reaper = true;
                self.reaper.spawn(end_idle(Arc::downgrade(self)));
            }
            state.excess(self.max_children)
        };
        drop(excess);
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory of a child whose guest uses these limits. The inputs of a call have to fit into the guest's memory.
fn memory(limits: &Limits) -> u64 {
    let parts =
        [3_u64.saturating_mul(limits.memory), 4_u64.saturating_mul(limits.output), 2_u64.saturating_mul(limits.log)];
    parts.into_iter().fold(BASE_MEMORY, u64::saturating_add)
}

/// Ends children that have waited for too long, until none waits.
async fn end_idle(pool: std::sync::Weak<Pool>) {
    let mut pause = IDLE_LIFETIME;
    loop {
        tokio::time::sleep(pause).await;
        let Some(pool) = pool.upgrade() else { return };
        let (ended, next) = {
            let mut state = pool.state();
            let now = Instant::now();
            let waits = state.idle.partition_point(|idle| now.duration_since(idle.since) >= IDLE_LIFETIME);
            let ended: Vec<IdleChild> = state.idle.drain(..waits).collect();
            let next = state.idle.first().map(|next| IDLE_LIFETIME.saturating_sub(now.duration_since(next.since)));
            state.has_reaper = next.is_some();
            (ended, next)
        };
        // Without the lock, since the end of a process takes time.
        drop(ended);
        match next {
            Some(next) => pause = next,
            None => return,
        }
    }
}

impl PoolState {
    /// Takes out the idle children that are too many, those first that have waited longest.
    fn excess(&mut self, max_children: usize) -> Vec<IdleChild> {
        let excess = (self.idle.len() + self.busy).saturating_sub(max_children).min(self.idle.len());
        self.idle.drain(..excess).collect()
    }
}

impl Child {
    fn fits(&self, digest: Digest, kind: EngineKind, owner: Option<&Owner>) -> bool {
        self.digest == digest && self.kind == kind && may_see(self.owner.as_ref(), owner)
    }
}

/// Whether a child that has seen the data of one owner may make a call with that of another.
fn may_see(seen: Option<&Owner>, wanted: Option<&Owner>) -> bool {
    seen.is_none() || seen == wanted
}

impl Member {
    pub(super) fn process(&mut self) -> &mut CallProcess {
        &mut self.child.as_mut().expect(HAS_CHILD).process
    }

    /// Lets the child wait for the next call: it has ended the last one.
    pub(super) fn release(mut self) {
        let child = self.child.take().expect(HAS_CHILD);
        let pool = self.pool.clone();
        drop(self);
        pool.release(child);
    }
}

const HAS_CHILD: &str = "a member has its child until it is released";

impl Drop for Member {
    fn drop(&mut self) {
        self.pool.state().busy -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_call_is_the_namespace_of_its_flow() {
        let owner = |flow: &str| Owner::of(&flow.parse().unwrap());
        assert_eq!(owner("shop/bake"), owner("shop/sell"));
        assert_ne!(owner("shop/bake"), owner("other/bake"));
        assert_ne!(owner("shop/bake"), owner("bake"));
        assert_eq!(owner("bake"), owner("sell"));
        let (shop, other) = (owner("shop/bake"), owner("other/bake"));
        assert!(may_see(None, Some(&shop)) && may_see(None, None) && may_see(Some(&shop), Some(&shop)));
        assert!(!may_see(Some(&shop), Some(&other)) && !may_see(Some(&shop), None));
    }

    #[test]
    fn the_memory_of_a_child_follows_the_limits() {
        let limits = Limits { memory: 1 << 30, output: 1 << 20, log: 1 << 20, ..Limits::default() };
        assert_eq!(memory(&limits), BASE_MEMORY + (3 << 30) + (6 << 20));
        assert_eq!(memory(&Limits { memory: u64::MAX, ..limits }), u64::MAX);
    }
}
