//! Measures persistent flows: lists of elements, firings, edits of large flows, and external listeners.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use broker::{Amqp, Binding, Broker, Destination, Options, Queue, QueueKind};
use flow::{Edit, Flow, FlowSource, RunId, Values};
use machine::Machine;
use protocol::{RunCommand, topology};

use crate::{
    Bench,
    durable::resident,
    report::{Pairs, duration},
    system::Waft,
};

const SLOTS: u16 = 64;

/// Measures a call for each element of a list beside as many tasks of a flow, and then one large list.
pub(crate) async fn for_each(bench: &Bench) -> anyhow::Result<()> {
    const ELEMENTS: usize = 10_000;
    const MANY: usize = 100_000;
    let waft = Waft::in_process(&bench.guest, SLOTS).await?;
    let mut pairs = Pairs::default();
    let (each, plain) = (waft.wire(&elements(waft.queue(), ELEMENTS))?, waft.flow(&[ELEMENTS])?);
    for _ in 0..5 {
        pairs.push(rate(&waft, &each, ELEMENTS).await?, rate(&waft, &plain, ELEMENTS).await?);
    }
    pairs.print_rates(&format!("for each of {ELEMENTS}"), "as many tasks", "calls/s");
    let before = resident()?;
    let rate = rate(&waft, &waft.wire(&elements(waft.queue(), MANY))?, MANY).await?;
    let each = resident()?.saturating_sub(before) / MANY as u64;
    println!("{:32} waft {rate:>8.0} calls/s   {each} bytes more in memory for each", format!("for each of {MANY}"));
    waft.stop().await
}

fn elements(queue: &str, count: usize) -> String {
    let list: Vec<String> = (0..count).map(|element| element.to_string()).collect();
    format!(
        "name = \"bench\"\n[[task]]\nname = \"each\"\nuse = \"guest#echo\"\nqueue = \"{queue}\"\nfor_each = [{}]\n\
         as = \"value\"\n",
        list.join(", ")
    )
}

async fn rate(waft: &Waft, flow: &Arc<Flow>, calls: usize) -> anyhow::Result<f64> {
    let started = Instant::now();
    waft.run(flow).await?;
    Ok(calls as f64 / started.elapsed().as_secs_f64())
}

/// Measures firings of a cyclic flow beside a chain of as many tasks.
pub(crate) async fn firings(bench: &Bench) -> anyhow::Result<()> {
    const FIRINGS: usize = 2_000;
    let waft = Waft::in_process(&bench.guest, SLOTS).await?;
    let (cycle, chain) = (waft.wire(&cycles(waft.queue(), 1, FIRINGS))?, waft.flow(&[1; FIRINGS])?);
    let mut pairs = Pairs::default();
    for _ in 0..5 {
        pairs.push(rate(&waft, &cycle, FIRINGS).await?, rate(&waft, &chain, FIRINGS).await?);
    }
    pairs.print_rates("firings one after another", "a chain", "calls/s");
    waft.stop().await
}

/// Measures the memory of a run that has fired a million times.
pub(crate) async fn million_firings(bench: &Bench) -> anyhow::Result<()> {
    const AT_ONCE: usize = 64;
    const WARM: usize = 20_000;
    const FIRINGS: usize = 1_000_000;
    let folder = tempfile::tempdir()?;
    let address = format!("sqlite:{}", folder.path().join("logbook.db").display());
    let waft = Waft::with_logbook(&bench.guest, SLOTS, logbook::open(&address).await?).await?;
    // One-time allocations are not a cost of a firing.
    waft.run(&waft.wire(&cycles(waft.queue(), AT_ONCE, WARM))?).await?;
    let before = resident()?;
    let rate = rate(&waft, &waft.wire(&cycles(waft.queue(), AT_ONCE, FIRINGS))?, FIRINGS).await?;
    let (growth, logbook_size) = (resident()?.saturating_sub(before), crate::durable::size(folder.path())?);
    println!(
        "{:32} waft {growth:>8} bytes more in memory   {rate:.0} firings/s   {logbook_size} bytes of logbook",
        format!("{FIRINGS} firings")
    );
    waft.stop().await
}

/// Tasks that each trigger themselves again, side by side.
fn cycles(queue: &str, at_once: usize, firings: usize) -> String {
    let task = |number: usize| {
        format!(
            "[[task]]\nname = \"t{number}\"\nuse = \"guest#noop\"\nqueue = \"{queue}\"\n\
             [[link]]\nfrom = \"t{number}\"\nto = \"t{number}\"\n"
        )
    };
    let tasks: String = (0..at_once).map(task).collect();
    format!("name = \"bench\"\ncyclic = true\nmax_firings = {firings}\nmax_parallel = {at_once}\n{tasks}")
}

/// Measures an edit of a large run beside the submission of its flow: both parse and wire the whole flow.
pub(crate) async fn edits(bench: &Bench) -> anyhow::Result<()> {
    const TASKS: usize = 100_000;
    let waft = Waft::in_process(&bench.guest, SLOTS).await?;
    // A queue without a worker.
    let task = |number: usize| format!("[[task]]\nname = \"t{number}\"\nuse = \"guest#noop\"\nqueue = \"nobody\"\n");
    let text = format!("name = \"bench\"\npattern = \"linear\"\n{}", (0..TASKS).map(task).collect::<String>());
    let mut pairs = Pairs::default();
    for _ in 0..3 {
        let started = Instant::now();
        let run = RunId::new(uuid::Uuid::now_v7().to_string())?;
        let flow = waft.wire(&text)?;
        let mut watch = waft.engine().submit(run.clone(), flow.clone()).await?;
        watch.next().await.context("the run is under way")?;
        let submitted = started.elapsed().as_secs_f64();
        let started = Instant::now();
        // Does what a server does: it loads the run, then plans, wires and requests the edit.
        let machine = Machine::new(run.clone(), flow);
        let addition = "[[task]]\nname = \"added\"\nuse = \"guest#noop\"\nqueue = \"nobody\"\n";
        let (origin, draft) =
            machine.plan(&[Edit::Add { text: addition.into() }]).map_err(|error| anyhow!("{error:?}"))?;
        let edited = Flow { origin: Some(Arc::new(origin)), ..waft.wire_draft(&draft, &Values::new())? };
        let command = RunCommand::Edit { revision: machine.revision(), flow: Arc::new(edited) };
        waft.engine().command(&run, command).await?;
        pairs.push(started.elapsed().as_secs_f64(), submitted);
        waft.engine().abandon(run).await?;
    }
    pairs.print_times(&format!("an edit of {TASKS} tasks"), "its submission");
    waft.stop().await
}

/// Measures notifications to a program that listens to all changes, beside the same runs without one.
pub(crate) async fn notifications(bench: &Bench) -> anyhow::Result<()> {
    const TASKS: usize = 5_000;
    // Each task sends two notifications: that it runs, and that it has succeeded.
    const NOTIFICATIONS: usize = 2 * TASKS;
    let waft = Waft::over_amqp(&bench.broker, &bench.guest, SLOTS).await?;
    let flow = waft.flow(&[TASKS])?;
    let listener = Amqp::connect(Options::new(&bench.broker)).await?;
    let name = format!("bench.listener.{}", uuid::Uuid::now_v7());
    let (mut pairs, mut notification_rates) = (Pairs::default(), Vec::new());
    for _ in 0..5 {
        let without_listener = rate(&waft, &flow, TASKS).await?;
        let kind = QueueKind::Quorum {
            delivery_limit: None,
            dead_letter_to: None,
            single_active_consumer: false,
            expires: Some(Duration::from_secs(60)),
        };
        listener.declare_queue(&Queue { name: name.clone(), kind }).await?;
        let to = Destination::Queue(name.clone());
        let exchange = topology::NOTIFICATIONS.to_owned();
        listener.bind(&Binding { exchange, key: "bench.#".into(), to }).await?;
        let mut consumer = listener.consume(&name, 1_000).await?;
        let started = Instant::now();
        let receiving = async {
            for _ in 0..NOTIFICATIONS {
                consumer.next().await.context("the queue is gone")?.accept();
            }
            anyhow::Ok(NOTIFICATIONS as f64 / started.elapsed().as_secs_f64())
        };
        let (received, with_listener) = tokio::join!(receiving, rate(&waft, &flow, TASKS));
        notification_rates.push(received?);
        pairs.push(with_listener?, without_listener);
        listener.delete_queue(&name).await?;
    }
    pairs.print_rates("tasks that are listened to", "not listened to", "tasks/s");
    let median_rate = crate::report::median(&notification_rates);
    println!(
        "{:32} waft {median_rate:>8.0} notifications/s   {} each",
        "notifications received",
        duration(1.0 / median_rate)
    );
    listener.close().await;
    waft.stop().await
}

impl Waft {
    /// Wires a flow from its text, which names the module `guest`.
    fn wire(&self, text: &str) -> anyhow::Result<Arc<Flow>> {
        let text = format!("{text}[modules]\nguest = \"guest.wasm\"\n");
        let draft = flow::file::parse(&text).map_err(|diagnostics| anyhow!("{diagnostics:?}"))?;
        let modules = [("guest".to_owned(), self.module().digest)].into();
        let origin = Some(Arc::new(FlowSource { text: text.into(), modules, edits: Vec::new() }));
        Ok(Arc::new(Flow { origin, ..self.wire_draft(&draft, &Values::new())? }))
    }

    fn wire_draft(&self, draft: &flow::Draft, inputs: &Values) -> anyhow::Result<Flow> {
        let modules = [("guest".to_owned(), self.module().clone())].into();
        let (flow, _) = flow::wire(draft, &modules, inputs).map_err(|diagnostics| anyhow!("{diagnostics:?}"))?;
        Ok(flow)
    }
}
