//! The two clocks of a call, and sleeps.
//!
//! The wall clock always shows the job's time. The monotonic clock starts at zero and advances in two ways only: by a fixed
//! tick on each reading, and by the duration of each sleep of the guest. A sleep takes real time, but the clock hides its
//! real duration, so every attempt sees the same clock.

use std::{collections::HashMap, time::Duration};

use flow::Timestamp;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::{
    async_trait,
    p2::bindings::clocks::{
        monotonic_clock,
        wall_clock::{self, Datetime},
    },
};
use wasmtime_wasi_io::{
    bindings::wasi::io::poll,
    poll::{DynPollable, Pollable, subscribe},
};

use super::HostState;

/// How far a reading advances the monotonic clock, in nanoseconds, so that a guest that polls the clock makes progress.
const TICK: u64 = 1_000;

/// The clocks of one call.
#[derive(Debug)]
pub(crate) struct Clock {
    wall: Timestamp,
    /// Nanoseconds since the start of the call, as the guest sees them.
    monotonic: u64,
    /// The time of each timer, by the handle of its pollable.
    timers: HashMap<u32, u64>,
}

/// The resource behind a timer's pollable. The [`Clock`] has its time.
struct Timer;

#[async_trait]
impl Pollable for Timer {
    /// Never called: `wasi:io/poll` below asks the clock.
    async fn ready(&mut self) {}
}

impl Clock {
    pub(crate) fn new(wall: Timestamp) -> Self {
        Self { wall, monotonic: 0, timers: HashMap::new() }
    }

    fn read(&mut self) -> u64 {
        let now = self.monotonic;
        self.monotonic = now.saturating_add(TICK);
        now
    }

    /// Whether a pollable is ready. A pollable without a timer is a stream of the host, which never waits.
    fn is_ready(&self, pollable: &Resource<DynPollable>) -> bool {
        self.timers.get(&pollable.rep()).is_none_or(|due| *due <= self.monotonic)
    }

    /// Sleeps until the first of the timers is due. The clock does not advance if the sleep is cancelled.
    async fn sleep(&mut self, pollables: &[Resource<DynPollable>]) {
        let first = pollables.iter().filter_map(|pollable| self.timers.get(&pollable.rep())).min();
        if let Some(first) = first.copied() {
            let nanoseconds = first.saturating_sub(self.monotonic);
            tokio::time::sleep(Duration::from_nanos(nanoseconds)).await;
            self.monotonic = self.monotonic.max(first);
        }
    }

    fn add_timer(&mut self, table: &mut ResourceTable, due: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let timer = table.push(Timer)?;
        let pollable = subscribe(table, timer)?;
        self.timers.insert(pollable.rep(), due);
        Ok(pollable)
    }
}

impl wall_clock::Host for HostState {
    fn now(&mut self) -> wasmtime::Result<Datetime> {
        let micros = self.clock.wall.as_micros();
        let nanoseconds = u32::try_from(micros % 1_000_000 * 1_000).expect("less than a second of nanoseconds");
        Ok(Datetime { seconds: micros / 1_000_000, nanoseconds })
    }

    fn resolution(&mut self) -> wasmtime::Result<Datetime> {
        Ok(Datetime { seconds: 0, nanoseconds: 1_000 })
    }
}

impl monotonic_clock::Host for HostState {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.clock.read())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(TICK)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.clock.add_timer(&mut self.table, when)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let due = self.clock.monotonic.saturating_add(duration);
        self.clock.add_timer(&mut self.table, due)
    }
}

impl poll::Host for HostState {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        if pollables.is_empty() {
            return Err(wasmtime::Error::msg("it polled an empty list"));
        }
        for pollable in &pollables {
            self.table.get(pollable)?;
        }
        if !pollables.iter().any(|pollable| self.clock.is_ready(pollable)) {
            self.clock.sleep(&pollables).await;
        }
        let ready = pollables.iter().zip(0..).filter(|(pollable, _)| self.clock.is_ready(pollable));
        Ok(ready.map(|(_, index)| index).collect())
    }
}

impl poll::HostPollable for HostState {
    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.table.get(&pollable)?;
        Ok(self.clock.is_ready(&pollable))
    }

    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.table.get(&pollable)?;
        if !self.clock.is_ready(&pollable) {
            self.clock.sleep(&[pollable]).await;
        }
        Ok(())
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.clock.timers.remove(&pollable.rep());
        poll::HostPollable::drop(&mut self.table, pollable)
    }
}
