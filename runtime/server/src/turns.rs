//! Turns of requests at what takes long or much memory. Only a few have a turn at the same time, and namespaces take turns.
//!
//! Work of the processor, such as reading and wiring flows, happens in threads of its own, so that the server answers others and its
//! engine goes on. Long histories of runs, and pages of lists and logs, are read in turn, so that they do not take all memory and all
//! connections to the logbook. Commands to many runs are sent in turn, so that the engine has time for the commands of others.
//!
//! A turn is of the sender of the request, whatever flow, run or filter the request names: [`of_sender`] says who that is, and has to say it
//! again in another task. Only outside requests, as for a command on this machine, is it of the owner that is given. Whoever has a turn at a
//! history waits for no turn that others may have for long.

use std::sync::LazyLock;

use sandbox::{Owner, Permit, Permits};
use tokio::task_local;
use tokio_util::task::TaskTracker;

task_local! {
    /// The namespace that the sender of the request is limited to. All senders without one are one owner.
    static SENDER: Owner;
}

/// Number of requests that are worked on at the same time. An owner has at most all but one, so that its large flows leave one for
/// another.
const MAX_AT_ONCE: usize = 3;

/// The requests that wait are not counted: each has a connection, and a sender has a share of those.
static TURNS: LazyLock<Permits> = LazyLock::new(|| Permits::new(MAX_AT_ONCE, usize::MAX));

/// The turns at reading runs that are not short. Each has the machine of a run in memory, until its answer is made.
static HISTORIES: LazyLock<Permits> = LazyLock::new(|| Permits::new(MAX_AT_ONCE, usize::MAX));

/// The turns at reading records for event streams, until the streams have taken the memory for them. They take short, and each
/// stream that waits for changes takes some in a second, so none waits for a long history.
static STREAMS: LazyLock<Permits> = LazyLock::new(|| Permits::new(MAX_AT_ONCE, usize::MAX));

/// The turns at reading a page of a list, of logs or of HTTP exchanges. They are fewer than the connections that a logbook has for
/// clients, so that slow pages leave one for others.
static PAGES: LazyLock<Permits> = LazyLock::new(|| Permits::new(MAX_AT_ONCE, usize::MAX));

/// The turns at sending commands to many runs. Each has a page of runs in memory, and several commands under way.
static COMMANDS: LazyLock<Permits> = LazyLock::new(|| Permits::new(MAX_AT_ONCE, usize::MAX));
/// The turns at having a run in memory while a flow is wired for it. They pass at the pace of wiring, so those of histories are none of
/// them.
static WIRED_RUNS: LazyLock<Permits> = LazyLock::new(|| Permits::new(MAX_AT_ONCE, usize::MAX));

/// The turns at making an answer of a run that is in memory, and at applying the records of a short run, which takes short. Whoever has
/// one may have a turn of a history.
static ANSWERS: LazyLock<Permits> = LazyLock::new(|| Permits::new(MAX_AT_ONCE, usize::MAX));

/// The turns at listing the contents of the store: the files of all tags that the sender may see are read.
static MODULES: LazyLock<Permits> = LazyLock::new(|| Permits::new(MAX_AT_ONCE, usize::MAX));

/// The largest content of a request that is read where other tasks wait meanwhile, in bytes: it takes less than a millisecond.
pub(crate) const MAX_INLINE: usize = 64 << 10;

/// Number of modules of the store that are in memory at the same time, each with up to the bytes that an operator allows (64 MiB by default).
const MAX_MODULES: usize = 8;

/// The turns at having a module of the store in memory, until it has described itself. Whoever has one waits for no other turn.
static STORED_MODULES: LazyLock<Permits> = LazyLock::new(|| Permits::new(MAX_MODULES, usize::MAX));

/// Number of flows whose modules are asked, or whose descriptions wait for a turn at wiring. Each may have some megabytes.
const MAX_PREPARED: usize = 32;

/// The turns at having the descriptions of a flow's modules in memory.
static PREPARED: LazyLock<Permits> = LazyLock::new(|| Permits::new(MAX_PREPARED, usize::MAX));

/// A turn. Dropping it gives it to the next.
pub(crate) type Turn = Permit;

/// Answers a request: its turns are of its sender, who may be limited to a namespace.
pub(crate) async fn of_sender<Answer: Future>(namespace: Owner, answer: Answer) -> Answer::Output {
    SENDER.scope(namespace, answer).await
}

/// Waits for a turn at reading a long history of a run, until what was read of it is dropped. Dropping the future gives up the place in
/// the queue.
pub(crate) async fn for_history(owner: Owner) -> Turn {
    turn_of(&HISTORIES, owner).await
}

/// Waits for a turn at reading records for an event stream. Dropping the future gives up the place in the queue.
pub(crate) async fn for_stream(owner: Owner) -> Turn {
    turn_of(&STREAMS, owner).await
}

/// Waits for a turn at reading a page for a sender, who may be limited to a namespace.
pub(crate) async fn for_page(owner: Owner) -> Turn {
    turn_of(&PAGES, owner).await
}

/// Waits for a turn at sending commands to many runs for a sender, who may be limited to a namespace.
pub(crate) async fn for_commands(owner: Owner) -> Turn {
    turn_of(&COMMANDS, owner).await
}

/// Waits for a turn at having a run in memory while a flow is wired for it. Dropping the future gives up the place in the queue.
pub(crate) async fn for_wired_run(owner: Owner) -> Turn {
    turn_of(&WIRED_RUNS, owner).await
}

/// Waits for a turn at asking the modules of a flow of a namespace, until the flow is wired. Dropping the future gives up the place in
/// the queue.
pub(crate) async fn for_preparation(owner: Owner) -> Turn {
    turn_of(&PREPARED, owner).await
}

/// Waits for a turn at listing the contents of the store for a sender, who may be limited to a namespace.
pub(crate) async fn for_modules(owner: Owner) -> Turn {
    turn_of(&MODULES, owner).await
}

/// Waits for a turn at having a module of the store in memory. Dropping the future gives up the place in the queue.
pub(crate) async fn for_module(owner: Owner) -> Turn {
    turn_of(&STORED_MODULES, owner).await
}

async fn turn_of(turns: &Permits, owner: Owner) -> Turn {
    turns.acquire(sender_or(owner)).await.expect("any number of requests may wait")
}

/// The owner of the turns that are waited for now: the sender of the request, or else the owner that is given.
pub(crate) fn sender_or(owner: Owner) -> Owner {
    SENDER.try_with(Clone::clone).unwrap_or(owner)
}

/// Does work for a namespace when it is its turn. Dropping the future leaves begun work to end by itself, without another taking
/// its place before.
pub(crate) async fn in_turn<Output: Send + 'static>(
    owner: Owner,
    work: impl FnOnce() -> Output + Send + 'static,
) -> Output {
    in_turn_of(&TURNS, owner, work).await
}

/// Reads some content of a request: at once if it is small, and otherwise as [`in_turn`] does work, for the sender of the request.
pub(crate) async fn in_turn_if_large<Output: Send + 'static>(
    bytes: usize,
    read: impl FnOnce() -> Output + Send + 'static,
) -> Output {
    if bytes <= MAX_INLINE {
        return read();
    }
    in_turn(None, read).await
}

/// Makes an answer of a run that is in memory, as [`in_turn`] does work.
pub(crate) async fn in_turn_to_answer<Output: Send + 'static>(
    owner: Owner,
    answer: impl FnOnce() -> Output + Send + 'static,
) -> Output {
    in_turn_of(&ANSWERS, owner, answer).await
}

/// Does work that has a turn in a task of its own. Dropping the future leaves begun work to end by itself, and the work has the turn until
/// then: a client that leaves does not give it to another one while others still have to do with the work.
pub(crate) async fn in_task<Output: Send + 'static>(
    turn: Turn,
    work: impl Future<Output = Output> + Send + 'static,
) -> Output {
    to_its_end(async move {
        let _turn = turn;
        work.await
    })
    .await
}

/// Does work in a task of its own. Dropping the future leaves begun work to end by itself, and what the work has, such as memory, counts
/// until then.
pub(crate) async fn to_its_end<Output: Send + 'static>(work: impl Future<Output = Output> + Send + 'static) -> Output {
    match TaskTracker::new().spawn(work).await {
        Ok(output) => output,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime ends, and nobody waits for the work any more.
        Err(_) => std::future::pending().await,
    }
}

/// Drops what takes long to be dropped, such as a large run, in a thread that may block. Its turn, if it is dropped with it, ends then.
pub(crate) fn drop_in_thread(dropped: impl Send + 'static) {
    tokio::task::spawn_blocking(move || drop(dropped));
}

async fn in_turn_of<Output: Send + 'static>(
    turns: &Permits,
    owner: Owner,
    work: impl FnOnce() -> Output + Send + 'static,
) -> Output {
    let turn = turn_of(turns, owner).await;
    let working = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    match working.await {
        Ok(output) => output,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime ends, and nobody waits for the work any more.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use futures::FutureExt as _;

    use super::*;

    fn owner(name: &str) -> Owner {
        Some(flow::Namespace::new(name).unwrap())
    }

    fn turns() -> Permits {
        Permits::new(MAX_AT_ONCE, usize::MAX)
    }

    #[tokio::test]
    async fn a_few_work_at_the_same_time() {
        let (turns, working, most) = (turns(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = |number: usize| {
            let (working, most) = (working.clone(), most.clone());
            in_turn_of(&turns, owner(["a", "b", "c"][number % 3]), move || {
                most.fetch_max(working.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
                working.fetch_sub(1, Ordering::SeqCst);
                number
            })
        };
        let done = futures::future::join_all((0..20).map(work)).await;
        assert_eq!(done, (0..20).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), MAX_AT_ONCE);
    }

    #[tokio::test]
    async fn a_sender_without_a_namespace_leaves_a_turn_whatever_it_names() {
        let turns = turns();
        let named = |name: &str| of_sender(None, turn_of(&turns, owner(name)));
        let (first, second) = (named("a").await, named("b").await);
        assert!(named("c").now_or_never().is_none(), "the last turn is for another sender");
        let other = of_sender(owner("shop"), turn_of(&turns, owner("a"))).now_or_never();
        assert!(other.is_some());
        drop((first, second));
        assert!(named("c").now_or_never().is_some());
    }

    #[tokio::test]
    async fn an_answer_waits_for_no_turn_of_wiring() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let ended = Arc::new(std::sync::Mutex::new(ended));
        let slow = ["a", "b", "c"].map(|name| {
            let ended = ended.clone();
            in_turn(owner(name), move || ended.lock().unwrap().recv().is_err())
        });
        let mut slow = Box::pin(futures::future::join_all(slow));
        assert!(slow.as_mut().now_or_never().is_none(), "they take the turns of wiring");
        let answer = tokio::time::timeout(Duration::from_secs(60), in_turn_to_answer(owner("d"), || 1)).await;
        drop(end);
        assert_eq!(slow.await, [true; 3]);
        assert_eq!(answer, Ok(1));
    }

    #[tokio::test]
    async fn work_in_a_task_has_its_turn_until_it_ends() {
        let turns = Permits::new(1, usize::MAX);
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let turn = turn_of(&turns, owner("a")).await;
        // The client leaves.
        assert!(in_task(turn, async move { ended.await.is_ok() }).now_or_never().is_none());
        tokio::task::yield_now().await;
        assert!(turn_of(&turns, owner("b")).now_or_never().is_none(), "the work goes on");
        end.send(()).unwrap();
        let next = turn_of(&turns, owner("b")).await;
        assert!(in_task(next, async { true }).await);
    }

    #[tokio::test]
    async fn one_owner_leaves_a_turn_for_another() {
        let turns = turns();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let ended = Arc::new(std::sync::Mutex::new(ended));
        let slow = (0..5).map(|_| {
            let (turns, ended) = (turns.clone(), ended.clone());
            // It ends once nobody can send any more.
            async move { in_turn_of(&turns, owner("slow"), move || ended.lock().unwrap().recv().is_err()).await }
        });
        let mut slow = Box::pin(futures::future::join_all(slow));
        assert!(slow.as_mut().now_or_never().is_none(), "they take the turns that they get");
        let others = async { in_turn_of(&turns, owner("quick"), || 1).await + in_turn_of(&turns, None, || 1).await };
        let others = tokio::time::timeout(Duration::from_secs(60), others).await;
        drop(end);
        assert_eq!(slow.await, [true; 5]);
        assert_eq!(others.expect("one turn was left"), 2);
    }
}
