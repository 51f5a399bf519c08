//! The paces of the calls of a task, and the strictest of them. Runs of one flow may all have paces of their own, so they are not
//! compared one by one. A plain value.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use flow::{Pace, Rate};

/// The number of calls with each maximum and with each rate.
#[derive(Debug, Default)]
pub(super) struct Paces {
    max_running: BTreeMap<NonZeroU32, usize>,
    /// The slowest rate is the last one.
    rates: BTreeMap<(Duration, Rate), usize>,
}

impl Paces {
    /// Adds the pace of a call.
    pub(super) fn add(&mut self, Pace { max_running, rate }: Pace) {
        if let Some(max) = max_running {
            *self.max_running.entry(max).or_default() += 1;
        }
        if let Some(rate) = rate {
            *self.rates.entry((rate.min_interval(), rate)).or_default() += 1;
        }
    }

    /// Removes the pace of a call.
    pub(super) fn remove(&mut self, Pace { max_running, rate }: Pace) {
        if let Some(max) = max_running {
            discount(&mut self.max_running, &max);
        }
        if let Some(rate) = rate {
            discount(&mut self.rates, &(rate.min_interval(), rate));
        }
    }

    /// The strictest pace of the calls.
    pub(super) fn strictest(&self) -> Pace {
        let max_running = self.max_running.keys().next().copied();
        Pace { max_running, rate: self.rates.keys().next_back().map(|(_, rate)| *rate) }
    }
}

fn discount<Key: Ord>(counts: &mut BTreeMap<Key, usize>, key: &Key) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_pace_is_that_of_the_calls_that_are_left() {
        let pace = |max: u32, rate: Option<&str>| Pace {
            max_running: NonZeroU32::new(max),
            rate: rate.map(|rate| Rate::parse(rate).unwrap()),
        };
        let all = [pace(0, Some("60/m")), pace(4, Some("1/s")), pace(2, Some("2/s")), pace(4, None), pace(0, None)];
        let mut paces = Paces::default();
        for first in 0..all.len() {
            all.iter().for_each(|pace| paces.add(*pace));
            for count in 0..all.len() {
                let left = (count..all.len()).map(|index| all[(first + index) % all.len()]);
                assert_eq!(paces.strictest(), left.fold(Pace::default(), Pace::min));
                paces.remove(all[(first + count) % all.len()]);
            }
            assert_eq!(paces.strictest(), Pace::default());
            assert!(paces.max_running.is_empty() && paces.rates.is_empty());
        }
    }
}
