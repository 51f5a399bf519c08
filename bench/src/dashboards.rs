//! Measures what open dashboards cost a busy system: the same flow while 200 pages are open, beside the same flow without them.
//!
//! Half of the pages show the list of runs, the others a run. They are sockets of this process, so that they take little of the processor;
//! it is printed how much.

mod page;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use self::page::{LIST_INTERVAL, RUN_INTERVAL, Reader};
use crate::{
    Bench, cpu,
    installation::{Installation, TASKS},
    report::{Pairs, median},
};

/// The number of pages of each kind: those with the list, and those with a run.
const PAGES: usize = 100;

/// The number of people. Each has a token, as an operator gives it: a server sends at most 64 event streams to one token, and to all who use
/// it without a token.
const PEOPLE: usize = 10;

/// The number of samples of each kind, in alternation.
const SAMPLES: usize = 5;

/// The number of rounds of a sample.
const ROUNDS: usize = 3;

/// How long it may take to open the pages.
const MAX_OPENING: Duration = Duration::from_secs(60);

/// The pause before it is asked again whether a run has started.
const STARTING_INTERVAL: Duration = Duration::from_millis(20);

/// What the pages with a run show.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Each another run, which waits for a person.
    WaitingRuns,
    /// All the run of the round, from its start on: each page receives all its events.
    BusyRun,
}

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    compare(bench, Shown::WaitingRuns, "200 dashboards, waiting runs").await?;
    compare(bench, Shown::BusyRun, "200 dashboards, the busy run").await
}

async fn compare(bench: &Bench, shown: Shown, what: &str) -> anyhow::Result<()> {
    let installation = Installation::start(bench).await?;
    let mut readers = Vec::new();
    for number in 0..PEOPLE {
        let token = installation.create_reader(&format!("person-{number}")).await?;
        readers.push(Reader { address: installation.host().to_owned(), token });
    }
    let mut waiting = Vec::new();
    if shown == Shown::WaitingRuns {
        for number in 0..PAGES {
            let run = format!("waits-{number}");
            installation.submit_waiting(&run).await?;
            waiting.push(run);
        }
    }
    installation.round().await?;
    let (mut pairs, mut costs) = (Pairs::default(), Costs::default());
    for _ in 0..SAMPLES {
        let pages = Pages::open(&readers, &waiting).await?;
        let beside = sample(&installation, Some(&pages)).await?;
        pages.close().await?;
        let alone = sample(&installation, None).await?;
        pairs.push(beside.rate, alone.rate);
        costs.push(&beside, &alone);
    }
    pairs.print_rates(what, "without", "tasks/s");
    costs.print();
    Ok(())
}

/// What was measured in some rounds.
struct Sample {
    /// Tasks in a second.
    rate: f64,
    /// Seconds of the processor that the server took for each task.
    server: f64,
    /// The part of one core that this process took.
    own: f64,
}

async fn sample(installation: &Installation, pages: Option<&Pages>) -> anyhow::Result<Sample> {
    let (server_before, own_before, began_at) = (installation.server_cpu()?, cpu::seconds("self")?, Instant::now());
    let mut seconds = 0.0;
    for _ in 0..ROUNDS {
        let run = format!("busy-{}", uuid::Uuid::now_v7());
        let show = async {
            match pages {
                Some(pages) => pages.show(&run).await,
                None => Ok(()),
            }
        };
        let (took, ()) = tokio::try_join!(installation.round_of_run(&run), show)?;
        seconds += took;
    }
    let tasks = (ROUNDS * TASKS) as f64;
    Ok(Sample {
        rate: tasks / seconds,
        server: (installation.server_cpu()? - server_before) / tasks,
        own: (cpu::seconds("self")? - own_before) / began_at.elapsed().as_secs_f64(),
    })
}

/// The processor time of all samples.
#[derive(Default)]
struct Costs {
    beside: Vec<f64>,
    alone: Vec<f64>,
    own: Vec<f64>,
}

impl Costs {
    fn push(&mut self, beside: &Sample, alone: &Sample) {
        self.beside.push(beside.server);
        self.alone.push(alone.server);
        self.own.push(beside.own);
    }

    fn print(&self) {
        let micros = |seconds: &[f64]| median(seconds) * 1e6;
        println!(
            "{:32} server {:>6.0} µs/task   without {:>6.0} µs/task   clients {:.2} of a core",
            "    processor time",
            micros(&self.beside),
            micros(&self.alone),
            median(&self.own),
        );
    }
}

/// The open pages.
struct Pages {
    pages: Vec<AbortOnDropHandle<anyhow::Result<()>>>,
    /// Asks for the pages whether a run has started.
    reader: Reader,
    /// The run of the round, for the pages that show it; `None` if they show others.
    busy: Option<watch::Sender<Option<String>>>,
}

impl Pages {
    /// Opens all pages, and waits until they show something. Their requests are spread over time, like those of people who come and go.
    ///
    /// The pages with a run show those that wait, if there are any.
    async fn open(readers: &[Reader], waiting: &[String]) -> anyhow::Result<Self> {
        let (count, mut open) = watch::channel(0_usize);
        let count = Arc::new(count);
        let tasks = TaskTracker::new();
        let (busy, runs) = watch::channel(None);
        let mut pages = Vec::new();
        for number in 0..PAGES {
            let of_all = number as f64 / PAGES as f64;
            let reader = readers[number % readers.len()].clone();
            let opened = Opened::new(&count);
            let list = {
                let reader = reader.clone();
                async move {
                    sleep(LIST_INTERVAL.mul_f64(of_all)).await;
                    page::show_list(&reader, || opened.note()).await
                }
            };
            pages.push(AbortOnDropHandle::new(tasks.spawn(list)));
            let opened = Opened::new(&count);
            let run = match waiting.get(number).cloned() {
                Some(run) => tasks.spawn(async move {
                    sleep(RUN_INTERVAL.mul_f64(of_all)).await;
                    page::show_run(&reader, &run, || opened.note()).await
                }),
                None => {
                    // It shows something from the next round on.
                    opened.note();
                    tasks.spawn(show_each(reader, runs.clone()))
                }
            };
            pages.push(AbortOnDropHandle::new(run));
        }
        let busy = waiting.is_empty().then_some(busy);
        let reader = readers.first().context("somebody reads")?.clone();
        let opening = Self { pages, reader, busy };
        let all_open = timeout(MAX_OPENING, open.wait_for(|open| *open == 2 * PAGES)).await.is_ok();
        if !all_open {
            let open = *open.borrow();
            opening.close().await?;
            anyhow::bail!("only {open} pages were open after {} seconds", MAX_OPENING.as_secs());
        }
        Ok(opening)
    }

    /// Lets the pages that show the run of the round show this one, once it has started.
    async fn show(&self, run: &str) -> anyhow::Result<()> {
        let Some(busy) = &self.busy else { return Ok(()) };
        while !page::is_newest(&self.reader, run).await? {
            sleep(STARTING_INTERVAL).await;
        }
        busy.send_replace(Some(run.to_owned()));
        Ok(())
    }

    /// Closes all pages.
    ///
    /// # Errors
    /// Why a page has failed: what was measured without it is worthless.
    async fn close(self) -> anyhow::Result<()> {
        for page in self.pages {
            if page.is_finished() {
                page.await?.context("a page has failed")?;
            }
        }
        Ok(())
    }
}

/// Counts a page once.
struct Opened {
    count: Arc<watch::Sender<usize>>,
    is_counted: std::sync::atomic::AtomicBool,
}

impl Opened {
    fn new(count: &Arc<watch::Sender<usize>>) -> Self {
        Self { count: count.clone(), is_counted: false.into() }
    }

    fn note(&self) {
        if !self.is_counted.swap(true, std::sync::atomic::Ordering::Relaxed) {
            self.count.send_modify(|count| *count += 1);
        }
    }
}

/// Shows one run after the other, each until the next one is there.
async fn show_each(reader: Reader, mut runs: watch::Receiver<Option<String>>) -> anyhow::Result<()> {
    loop {
        let run = runs.borrow_and_update().clone();
        let shown = async {
            match &run {
                Some(run) => page::show_run(&reader, run, || {}).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            failed = shown => return failed,
            changed = runs.changed() => changed?,
        }
    }
}
