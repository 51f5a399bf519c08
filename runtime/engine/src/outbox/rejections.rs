//! Messages that a queue of another owner has rejected.
//!
//! Workers bind queues to some exchanges of engines, and programs that listen may do so. Such a queue may be full, or reject
//! everything. The broker then refuses the message to the engine, although all other queues have it. Only the owner of that queue needs it
//! once more, and each repetition is a copy for all others. So it is repeated a few times, with growing pauses, and then given up.

use std::{sync::Arc, time::Duration};

use broker::{Message, Refusals};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// How often a message is published again after a rejection.
const MAX_REPETITIONS: u32 = 5;

/// The pause before the first repetition. Each further one doubles it, so the last one is half a minute after the first rejection: a queue
/// whose process has failed is back by then.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The maximum number of rejected messages that wait to be repeated. Others are given up at once, so that one queue cannot fill the memory of
/// the engine.
const MAX_WAITING: usize = 256;

/// The rejected messages of an outbox. Cheap to clone.
#[derive(Clone)]
pub(super) struct Rejections {
    places: Arc<Semaphore>,
    log: Arc<Refusals>,
}

/// What happens to a rejected message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is published again.
    Repeat,
    /// It counts as published: all queues have it that take messages.
    GiveUp,
}

/// The rejections of one message.
pub(super) struct Rejected {
    count: u32,
    repeat_at: Instant,
    _place: OwnedSemaphorePermit,
}

impl Rejected {
    /// Whether the message is to be published again.
    pub(super) fn is_due(&self) -> bool {
        self.repeat_at <= Instant::now()
    }
}

impl Default for Rejections {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_WAITING)), log: Arc::default() }
    }
}

impl Rejections {
    /// Notes that a message was rejected; `rejected` has its earlier rejections.
    pub(super) fn note(&self, rejected: &mut Option<Rejected>, message: &Message) -> Verdict {
        let verdict = self.decide(rejected);
        let reason = match verdict {
            Verdict::Repeat => "a queue that is bound to the exchange rejects messages; they are published again",
            Verdict::GiveUp => {
                "a queue that is bound to the exchange rejects messages, and does not receive some of them: `rabbitmqctl list_bindings` shows \
                 the queues"
            }
        };
        self.log.log(&message.exchange, reason);
        verdict
    }

    fn decide(&self, rejected: &mut Option<Rejected>) -> Verdict {
        match rejected {
            Some(Rejected { count, .. }) if *count == MAX_REPETITIONS => Verdict::GiveUp,
            Some(Rejected { count, repeat_at, .. }) => {
                *repeat_at = Instant::now() + FIRST_PAUSE * 2_u32.pow(*count);
                *count += 1;
                Verdict::Repeat
            }
            None => match self.places.clone().try_acquire_owned() {
                Ok(place) => {
                    *rejected = Some(Rejected { count: 1, repeat_at: Instant::now() + FIRST_PAUSE, _place: place });
                    Verdict::Repeat
                }
                Err(_) => Verdict::GiveUp,
            },
        }
    }

    /// Logs that a queue of waft rejects messages, which are repeated until it takes them.
    pub(super) fn log_full(&self, message: &Message) {
        self.log.log(&message.key, "a queue rejects messages, perhaps because it is full; they are published again");
    }
}
