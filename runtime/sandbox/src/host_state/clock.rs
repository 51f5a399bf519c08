//! The two clocks of a call, and sleeps.
//!
//! The wall clock always shows the job's time. The monotonic clock starts at zero and advances in two ways only: by a fixed
//! tick on each reading, and by the duration of each sleep of the guest. A sleep takes real time, but the clock hides its
//! real duration, so every attempt sees the same clock.
//!
//! A call that is granted the clocks of the machine sees these instead.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

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

/// The maximum number of handles that a guest polls at once. It has fewer pollables, and each handle in the list costs the host
/// some hundred bytes, also while the guest waits.
const MAX_POLLED: usize = 4_096;

/// The clocks of one call.
#[derive(Debug)]
pub(crate) struct Clock {
    source: Source,
    /// Nanoseconds since the start of the call, as the guest has last seen them.
    monotonic: u64,
    /// The time of each timer, by the handle of its pollable.
    timers: HashMap<u32, u64>,
}

/// What a clock shows.
#[derive(Debug)]
enum Source {
    /// The time of the job.
    Job(Timestamp),
    /// The time of the machine; the call started at this moment.
    Machine(Instant),
}

/// The resource behind a timer's pollable. The [`Clock`] has its time.
struct Timer;

#[async_trait]
impl Pollable for Timer {
    /// Never called: `wasi:io/poll` below asks the clock.
    async fn ready(&mut self) {}
}

impl Clock {
    /// A clock that stands at the time of a job.
    pub(super) fn of_job(time: Timestamp) -> Self {
        Self { source: Source::Job(time), monotonic: 0, timers: HashMap::new() }
    }

    /// The clock of the machine.
    pub(super) fn of_machine() -> Self {
        Self { source: Source::Machine(Instant::now()), monotonic: 0, timers: HashMap::new() }
    }

    fn read(&mut self) -> u64 {
        match self.source {
            Source::Job(_) => {
                let now = self.monotonic;
                self.monotonic = now.saturating_add(TICK);
                now
            }
            Source::Machine(_) => {
                self.update();
                self.monotonic
            }
        }
    }

    /// Lets a clock of the machine advance to now.
    fn update(&mut self) {
        if let Source::Machine(started) = self.source {
            let now = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.advance(now);
        }
    }

    /// Microseconds since 1970.
    fn wall(&self) -> u64 {
        match self.source {
            Source::Job(time) => time.as_micros(),
            Source::Machine(_) => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
            }
        }
    }

    /// The moment at which a pollable is ready, if it is a timer.
    fn due(&self, pollable: &Resource<DynPollable>) -> Option<u64> {
        self.timers.get(&pollable.rep()).copied()
    }

    /// Whether a pollable is a timer that is due.
    fn is_due(&self, pollable: &Resource<DynPollable>) -> bool {
        self.due(pollable).is_some_and(|due| due <= self.monotonic)
    }

    /// The real time until the first of some timers is due, and that moment on the clock; `None` without timers.
    fn first(&self, pollables: &[Resource<DynPollable>]) -> Option<(Duration, u64)> {
        let first = pollables.iter().filter_map(|pollable| self.due(pollable)).min()?;
        Some((Duration::from_nanos(first.saturating_sub(self.monotonic)), first))
    }

    /// Lets the clock advance to a moment up to which the guest has slept.
    fn advance(&mut self, to: u64) {
        self.monotonic = self.monotonic.max(to);
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
        let micros = self.clock.wall();
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
        self.clock.update();
        let due = self.clock.monotonic.saturating_add(duration);
        self.clock.add_timer(&mut self.table, due)
    }
}

impl HostState {
    /// The indices of the pollables that are ready: timers that are due, and streams and responses that are there.
    async fn ready_now(&mut self, pollables: &[Resource<DynPollable>]) -> wasmtime::Result<Vec<u32>> {
        let mut ready = Vec::new();
        for (pollable, index) in pollables.iter().zip(0..) {
            let is_ready = match self.clock.due(pollable) {
                Some(_) => self.clock.is_due(pollable),
                None => poll::HostPollable::ready(&mut self.table, Resource::new_borrow(pollable.rep())).await?,
            };
            ready.extend(is_ready.then_some(index));
        }
        Ok(ready)
    }
}

impl poll::Host for HostState {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        if pollables.is_empty() {
            return Err(wasmtime::Error::msg("it polled an empty list"));
        }
        if pollables.len() > MAX_POLLED {
            let reason = format!("it polled a list of {} handles, the limit is {MAX_POLLED}", pollables.len());
            return Err(wasmtime::Error::msg(reason));
        }
        for pollable in &pollables {
            self.table.get(pollable)?;
        }
        self.clock.update();
        let ready = self.ready_now(&pollables).await?;
        if !ready.is_empty() {
            return Ok(ready);
        }
        let others: Vec<(u32, Resource<DynPollable>)> = pollables
            .iter()
            .zip(0..)
            .filter(|(pollable, _)| self.clock.due(pollable).is_none())
            .map(|(pollable, index)| (index, Resource::new_borrow(pollable.rep())))
            .collect();
        let (indices, others): (Vec<u32>, Vec<_>) = others.into_iter().unzip();
        let first = self.clock.first(&pollables);
        let sleep = async {
            match first {
                Some((time, _)) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let others = async {
            match others.is_empty() {
                true => std::future::pending().await,
                false => poll::Host::poll(&mut self.table, others).await,
            }
        };
        tokio::select! {
            ready = others => Ok(ready?.into_iter().map(|ready| indices[ready as usize]).collect()),
            () = sleep => {
                // The clock does not advance if the sleep is cancelled.
                first.iter().for_each(|(_, due)| self.clock.advance(*due));
                self.clock.update();
                self.ready_now(&pollables).await
            }
        }
    }
}

impl poll::HostPollable for HostState {
    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.table.get(&pollable)?;
        self.clock.update();
        Ok(!self.ready_now(&[pollable]).await?.is_empty())
    }

    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::Host::poll(self, vec![pollable]).await.map(|_| ())
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.clock.timers.remove(&pollable.rep());
        poll::HostPollable::drop(&mut self.table, pollable)
    }
}
