//! The most recent events, which all watchers share. Each event is in memory once, however many watch.
//!
//! There is one sequence of all events, and one for each namespace. So a busy namespace drops no events of another one from what the
//! tokens of that one read. A watcher has only a position in a sequence: a slow one costs nothing, until its events were dropped, and then
//! it gets an event that says so.
//!
//! A namespace has a sequence from its first event on, and none because somebody watches it: who watches namespaces that do not exist drops
//! none of others.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use flow::Namespace;

use super::event::RecentEvent;

/// The maximum size of the events in the sequence of all, and of those in the sequences of namespaces together, in bytes.
const MAX_BYTES: usize = 8 << 20;

/// The maximum number of namespaces with a sequence. A sequence that nothing was added to for longest is dropped for another one.
const MAX_NAMESPACES: usize = 1_024;

/// A position in a sequence: of the next event to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Identifies the sequence, among those of all servers.
    sequence: u64,
    next: u64,
}

impl Cursor {
    /// Reads the id of an event.
    pub(crate) fn parse(id: &str) -> Option<Self> {
        let (sequence, next) = id.split_once('-')?;
        Some(Self { sequence: u64::from_str_radix(sequence, 16).ok()?, next: next.parse().ok()? })
    }

    /// How many events of the same sequence are between two positions.
    pub(super) fn distance(self, earlier: Self) -> u64 {
        self.next.saturating_sub(earlier.next)
    }
}

/// As the id of the event before the position.
impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:x}-{}", self.sequence, self.next)
    }
}

/// What is at a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// Events, each with the position after it, and the position after all that were looked at.
    Events(Vec<(Cursor, Arc<RecentEvent>)>, Cursor),
    /// Events between the position and this one were lost.
    Lost(Cursor),
}

/// Recent events in the order in which they were received.
#[derive(Debug)]
struct Sequence {
    id: u64,
    /// The number of the first event.
    first: u64,
    events: VecDeque<Arc<RecentEvent>>,
    bytes: usize,
    /// When something was added last, as a number of additions to the buffer.
    added_at: u64,
}

impl Sequence {
    fn new(id: u64, added_at: u64) -> Self {
        Self { id, first: 0, events: VecDeque::new(), bytes: 0, added_at }
    }

    fn end(&self) -> Cursor {
        Cursor { sequence: self.id, next: self.first + self.events.len() as u64 }
    }

    /// The position before its first event, whether or not that was dropped.
    fn beginning(&self) -> Cursor {
        Cursor { sequence: self.id, next: 0 }
    }

    fn push(&mut self, event: Arc<RecentEvent>, at: u64) {
        self.bytes += event.size();
        self.added_at = at;
        self.events.push_back(event);
    }

    /// Drops the first event; returns its size.
    fn drop_first(&mut self) -> usize {
        let Some(event) = self.events.pop_front() else { return 0 };
        let size = event.size();
        self.first += 1;
        self.bytes -= size;
        size
    }

    /// Drops all events. The gap has a number of its own, so that a watcher which has read all others is behind it too.
    fn lose(&mut self) {
        self.first = self.end().next + 1;
        self.events.clear();
        self.bytes = 0;
    }

    fn read(&self, at: Cursor, max_events: usize, wants: impl Fn(&RecentEvent) -> bool) -> Page {
        let end = self.end();
        if at.sequence != self.id || at.next < self.first || at.next > end.next {
            return Page::Lost(end);
        }
        let (mut events, mut next) = (Vec::new(), at);
        let skipped = usize::try_from(at.next - self.first).unwrap_or(usize::MAX);
        for event in self.events.iter().skip(skipped) {
            if events.len() == max_events {
                break;
            }
            next.next += 1;
            if wants(event) {
                events.push((next, event.clone()));
            }
        }
        Page::Events(events, next)
    }
}

/// The most recent events of all runs.
#[derive(Debug)]
pub(super) struct Buffer {
    /// The id of the next sequence.
    next_id: u64,
    /// The number of events so far.
    added: u64,
    all: Sequence,
    namespaces: HashMap<Namespace, Sequence>,
    /// The sequence of each namespace that has none: it never has events. It has a gap whenever events of such a namespace may be lost.
    absent: Sequence,
    bytes_of_namespaces: usize,
    max_bytes: usize,
}

impl Buffer {
    /// An empty buffer. `first_id` is a random number, so that no position of another process is one here.
    pub(super) fn new(first_id: u64) -> Self {
        Self::of_size(first_id, MAX_BYTES)
    }

    fn of_size(first_id: u64, max_bytes: usize) -> Self {
        let (namespaces, bytes_of_namespaces) = (HashMap::new(), 0);
        let [all, absent] = [first_id, first_id.wrapping_add(1)].map(|id| Sequence::new(id, 0));
        let next_id = first_id.wrapping_add(2);
        Self { next_id, added: 0, all, namespaces, absent, bytes_of_namespaces, max_bytes }
    }

    /// The position after the newest event of a namespace, or of all.
    pub(super) fn end(&self, namespace: Option<&Namespace>) -> Cursor {
        match namespace {
            None => self.all.end(),
            Some(namespace) => self.namespaces.get(namespace).unwrap_or(&self.absent).end(),
        }
    }

    /// Adds an event. The oldest ones are dropped if there are too many: of all, and of the namespace that has most.
    pub(super) fn push(&mut self, event: RecentEvent) {
        self.added += 1;
        let (event, at) = (Arc::new(event), self.added);
        if let Some(namespace) = event.flow.namespace() {
            self.of_namespace(&namespace).push(event.clone(), at);
            self.bytes_of_namespaces += event.size();
        }
        self.all.push(event, at);
        while self.all.bytes > self.max_bytes {
            self.all.drop_first();
        }
        while self.bytes_of_namespaces > self.max_bytes {
            let Some(largest) = self.namespaces.values_mut().max_by_key(|sequence| sequence.bytes) else { return };
            self.bytes_of_namespaces -= largest.drop_first();
        }
    }

    /// Notes that events were lost, of every namespace. The earlier ones are dropped: a watcher that has not read them has to read the
    /// list of runs again anyway.
    pub(super) fn lose(&mut self) {
        self.all.lose();
        self.absent.lose();
        self.namespaces.values_mut().for_each(Sequence::lose);
        self.bytes_of_namespaces = 0;
    }

    /// Reads at most so many events from a position on.
    pub(super) fn read(
        &self,
        namespace: Option<&Namespace>,
        at: Cursor,
        max_events: usize,
        wants: impl Fn(&RecentEvent) -> bool,
    ) -> Page {
        match namespace {
            None => self.all.read(at, max_events, wants),
            Some(namespace) => match self.namespaces.get(namespace) {
                // The sequence began after this position.
                Some(sequence) if at == self.absent.end() => sequence.read(sequence.beginning(), max_events, wants),
                Some(sequence) => sequence.read(at, max_events, wants),
                None => self.absent.read(at, max_events, wants),
            },
        }
    }

    /// The sequence of a namespace, for an event. The sequence that nothing was added to for longest makes room.
    fn of_namespace(&mut self, namespace: &Namespace) -> &mut Sequence {
        if !self.namespaces.contains_key(namespace) && self.namespaces.len() >= MAX_NAMESPACES {
            let oldest = self.namespaces.iter().min_by_key(|(_, sequence)| sequence.added_at);
            if let Some(oldest) = oldest.map(|(namespace, _)| namespace.clone())
                && let Some(dropped) = self.namespaces.remove(&oldest)
            {
                self.bytes_of_namespaces -= dropped.bytes;
                self.absent.lose();
            }
        }
        let (next_id, added) = (&mut self.next_id, self.added);
        self.namespaces.entry(namespace.clone()).or_insert_with(|| {
            let id = *next_id;
            *next_id = next_id.wrapping_add(1);
            Sequence::new(id, added)
        })
    }
}

#[cfg(test)]
mod tests {
    use flow::RunState;

    use super::*;
    use crate::recent_events::event::tests::event;

    fn namespace(name: &str) -> Namespace {
        Namespace::new(name).unwrap()
    }

    fn push(buffer: &mut Buffer, flow: &str, runs: std::ops::Range<u32>) {
        runs.for_each(|run| buffer.push(event(flow, &format!("r{run}"), RunState::Running)));
    }

    /// The runs of the events from a position on, with the position after them.
    fn runs(buffer: &Buffer, of: Option<&Namespace>, at: Cursor) -> (Vec<String>, Cursor) {
        match buffer.read(of, at, usize::MAX, |_| true) {
            Page::Events(events, next) => (events.iter().map(|(_, event)| event.run.to_string()).collect(), next),
            Page::Lost(next) => (vec!["lost".into()], next),
        }
    }

    /// A buffer for so many events like those here.
    fn buffer_for(events: usize) -> Buffer {
        Buffer::of_size(1 << 40, events * event("shop/f", "r00", RunState::Running).size())
    }

    #[test]
    fn each_position_is_found_again_by_its_id() {
        let mut buffer = buffer_for(10);
        let start = buffer.end(None);
        push(&mut buffer, "f", 0..5);
        let Page::Events(events, next) = buffer.read(None, start, 3, |event| event.run.as_str() != "r1") else {
            panic!("nothing was lost")
        };
        let read: Vec<&str> = events.iter().map(|(_, event)| event.run.as_str()).collect();
        assert_eq!(read, ["r0", "r2", "r3"]);
        let (after_first, _) = &events[0];
        let after_first = Cursor::parse(&after_first.to_string()).unwrap();
        assert_eq!(runs(&buffer, None, after_first).0, ["r1", "r2", "r3", "r4"]);
        assert_eq!((runs(&buffer, None, next).0, next.distance(start)), (vec!["r4".to_owned()], 4));
        for bad in ["", "x", "1-", "-1", "g-1", "1-x", "1"] {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_watcher_whose_events_were_dropped_is_told_so_once() {
        let mut buffer = buffer_for(3);
        let start = buffer.end(None);
        push(&mut buffer, "f", 0..9);
        let (lost, next) = runs(&buffer, None, start);
        assert_eq!(lost, ["lost"]);
        assert_eq!(runs(&buffer, None, next), (vec![], next));
        push(&mut buffer, "f", 9..10);
        assert_eq!(runs(&buffer, None, next).0, ["r9"]);
    }

    #[test]
    fn a_gap_reaches_those_that_have_read_everything_before_it() {
        let (mut buffer, shop) = (buffer_for(10), namespace("shop"));
        push(&mut buffer, "shop/f", 0..1);
        let (all, of_shop) = (buffer.end(None), buffer.end(Some(&shop)));
        buffer.lose();
        push(&mut buffer, "shop/f", 1..2);
        assert_eq!(runs(&buffer, None, all).0, ["lost"]);
        let (lost, next) = runs(&buffer, Some(&shop), of_shop);
        assert_eq!(lost, ["lost"]);
        push(&mut buffer, "shop/f", 2..3);
        assert_eq!(runs(&buffer, Some(&shop), next).0, ["r2"]);
    }

    #[test]
    fn a_busy_namespace_drops_no_events_of_another() {
        let (mut buffer, shop, busy) = (buffer_for(20), namespace("shop"), namespace("busy"));
        let (of_shop, of_busy) = (buffer.end(Some(&shop)), buffer.end(Some(&busy)));
        push(&mut buffer, "shop/f", 0..3);
        push(&mut buffer, "busy/f", 0..1_000);
        push(&mut buffer, "f", 0..1_000);
        assert_eq!(runs(&buffer, Some(&shop), of_shop).0, ["r0", "r1", "r2"]);
        assert_eq!(runs(&buffer, Some(&busy), of_busy).0, ["lost"]);
        assert!(buffer.bytes_of_namespaces <= buffer.max_bytes && buffer.all.bytes <= buffer.max_bytes);
    }

    #[test]
    fn who_watches_namespaces_without_events_drops_none_of_others() {
        let (mut buffer, shop, quiet) = (buffer_for(10_000), namespace("shop"), namespace("quiet"));
        let of_quiet = buffer.end(Some(&quiet));
        push(&mut buffer, "shop/f", 0..1);
        let of_shop = buffer.end(Some(&shop));
        push(&mut buffer, "shop/f", 1..2);
        for number in 0..2 * MAX_NAMESPACES {
            let missing = namespace(&format!("x{number}"));
            let at = buffer.end(Some(&missing));
            assert_eq!(runs(&buffer, Some(&missing), at), (vec![], at));
        }
        assert_eq!(buffer.namespaces.len(), 1);
        assert_eq!(runs(&buffer, Some(&shop), of_shop).0, ["r1"]);
        assert_eq!(runs(&buffer, Some(&quiet), of_quiet).0, [""; 0]);
        push(&mut buffer, "quiet/f", 0..2);
        let (seen, next) = runs(&buffer, Some(&quiet), of_quiet);
        assert_eq!(seen, ["r0", "r1"], "its first events are after the position");
        push(&mut buffer, "quiet/f", 2..3);
        assert_eq!(runs(&buffer, Some(&quiet), next).0, ["r2"]);
    }

    #[test]
    fn a_namespace_without_events_has_gaps_too() {
        let (mut buffer, shop) = (buffer_for(3), namespace("shop"));
        let at = buffer.end(Some(&shop));
        buffer.lose();
        let (lost, next) = runs(&buffer, Some(&shop), at);
        assert_eq!((lost, runs(&buffer, Some(&shop), next)), (vec!["lost".to_owned()], (vec![], next)));
        push(&mut buffer, "shop/f", 0..1);
        assert_eq!(runs(&buffer, Some(&shop), at).0, ["lost"]);
        assert_eq!(runs(&buffer, Some(&shop), next).0, ["r0"]);
        push(&mut buffer, "shop/f", 1..9);
        assert_eq!(runs(&buffer, Some(&shop), next).0, ["lost"], "its first events were dropped");
    }

    #[test]
    fn a_position_of_another_sequence_is_behind_lost_events() {
        let (mut buffer, shop) = (buffer_for(10), namespace("shop"));
        push(&mut buffer, "shop/f", 0..2);
        let all = buffer.end(None);
        assert_eq!(runs(&buffer, Some(&shop), all).0, ["lost"], "that of another token");
        let (other, future) = (Buffer::of_size(7, MAX_BYTES), Cursor { next: 99, ..all });
        assert_eq!(runs(&other, None, all).0, ["lost"], "that of another server");
        assert_eq!(runs(&buffer, None, future).0, ["lost"], "one that never was");
    }

    #[test]
    fn namespaces_are_bounded_and_a_dropped_one_has_lost_events() {
        let (mut buffer, first) = (buffer_for(10_000), namespace("n0"));
        let at = buffer.end(Some(&first));
        for number in 0..=MAX_NAMESPACES {
            push(&mut buffer, &format!("n{number}/f"), 0..1);
        }
        assert_eq!(buffer.namespaces.len(), MAX_NAMESPACES);
        let bytes: usize = buffer.namespaces.values().map(|sequence| sequence.bytes).sum();
        assert_eq!(buffer.bytes_of_namespaces, bytes);
        assert_eq!(runs(&buffer, Some(&first), at).0, ["lost"]);
    }
}
