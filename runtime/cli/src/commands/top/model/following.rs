//! The streams that are followed: those that the screen needs, and again after they broke off.

use std::{collections::BTreeMap, time::Duration};

use super::Effect;
use crate::commands::top::feeds::{Feed, Slot};

/// The pause before a stream that broke off is followed again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// The followed streams.
#[derive(Debug, Default)]
pub(crate) struct Following {
    streams: BTreeMap<Slot, Stream>,
    /// The number of the next stream.
    next_serial: u64,
}

#[derive(Debug)]
struct Stream {
    feed: Feed,
    serial: u64,
    state: StreamState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamState {
    Open,
    /// It has ended, and nothing follows.
    Ended,
    Broken {
        retry_at: Duration,
    },
}

impl Following {
    /// Follows exactly the wanted streams. With `may_ask` unset, nothing is followed anew.
    pub(crate) fn follow(&mut self, now: Duration, may_ask: bool, wanted: Vec<Feed>) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.streams.retain(|slot, stream| {
            let is_wanted = wanted.contains(&stream.feed);
            if !is_wanted {
                effects.push(Effect::Unfollow(*slot));
            }
            is_wanted
        });
        for feed in wanted.into_iter().filter(|_| may_ask) {
            let slot = feed.slot();
            let is_needed = match self.streams.get(&slot).map(|stream| stream.state) {
                None => true,
                Some(StreamState::Broken { retry_at }) => now >= retry_at,
                Some(StreamState::Open | StreamState::Ended) => false,
            };
            if is_needed {
                let serial = self.next_serial;
                self.next_serial += 1;
                effects.push(Effect::Follow { feed: feed.clone(), serial });
                self.streams.insert(slot, Stream { feed, serial, state: StreamState::Open });
            }
        }
        effects
    }

    /// Whether a part belongs to the stream that is followed now.
    pub(crate) fn is_current(&self, slot: Slot, serial: u64) -> bool {
        self.streams.get(&slot).is_some_and(|stream| stream.serial == serial)
    }

    /// The stream has ended.
    pub(crate) fn ended(&mut self, slot: Slot) {
        self.set(slot, StreamState::Ended);
    }

    /// The stream has broken off.
    pub(crate) fn broke(&mut self, now: Duration, slot: Slot) {
        self.set(slot, StreamState::Broken { retry_at: now + RETRY_PAUSE });
    }

    /// Follows streams that have ended again: their run goes on.
    pub(crate) fn reopen(&mut self, now: Duration) {
        for stream in self.streams.values_mut().filter(|stream| stream.state == StreamState::Ended) {
            stream.state = StreamState::Broken { retry_at: now };
        }
    }

    fn set(&mut self, slot: Slot, state: StreamState) {
        if let Some(stream) = self.streams.get_mut(&slot) {
            stream.state = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(run: &str) -> Feed {
        Feed::Changes { run: run.into() }
    }

    /// The streams that are followed and left, in short.
    fn follow(following: &mut Following, at: u64, wanted: &[Feed]) -> Vec<String> {
        let effects = following.follow(Duration::from_secs(at), true, wanted.to_vec());
        let short = |effect: Effect| match effect {
            Effect::Follow { feed: Feed::Changes { run }, serial } => format!("follow {run} {serial}"),
            Effect::Follow { feed, serial } => format!("follow {:?} {serial}", feed.slot()),
            Effect::Unfollow(slot) => format!("leave {slot:?}"),
            other => panic!("{other:?}"),
        };
        effects.into_iter().map(short).collect()
    }

    #[test]
    fn what_is_wanted_is_followed() {
        let mut following = Following::default();
        assert_eq!(follow(&mut following, 0, &[changes("a")]), ["follow a 0"]);
        assert!(follow(&mut following, 1, &[changes("a")]).is_empty());
        assert_eq!(follow(&mut following, 2, &[changes("b")]), ["leave Changes", "follow b 1"]);
        assert!(!following.is_current(Slot::Changes, 0) && following.is_current(Slot::Changes, 1));
        following.broke(Duration::from_secs(3), Slot::Changes);
        assert!(follow(&mut following, 4, &[changes("b")]).is_empty(), "it waits");
        assert_eq!(follow(&mut following, 5, &[changes("b")]), ["follow b 2"]);
        following.ended(Slot::Changes);
        assert!(follow(&mut following, 100, &[changes("b")]).is_empty());
        following.reopen(Duration::from_secs(100));
        assert_eq!(follow(&mut following, 100, &[changes("b")]), ["follow b 3"], "the run was retried");
        assert_eq!(follow(&mut following, 100, &[]), ["leave Changes"]);
    }
}
